package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"go.uber.org/goleak"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/server/flow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a ledger in memory, faithful about leases.
type memory struct {
	mu      sync.Mutex
	rows    []*row
	byID    map[string]*row
	log     []flow.Record
	looked  chan time.Time // the time of each Backlog
	fail    error          // what every call answers
	full    bool           // reads are answered, writes are not
	refuse  string         // a delivery whose records are refused
	claims  int
	claimed int
	onClaim func() // before a claim is answered
	lose    int    // claims whose answers are lost
}

type row struct {
	due    flow.Due
	state  flow.DeliveryState
	at     time.Time
	leased bool
}

func newMemory() *memory {
	return &memory{byID: map[string]*row{}, looked: make(chan time.Time, 100_000)}
}

func (m *memory) insert(due flow.Due, leased bool) *flow.Due {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &row{due: due, state: flow.Pending, at: due.Created, leased: leased}
	m.rows = append(m.rows, r)
	m.byID[due.ID] = r
	c := r.due
	return &c
}

func (m *memory) Record(_ context.Context, all ...flow.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full {
		return flow.ErrUnavailable
	}
	if m.fail != nil {
		return m.fail
	}
	for _, r := range all {
		if r.Due.ID == m.refuse {
			return errors.New("a bad row")
		}
	}
	for _, r := range all {
		m.log = append(m.log, r)
		row := m.byID[r.Due.ID]
		row.state, row.at, row.leased = r.State, r.NextAt, false
		row.due.FirstFailed = r.FirstFailed
		if r.Number > 0 {
			row.due.Attempts = r.Number
		}
	}
	return nil
}

func (m *memory) Claim(_ context.Context, webhook string, now time.Time, limit int) ([]*flow.Due, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	m.claims++
	if m.full {
		return nil, flow.ErrUnavailable
	}
	var found []*row
	for _, r := range m.rows {
		if r.due.Webhook == webhook && !r.state.Final() && !r.leased && !r.at.After(now) {
			found = append(found, r)
		}
	}
	slices.SortStableFunc(found, func(a, b *row) int { return a.at.Compare(b.at) })
	var dues []*flow.Due
	for _, r := range found[:min(limit, len(found))] {
		r.leased = true
		c := r.due
		dues = append(dues, &c)
	}
	m.claimed += len(dues)
	if m.onClaim != nil {
		m.mu.Unlock()
		m.onClaim()
		m.mu.Lock()
	}
	if m.lose > 0 {
		m.lose--
		return nil, flow.ErrUnavailable
	}
	return dues, nil
}

func (m *memory) Leased(context.Context) (map[string]time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	out := map[string]time.Time{}
	for _, r := range m.rows {
		if r.leased {
			out[r.due.ID] = r.at
		}
	}
	return out, nil
}

func (m *memory) Release(_ context.Context, deliveries []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full {
		return flow.ErrUnavailable
	}
	if m.fail != nil {
		return m.fail
	}
	for _, id := range deliveries {
		if r := m.byID[id]; r != nil {
			r.leased = false
		}
	}
	return nil
}

func (m *memory) Backlog(_ context.Context, now time.Time) ([]flow.Backlog, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer func() { m.looked <- now }()
	if m.fail != nil {
		return nil, m.fail
	}
	first := map[string]flow.Backlog{}
	for _, r := range m.rows {
		if b, ok := first[r.due.Webhook]; !r.state.Final() && !r.leased && !r.at.After(now) && (!ok || r.at.Before(b.Due)) {
			first[r.due.Webhook] = flow.Backlog{Org: r.due.Org, Webhook: r.due.Webhook, Due: r.at}
		}
	}
	var all []flow.Backlog
	for _, b := range first {
		all = append(all, b)
	}
	return all, nil
}

func (m *memory) set(err error) {
	m.mu.Lock()
	m.fail = err
	m.mu.Unlock()
}

// records of one delivery.
func (m *memory) of(id string) []flow.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.log), func(r flow.Record) bool { return r.Due.ID != id })
}

func (m *memory) count(want func(*row) bool) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.rows {
		if want(r) {
			n++
		}
	}
	return n
}

func (m *memory) in(s flow.DeliveryState) int {
	return m.count(func(r *row) bool { return r.state == s })
}

