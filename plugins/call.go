package plugins

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/hookyard/hookyard/connectors"
	wirev1 "github.com/hookyard/hookyard/plugins/wire/v1"
)

// The host's end of calls: everything but deliveries.

const (
	keepGiven  = 5 * time.Minute  // how long a process may ask about an endpoint that was taken back
	scanEnding = 10 * time.Second // what a scan may take to end after it was cancelled
)

// Call has one call answered. Its token is set here. A call that the connector could not
// answer is an error: a *connectors.RefuseError, *connectors.SkipError or
// *connectors.Failure if it decided so.
func (s *Session) Call(ctx context.Context, c *wirev1.Call) (*wirev1.Answer, error) {
	return s.call(ctx, nil, &asked{answer: make(chan *wirev1.Answer, 1)}, c)
}

// Check asks the connector whether the endpoint would work.
func (s *Session) Check(ctx context.Context, e connectors.Endpoint) error {
	_, err := s.call(ctx, &e, &asked{answer: make(chan *wirev1.Answer, 1)}, nil)
	return err
}

// Poll asks a source for what is new.
func (s *Session) Poll(ctx context.Context, p connectors.Poll) (connectors.Polled, error) {
	a, err := s.call(ctx, &p.Source, &asked{answer: make(chan *wirev1.Answer, 1)}, &wirev1.Call{Of: &wirev1.Call_Poll{
		Poll: &wirev1.Poll{Source: p.Source.Ref, Kind: p.Kind, Cursor: p.Cursor, Since: nanos(p.Since), Limit: int32(p.Limit)}}})
	if err != nil {
		return connectors.Polled{}, err
	}
	if a.GetPolled() == nil {
		return connectors.Polled{}, errNoAnswer
	}
	return polledFromWire(a.GetPolled())
}

// Enrich has a receipt enriched.
func (s *Session) Enrich(ctx context.Context, e connectors.Enrichment) (connectors.Document, error) {
	a, err := s.call(ctx, &e.Source, &asked{answer: make(chan *wirev1.Answer, 1)}, &wirev1.Call{Of: &wirev1.Call_Enrich{
		Enrich: &wirev1.Enrich{Source: e.Source.Ref, Kind: e.Kind, Receipt: e.Receipt, Attempt: int32(e.Attempt), Request: inboundToWire(e.Kind, &e.Request)}}})
	if err != nil {
		return connectors.Document{}, err
	}
	if a.GetDocument() == nil {
		return connectors.Document{}, errNoAnswer
	}
	return documentFromWire(a.GetDocument())
}

// Scan runs a scan and tells its news, in order. When ctx ends the scan is cancelled, and
// Scan returns when it has ended, or after a grace.
func (s *Session) Scan(ctx context.Context, job connectors.ScanJob, tell func(connectors.ScanNews) error) error {
	a := &asked{answer: make(chan *wirev1.Answer, 1), news: make(chan *wirev1.News, 1)}
	token, done, err := s.ask(&job.Scanner, a, &wirev1.Call{Timeout: int64(job.Timeout), Of: &wirev1.Call_Scan{Scan: scanToWire(&job)}})
	if err != nil {
		return err
	}
	defer done()
	over, wanted := ctx.Done(), error(nil)
	var late <-chan time.Time
	giveUp := func(why error) {
		if over = nil; late == nil {
			wanted = why
			s.sendCancel([]uint64{token})
			late = s.cfg.Clock.After(scanEnding)
		}
	}
	for {
		select {
		case n := <-a.news:
			news, err := newsFromWire(n)
			if err == nil {
				err = tell(news)
			}
			taken := &wirev1.NewsTaken{Token: token}
			if err != nil {
				taken.Error = clip(err.Error())
				giveUp(err)
			}
			s.out.put(message{other: &wirev1.SessionRequest{Message: &wirev1.SessionRequest_NewsTaken{NewsTaken: taken}}})
		case m, ok := <-a.answer:
			if !ok {
				return ErrEnded
			}
			if _, err := decided(m); wanted == nil {
				return err
			}
			return wanted
		case <-over:
			giveUp(ctx.Err())
		case <-late:
			return fmt.Errorf("the connector did not end the scan in time: %w", wanted)
		}
	}
}

