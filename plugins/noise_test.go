package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/hookyard/hookyard/connectors"
	wirev1 "github.com/hookyard/hookyard/plugins/wire/v1"
)

func line(text string) *wirev1.SessionResponse {
	return &wirev1.SessionResponse{Message: &wirev1.SessionResponse_Log{Log: &wirev1.Log{Message: text}}}
}

// A process that says without end what nobody asked for loses its session, whatever it is.
func TestAFloodEndsTheSession(t *testing.T) {
	clock := clockwork.NewFakeClock() // time earns it nothing
	for name, c := range map[string]struct {
		word *wirev1.SessionResponse
		most int // so many are enough
	}{
		"lines":                     {line("x"), noiseMost},
		"long lines":                {line(strings.Repeat("x", 1<<20)), noiseMost / 250},
		"results of nothing":        {results(&wirev1.Result{Token: 1 << 40}), noiseMost},
		"many results of nothing":   {results(make([]*wirev1.Result, 100)...), noiseMost / 100},
		"empty results":             {results(), noiseMost},
		"checks of nothing":         {&wirev1.SessionResponse{Message: &wirev1.SessionResponse_CheckDone{CheckDone: &wirev1.CheckDone{Token: 1 << 40}}}, noiseMost},
		"answers to nothing":        {&wirev1.SessionResponse{Message: &wirev1.SessionResponse_Answer{Answer: &wirev1.Answer{Token: 1 << 40}}}, noiseMost},
		"news of nothing":           {&wirev1.SessionResponse{Message: &wirev1.SessionResponse_News{News: &wirev1.News{Token: 1 << 40}}}, noiseMost},
		"signs of life":             {&wirev1.SessionResponse{Message: &wirev1.SessionResponse_Pong{Pong: &wirev1.Pong{Number: 1}}}, noiseMost},
		"words that nobody knows":   {&wirev1.SessionResponse{}, noiseMost},
		"questions about strangers": {&wirev1.SessionResponse{Message: &wirev1.SessionResponse_Ask{Ask: &wirev1.Ask{Endpoint: "end_9@1"}}}, noiseMost},
	} {
		t.Run(name, func(t *testing.T) {
			s := openAt(t, clock, slog.New(slog.DiscardHandler), each(func(s wirev1.Plugin_SessionServer, _ *wirev1.Item) error {
				for range 2 * c.most {
					if err := s.Send(c.word); err != nil {
						return err
					}
				}
				return nil
			}))
			answers := make(chan connectors.Result, 1)
			s.Deliver(anEndpoint, connectors.Delivery{ID: "dlv_1", Endpoint: anEndpoint.Ref}, func(r connectors.Result) { answers <- r })
			<-s.Ended()
			if err := s.Err(); !errors.Is(err, ErrFlood) && !strings.Contains(err.Error(), "unanswered questions") {
				t.Errorf("it ended because of %v", err)
			}
			if r := <-answers; r.Fault != connectors.FaultConnector {
				t.Errorf("got %+v", r)
			}
		})
	}
}

// Who is busy may say more: a few lines for each item are no flood.
func TestBusyIsNotNoisy(t *testing.T) {
	s := open(t, slog.New(slog.DiscardHandler), each(func(s wirev1.Plugin_SessionServer, i *wirev1.Item) error {
		for range 10 {
			if err := s.Send(line("x")); err != nil {
				return err
			}
		}
		return s.Send(results(&wirev1.Result{Token: i.GetToken(), Outcome: wirev1.Outcome_OUTCOME_DONE}))
	}))
	var all sync.WaitGroup
	for i := range noiseMost / 5 {
		all.Add(1)
		s.Deliver(anEndpoint, connectors.Delivery{ID: fmt.Sprint("dlv_", i), Endpoint: anEndpoint.Ref}, func(connectors.Result) { all.Done() })
	}
	all.Wait()
	if err := s.Err(); err != nil {
		t.Error(err)
	}
}

