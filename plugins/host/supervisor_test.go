package host

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/connectors"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

func newSupervisor(dir string, log *slog.Logger, names ...string) (*Supervisor, *os.File, error) {
	if len(names) == 0 {
		names = []string{"obedient"}
	}
	entries, self, err := Shipped(names...)
	if err != nil {
		return nil, nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s, err := New(Config{Catalog: entries, Logger: log, Clock: clockwork.NewRealClock(), HostVersion: "test", TempDir: dir,
		Env:       []string{"GORACE=atexit_sleep_ms=0"}, // the race detector would keep an ending process for a second
		PingEvery: 50 * time.Millisecond, PingTimeout: 3 * time.Second, BackoffMin: 10 * time.Millisecond})
	return s, self, err
}

// start runs a supervisor for the test's time.
func start(t testing.TB, log *slog.Logger, names ...string) *Supervisor {
	t.Helper()
	s, self, err := newSupervisor(shortTempDir(t), log, names...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = self.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // what hangs in a test is not waited for
		_ = s.Close(ctx)
	})
	return s
}

// shortTempDir is empty again at the end: t.TempDir is too long for sockets.
func shortTempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hy")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Errorf("something was left behind: %v", err)
		}
	})
	return dir
}

func endpoint(n int) connectors.Endpoint {
	id := fmt.Sprintf("end_%d", n)
	return connectors.Endpoint{Ref: id + "@1", ID: id, URL: "http://127.0.0.1/", Settings: []byte(`{}`)}
}

func delivery(id, method string, e connectors.Endpoint) connectors.Delivery {
	return connectors.Delivery{ID: id, Attempt: 1, Endpoint: e.Ref, Timeout: time.Minute,
		Request: &connectors.Request{Method: method, URL: e.URL, Header: []connectors.Header{{Name: "Content-Type", Value: "application/json"}}, Body: []byte(`{}`)}}
}

// deliver waits for the answer.
func deliver(t testing.TB, s *Supervisor, e connectors.Endpoint, d connectors.Delivery) connectors.Result {
	t.Helper()
	answer := make(chan connectors.Result, 2)
	s.Deliver("obedient", e, d, func(r connectors.Result) { answer <- r })
	select {
	case r := <-answer:
		return r
	case <-time.After(patience):
		t.Fatalf("no answer to %s; %+v", d.Request.Method, s.Stats())
		return connectors.Result{}
	}
}

func TestDeliversThroughAProcess(t *testing.T) {
	s := start(t, nil)
	e := endpoint(1)
	e.Secrets = map[string]string{"token": "hush"}
	if r := deliver(t, s, e, delivery("dlv_1", "OK", e)); r.DeliveryID != "dlv_1" || r.Outcome != connectors.Done || r.Response.Status != 200 || r.Started.IsZero() {
		t.Errorf("got %+v", r)
	}
	if r := deliver(t, s, e, delivery("dlv_2", "ENDPOINT", e)); r.Error != "true end_1@1 http://127.0.0.1/ {} hush" {
		t.Errorf("the endpoint arrived as %q", r.Error)
	}
	e.Ref, e.URL = "end_1@2", "http://127.0.0.2/"
	if r := deliver(t, s, e, delivery("dlv_3", "ENDPOINT", e)); r.Error != "true end_1@2 http://127.0.0.2/ {} hush" {
		t.Errorf("the changed endpoint arrived as %q", r.Error)
	}
	specs := s.Specs()
	if len(specs) != 1 || specs[0].Name != "obedient" || specs[0].Version != "1.2.3" || string(specs[0].Settings) != `{"type":"object"}` {
		t.Errorf("specs: %+v", specs)
	}
}

func TestConnectorsThatBreakTheContract(t *testing.T) {
	s := start(t, nil)
	e := endpoint(1)
	for method, want := range map[string]string{
		"SILENT": "gave no answer", "ERROR": "the connector broke: as told", "PANIC": "panic: as told", "EXIT": "process ended",
	} {
		r := deliver(t, s, e, delivery("dlv_"+method, method, e))
		if r.Outcome != connectors.Retry || r.Fault != connectors.FaultConnector || !strings.Contains(r.Error, want) {
			t.Errorf("%s: got %+v", method, r)
		}
	}
	if r := deliver(t, s, e, delivery("dlv_2", "TWICE", e)); r.Outcome != connectors.Done {
		t.Errorf("TWICE: got %+v", r)
	}
	r := deliver(t, s, e, delivery("dlv_3", "LATIN", e))
	if len(r.Error) > 5<<10 || len(r.Response.Body) != connectors.MaxResponseBody || !r.Response.Truncated || r.Response.Header[0].Value != "\uFFFD" {
		t.Errorf("LATIN: not brought within bounds: %d %d %q", len(r.Error), len(r.Response.Body), r.Response.Header)
	}
	d := delivery("dlv_4", "DEAF", e)
	d.Timeout = time.Millisecond
	if r := deliver(t, s, e, d); r.Fault != connectors.FaultConnector || !strings.Contains(r.Error, "within the time limit") {
		t.Errorf("DEAF: got %+v", r)
	}
	if r := deliver(t, s, e, delivery("dlv_5", "LOG", e)); r.Outcome != connectors.Done {
		t.Errorf("a noisy connector was blocked: %+v", r)
	}
	if r := deliver(t, s, e, delivery("dlv_6", "OK", e)); r.Outcome != connectors.Done {
		t.Errorf("it does not deliver any more: %+v", r)
	}
}

