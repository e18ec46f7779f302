package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/connectortest"
)

// deliver makes one attempt at url and returns what came of it.
func deliver(t testing.TB, e connectors.Endpoint, d connectors.Delivery) connectors.Result {
	t.Helper()
	e.Ref, d.ID, d.Endpoint = "end_1@1", "dlv_1", "end_1@1"
	return deliverWith(t, connectortest.NewHost(t, e), d)
}

func deliverWith(t testing.TB, h connectors.Host, d connectors.Delivery) (res connectors.Result) {
	t.Helper()
	if err := (Connector{}).Deliver(t.Context(), h, []connectors.Delivery{d}, func(r connectors.Result) { res = r }); err != nil {
		t.Fatal(err)
	}
	return res
}

func request1(url string, headers ...connectors.Header) connectors.Delivery {
	return connectors.Delivery{Timeout: 10 * time.Second, Request: &connectors.Request{Method: "POST", URL: url, Header: headers, Body: []byte(`{"a":1}`)}}
}

func TestDeliverSendsExactlyWhatItIsGiven(t *testing.T) {
	type seen struct {
		method, target, host, body string
		length                     int64
		header                     http.Header
	}
	got := make(chan seen, 1)
	url := connectortest.NewServer(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- seen{r.Method, r.RequestURI, r.Host, string(b), r.ContentLength, r.Header}
		w.Header().Set("X-Answer", "yes")
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, "thanks")
	})
	res := deliver(t, connectors.Endpoint{Secrets: map[string]string{secretBearerToken: "s3cret"}}, connectors.Delivery{Timeout: 10 * time.Second, Request: &connectors.Request{
		Method: "PUT", URL: url + "/in%2Fbox?b=2&a=1", Body: []byte("body"),
		Header: []connectors.Header{{Name: "Content-Type", Value: "text/x"}, {Name: "X-Twice", Value: "1"}, {Name: "X-Twice", Value: "2"},
			{Name: "Content-Length", Value: "320"}, {Name: "Host", Value: "other.example.com"}, {Name: "X-Key", Value: "k", Secret: "api_key"}},
	}})
	r := <-got
	if r.method != "PUT" || r.target != "/in%2Fbox?b=2&a=1" || r.host != "other.example.com" || r.body != "body" || r.length != 4 {
		t.Errorf("got %+v", r)
	}
	want := http.Header{"Content-Type": {"text/x"}, "X-Twice": {"1", "2"}, "X-Key": {"k"}, "User-Agent": {userAgent}, "Authorization": {"Bearer s3cret"},
		"Content-Length": {"4"}, "Accept-Encoding": r.header["Accept-Encoding"]}
	if r.header["Accept-Encoding"] == nil {
		delete(want, "Accept-Encoding")
	}
	if !reflect.DeepEqual(r.header, want) {
		t.Errorf("headers %v, want %v", r.header, want)
	}
	if res.Outcome != connectors.Done || res.Response.Status != 202 || string(res.Response.Body) != "thanks" || res.Response.Truncated {
		t.Errorf("got %+v", res)
	}
	if s := show(res); strings.Contains(s, "s3cret") || !strings.Contains(s, "[secret:bearer_token]") || !strings.Contains(s, "[secret:api_key]") {
		t.Errorf("the record shows a secret, or not its name: %s", s)
	}
	if res.Timing.Total <= 0 || res.Timing.Connect <= 0 || res.Timing.FirstByte <= 0 || res.Timing.FirstByte > res.Timing.Total {
		t.Errorf("timing %+v", res.Timing)
	}
}

