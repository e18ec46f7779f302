package plugins

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/hookyard/hookyard/connectors"
	wirev1 "github.com/hookyard/hookyard/plugins/wire/v1"
)

// messages calls f with everything that arrives.
func messages(f func(wirev1.Plugin_SessionServer, *wirev1.SessionRequest) error) func(wirev1.Plugin_SessionServer) error {
	return func(s wirev1.Plugin_SessionServer) error {
		for {
			m, err := s.Recv()
			if err != nil {
				return err
			}
			if err := f(s, m); err != nil {
				return err
			}
		}
	}
}

func said(m *wirev1.SessionResponse) func(wirev1.Plugin_SessionServer) error {
	return func(s wirev1.Plugin_SessionServer) error { return s.Send(m) }
}

// A plugin that floods the stream with questions, or tells a scan's news without waiting
// for them to be taken, has its session ended; one that asks about what it was not
// given gets nothing.
func TestAPluginThatBreaksTheProtocolLosesItsSession(t *testing.T) {
	ask := said(&wirev1.SessionResponse{Message: &wirev1.SessionResponse_Ask{Ask: &wirev1.Ask{Number: 1, Endpoint: "end_9@1", Of: &wirev1.Ask_State{State: "x"}}}})
	for name, c := range map[string]struct {
		flood func(s wirev1.Plugin_SessionServer, token uint64) error
		want  string
	}{
		"questions": {func(s wirev1.Plugin_SessionServer, _ uint64) error {
			for range 1_000_000 { // and does not read the answers
				if err := ask(s); err != nil {
					return err
				}
			}
			return nil
		}, "unanswered questions"},
		"news": {func(s wirev1.Plugin_SessionServer, token uint64) error {
			news := &wirev1.SessionResponse{Message: &wirev1.SessionResponse_News{News: &wirev1.News{Token: token, Kind: "PROGRESSED"}}}
			for range 1_000_000 {
				if err := s.Send(news); err != nil {
					return err
				}
			}
			return nil
		}, "before the last was taken"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, slog.New(slog.DiscardHandler), messages(func(s wirev1.Plugin_SessionServer, m *wirev1.SessionRequest) error {
				if m.GetCall().GetScan() != nil {
					return c.flood(s, m.GetCall().GetToken())
				}
				return nil
			}))
			release := make(chan struct{})
			go func() { <-s.stop; close(release) }()
			err := s.Scan(t.Context(), connectors.ScanJob{Scanner: anEndpoint, ID: "scn_1"}, func(connectors.ScanNews) error { <-release; return nil })
			if !errors.Is(err, ErrEnded) || s.Err() == nil || !strings.Contains(s.Err().Error(), c.want) {
				t.Errorf("the scan ended with %v, the session with %v", err, s.Err())
			}
		})
	}
}

func TestAnswersThatDoNotFit(t *testing.T) {
	for name, a := range map[string]*wirev1.Answer{
		"nothing":                   {},
		"another kind":              {Of: &wirev1.Answer_Scanned{}},
		"a document over the limit": {Of: &wirev1.Answer_Polled{Polled: &wirev1.Polled{Documents: []*wirev1.Document{{Body: make([]byte, connectors.MaxDocument+1)}}}}},
		"a cursor over the limit":   {Of: &wirev1.Answer_Polled{Polled: &wirev1.Polled{Cursor: make([]byte, connectors.MaxState+1)}}},
		"an unknown outcome":        {Of: &wirev1.Answer_Failure{Failure: &wirev1.Failure{Outcome: 77, Message: "x"}}},
		"a broken connector":        {Of: &wirev1.Answer_Broken{Broken: "?"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, slog.New(slog.DiscardHandler), messages(func(s wirev1.Plugin_SessionServer, m *wirev1.SessionRequest) error {
				if c := m.GetCall(); c != nil {
					a.Token = c.GetToken()
					return s.Send(&wirev1.SessionResponse{Message: &wirev1.SessionResponse_Answer{Answer: a}})
				}
				return nil
			}))
			if p, err := s.Poll(t.Context(), connectors.Poll{Source: anEndpoint}); err == nil {
				t.Errorf("it was taken for %+v", p)
			}
		})
	}
}

// A call whose context ends does not wait, and what nobody waits for any more is dropped.
func TestACallThatIsGivenUp(t *testing.T) {
	asked := make(chan uint64, 1)
	cancelled := make(chan uint64, 1)
	s := open(t, slog.New(slog.DiscardHandler), messages(func(s wirev1.Plugin_SessionServer, m *wirev1.SessionRequest) error {
		if c := m.GetCall(); c != nil {
			asked <- c.GetToken()
		}
		if c := m.GetCancel(); c != nil {
			cancelled <- c.GetTokens()[0]
			return s.Send(&wirev1.SessionResponse{Message: &wirev1.SessionResponse_Answer{Answer: &wirev1.Answer{Token: c.GetTokens()[0]}}})
		}
		return nil
	}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := s.Poll(ctx, connectors.Poll{Source: anEndpoint}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-cancelled
	s.mu.Lock()
	left := len(s.calls)
	s.mu.Unlock()
	if left != 0 {
		t.Errorf("%d calls are kept", left)
	}
}

// A session is idle when its calls are answered, too: a scan that goes on is in flight.
func TestAScanIsInFlight(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	s := open(t, slog.New(slog.DiscardHandler), messages(func(s wirev1.Plugin_SessionServer, m *wirev1.SessionRequest) error {
		if c := m.GetCall(); c != nil {
			close(asked)
			<-release
			return s.Send(&wirev1.SessionResponse{Message: &wirev1.SessionResponse_Answer{Answer: &wirev1.Answer{Token: c.GetToken(), Of: &wirev1.Answer_Scanned{Scanned: &wirev1.Scanned{}}}}})
		}
		return nil
	}))
	over := make(chan error, 1)
	go func() {
		over <- s.Scan(t.Context(), connectors.ScanJob{Scanner: anEndpoint, ID: "scn_1"}, func(connectors.ScanNews) error { return nil })
	}()
	<-asked
	idle := s.Idle()
	select {
	case <-idle:
		t.Error("a session whose scan goes on is idle")
	default:
	}
	close(release)
	if err := <-over; err != nil {
		t.Error(err)
	}
	<-idle
}

// What the process had in hand when it ended is told from what was never asked.
func TestACallThatTheProcessEndsWith(t *testing.T) {
	s := open(t, slog.New(slog.DiscardHandler), messages(func(_ wirev1.Plugin_SessionServer, m *wirev1.SessionRequest) error {
		if m.GetCall() != nil {
			return errors.New("it ends")
		}
		return nil
	}))
	ask := func() error {
		_, err := remote{to: s, limit: pureTime}.call(&wirev1.Call{Of: &wirev1.Call_Receive{Receive: &wirev1.Inbound{}}})
		return err
	}
	var ended interface{ Ended() }
	if err := ask(); !errors.As(err, &ended) || !errors.Is(err, ErrEnded) {
		t.Errorf("a call that it had in hand: %v", err)
	}
	<-s.Ended()
	if err := ask(); errors.As(err, &ended) || !errors.Is(err, ErrEnded) {
		t.Errorf("a call after its end: %v", err)
	}
}