func (m *memory) leased() int { return m.count(func(r *row) bool { return r.leased }) }

// handed is one call of the sender.
type handed struct {
	connector string
	endpoint  connectors.Endpoint
	delivery  connectors.Delivery
	at        time.Time
	done      func(connectors.Result)
}

// outside is a sender: answer decides, or, when it is nil, the test does.
type outside struct {
	clock  clockwork.Clock
	answer func(h handed) *connectors.Result // nil: the test answers
	calls  chan handed
	forgot chan string
}

func (o *outside) Forget(_, endpoint string) { o.forgot <- endpoint }

func (o *outside) Deliver(c string, e connectors.Endpoint, d connectors.Delivery, done func(connectors.Result)) {
	h := handed{c, e, d, o.clock.Now(), done}
	if o.answer != nil {
		if r := o.answer(h); r != nil {
			o.calls <- h
			done(*r)
			return
		}
	}
	o.calls <- h
}

var (
	arrived = connectors.Result{Outcome: connectors.Done, Response: &connectors.Response{Status: 200}}
	refused = connectors.Result{Outcome: connectors.Retry, Fault: connectors.FaultTarget, Error: "The endpoint answered 500."}
	crashed = connectors.Result{Outcome: connectors.Retry, Fault: connectors.FaultConnector, Error: "The connector's process ended."}
)

func always(r connectors.Result) func(handed) *connectors.Result {
	return func(handed) *connectors.Result { return &r }
}

// signed is a format with a signature.
type signed struct{ connectors.Format }

func (signed) Sign(keys [][]byte, id string, at time.Time, body []byte) ([]connectors.Header, error) {
	if len(keys[0]) == 0 {
		return nil, errors.New("the key is empty")
	}
	return []connectors.Header{{Name: "Webhook-Id", Value: id}, {Name: "Webhook-Signature", Value: fmt.Sprintf("%s|%d|%s", keys[0], at.Unix(), body)}}, nil
}

// bench is a dispatcher among fakes.
type bench struct {
	*Dispatcher
	t      testing.TB
	clock  *clockwork.FakeClock
	ledger *memory
	sender *outside
	mu     sync.Mutex
	world  *flow.World
	stop   func()
	made   int
	lease  atomic.Int64
	good   atomic.Pointer[time.Time] // until when the lease is; nil: for ever
	gate   Presences                 // nil: none
}

var epoch = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func start(t testing.TB, answer func(handed) *connectors.Result, change ...func(*flow.World)) *bench {
	b := &bench{t: t, clock: clockwork.NewFakeClockAt(epoch), ledger: newMemory()}
	b.sender = &outside{clock: b.clock, answer: answer, calls: make(chan handed, 100_000), forgot: make(chan string, 100_000)}
	b.change(append([]func(*flow.World){func(w *flow.World) { addWebhook(w, "h0", "e0") }}, change...)...)
	b.run()
	t.Cleanup(func() { b.stop() })
	return b
}

