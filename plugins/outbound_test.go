package plugins

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/hookyard/hookyard/connectors"
)

func outbound(t testing.TB, resolver *net.Resolver, e ...connectors.Endpoint) *Outbound {
	t.Helper()
	o := NewOutbound(slog.New(slog.DiscardHandler), resolver)
	for _, e := range e {
		o.Put(e)
	}
	t.Cleanup(o.Close)
	return o
}

func openTo(cidrs ...string) connectors.Endpoint {
	return connectors.Endpoint{Ref: "end_1@1", ID: "end_1", Dial: connectors.DialPolicy{Open: cidrs}}
}

// get returns the status and the policy's refusal, if that is what it was.
func get(t testing.TB, o *Outbound, e connectors.Endpoint, address string) (int, *connectors.PolicyError, error) {
	t.Helper()
	c, err := o.HTTPClient(e)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Get(address)
	var refused *connectors.PolicyError
	if errors.As(err, &refused) || err != nil {
		return 0, refused, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, nil, nil
}

func TestRefusesWhatTheNameResolvesToWhenItIsDialled(t *testing.T) {
	reached := 0
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
	defer srv.Close()
	e := openTo()
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "target.test"} {
		o := outbound(t, resolver(t, "127.0.0.1"), e)
		_, refused, err := get(t, o, e, "http://"+host+":"+port+"/")
		if err == nil {
			t.Errorf("%s was reached", host)
		}
		if host != "2130706433" && host != "0x7f.1" && (refused == nil || refused.Setting != OpenSetting) {
			t.Errorf("%s: not refused by the policy: %v", host, err)
		}
	}
	if reached != 0 {
		t.Errorf("%d requests arrived", reached)
	}
}

// The first answer is an address that is open, the next is not: there is no time
// between the check and the connection for the answer to change in.
func TestRefusesARebindingName(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
	})}}
	srv.Start()
	defer srv.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	e := openTo("127.0.0.2/32")
	o := outbound(t, resolver(t, "127.0.0.2", "127.0.0.1"), e)
	if status, _, err := get(t, o, e, "http://rebind.test:"+port+"/"); status != 200 {
		t.Fatalf("the open address was not reached: %v", err)
	}
	_, refused, err := get(t, o, e, "http://rebind.test:"+port+"/")
	if refused == nil || refused.Target != "rebind.test:"+port+" (127.0.0.1)" {
		t.Errorf("the second answer was not refused: %v", err)
	}
}

func TestChecksEveryAttemptAndFollowsNoRedirect(t *testing.T) {
	srv := httptest.NewServer(http.RedirectHandler("http://127.0.0.1:1/", http.StatusFound))
	defer srv.Close()
	e := openTo("127.0.0.1")
	o := outbound(t, nil, e)
	if status, _, err := get(t, o, e, srv.URL); status != http.StatusFound {
		t.Errorf("got %d, %v", status, err)
	}
	if conn, err := o.DialContext(context.Background(), e, "udp", "127.0.0.1:53"); err == nil {
		_ = conn.Close()
		t.Error("UDP leads out")
	}
	if _, err := o.HTTPClient(connectors.Endpoint{Ref: "end_9@1"}); err == nil {
		t.Error("an unknown endpoint got a client")
	}
}

func TestTheProxysAddressIsCheckedInPlaceOfTheTargets(t *testing.T) {
	var seen []string
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = append(seen, r.URL.String()) }))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1") // the environment's is ignored
	settings, _ := json.Marshal(map[string]string{"forward_proxy": proxy.URL})
	closed, open := openTo(), openTo("127.0.0.1")
	closed.Settings, open.Settings = settings, settings
	if _, refused, err := get(t, outbound(t, nil, closed), closed, "http://hooks.example.com/x"); refused == nil {
		t.Errorf("a private proxy was not refused: %v", err)
	}
	if status, _, err := get(t, outbound(t, nil, open), open, "http://hooks.example.com/x"); status != 200 || len(seen) != 1 || seen[0] != "http://hooks.example.com/x" {
		t.Errorf("status %d, error %v, the proxy saw %v", status, err, seen)
	}
	bad := openTo()
	bad.Settings = []byte(`{"forward_proxy":"user:hush@nowhere"}`)
	if _, err := outbound(t, nil, bad).HTTPClient(bad); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("got %v", err)
	}
}

func TestTrustsTheEndpointsCABundle(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(200 + r.ProtoMajor) }))
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	srv.StartTLS()
	defer srv.Close()
	e := openTo("127.0.0.1")
	if _, _, err := get(t, outbound(t, nil, e), e, srv.URL); err == nil {
		t.Error("an unknown authority was trusted")
	}
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	e.Settings, _ = json.Marshal(map[string]string{"ca_bundle": string(bundle)})
	if status, _, err := get(t, outbound(t, nil, e), e, srv.URL); status != 202 {
		t.Errorf("status %d (HTTP/2 wanted), %v", status, err)
	}
	e.Settings = []byte(`{"ca_bundle":"nonsense"}`)
	if _, err := outbound(t, nil, e).HTTPClient(e); err == nil || !strings.Contains(err.Error(), "ca_bundle") {
		t.Errorf("got %v", err)
	}
}

func TestKeepsOneClientPerRefAndClosesItOnceUnused(t *testing.T) {
	closed := make(chan struct{})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			close(closed)
		}
	}
	srv.Start()
	defer srv.Close()
	e := openTo("127.0.0.1")
	o := outbound(t, nil, e)
	first, _ := o.HTTPClient(e)
	if second, _ := o.HTTPClient(e); first != second {
		t.Error("a second client was made")
	}
	if status, _, err := get(t, o, e, srv.URL); status != 200 {
		t.Fatal(err)
	}
	o.hold(e.Ref)
	o.Forget(e.Ref)
	if _, ok := o.Endpoint(e.Ref); !ok {
		t.Error("an endpoint that is in use was forgotten")
	}
	o.release(e.Ref)
	if _, ok := o.Endpoint(e.Ref); ok {
		t.Error("it was not forgotten after use")
	}
	<-closed
}

// resolver answers A questions with one address after another, the last for ever,
// and all others with nothing.
func resolver(t testing.TB, answers ...string) *net.Resolver {
	t.Helper()
	var mu sync.Mutex
	server, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	go func() {
		q := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(q)
			if err != nil {
				return
			}
			mu.Lock()
			_, _ = server.WriteTo(dnsAnswer(q[:n], &answers), from)
			mu.Unlock()
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp4", server.LocalAddr().String())
	}}
}

// dnsAnswer answers a query of one question (RFC 1035, section 4).
func dnsAnswer(q []byte, answers *[]string) []byte {
	end := 12
	for q[end] != 0 {
		end += int(q[end]) + 1
	}
	end += 5 // the root label, type and class
	r := append([]byte{q[0], q[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, q[12:end]...)
	if q[end-4] == 0 && q[end-3] == 1 { // A
		r[7] = 1
		r = append(r, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		r = append(r, net.ParseIP((*answers)[0]).To4()...)
		if len(*answers) > 1 {
			*answers = (*answers)[1:]
		}
	}
	return r
}