// What else a process says on its connection is not heard, or no faster than is bearable.
func TestOtherStreamsAreBounded(t *testing.T) {
	listener := listen(t, grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		for {
			if err := s.SendMsg(line(strings.Repeat("x", 1<<20))); err != nil {
				return err
			}
		}
	})))
	conn, err := grpc.NewClient("passthrough:///plugin", append(DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(listener))...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	stream := func(ctx context.Context, method string) grpc.ClientStream {
		s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
		if err == nil {
			err = s.CloseSend()
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := stream(ctx, "/plugin.GRPCBroker/StartStream").RecvMsg(&wirev1.SessionResponse{}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("the broker heard something: %v", err)
	}
	output := stream(t.Context(), "/plugin.GRPCStdio/StreamStdio")
	began := time.Now()
	for range 10 {
		if err := output.RecvMsg(&wirev1.SessionResponse{}); err != nil {
			t.Fatal(err)
		}
	}
	if took, least := time.Since(began), time.Second*(10<<20-otherBurst)/otherRate; took < least {
		t.Errorf("10 MiB of output were read within %v", took)
	}
}

// counting counts what it is asked, and knows nothing.
type counting struct {
	noMemory
	asked atomic.Int64
}

// State implements connectors.Memory.
func (c *counting) State(context.Context, connectors.Endpoint, string) (connectors.State, error) {
	c.asked.Add(1)
	return connectors.State{}, nil
}

// curious asks as many questions at once as it may, and the next with each answer.
func curious(atOnce int, listens bool) func(wirev1.Plugin_SessionServer) error {
	return func(s wirev1.Plugin_SessionServer) error {
		number := uint64(0)
		ask := func(n int) error {
			for range n {
				number++
				if err := s.Send(&wirev1.SessionResponse{Message: &wirev1.SessionResponse_Ask{Ask: &wirev1.Ask{Number: number, Endpoint: anEndpoint.Ref, Of: &wirev1.Ask_State{State: "x"}}}}); err != nil {
					return err
				}
			}
			return nil
		}
		for {
			m, err := s.Recv()
			if err != nil {
				return err
			}
			switch {
			case m.GetDeliver() != nil:
				err = ask(atOnce)
			case m.GetTold() != nil && listens:
				err = ask(1)
			}
			if err != nil {
				return err
			}
		}
	}
}

// Who asks without end waits for the answers; who does not wait loses its session.
func TestQuestionsAreBoundedByRate(t *testing.T) {
	clock := clockwork.NewFakeClock()
	memory := &counting{}
	s := openWith(t, SessionConfig{Log: slog.New(slog.DiscardHandler), Clock: clock, DefaultTimeout: time.Minute, Memory: memory}, curious(asksOfPlugin, true))
	s.Deliver(anEndpoint, connectors.Delivery{ID: "dlv_1", Endpoint: anEndpoint.Ref}, func(connectors.Result) {})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	want := int64(askBurst)
	for range 3 {
		if err := clock.BlockUntilContext(ctx, asksOfPlugin); err != nil {
			t.Fatalf("after %d questions nobody waits: %v", memory.asked.Load(), err)
		}
		if n := memory.asked.Load(); n != want {
			t.Fatalf("%d questions were answered, not %d", n, want)
		}
		const waited = time.Second
		for left := waited; left > 0; left -= time.Second / askRate { // each is answered in its turn
			clock.Advance(time.Second / askRate)
			want++
			if err := clock.BlockUntilContext(ctx, asksOfPlugin); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Err(); err != nil {
		t.Errorf("whoever waits has lost its session: %v", err)
	}
	s = openWith(t, SessionConfig{Log: slog.New(slog.DiscardHandler), Clock: clock, DefaultTimeout: time.Minute, Memory: memory}, curious(askBurst+asksOfHost+10, false))
	s.Deliver(anEndpoint, connectors.Delivery{ID: "dlv_1", Endpoint: anEndpoint.Ref}, func(connectors.Result) {})
	select {
	case <-s.Ended():
	case <-ctx.Done():
		t.Fatal("whoever does not wait keeps its session")
	}
	if err := s.Err(); !errors.Is(err, ErrFlood) || !strings.Contains(err.Error(), "unanswered questions") {
		t.Errorf("it ended because of %v", err)
	}
}