// run starts a dispatcher on the ledger as it is, as after a restart.
func (b *bench) run() {
	b.Dispatcher = New(Config{
		Ledger: b.ledger, Sender: b.sender, Presences: b.gate,
		Worlds:  func(string) *flow.World { b.mu.Lock(); defer b.mu.Unlock(); return b.world },
		Formats: func(*flow.World, string) connectors.Format { return signed{} },
		Lease: func() (flow.Lease, time.Time) {
			var until time.Time
			if at := b.good.Load(); at != nil {
				until = *at
			}
			return flow.Lease{Node: "nod", Epoch: b.lease.Load()}, until
		},
		Leased: b.ledger.Leased,
		Clock:  b.clock, IDs: ids.NewMaker(b.clock.Now), Log: slog.New(slog.DiscardHandler), Version: "1.2.3",
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	d := b.Dispatcher
	go func() { ended <- d.Run(ctx) }()
	b.stop = sync.OnceFunc(func() { cancel(); <-ended })
}

func addWebhook(w *flow.World, id, endpoint string) {
	w.Endpoints[endpoint] = &flow.Endpoint{ID: endpoint, Connector: "webhook", Revision: 1, URL: "https://example.com/in", Enabled: true}
	w.Webhooks[id] = &flow.Webhook{ID: id, Endpoint: endpoint, State: flow.WebhookActive, Format: "hookyard", Keys: []flow.Secret{flow.NewSecret([]byte("k1"))}}
}

// change replaces the world by a changed copy, without telling the dispatcher.
func (b *bench) change(all ...func(*flow.World)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := &flow.World{Webhooks: map[string]*flow.Webhook{}, Endpoints: map[string]*flow.Endpoint{}, Groups: map[string]flow.Group{}}
	if b.world != nil {
		w.Organization, w.Groups, w.Erased = b.world.Organization, b.world.Groups, b.world.Erased
		for id, h := range b.world.Webhooks {
			c := *h
			w.Webhooks[id] = &c
		}
		for id, e := range b.world.Endpoints {
			c := *e
			w.Endpoints[id] = &c
		}
	}
	for _, f := range all {
		f(w)
	}
	b.world = w
}

// erase ends a delivery whose payload is erased, as another node may do.
func (b *bench) erase(id string) {
	b.ledger.mu.Lock()
	b.ledger.byID[id].state = flow.Cancelled
	b.ledger.mu.Unlock()
	b.change(func(w *flow.World) { w.Erased = b.clock.Now() })
	b.Changed("org")
}

// delete removes the organization with its rows, as the operator does.
func (b *bench) delete() {
	b.mu.Lock()
	b.world = nil
	b.mu.Unlock()
	b.ledger.mu.Lock()
	for id, r := range b.ledger.byID {
		if !r.state.Final() && !r.leased {
			delete(b.ledger.byID, id)
		}
	}
	b.ledger.rows = slices.DeleteFunc(b.ledger.rows, func(r *row) bool { return b.ledger.byID[r.due.ID] == nil })
	b.ledger.mu.Unlock()
	b.Changed("org")
}

func (b *bench) set(webhook string, s flow.WebhookState) {
	b.change(func(w *flow.World) { w.Webhooks[webhook].State = s })
	b.Changed("org")
}

func (b *bench) webhook(id string) *flow.Webhook {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.world.Webhooks[id]
}

// accept does what ingest does: reserve, commit, hand over.
func (b *bench) accept(webhook string) string {
	h := b.webhook(webhook)
	b.made++
	now := b.clock.Now()
	leased := b.Reserve(h)
	due := b.ledger.insert(flow.Due{ID: fmt.Sprintf("dlv_%06d", b.made), Org: "org", Event: "evt", Webhook: webhook, Endpoint: h.Endpoint,
		Created: now, Document: []byte(`{"id":"evt"}`)}, leased)
	if leased {
		b.Hand(due)
	}
	return due.ID
}

// next is the next delivery that was handed over.
func (b *bench) next() handed {
	b.t.Helper()
	select {
	case h := <-b.sender.calls:
		return h
	case <-time.After(time.Minute):
		b.t.Fatalf("nothing was handed over; %+v", b.Stats())
		panic("unreachable")
	}
}

// none says that nothing is handed over as things stand now: a whole sweep found
// nothing due, and nothing is under way.
func (b *bench) none() {
	b.t.Helper()
	for range 2 {
		for len(b.ledger.looked) > 0 {
			<-b.ledger.looked
		}
		b.toSweep.raise()
		<-b.ledger.looked
		b.until("claims to end", func() bool { b.Dispatcher.mu.Lock(); defer b.Dispatcher.mu.Unlock(); return len(b.claims)+b.busy == 0 })
	}
	if len(b.sender.calls) > 0 {
		b.t.Fatalf("%s was handed over", (<-b.sender.calls).delivery.ID)
	}
}

// until waits for something that a goroutine is about to do.
func (b *bench) until(what string, ok func() bool) {
	b.t.Helper()
	for limit := time.Now().Add(time.Minute); !ok(); runtime.Gosched() {
		if time.Now().After(limit) {
			b.t.Fatalf("waited in vain for %s; %+v", what, b.Stats())
		}
	}
}

func (b *bench) recorded(n int) {
	b.t.Helper()
	b.until(fmt.Sprint(n, " records"), func() bool {
		b.ledger.mu.Lock()
		defer b.ledger.mu.Unlock()
		return len(b.ledger.log) == n && b.Stats().Unrecorded == 0
	})
}