func TestDeliverBasic(t *testing.T) {
	url := connectortest.NewServer(t, func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "u" || password != "p:q" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	e := connectors.Endpoint{URL: url, Settings: json.RawMessage(`{"basic_user":"u"}`), Secrets: map[string]string{secretBasicPassword: "p:q"}}
	if res := deliver(t, e, request1(url)); res.Outcome != connectors.Done {
		t.Errorf("got %+v", res)
	}
	e.Ref = "end_1@1"
	if err := (Connector{}).Check(t.Context(), connectortest.NewHost(t, e), e); err != nil {
		t.Error(err)
	}
	e.Secrets = map[string]string{secretBasicPassword: "wrong"}
	if err := (Connector{}).Check(t.Context(), connectortest.NewHost(t, e), e); err == nil || err.Error() != "The endpoint answered 401 Unauthorized. Check the endpoint's credentials." {
		t.Errorf("got %v", err)
	}
	e.Secrets[secretBearerToken] = "t"
	if res := deliver(t, e, request1(url)); res.Outcome != connectors.Permanent || res.Fault != connectors.FaultSettings {
		t.Errorf("both credentials: %+v", res)
	}
}

func TestDeliverAnswers(t *testing.T) {
	url := connectortest.NewServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			w.Header().Set("Location", "/ok")
			w.WriteHeader(http.StatusFound)
		case "/busy":
			w.Header().Set("Retry-After", "120")
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/large":
			_, _ = w.Write(make([]byte, connectors.MaxResponseBody+1000))
		case "/exact":
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush() // no Content-Length
			_, _ = w.Write(make([]byte, connectors.MaxResponseBody))
		case "/broken":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "short")
		case "/odd":
			w.WriteHeader(599)
		}
	})
	for path, want := range map[string]struct {
		outcome connectors.Outcome
		status  int
		after   time.Duration
		text    string
		length  int
		cut     bool
	}{
		"/ok":     {connectors.Done, 200, 0, "", 0, false},
		"/moved":  {connectors.Retry, 302, 0, "The endpoint answered 302 Found; redirects are not followed, so set the final address.", 0, false},
		"/busy":   {connectors.Retry, 503, 2 * time.Minute, "The endpoint answered 503 Service Unavailable.", 0, false},
		"/odd":    {connectors.Retry, 599, 0, "The endpoint answered 599.", 0, false},
		"/large":  {connectors.Done, 200, 0, "", connectors.MaxResponseBody, true},
		"/exact":  {connectors.Done, 200, 0, "", connectors.MaxResponseBody, false},
		"/broken": {connectors.Retry, 200, 0, strings.TrimPrefix(url, "http://") + " broke off its answer.", 5, false},
	} {
		res := deliver(t, connectors.Endpoint{}, request1(url+path))
		if res.Outcome != want.outcome || res.RetryAfter != want.after || res.Error != want.text || res.Response == nil ||
			res.Response.Status != want.status || len(res.Response.Body) != want.length || res.Response.Truncated != want.cut {
			t.Errorf("%s: got %s %q %v %v", path, res.Outcome, res.Error, res.RetryAfter, res.Response)
		}
	}
}

func TestDeliverFailuresInWords(t *testing.T) {
	hanging := connectortest.NewServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/slowly" {
			w.Header().Set("Content-Length", "10")
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	})
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	secure.Config.ErrorLog = nil
	defer secure.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	plain := connectortest.NewServer(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	bare := func(url string) string { return strings.TrimPrefix(strings.TrimPrefix(url, "https://"), "http://") }
	for _, c := range []struct{ url, want string }{
		{"http://" + closed, closed + " refused the connection."},
		{hanging, "No answer from " + bare(hanging) + " within 50ms."},
		{hanging + "/slowly", "The answer of " + bare(hanging) + " did not end within 50ms."},
		{secure.URL, "The certificate of " + bare(secure.URL) + " is signed by an authority that is not trusted. If it is your own, add it as the endpoint's CA bundle."},
		{strings.Replace(plain, "http:", "https:", 1), bare(plain) + " does not speak TLS; the address may have to begin with http://."},
		{plain, bare(plain) + " closed the connection without an answer."},
	} {
		d := request1(c.url)
		if strings.HasPrefix(c.url, hanging) {
			d.Timeout = 50 * time.Millisecond
		}
		res := deliver(t, connectors.Endpoint{}, d)
		if res.Outcome != connectors.Retry || res.Fault != connectors.FaultTarget || res.Error != c.want {
			t.Errorf("%s: got %s %s %q, want %q", c.url, res.Outcome, res.Fault, res.Error, c.want)
		}
	}
	for _, c := range []struct {
		name string
		d    connectors.Delivery
	}{
		{"scheme", request1("ftp://example.com")},
		{"no URL", request1("::")},
		{"no host", request1("http:///x")},
		{"header value", request1(plain, connectors.Header{Name: "X", Value: "a\r\nb"})},
		{"header name", request1(plain, connectors.Header{Name: "X Y", Value: "a"})},
	} {
		if res := deliver(t, connectors.Endpoint{}, c.d); res.Outcome != connectors.Permanent || res.Fault != connectors.FaultSettings || res.Error == "" {
			t.Errorf("%s: got %+v", c.name, res)
		}
	}
}