var errNoAnswer = &connectors.Failure{Outcome: connectors.Retry, Fault: connectors.FaultConnector, Message: "the connector answered something else than it was asked"}

// call asks, waits and reads the decision. A nil c is a check of e.
func (s *Session) call(ctx context.Context, e *connectors.Endpoint, a *asked, c *wirev1.Call) (*wirev1.Answer, error) {
	token, done, err := s.ask(e, a, c)
	if err != nil {
		return nil, err
	}
	defer done()
	select {
	case m, ok := <-a.answer:
		if !ok {
			return nil, lostError{ErrEnded}
		}
		return decided(m)
	case <-ctx.Done():
		s.sendCancel([]uint64{token})
		return nil, fmt.Errorf("wait for the connector: %w", ctx.Err())
	}
}

// ask hands a call over, with the endpoint that it needs. done must be called when nobody
// waits for the answer any more.
func (s *Session) ask(e *connectors.Endpoint, a *asked, c *wirev1.Call) (token uint64, done func(), err error) {
	if n := proto.Size(c); n > MaxItem {
		return 0, nil, &connectors.Failure{Outcome: connectors.Permanent, Fault: connectors.FaultSettings,
			Message: fmt.Sprintf("it is larger than %d bytes, which is more than a connector is handed", MaxItem)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, nil, s.err
	}
	s.token++
	token = s.token
	before := true
	var held *given
	if e != nil {
		_, before = s.refs[e.ID]
		s.knowLocked(*e)
		held = s.given[e.Ref]
		held.users++
	}
	s.calls[token] = a
	if c == nil {
		s.out.put(message{other: &wirev1.SessionRequest{Message: &wirev1.SessionRequest_Check{Check: &wirev1.Check{Token: token, Endpoint: e.Ref}}}})
	} else {
		c.Token = token
		s.out.put(message{other: &wirev1.SessionRequest{Message: &wirev1.SessionRequest_Call{Call: c}}})
	}
	if !before {
		// Perhaps nobody ever delivers there. The plugin keeps it until the call ends.
		delete(s.refs, e.ID)
		s.forgetLocked(e.Ref)
	}
	return token, func() {
		s.mu.Lock()
		delete(s.calls, token)
		if held != nil {
			held.users--
		}
		s.idleLocked()
		s.mu.Unlock()
	}, nil
}

// answered hands an answer to who waits for it.
func (s *Session) answered(m *wirev1.Answer) (waited bool) {
	s.mu.Lock()
	c := s.calls[m.GetToken()]
	delete(s.calls, m.GetToken())
	s.idleLocked()
	s.mu.Unlock()
	if c != nil {
		c.answer <- m
	}
	return c != nil
}

// news hands a scan's news to who waits for it. A plugin that does not wait until the last
// one was taken breaks the protocol.
func (s *Session) news(m *wirev1.News) (waited bool, err error) {
	s.mu.Lock()
	c := s.calls[m.GetToken()]
	s.mu.Unlock()
	if c == nil || c.news == nil { // it was given up
		s.out.put(message{other: &wirev1.SessionRequest{Message: &wirev1.SessionRequest_NewsTaken{
			NewsTaken: &wirev1.NewsTaken{Token: m.GetToken(), Error: "nobody waits for this scan any more"}}}})
		return false, nil
	}
	select {
	case c.news <- m:
		return true, nil
	default:
		return true, errors.New("the connector breaks the protocol: it told news of a scan before the last was taken")
	}
}

// brokenError is what a connector said of itself instead of deciding.
type brokenError string

func (b brokenError) Error() string { return string(b) }

// decided turns an answer that is a decision against the call into its error.
func decided(m *wirev1.Answer) (*wirev1.Answer, error) {
	switch of := m.GetOf().(type) {
	case *wirev1.Answer_Refusal:
		return nil, refusalFromWire(of.Refusal)
	case *wirev1.Answer_Skip:
		return nil, &connectors.SkipError{Reason: clip(of.Skip)}
	case *wirev1.Answer_Failure:
		return nil, failureFromWire(of.Failure)
	case *wirev1.Answer_Broken:
		if of.Broken != "" {
			return nil, brokenError(clip(of.Broken))
		}
	}
	return m, nil
}
