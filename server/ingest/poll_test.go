package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/server/flow"
	"github.com/hookyard/hookyard/server/ingest"
)

// asked is plain, and its senders can be asked.
type asked struct {
	plain
	name string
}

func (a asked) Spec() connectors.Spec {
	return connectors.Spec{Name: a.name, Abilities: []connectors.Ability{connectors.AbilityReceive, connectors.AbilityPoll}}
}
func (asked) Formats() []connectors.Format       { return nil }
func (a asked) Receivers() []connectors.Receiver { return []connectors.Receiver{a} }
func (a asked) Kind() string                     { return a.name }

// turns are sources whose turn it always is, each once, and their senders.
type turns struct {
	mu     sync.Mutex
	due    []flow.DuePoll
	taken  map[string]bool
	lost   bool
	ends   chan flow.PollEnd
	answer func(ctx context.Context, connector string, p connectors.Poll) (connectors.Polled, error)
}

func (s *turns) DuePolls(context.Context, time.Time) ([]flow.DuePoll, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []flow.DuePoll
	for _, d := range s.due {
		if !s.taken[d.Source] {
			list = append(list, d)
		}
	}
	return list, nil
}

func (s *turns) ClaimPoll(_ context.Context, d flow.DuePoll, now time.Time, _ time.Duration) (*flow.Poll, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken[d.Source] = true
	return &flow.Poll{Org: d.Org, Source: d.Source, Package: d.Package, Since: now, Failures: 2, Lease: "l"}, nil
}

func (s *turns) EndPoll(_ context.Context, p *flow.Poll, e flow.PollEnd) (int, error) {
	if s.lost {
		return 0, flow.ErrPollLost
	}
	e.Cursor = append([]byte(p.Source+" "), e.Cursor...)
	s.ends <- e
	return len(e.Receipts), nil
}

func (s *turns) Poll(ctx context.Context, connector string, p connectors.Poll) (connectors.Polled, error) {
	return s.answer(ctx, connector, p)
}

// polling is a rig whose sources, all of the kind asked, are asked.
type polling struct {
	*rig
	*turns
	clock    *clockwork.FakeClock
	in       *ingest.Ingest
	outcomes chan string
	silent   []string
}

func newPolling(t *testing.T) *polling {
	t.Helper()
	p := &polling{rig: newRig(t), turns: &turns{taken: map[string]bool{}, ends: make(chan flow.PollEnd, 100)}, outcomes: make(chan string, 100),
		clock: clockwork.NewFakeClockAt(time.Date(2026, 4, 10, 14, 30, 0, 0, time.UTC))}
	set, err := connectors.NewSet([]connectors.Connector{plain{}, asked{name: "asked"}, asked{name: "other"}})
	if err != nil {
		t.Fatal(err)
	}
	delete(p.world.place.World.Sources, "src_1")
	p.in = ingest.New(ingest.Config{Ledger: p.ledger, Dispatcher: p.disp, Atlas: p.world, Connectors: set, IDs: ids.NewMaker(p.clock.Now), Clock: p.clock,
		Log: slog.New(slog.DiscardHandler), Polls: p.turns, Poller: p.turns, Silent: func() []string { return p.silent }, Polled: func(_, outcome string) { p.outcomes <- outcome }})
	return p
}

func (p *polling) add(id, kind string) *flow.Source {
	src := &flow.Source{ID: id, Kind: kind, Enabled: true, PollEvery: 5 * time.Minute, Location: time.UTC, Connection: map[string]flow.Secret{"token": flow.NewSecret([]byte("hush-hush"))}}
	p.world.place.World.Sources[id] = src
	p.due = append(p.due, flow.DuePoll{Org: "org_1", Source: id, Due: true})
	return src
}

// run looks once, and until the test's end.
func (p *polling) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { defer close(over); p.in.RunPolls(ctx) }()
	p.look(t)
	return func() { cancel(); <-over }
}

