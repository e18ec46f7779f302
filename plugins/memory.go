package plugins

import (
	"context"
	"errors"
	"fmt"

	"github.com/hookyard/hookyard/connectors"
	wirev1 "github.com/hookyard/hookyard/plugins/wire/v1"
)

const (
	asksOfPlugin = 32 // host services that a plugin may be waiting for
	asksOfHost   = 64 // … and that a host stands before it ends the session

	askRate  = 500  // questions a second that a process is answered, …
	askBurst = 2000 // and so many at once; whoever asks more waits for the answers
)

// memory is the plugin's end of the host's Memory.
type memory struct {
	send  func(*wirev1.SessionResponse)
	ended <-chan struct{}
	slots chan struct{} // one per unanswered question

	waiting expect[*wirev1.Told]
}

// Link implements connectors.Memory.
func (m *memory) Link(ctx context.Context, e connectors.Endpoint, kind, ours string) (connectors.Link, error) {
	return m.link(ctx, e, &wirev1.LinkQuery{Kind: valid(kind), Ours: valid(ours)})
}

// LinkTo implements connectors.Memory.
func (m *memory) LinkTo(ctx context.Context, e connectors.Endpoint, kind, theirs string) (connectors.Link, error) {
	return m.link(ctx, e, &wirev1.LinkQuery{Kind: valid(kind), Theirs: valid(theirs)})
}

func (m *memory) link(ctx context.Context, e connectors.Endpoint, q *wirev1.LinkQuery) (connectors.Link, error) {
	t, err := m.ask(ctx, &wirev1.Ask{Endpoint: e.Ref, Of: &wirev1.Ask_Link{Link: q}})
	if err != nil {
		return connectors.Link{}, fmt.Errorf("look a link up: %w", err)
	}
	return linkFromWire(t.GetLink()), nil
}

// SetLink implements connectors.Memory.
func (m *memory) SetLink(ctx context.Context, e connectors.Endpoint, l connectors.Link) error {
	if err := l.Check(); err != nil {
		return err
	}
	_, err := m.ask(ctx, &wirev1.Ask{Endpoint: e.Ref, Of: &wirev1.Ask_SetLink{SetLink: linkToWire(l)}})
	return err
}

// State implements connectors.Memory.
func (m *memory) State(ctx context.Context, e connectors.Endpoint, key string) (connectors.State, error) {
	t, err := m.ask(ctx, &wirev1.Ask{Endpoint: e.Ref, Of: &wirev1.Ask_State{State: valid(key)}})
	if err != nil {
		return connectors.State{}, fmt.Errorf("look a state up: %w", err)
	}
	return stateFromWire(t.GetState()), nil
}

// SetState implements connectors.Memory.
func (m *memory) SetState(ctx context.Context, e connectors.Endpoint, s connectors.State) error {
	if err := s.Check(); err != nil {
		return err
	}
	_, err := m.ask(ctx, &wirev1.Ask{Endpoint: e.Ref, Of: &wirev1.Ask_SetState{SetState: stateToWire(s)}})
	return err
}

func (m *memory) ask(ctx context.Context, q *wirev1.Ask) (*wirev1.Told, error) {
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	number, answer := m.waiting.add()
	defer m.waiting.drop(number)
	q.Number = number
	m.send(&wirev1.SessionResponse{Message: &wirev1.SessionResponse_Ask{Ask: q}})
	select {
	case t := <-answer:
		switch of := t.GetOf().(type) {
		case *wirev1.Told_Conflict:
			return nil, connectors.ErrConflict
		case *wirev1.Told_Limit:
			return nil, &connectors.LimitError{Message: of.Limit}
		case *wirev1.Told_Error:
			return nil, errors.New(of.Error)
		}
		return t, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-m.ended:
		return nil, errors.New("the host has gone")
	}
}

