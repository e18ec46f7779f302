package plugins

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// behind is an Outbound whose connections a Gate makes, and the Gate.
func behind(t *testing.T, egress []string, known map[string]connectors.Endpoint) (*Outbound, *Gate) {
	t.Helper()
	g, f, err := NewGate(egress, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := askerOn(f)
	if err != nil {
		t.Fatal(err)
	}
	o := NewOutbound(slog.New(slog.DiscardHandler), nil)
	o.hub = a
	for _, e := range known {
		o.Put(e)
	}
	g.Serve(func(ref string) (connectors.Endpoint, bool) { e, ok := known[ref]; return e, ok })
	t.Cleanup(func() { o.Close(); g.Close() })
	return o, g
}

func answering(t *testing.T, status int) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	t.Cleanup(s.Close)
	return s.URL
}

var loopback = connectors.DialPolicy{Open: []string{"127.0.0.0/8"}}

func TestTheHubMakesTheConnections(t *testing.T) {
	url, other := answering(t, http.StatusTeapot), answering(t, http.StatusOK)
	closed := connectors.Endpoint{Ref: "end_1@1", URL: url}
	open := connectors.Endpoint{Ref: "end_2@1", URL: url, Dial: loopback}
	proxied := connectors.Endpoint{Ref: "end_3@1", URL: "http://192.0.2.1/", Settings: []byte(`{"forward_proxy":"` + other + `"}`), Dial: loopback}
	scanner := connectors.Endpoint{Ref: "prj_1@1", Role: connectors.RoleScanner, Dial: connectors.DialPolicy{Open: loopback.Open, Origins: []string{"https://shop.example.org", other}}}
	o, g := behind(t, []string{"*.example.com:443", "198.51.100.7"}, map[string]connectors.Endpoint{closed.Ref: closed, open.Ref: open, proxied.Ref: proxied, scanner.Ref: scanner})

	get := func(e connectors.Endpoint, url string) (int, error) {
		c, err := o.HTTPClient(e)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.Do(req)
		if err != nil {
			return 0, err
		}
		_ = r.Body.Close()
		return r.StatusCode, nil
	}
	if status, err := get(open, url); err != nil || status != http.StatusTeapot {
		t.Errorf("%d, %v", status, err)
	}
	if status, err := get(proxied, "http://192.0.2.1/"); err != nil || status != http.StatusOK {
		t.Errorf("by a proxy: %d, %v", status, err)
	}
	if status, err := get(scanner, other+"/cart"); err != nil || status != http.StatusOK {
		t.Errorf("a scan's target: %d, %v", status, err)
	}
	var refused *connectors.PolicyError
	if _, err := get(scanner, url); !errors.As(err, &refused) || !strings.Contains(refused.Setting, "manifest") {
		t.Errorf("beside a scan's target: %v", err)
	}
	if _, err := get(closed, url); !errors.As(err, &refused) || refused.Setting != OpenSetting || refused.Reason == "" || refused.Target == "" {
		t.Errorf("a closed address: %v", err)
	}
	for _, address := range []string{strings.TrimPrefix(other, "http://"), "example.com:443", "www.example.com:80", "169.254.169.254:80", "nonsense", "[::1]:80"} {
		if _, err := o.DialContext(t.Context(), open, "tcp", address); !errors.As(err, &refused) || !strings.Contains(refused.Setting, "manifest") {
			t.Errorf("%s, which is not the endpoint's: %v", address, err)
		}
	}
	if _, err := o.DialContext(t.Context(), open, "udp", strings.TrimPrefix(url, "http://")); err == nil {
		t.Error("UDP led out")
	}
	o.Put(connectors.Endpoint{Ref: "end_9@1", URL: url, Dial: loopback}) // as a process may pretend
	if _, err := o.DialContext(t.Context(), connectors.Endpoint{Ref: "end_9@1"}, "tcp", strings.TrimPrefix(url, "http://")); err == nil || !strings.Contains(err.Error(), "not known") {
		t.Errorf("an endpoint that it was not given: %v", err)
	}
	if made, no := g.Counts(); made != 3 || no != 9 {
		t.Errorf("counted %d made and %d refused", made, no)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := o.DialContext(ctx, open, "tcp", strings.TrimPrefix(url, "http://")); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	g.Close()
	if _, err := o.DialContext(t.Context(), open, "tcp", strings.TrimPrefix(url, "http://")); err == nil {
		t.Error("connections were made after the end")
	}
}

func TestEgressOfTheManifest(t *testing.T) {
	g := &Gate{egress: []string{"*.example.com:443", "198.51.100.7", "login.example.org:*", "*:8443"}}
	e := connectors.Endpoint{URL: "https://Hooks.example.net/x"}
	for address, want := range map[string]bool{"hooks.example.net:443": true, "hooks.example.net:80": false, "a.example.com:443": true, "a.b.example.com:443": true,
		"a.example.com:80": false, "198.51.100.7:22": true, "198.51.100.8:22": false, "LOGIN.example.org.:1": true, "anything:8443": true, "anything:8444": false} {
		if got := g.fits(e, address); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}

// What the manifest asks for is reached as far as the organization's list lets it, which may
// change while the process runs.
func TestEgressIsUnderTheAddressPolicy(t *testing.T) {
	address := strings.TrimPrefix(answering(t, http.StatusOK), "http://")
	var now connectors.DialPolicy
	g, f, err := NewGate([]string{"127.0.0.1:*", "*:1"}, func() connectors.DialPolicy { return now }, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	defer f.Close()
	none := func(string) (connectors.Endpoint, bool) { return connectors.Endpoint{}, false }
	for _, c := range []struct {
		policy connectors.DialPolicy
		want   string // the setting that refuses
	}{
		{connectors.DialPolicy{}, OpenSetting},
		{loopback, ""},
		{connectors.DialPolicy{Open: loopback.Open, Allow: []connectors.AllowRule{{Host: "192.0.2.1", List: "the list"}}}, "the list"},
		{connectors.DialPolicy{Open: loopback.Open, Allow: []connectors.AllowRule{{Host: "127.0.0.1", Port: 1, List: "the list"}}}, "the list"},
		{connectors.DialPolicy{Open: loopback.Open, Allow: []connectors.AllowRule{{Host: "127.0.0.0/8", List: "the list"}}}, ""},
		{connectors.DialPolicy{Allow: []connectors.AllowRule{{Host: "127.0.0.0/8", List: "the list"}}}, OpenSetting},
	} {
		now = c.policy
		got := ""
		conn, err := g.dial(t.Context(), dialAsk{Address: address}, none)
		var refused *connectors.PolicyError
		switch {
		case err == nil:
			_ = conn.Close()
		case errors.As(err, &refused):
			got = refused.Setting
		default:
			t.Fatal(err)
		}
		if got != c.want {
			t.Errorf("%+v: refused by %q, want %q", c.policy, got, c.want)
		}
	}
}

// Each connection goes to whom asked for it, and what is too much waits.
func TestManyConnectionsAtOnce(t *testing.T) {
	known := map[string]connectors.Endpoint{}
	for i := range 8 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = fmt.Fprintf(c, "end_%d@1\n", i)
				_ = c.Close()
			}
		}()
		e := connectors.Endpoint{Ref: fmt.Sprintf("end_%d@1", i), URL: "http://" + l.Addr().String(), Dial: loopback}
		known[e.Ref] = e
	}
	o, _ := behind(t, nil, known)
	var wg sync.WaitGroup
	for i := range 400 {
		wg.Go(func() {
			e := known[fmt.Sprintf("end_%d@1", i%8)]
			c, err := o.DialContext(t.Context(), e, "tcp", strings.TrimPrefix(e.URL, "http://"))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if line, err := bufio.NewReader(c).ReadString('\n'); line != e.Ref+"\n" {
				t.Errorf("%s was connected with %q: %v", e.Ref, line, err)
			}
		})
	}
	wg.Wait()
}