func (p *polling) look(t *testing.T) {
	t.Helper()
	if err := p.clock.BlockUntilContext(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	p.clock.Advance(time.Second)
}

func (p *polling) end(t *testing.T) flow.PollEnd {
	t.Helper()
	select {
	case e := <-p.ends:
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("no poll has ended")
		return flow.PollEnd{}
	}
}

func TestPollsEnd(t *testing.T) {
	at := time.Date(2026, 4, 10, 14, 30, 1, 0, time.UTC)
	doc := connectors.Document{Key: "k", ContentType: "text/x", Body: []byte(`["a"]`)}
	for name, c := range map[string]struct {
		got     connectors.Polled
		err     error
		next    time.Duration
		says    string
		perm    bool
		cursor  string
		many    int
		outcome string
	}{
		"nothing new":          {connectors.Polled{Cursor: []byte("c")}, nil, 5 * time.Minute, "", false, "c", 0, "answered"},
		"documents":            {connectors.Polled{Cursor: []byte("c"), Documents: []connectors.Document{doc, doc}}, nil, 5 * time.Minute, "", false, "c", 2, "answered"},
		"more":                 {connectors.Polled{Cursor: []byte("c"), More: true, After: time.Hour}, nil, 0, "", false, "c", 0, "answered"},
		"not before an hour":   {connectors.Polled{After: time.Hour}, nil, time.Hour, "", false, "", 0, "answered"},
		"not before a second":  {connectors.Polled{After: time.Second}, nil, 5 * time.Minute, "", false, "", 0, "answered"},
		"not before a year":    {connectors.Polled{After: 365 * 24 * time.Hour}, nil, 24 * time.Hour, "", false, "", 0, "answered"},
		"too many":             {connectors.Polled{Cursor: []byte("c"), Documents: make([]connectors.Document, 101)}, nil, 30 * time.Second, "101 documents, and 100 is the most", false, "", 0, "failed"},
		"a failure":            {connectors.Polled{}, &connectors.Failure{Message: "it says hush-hush"}, 30 * time.Second, "it says [secret:token]", false, "", 0, "failed"},
		"a failure, later":     {connectors.Polled{}, &connectors.Failure{Message: "x", RetryAfter: time.Hour}, time.Hour, "x", false, "", 0, "failed"},
		"a failure, next year": {connectors.Polled{}, &connectors.Failure{Message: "x", RetryAfter: 9999 * time.Hour}, 24 * time.Hour, "x", false, "", 0, "failed"},
		"a failure for good":   {connectors.Polled{}, &connectors.Failure{Outcome: connectors.Permanent, Message: "x"}, 6 * time.Hour, "x", true, "", 0, "failed"},
		"a failure of nothing": {connectors.Polled{}, &connectors.Failure{}, 30 * time.Second, "does not say why", false, "", 0, "failed"},
		"a bug":                {connectors.Polled{}, errors.New("oh"), 30 * time.Second, "It could not be asked: oh.", false, "", 0, "failed"},
		"hanging":              {connectors.Polled{}, fmt.Errorf("wait: %w", context.DeadlineExceeded), 30 * time.Second, "did not answer within 1m", false, "", 0, "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPolling(t)
			p.add("src_a", "asked")
			var was connectors.Poll
			p.answer = func(_ context.Context, connector string, q connectors.Poll) (connectors.Polled, error) {
				was = q
				if connector != "asked" {
					t.Errorf("%q was asked", connector)
				}
				return c.got, c.err
			}
			stop := p.run(t)
			defer stop()
			e := p.end(t)
			if was.Kind != "asked" || was.Limit != 100 || !was.Since.Equal(at) || was.Source.Role != connectors.RoleSource || was.Source.Secrets["token"] != "hush-hush" || was.Source.Organization != "org_1" {
				t.Errorf("asked %+v", was)
			}
			if !e.At.Equal(at) || !e.Next.Equal(at.Add(c.next)) || (e.Error == "") != (c.says == "") || !strings.Contains(e.Error, c.says) || e.Permanent != c.perm || string(e.Cursor) != "src_a "+c.cursor || len(e.Receipts) != c.many {
				t.Errorf("it ended as %+v", e)
			}
			for _, r := range e.Receipts {
				want := flow.PolledReceipt{Key: "k", Receipt: flow.Receipt{ID: r.ID, Org: "org_1", Source: "src_a", At: at, Method: "POLL", Header: []byte("[]"), ContentType: "text/x", Body: doc.Body, State: flow.ReceiptWaiting}}
				if r.ID == "" || !reflect.DeepEqual(r, want) {
					t.Errorf("the receipt is %+v", r)
				}
			}
			if o := <-p.outcomes; o != c.outcome {
				t.Errorf("it is counted as %s", o)
			}
		})
	}
}

// TestPollsThatAreLost tells of turns that were taken away, and hands those back that a
// shutdown cut short.
func TestPollsThatAreLost(t *testing.T) {
	p := newPolling(t)
	p.add("src_a", "asked")
	p.lost = true
	p.answer = func(context.Context, string, connectors.Poll) (connectors.Polled, error) {
		return connectors.Polled{}, nil
	}
	stop := p.run(t)
	if o := <-p.outcomes; o != "lost" {
		t.Errorf("it is counted as %s", o)
	}
	stop()
	p = newPolling(t)
	p.add("src_a", "asked")
	entered := make(chan struct{})
	p.answer = func(ctx context.Context, _ string, _ connectors.Poll) (connectors.Polled, error) {
		close(entered)
		<-ctx.Done()
		return connectors.Polled{}, ctx.Err()
	}
	stop = p.run(t)
	<-entered
	if n := p.in.Polling(); n != 1 {
		t.Errorf("%d are under way", n)
	}
	stop()
	if e := p.end(t); !e.At.IsZero() || len(p.outcomes) > 0 {
		t.Errorf("a shutdown ended it as %+v", e)
	}
}