func TestWhatIsLateIsAnsweredAndCancelled(t *testing.T) {
	j := newJournal()
	s := start(t, slog.New(j))
	e := endpoint(1)
	d := delivery("dlv_1", "HANG", e)
	d.Timeout = time.Millisecond
	if r := deliver(t, s, e, d); r.Fault != connectors.FaultConnector || r.Started.IsZero() || !strings.Contains(r.Error, "within the time limit") {
		t.Errorf("got %+v", r)
	}
	j.await(t, "cancelled as told")
	if st := s.Stats()[0]; st.Expired != 1 || st.InFlight != 0 {
		t.Errorf("%+v", st)
	}
}

func TestTheAddressPolicyHoldsInTheProcess(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	defer receiver.Close()
	s := start(t, nil)
	e := endpoint(1)
	e.URL = receiver.URL
	if r := deliver(t, s, e, delivery("dlv_1", "GET", e)); r.Fault != connectors.FaultPolicy || !strings.Contains(r.Error, "--allow-private-targets") {
		t.Errorf("got %+v", r)
	}
	e.Ref, e.Dial.Open = "end_1@2", []string{"127.0.0.0/8"}
	if r := deliver(t, s, e, delivery("dlv_2", "GET", e)); r.Response == nil || r.Response.Status != http.StatusTeapot {
		t.Errorf("got %+v", r)
	}
}

func TestCheck(t *testing.T) {
	s := start(t, nil)
	e := endpoint(1)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Check(ctx, "obedient", e); err != nil {
		t.Error(err)
	}
	e.URL, e.Ref = "bad", "end_1@2"
	if err := s.Check(ctx, "obedient", e); err == nil || err.Error() != "the address is bad" {
		t.Errorf("got %v", err)
	}
	e.URL, e.Ref = "hang", "end_1@3"
	short, stop := context.WithTimeout(ctx, 10*time.Millisecond)
	defer stop()
	if err := s.Check(short, "obedient", e); err == nil {
		t.Error("a hanging check ended without error")
	}
	if err := s.Check(ctx, "nothing", e); err == nil || !strings.Contains(err.Error(), "no connector called") {
		t.Errorf("got %v", err)
	}
}

// TestOnDemand has no process before there is something for it to do.
func TestOnDemand(t *testing.T) {
	entries, self, err := Shipped("obedient")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	entries[0].OnDemand = true
	run := func(use func(*Supervisor)) {
		s, err := New(Config{Catalog: entries, Logger: slog.New(slog.DiscardHandler), Clock: clockwork.NewRealClock(), HostVersion: "test", TempDir: shortTempDir(t)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := s.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if st := s.Stats()[0]; st.State != Idle || st.PID != 0 {
			t.Errorf("before the first item it is %s, process %d", st.State, st.PID)
		}
		use(s)
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	}
	run(func(s *Supervisor) {
		e := endpoint(1)
		results := make(chan connectors.Result, 2)
		for _, id := range []string{"a", "b"} {
			s.Deliver("obedient", e, delivery(id, "OK", e), func(r connectors.Result) { results <- r })
		}
		for range 2 {
			if r := <-results; r.Outcome != connectors.Done {
				t.Errorf("%s: %s", r.DeliveryID, r.Error)
			}
		}
		if st := s.Stats()[0]; st.State != Running || st.Restarts != 0 {
			t.Errorf("after it, it is %s, started again %d times", st.State, st.Restarts)
		}
	})
	run(func(s *Supervisor) {
		if err := s.Check(t.Context(), "obedient", endpoint(1)); err != nil {
			t.Errorf("a question to an idle connector: %v", err)
		}
	})
	run(func(*Supervisor) {}) // ends without ever having started
}