// A language that cannot be handed a connection has it brought to a socket of its own.
func TestAConnectionIsBroughtToASocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "hyg")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	inbox, err := net.Listen("unix", filepath.Join(dir, "inbox"))
	if err != nil {
		t.Fatal(err)
	}
	defer inbox.Close()
	url := answering(t, http.StatusTeapot)
	g, f, err := NewGate(nil, nil, nil, func(name string) (net.Conn, error) { return net.Dial("unix", filepath.Join(dir, name)) })
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	g.Serve(func(string) (connectors.Endpoint, bool) { return connectors.Endpoint{URL: url, Dial: loopback}, true })
	ask, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	defer ask.Close()
	_ = f.Close()
	fmt.Fprintf(ask, `{"id":7,"endpoint":"end_1@1","address":%q,"to":"inbox"}`+"\n", strings.TrimPrefix(url, "http://"))
	c, err := inbox.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); line != "7\n" {
		t.Fatalf("%q, %v", line, err)
	}
	fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
	if all, err := io.ReadAll(r); err != nil || !strings.Contains(string(all), "418") {
		t.Errorf("%q, %v", all, err)
	}
	var answer dialAnswer
	if err := json.NewDecoder(ask).Decode(&answer); err != nil || !answer.Connected || answer.ID != 7 {
		t.Errorf("%+v, %v", answer, err)
	}
}

// What is no conversation ends it, and so does a process that does not listen to answers.
func TestNonsenseEndsTheGate(t *testing.T) {
	for _, nonsense := range []string{"hello\n", strings.Repeat("x", 1<<16), "{}{}\n"} {
		g, f, err := NewGate(nil, nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		g.Serve(func(string) (connectors.Endpoint, bool) { return connectors.Endpoint{}, false })
		_, _ = f.WriteString(nonsense)
		select {
		case <-g.ctx.Done():
		case <-time.After(10 * time.Second):
			t.Errorf("%.10q was listened to", nonsense)
		}
		g.Close()
		_ = f.Close()
	}
}