// asked answers a question of the plugin's. It is called by the reader and does not wait.
func (s *Session) asked(q *wirev1.Ask) error {
	s.mu.Lock()
	s.asks++
	n := s.asks
	g := s.given[q.GetEndpoint()]
	s.mu.Unlock()
	if n > asksOfHost {
		return fmt.Errorf("the connector breaks the protocol: it has more than %d unanswered questions: %w", asksOfHost, ErrFlood)
	}
	now := s.cfg.Clock.Now()
	wait := s.askLimit.ReserveN(now, 1).DelayFrom(now)
	answer := func(t *wirev1.Told) {
		t.Number = q.GetNumber()
		// Counted until it is sent: who asks and does not listen is found out.
		s.out.put(message{other: &wirev1.SessionRequest{Message: &wirev1.SessionRequest_Told{Told: t}}, sent: func() {
			s.mu.Lock()
			s.asks--
			s.mu.Unlock()
		}})
	}
	if g == nil {
		if err := s.unasked(&wirev1.SessionResponse{Message: &wirev1.SessionResponse_Ask{Ask: q}}, 1); err != nil {
			return err
		}
		answer(&wirev1.Told{Of: &wirev1.Told_Error{Error: "this process was not given the endpoint " + clip(q.GetEndpoint())}})
		return nil
	}
	s.working.Go(func() {
		if wait > 0 {
			turn := s.cfg.Clock.NewTimer(wait)
			defer turn.Stop()
			select {
			case <-turn.Chan():
			case <-s.stream.Context().Done():
				return
			}
		}
		answer(s.tell(g.Endpoint, q))
	})
	return nil
}

// tell asks the Memory. The endpoint is the host's own knowledge, not what the plugin says.
func (s *Session) tell(e connectors.Endpoint, q *wirev1.Ask) *wirev1.Told {
	ctx, cancel := context.WithTimeout(s.stream.Context(), s.cfg.DefaultTimeout)
	defer cancel()
	t, err := s.remember(ctx, e, q)
	var limit *connectors.LimitError
	switch {
	case err == nil:
		return t
	case errors.Is(err, connectors.ErrConflict):
		return &wirev1.Told{Of: &wirev1.Told_Conflict{Conflict: true}}
	case errors.As(err, &limit):
		return &wirev1.Told{Of: &wirev1.Told_Limit{Limit: clip(limit.Message)}}
	}
	s.cfg.Log.Warn("what a connector keeps could not be read or written", "endpoint", e.ID, "err", err)
	return &wirev1.Told{Of: &wirev1.Told_Error{Error: "the hub cannot read or write this now"}}
}

func (s *Session) remember(ctx context.Context, e connectors.Endpoint, q *wirev1.Ask) (*wirev1.Told, error) {
	m := s.cfg.Memory
	switch of := q.GetOf().(type) {
	case *wirev1.Ask_Link:
		find, id := m.Link, of.Link.GetOurs()
		if id == "" {
			find, id = m.LinkTo, of.Link.GetTheirs()
		}
		l, err := find(ctx, e, of.Link.GetKind(), id)
		return &wirev1.Told{Of: &wirev1.Told_Link{Link: linkToWire(l)}}, err
	case *wirev1.Ask_SetLink:
		l := linkFromWire(of.SetLink)
		if err := l.Check(); err != nil {
			return nil, err
		}
		return &wirev1.Told{Of: &wirev1.Told_Kept{Kept: &wirev1.Kept{}}}, m.SetLink(ctx, e, l)
	case *wirev1.Ask_State:
		v, err := m.State(ctx, e, of.State)
		return &wirev1.Told{Of: &wirev1.Told_State{State: stateToWire(v)}}, err
	case *wirev1.Ask_SetState:
		v := stateFromWire(of.SetState)
		if err := v.Check(); err != nil {
			return nil, err
		}
		return &wirev1.Told{Of: &wirev1.Told_Kept{Kept: &wirev1.Kept{}}}, m.SetState(ctx, e, v)
	}
	return nil, &connectors.LimitError{Message: "this hub does not know what was asked"}
}

// noMemory is the Memory where there is none.
type noMemory struct{}

var errNoMemory = errors.New("this host keeps nothing for connectors")

// Link implements connectors.Memory.
func (noMemory) Link(context.Context, connectors.Endpoint, string, string) (connectors.Link, error) {
	return connectors.Link{}, errNoMemory
}

// LinkTo implements connectors.Memory.
func (noMemory) LinkTo(context.Context, connectors.Endpoint, string, string) (connectors.Link, error) {
	return connectors.Link{}, errNoMemory
}

// SetLink implements connectors.Memory.
func (noMemory) SetLink(context.Context, connectors.Endpoint, connectors.Link) error {
	return errNoMemory
}

// State implements connectors.Memory.
func (noMemory) State(context.Context, connectors.Endpoint, string) (connectors.State, error) {
	return connectors.State{}, errNoMemory
}

// SetState implements connectors.Memory.
func (noMemory) SetState(context.Context, connectors.Endpoint, connectors.State) error {
	return errNoMemory
}
