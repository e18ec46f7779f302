package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
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

// shelf holds receipts that wait, and enriches them; those of src_1 hang.
type shelf struct {
	mu      sync.Mutex
	due     []*flow.Waiting
	hanging int
	settled chan string
	body    string // of what is fetched; "" hangs for src_1
	fail    error  // instead
	claims  []time.Time
	asked   chan time.Time // each time that something is claimed; may be nil
	ends    []end
}

// end is what has become of a receipt that waited, or was processed again.
type end struct {
	receipt string
	state   flow.ReceiptState
	group   string
	note    string
}

func (s *shelf) ClaimWaiting(_ context.Context, now time.Time, _ time.Duration, before time.Time, except []string) (*flow.Waiting, error) {
	if s.asked != nil {
		s.asked <- now
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.due, func(w *flow.Waiting) bool {
		return !slices.Contains(except, w.Source) && (before.IsZero() || w.At.Before(before))
	})
	if i < 0 {
		return nil, nil
	}
	w := s.due[i]
	s.due = slices.Delete(s.due, i, i+1)
	s.claims = append(s.claims, now)
	return w, nil
}

func (s *shelf) PutOff(context.Context, string, string, time.Time, string) error { return nil }

func (s *shelf) Await(context.Context, string, string) error { return nil }

func (s *shelf) Settle(_ context.Context, _, receipt string, state flow.ReceiptState, group, note string) error {
	s.mu.Lock()
	s.ends = append(s.ends, end{receipt, state, group, note})
	s.mu.Unlock()
	s.settled <- receipt + " " + string(state)
	return nil
}

func (s *shelf) Enrich(ctx context.Context, _ string, e connectors.Enrichment) (connectors.Document, error) {
	if s.fail != nil {
		return connectors.Document{}, s.fail
	}
	if s.body != "" {
		return connectors.Document{Body: []byte(s.body)}, nil
	}
	if e.Source.ID != "src_1" {
		return connectors.Document{Body: []byte(`["` + e.Receipt + `@shop"]`)}, nil
	}
	s.mu.Lock()
	s.hanging++
	s.mu.Unlock()
	<-ctx.Done()
	return connectors.Document{}, ctx.Err()
}

// run enriches what waits until the function is called.
func (r *rig) run(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { defer close(over); r.Run(ctx) }()
	return func() { cancel(); <-over }
}

// TestHangingServiceHoldsUpItsOwn has many receipts of a service that hangs due before
// those of another.
func TestHangingServiceHoldsUpItsOwn(t *testing.T) {
	r := newRig(t)
	other := *r.source
	other.ID, other.Token = "src_2", ""
	r.world.place.World.Sources["src_2"] = &other
	s := r.shelf
	for i := range 60 {
		w := &flow.Waiting{Receipt: flow.Receipt{ID: fmt.Sprintf("rcp_%d", i), Org: "org_1", Source: "src_1", Method: "POST"}, Attempt: 1}
		if i >= 50 {
			w.Source = "src_2"
		}
		s.due = append(s.due, w)
	}
	stop := r.run(t)
	for range 10 {
		select {
		case <-s.settled:
		case <-time.After(20 * time.Second):
			t.Fatal("the receipts of a service that answers wait for one that hangs")
		}
	}
	stop()
	if len(r.ledger.events) != 10 || s.hanging != 2 {
		t.Errorf("%d events; %d attempts of the service that hangs", len(r.ledger.events), s.hanging)
	}
}

// TestEnrichedTwice has a node die between the events of a receipt and the end of its
// waiting: the next one finds them.
func TestEnrichedTwice(t *testing.T) {
	r := newRig(t)
	r.shelf.body = `["-s1@shop","-s2@shop"]`
	for range 2 {
		r.shelf.due = append(r.shelf.due, &flow.Waiting{Receipt: flow.Receipt{ID: "rcp_1", Org: "org_1", Source: "src_1", Method: "POST", State: flow.ReceiptWaiting}, Attempt: 1})
		stop := r.run(t)
		<-r.shelf.settled
		stop()
		r.ledger.forget()
	}
	if len(r.ledger.events) != 2 {
		t.Errorf("%d events", len(r.ledger.events))
	}
}

// TestSilentIsGivenUp has receipts of a connector that does not answer: they wait for it,
// for a week and no longer; a hub that has just started leaves it some time to come back.
func TestSilentIsGivenUp(t *testing.T) {
	r := newRig(t)
	began := r.clock.Now()
	r.silent = []string{"src_1"}
	r.shelf.fail, r.shelf.asked = errors.New("nobody answers"), make(chan time.Time, 100)
	for id, age := range map[string]time.Duration{"rcp_old": 8 * 24 * time.Hour, "rcp_young": 6 * 24 * time.Hour} {
		r.shelf.due = append(r.shelf.due, &flow.Waiting{Receipt: flow.Receipt{ID: id, Org: "org_1", Source: "src_1", Method: "POST", At: began.Add(-age)}, Attempt: 1})
	}
	stop := r.run(t)
	for _, step := range []time.Duration{0, 59 * time.Minute, 2 * time.Minute} {
		r.clock.Advance(step)
		for now := range r.shelf.asked {
			if now.Equal(r.clock.Now()) {
				break
			}
		}
	}
	<-r.shelf.settled
	stop()
	if e := r.shelf.ends; len(e) != 1 || e[0].receipt != "rcp_old" || e[0].state != flow.ReceiptRejected || !strings.Contains(e[0].note, "Given up after a week") {
		t.Errorf("ended: %+v", e)
	}
	if c := r.shelf.claims; len(c) != 1 || c[0].Sub(began) != 61*time.Minute {
		t.Errorf("claimed at %v", c)
	}
}