func TestDeliverNamesThePolicy(t *testing.T) {
	e := connectors.Endpoint{Ref: "end_1@1"}
	h := connectortest.NewHost(t, e)
	client, err := h.HTTPClient(e)
	if err != nil {
		t.Fatal(err)
	}
	client.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
		return nil, &connectors.PolicyError{Target: "10.0.0.1:80", Reason: "it is a private address", Setting: "--allow-private-targets"}
	}
	d := request1("http://10.0.0.1/")
	d.Endpoint = e.Ref
	res := deliverWith(t, h, d)
	if res.Outcome != connectors.Permanent || res.Fault != connectors.FaultPolicy || !strings.Contains(res.Error, "--allow-private-targets") {
		t.Errorf("got %+v", res)
	}
	client.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "nowhere.example", IsNotFound: true}}
	}
	if res := deliverWith(t, h, d); res.Error != "The host name nowhere.example does not exist." {
		t.Errorf("got %q", res.Error)
	}
	client.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("something else")
	}
	if res := deliverWith(t, h, d); res.Error != "The request to 10.0.0.1 failed: something else." {
		t.Errorf("got %q", res.Error)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 4, 10, 14, 30, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "-1": 0, "soon": 0,
		"99999999999":                   longestRetryAfter,
		"99999999999999999999":          longestRetryAfter,
		"Fri, 10 Apr 2026 14:31:30 GMT": 90 * time.Second,
		"Fri, 10 Apr 2026 14:00:00 GMT": 0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
}

// BenchmarkDeliver is the cost of an attempt on both sides of the connection; the
// receiver is as small as one can be.
func BenchmarkDeliver(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go answerAll(l)
	url := "http://" + l.Addr().String() + "/in"
	h := connectortest.NewHost(b, connectors.Endpoint{Ref: "end_1@1"})
	items := make([]connectors.Delivery, 16)
	for i := range items {
		items[i] = connectors.Delivery{ID: "dlv_1", Endpoint: "end_1@1", Timeout: 10 * time.Second, Request: &connectors.Request{Method: "POST", URL: url, Body: benchBody(b),
			Header: []connectors.Header{{Name: "Content-Type", Value: "application/json"}, {Name: "User-Agent", Value: "Hookyard"}, {Name: "webhook-id", Value: "dlv_1"},
				{Name: "webhook-timestamp", Value: "1775831400"}, {Name: "webhook-signature", Value: "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="}}}}
	}
	failed := func(r connectors.Result) {
		if r.Outcome != connectors.Done {
			b.Error(r.Error)
		}
	}
	b.ReportAllocs()
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	for i := 0; i < b.N; i += len(items) {
		if err := (Connector{}).Deliver(b.Context(), h, items[:min(len(items), b.N-i)], failed); err != nil {
			b.Fatal(err)
		}
	}
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(cpu)/float64(b.N)/1e3, "cpu-us/op")
}

// answerAll answers whatever comes with 204. It knows the length of the benchmark's
// requests by their end.
func answerAll(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 8192)
			have := 0
			for {
				n, err := c.Read(buf[have:])
				if err != nil {
					return
				}
				if have += n; have > 3 && string(buf[have-3:have]) == "}}}" {
					have = 0
					if _, err := io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n"); err != nil {
						return
					}
				}
			}
		}()
	}
}