// TestSourcesThatAreNotAsked by this node, or by any.
func TestSourcesThatAreNotAsked(t *testing.T) {
	p := newPolling(t)
	p.answer = func(context.Context, string, connectors.Poll) (connectors.Polled, error) {
		return connectors.Polled{}, nil
	}
	p.add("src_disabled", "asked").Enabled = false
	p.add("src_never", "asked").PollEvery = 0
	p.add("src_deaf", "plain")
	p.add("src_unknown", "acme/alerts")
	p.add("src_silent", "asked")
	p.silent = []string{"src_silent"}
	p.due = append(p.due, flow.DuePoll{Org: "org_1", Source: "src_gone", Due: true}, flow.DuePoll{Org: "org_2", Source: "src_a", Due: true})
	p.add("src_same", "asked")
	p.due[len(p.due)-1].Due = false // in vain, and nothing has changed
	p.add("src_other", "asked")
	p.due[len(p.due)-1] = flow.DuePoll{Org: "org_1", Source: "src_other", Package: "an older one"}
	stop := p.run(t)
	if e := p.end(t); string(e.Cursor) != "src_other " {
		t.Errorf("%s was asked", e.Cursor)
	}
	p.world.place.World.Organization.Suspended = true
	p.mu.Lock()
	p.taken = map[string]bool{}
	p.mu.Unlock()
	p.look(t)
	stop()
	if len(p.ends) > 0 {
		t.Errorf("%s was asked", (<-p.ends).Cursor)
	}
}

// TestHangingSendersHoldUpTheirOwn has so many sources hang as one connector may ask at a
// time, and others answer.
func TestHangingSendersHoldUpTheirOwn(t *testing.T) {
	p := newPolling(t)
	var mu sync.Mutex
	hanging := 0
	p.answer = func(ctx context.Context, connector string, q connectors.Poll) (connectors.Polled, error) {
		if connector == "other" || q.Source.ID == "src_first" {
			return connectors.Polled{}, nil
		}
		mu.Lock()
		hanging++
		mu.Unlock()
		<-ctx.Done()
		return connectors.Polled{}, ctx.Err()
	}
	for i := range 7 {
		p.add(fmt.Sprintf("src_%d", i), "asked")
	}
	p.add("src_first", "asked") // there is room for it
	for i := range 7 {
		p.add(fmt.Sprintf("src_1%d", i), "asked")
	}
	p.add("src_other", "other")
	stop := p.run(t)
	got := map[string]bool{string(p.end(t).Cursor): true, string(p.end(t).Cursor): true}
	if !got["src_first "] || !got["src_other "] {
		t.Errorf("answers of %v", got)
	}
	p.look(t)
	stop()
	if hanging < 7 || hanging > 8 {
		t.Errorf("%d hang at a time", hanging)
	}
}

// TestPolledDocumentsAreRead in the ordinary way, once.
func TestPolledDocumentsAreRead(t *testing.T) {
	r := newRig(t)
	set, err := connectors.NewSet([]connectors.Connector{plain{}})
	if err != nil {
		t.Fatal(err)
	}
	s := &shelf{settled: make(chan string, 20)}
	for id, body := range map[string]string{"rct_1": `["s1@shop","@shop","@shop"]`, "rct_2": `{"a":1}`, "rct_3": "many", "rct_4": "later"} {
		for range 2 { // as if the hub had died in between
			s.due = append(s.due, &flow.Waiting{Receipt: flow.Receipt{ID: id, Org: "org_1", Source: "src_1", Method: flow.MethodPoll, Header: []byte("[]"), Body: []byte(body)}, Attempt: 1})
		}
	}
	clock := clockwork.NewFakeClock()
	in := ingest.New(ingest.Config{Ledger: r.ledger, Dispatcher: r.disp, Atlas: r.world, Connectors: set, IDs: ids.NewMaker(clock.Now), Clock: clock,
		Log: slog.New(slog.DiscardHandler), Waiting: s, Enricher: s})
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { defer close(over); in.Run(ctx) }()
	states := map[string]int{}
	for range 8 {
		select {
		case how := <-s.settled:
			states[how]++
		case <-time.After(20 * time.Second):
			t.Fatalf("only these were read: %v", states)
		}
	}
	stop()
	<-over
	if len(r.ledger.events) != 3 {
		t.Errorf("%d events", len(r.ledger.events))
	}
	if want := map[string]int{"rct_1 ACCEPTED": 2, "rct_2 REJECTED": 2, "rct_3 REJECTED": 2, "rct_4 IGNORED": 2}; !reflect.DeepEqual(states, want) {
		t.Errorf("they became %v", states)
	}
}