// backlog is a shelf whose receipts are enriched at once: after the first ones, only when
// several are at a time.
type backlog struct {
	shelf
	want      int // at a time
	inHand    int
	crowd     chan struct{}
	fruitless int // claims that left a source out and found nothing
}

func (b *backlog) ClaimWaiting(ctx context.Context, now time.Time, keep time.Duration, before time.Time, except []string) (*flow.Waiting, error) {
	w, err := b.shelf.ClaimWaiting(ctx, now, keep, before, except)
	b.mu.Lock()
	defer b.mu.Unlock()
	if w == nil && len(except) > 0 {
		b.fruitless++
	}
	return w, err
}

func (b *backlog) Enrich(ctx context.Context, _ string, e connectors.Enrichment) (connectors.Document, error) {
	b.mu.Lock()
	first := e.Attempt == 1
	if !first {
		if b.inHand++; b.inHand == b.want {
			close(b.crowd)
		}
	}
	b.mu.Unlock()
	if !first {
		select {
		case <-b.crowd:
		case <-ctx.Done():
		}
	}
	return connectors.Document{Body: []byte(`["` + e.Receipt + `@shop"]`)}, nil
}

// TestBacklogIsWorkedOff has many receipts of one source due: it gets more attempts at a time
// once one was over at once, and the queue is not looked through for others after each.
func TestBacklogIsWorkedOff(t *testing.T) {
	r := newRig(t)
	set, err := connectors.NewSet([]connectors.Connector{plain{}})
	if err != nil {
		t.Fatal(err)
	}
	const many = 100
	b := &backlog{shelf: shelf{settled: make(chan string, many)}, want: 8, crowd: make(chan struct{})}
	for i := range many {
		w := &flow.Waiting{Receipt: flow.Receipt{ID: fmt.Sprintf("rcp_%d", i), Org: "org_1", Source: "src_1", Method: "POST"}, Attempt: 1}
		if i >= 2 {
			w.Attempt = 2
		}
		b.due = append(b.due, w)
	}
	clock := clockwork.NewFakeClock()
	in := ingest.New(ingest.Config{Ledger: r.ledger, Dispatcher: r.disp, Atlas: r.world, Connectors: set, IDs: ids.NewMaker(clock.Now), Clock: clock,
		Log: slog.New(slog.DiscardHandler), Waiting: b, Enricher: b})
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { defer close(over); in.Run(ctx) }()
	for i := range many {
		select {
		case <-b.settled:
		case <-time.After(20 * time.Second):
			t.Fatalf("%d of %d receipts are enriched", i, many)
		}
	}
	stop()
	<-over
	if b.fruitless > 5 {
		t.Errorf("%d looks for others' receipts", b.fruitless)
	}
}

// deadly is a shelf of receipts that end their connector's process.
type deadly struct {
	shelf
	now time.Time
	put map[string]time.Duration
	end map[string]string
}

type endedError struct{ error }

func (endedError) Ended() {}

func (d *deadly) PutOff(_ context.Context, _, receipt string, until time.Time, note string) error {
	d.mu.Lock()
	d.put[receipt] = until.Sub(d.now)
	d.mu.Unlock()
	d.settled <- receipt
	return nil
}

func (d *deadly) Settle(_ context.Context, _, receipt string, state flow.ReceiptState, _, note string) error {
	d.mu.Lock()
	d.end[receipt] = string(state) + ": " + note
	d.mu.Unlock()
	d.settled <- receipt
	return nil
}

func (d *deadly) Enrich(context.Context, string, connectors.Enrichment) (connectors.Document, error) {
	return connectors.Document{}, fmt.Errorf("ask: %w", endedError{errors.New("the process ended")})
}

// TestDeadlyReceipts are given up after a while, and before that do not come back together.
func TestDeadlyReceipts(t *testing.T) {
	r := newRig(t)
	set, err := connectors.NewSet([]connectors.Connector{plain{}})
	if err != nil {
		t.Fatal(err)
	}
	clock := clockwork.NewFakeClock()
	d := &deadly{shelf: shelf{settled: make(chan string, 9)}, now: clock.Now().UTC().Truncate(time.Microsecond), put: map[string]time.Duration{}, end: map[string]string{}}
	for id, attempt := range map[string]int{"rcp_a": 9, "rcp_b": 9, "rcp_c": 10} {
		d.due = append(d.due, &flow.Waiting{Receipt: flow.Receipt{ID: id, Org: "org_1", Source: "src_1", Method: "POST", At: d.now}, Attempt: attempt})
	}
	in := ingest.New(ingest.Config{Ledger: r.ledger, Dispatcher: r.disp, Atlas: r.world, Connectors: set, IDs: ids.NewMaker(clock.Now), Clock: clock,
		Log: slog.New(slog.DiscardHandler), Waiting: d, Enricher: d})
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { defer close(over); in.Run(ctx) }()
	for range 3 {
		select {
		case <-d.settled:
		case <-time.After(20 * time.Second):
			t.Fatal("a receipt hangs")
		}
	}
	stop()
	<-over
	a, b := d.put["rcp_a"], d.put["rcp_b"]
	if a < 30*time.Minute || b < 30*time.Minute || a > time.Hour || b > time.Hour || (a-b).Abs() < time.Second {
		t.Errorf("they come back after %v and %v", a, b)
	}
	if end := d.end["rcp_c"]; len(d.end) != 1 || !strings.HasPrefix(end, "REJECTED: Given up after 10 attempts") {
		t.Errorf("ended are %v", d.end)
	}
}
