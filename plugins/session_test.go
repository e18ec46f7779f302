package plugins

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"pgregory.net/rapid"

	"github.com/hookyard/hookyard/connectors"
	wirev1 "github.com/hookyard/hookyard/plugins/wire/v1"
)

// crooked is a plugin that is written against the wire, not with Serve.
type crooked struct {
	wirev1.UnimplementedPluginServer
	session func(wirev1.Plugin_SessionServer) error
}

func (c crooked) Session(s wirev1.Plugin_SessionServer) error { return c.session(s) }

// listen runs a server for the test's time, and returns how to reach it.
func listen(t testing.TB, server *grpc.Server) func(context.Context, string) (net.Conn, error) {
	listener := bufconn.Listen(1 << 20)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }
}

func open(t testing.TB, log *slog.Logger, session func(wirev1.Plugin_SessionServer) error) *Session {
	t.Helper()
	return openAt(t, clockwork.NewRealClock(), log, session)
}

func openAt(t testing.TB, clock clockwork.Clock, log *slog.Logger, session func(wirev1.Plugin_SessionServer) error) *Session {
	t.Helper()
	return openWith(t, SessionConfig{Log: log, Clock: clock, DefaultTimeout: time.Minute}, session)
}

func openWith(t testing.TB, cfg SessionConfig, session func(wirev1.Plugin_SessionServer) error) *Session {
	t.Helper()
	server := grpc.NewServer(grpc.MaxRecvMsgSize(MaxMessage))
	wirev1.RegisterPluginServer(server, crooked{session: session})
	options := append(DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(listen(t, server)))
	conn, err := grpc.NewClient("passthrough:///plugin", options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s, err := NewSession(wirev1.NewPluginClient(conn), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// each calls f with every item that arrives.
func each(f func(wirev1.Plugin_SessionServer, *wirev1.Item) error) func(wirev1.Plugin_SessionServer) error {
	return func(s wirev1.Plugin_SessionServer) error {
		for {
			m, err := s.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			for _, item := range m.GetDeliver().GetItems() {
				if err := f(s, item); err != nil {
					return err
				}
			}
		}
	}
}

func results(r ...*wirev1.Result) *wirev1.SessionResponse {
	return &wirev1.SessionResponse{Message: &wirev1.SessionResponse_Results{Results: &wirev1.Results{Results: r}}}
}

var anEndpoint = connectors.Endpoint{Ref: "end_1@1", ID: "end_1"}

func TestAnswersThatNobodyWaitsForAreDroppedAndLogged(t *testing.T) {
	var text strings.Builder
	s := open(t, slog.New(slog.NewTextHandler(&text, nil)), each(func(s wirev1.Plugin_SessionServer, i *wirev1.Item) error {
		r := &wirev1.Result{Token: i.GetToken(), Outcome: wirev1.Outcome_OUTCOME_DONE}
		return s.Send(results(&wirev1.Result{Token: 77, Outcome: wirev1.Outcome_OUTCOME_DONE}, r, r, &wirev1.Result{}))
	}))
	answers := make(chan connectors.Result, 10)
	for i := range 3 {
		s.Deliver(anEndpoint, connectors.Delivery{ID: fmt.Sprint("dlv_", i), Endpoint: anEndpoint.Ref}, func(r connectors.Result) { answers <- r })
		if r := <-answers; r.DeliveryID != fmt.Sprint("dlv_", i) || r.Outcome != connectors.Done {
			t.Errorf("got %+v", r)
		}
	}
	s.Close()
	if len(answers) != 0 {
		t.Errorf("%d answers too many", len(answers))
	}
	if n := strings.Count(text.String(), "nobody waits for"); n < 8 {
		t.Errorf("%d dropped answers were logged:\n%s", n, text.String())
	}
}

func TestAnUnknownOutcomeIsTheConnectorsFault(t *testing.T) {
	s := open(t, slog.New(slog.DiscardHandler), each(func(s wirev1.Plugin_SessionServer, i *wirev1.Item) error {
		return s.Send(results(&wirev1.Result{Token: i.GetToken(), Outcome: 99, Error: "a\x00b",
			Response: &wirev1.Response{Header: []byte("A: \xff\x00\nno colon\n"), Body: make([]byte, connectors.MaxResponseBody+1)}}))
	}))
	answers := make(chan connectors.Result, 1)
	s.Deliver(anEndpoint, connectors.Delivery{ID: "dlv_1"}, func(r connectors.Result) { answers <- r })
	r := <-answers
	if r.Outcome != connectors.Retry || r.Fault != connectors.FaultConnector || len(r.Response.Body) != connectors.MaxResponseBody || !r.Response.Truncated ||
		r.Response.Header[0].Value != "\uFFFD\uFFFD" || r.Response.Header[1].Name != "no colon" {
		t.Errorf("got %+v", r)
	}
}

func TestWhatIsTooLargeIsAnsweredOrEndsTheSession(t *testing.T) {
	s := open(t, slog.New(slog.DiscardHandler), each(func(s wirev1.Plugin_SessionServer, i *wirev1.Item) error {
		return s.Send(results(&wirev1.Result{Token: i.GetToken(), Error: strings.Repeat("x", MaxMessage+1)}))
	}))
	answers := make(chan connectors.Result, 1)
	d := connectors.Delivery{ID: "dlv_1", Request: &connectors.Request{Body: make([]byte, MaxItem+1)}}
	s.Deliver(anEndpoint, d, func(r connectors.Result) { answers <- r })
	if r := <-answers; r.Outcome != connectors.Permanent || r.Fault != connectors.FaultSettings {
		t.Errorf("got %+v", r)
	}
	d.Request.Body = make([]byte, MaxItem) // the largest that fits
	s.Deliver(anEndpoint, d, func(r connectors.Result) { answers <- r })
	if r := <-answers; r.Outcome != connectors.Retry || r.Fault != connectors.FaultConnector {
		t.Errorf("got %+v", r)
	}
	<-s.Ended()
	if !strings.Contains(s.Err().Error(), "larger than max") {
		t.Errorf("it ended because of %v", s.Err())
	}
	if s.Deliver(anEndpoint, d, nil) {
		t.Error("an ended session took an item")
	}
	if err := s.Check(t.Context(), anEndpoint); !errors.Is(err, ErrEnded) {
		t.Errorf("got %v", err)
	}
}

func TestEndpointsAreSentOncePerRef(t *testing.T) {
	heard := make(chan string, 100)
	s := open(t, slog.New(slog.DiscardHandler), func(s wirev1.Plugin_SessionServer) error {
		for {
			m, err := s.Recv()
			if err != nil {
				return nil
			}
			switch m := m.GetMessage().(type) {
			case *wirev1.SessionRequest_Hello:
				heard <- "hello"
			case *wirev1.SessionRequest_Endpoint:
				heard <- "+" + m.Endpoint.GetRef()
			case *wirev1.SessionRequest_Forget:
				heard <- "-" + m.Forget.GetRef()
			case *wirev1.SessionRequest_Deliver:
				for _, i := range m.Deliver.GetItems() {
					heard <- i.GetEndpoint()
				}
			}
		}
	})
	for _, ref := range []string{"@1", "@1", "@2", "@2", "@1"} {
		s.Deliver(connectors.Endpoint{ID: "end", Ref: ref}, connectors.Delivery{ID: "dlv", Endpoint: ref}, func(connectors.Result) {})
	}
	s.Deliver(connectors.Endpoint{ID: "other", Ref: "o"}, connectors.Delivery{ID: "dlv", Endpoint: "o"}, func(connectors.Result) {})
	s.Forget("end")
	for i, want := range strings.Fields("hello +@1 @1 @1 +@2 -@1 @2 @2 +@1 -@2 @1 +o o -@1") {
		if got := <-heard; got != want {
			t.Fatalf("message %d is %q, not %q", i, got, want)
		}
	}
}

// What goes through the wire comes out as it went in.
func TestHeadersSurviveTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-zA-Z0-9:; \x00\xff-]{0,20}`)
		var hs []connectors.Header
		for range rapid.IntRange(0, 8).Draw(t, "lines") {
			hs = append(hs, connectors.Header{Name: rapid.StringMatching(`[a-zA-Z0-9-]{0,9}`).Draw(t, "name"), Value: text.Draw(t, "value"),
				Secret: rapid.SampledFrom([]string{"", "token"}).Draw(t, "secret")})
		}
		got := requestFromWire(requestToWire(&connectors.Request{Header: hs})).Header
		if len(got) != len(hs) {
			t.Fatalf("%q became %q", hs, got)
		}
		for i := range hs {
			if got[i] != hs[i] {
				t.Fatalf("%q became %q", hs[i], got[i])
			}
		}
	})
	if got := headerFromWire(headerToWire([]connectors.Header{{Name: "A", Value: "b\nEvil: yes"}})); len(got) != 1 || got[0].Value != "b Evil: yes" {
		t.Errorf("a line break made %q", got)
	}
}

// What was given up has its answer: another one that comes later is dropped, however often.
func TestALateAnswerChangesNothing(t *testing.T) {
	clock := clockwork.NewFakeClock()
	var late *wirev1.Item
	s := openAt(t, clock, slog.New(slog.DiscardHandler), each(func(s wirev1.Plugin_SessionServer, i *wirev1.Item) error {
		if late == nil {
			late = i
			return nil
		}
		done := &wirev1.Result{Token: late.GetToken(), Outcome: wirev1.Outcome_OUTCOME_DONE}
		return s.Send(results(done, done, &wirev1.Result{Token: i.GetToken(), Outcome: wirev1.Outcome_OUTCOME_SKIPPED}))
	}))
	answers := make(chan connectors.Result, 10)
	deliver := func(id string) {
		s.Deliver(anEndpoint, connectors.Delivery{ID: id, Endpoint: anEndpoint.Ref, Timeout: time.Second}, func(r connectors.Result) { answers <- r })
	}
	deliver("dlv_1")
	clock.Advance(time.Second)
	if n := s.Expire(); n != 0 {
		t.Errorf("%d items were given up within their time", n)
	}
	clock.Advance(time.Millisecond)
	if n := s.Expire(); n != 1 {
		t.Errorf("%d items were given up, not 1", n)
	}
	if r := <-answers; r.DeliveryID != "dlv_1" || r.Outcome != connectors.Retry || r.Fault != connectors.FaultConnector || !strings.Contains(r.Error, "within the time limit") {
		t.Errorf("got %+v", r)
	}
	// The retry is a delivery of the same ID: the late answer is not taken for its answer.
	deliver("dlv_1")
	if r := <-answers; r.DeliveryID != "dlv_1" || r.Outcome != connectors.Skipped {
		t.Errorf("got %+v", r)
	}
	s.Close()
	if len(answers) > 0 {
		t.Errorf("%d answers too many", len(answers))
	}
}
