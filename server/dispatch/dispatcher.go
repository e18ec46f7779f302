// Package dispatch sends what is due: Delivery -> Connector -> Attempt.
//
// Place: after the ledger, which hands it deliveries leased to this node, and before
// the connector's process, which makes the attempts; what comes of them goes back to
// the ledger.
//
// Guarantees:
//
//   - A lane per webhook. What an endpoint makes wait, waits in its own lane; what does
//     not fit into a lane waits in the ledger and not in memory.
//   - Only a delivery leased to this node is handed over, and its result is kept until
//     the ledger has recorded it. A database that is lost stops sending and claiming;
//     no result is dropped. A lease that got lost between the ledger and here is found
//     within two minutes, and given up. A node that was cut off from the database, or
//     asleep, hands nothing over that others may have taken over.
//   - A retry is the same delivery again: body and delivery ID are identical, address
//     and secrets are today's.
//   - A breaker and a rate per endpoint; while the breaker is open, deliveries wait
//     without using up attempts.
//   - Order within a lane is roughly that of arrival. Nothing more is promised.
//
// How it works: one mutex guards all lanes, and nothing slow happens under it. A lane
// that has something to send is served by a goroutine of its own until it has not; an
// idle lane is a struct and at most one timer. Results arrive as callbacks. Recording,
// claiming and releasing are done by a few goroutines in batches.
package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/server/flow"
)

// Ledger is the durable record, as seen from here.
type Ledger interface {
	// Record writes what came of attempts and gives up their leases. Recording the
	// same attempt twice is the same as once.
	Record(ctx context.Context, r ...flow.Record) error
	// Claim leases to this node up to limit deliveries of the webhook that are due at
	// now and leased to nobody, the longest due first.
	Claim(ctx context.Context, webhook string, now time.Time, limit int) ([]*flow.Due, error)
	// Release gives up leases; the deliveries are due again at once.
	Release(ctx context.Context, deliveries []string) error
	// Backlog lists the webhooks with open deliveries that nobody has leased.
	Backlog(ctx context.Context, now time.Time) ([]flow.Backlog, error)
}

// Sender hands deliveries to connector processes.
type Sender interface {
	// Deliver returns at once and calls done exactly once, from any goroutine. A
	// process that dies or hangs gives Retry with FaultConnector, or with FaultDelivery if
	// this delivery is what it dies of.
	Deliver(process string, e connectors.Endpoint, d connectors.Delivery, done func(connectors.Result))
	// Forget says that nothing more is sent to an endpoint as it was: its process need
	// not know it. It never waits.
	Forget(process, endpoint string)
}

// Writer has third parties' formats write down what is to be sent.
type Writer interface {
	// Write returns the rendering of a delivery that has an open one, as it is kept from now
	// on. A *connectors.SkipError says why there is none; after flow.ErrUnavailable the ledger
	// does not answer, after any other error the connector does not.
	Write(ctx context.Context, w *flow.World, due *flow.Due) (*flow.Rendering, error)
}

// Via is how an endpoint is reached.
type Via struct {
	Process      string // what Sender calls the process
	TakesRequest bool   // Spec.TakesRequest of what runs in it
}

// Presences hand deliveries to agents in private networks.
type Presences interface {
	// Linked says whether an agent of the Presence is linked to this node. It must not block.
	Linked(presence string) bool
	// Deliver returns at once and calls done exactly once, from another goroutine. A result
	// without an Outcome says that nobody is known to have tried: the delivery goes back to
	// the ledger. recorded, which may be nil, is to be called once the result is durable.
	Deliver(presence, connector string, e connectors.Endpoint, d connectors.Delivery, attempt string, done func(r connectors.Result, recorded func()))
}

// Config is what a Dispatcher needs. Zero limits have defaults.
type Config struct {
	Ledger    Ledger
	Sender    Sender
	Presences Presences                    // nil: there are none
	Worlds    func(org string) *flow.World // today's, nil for an unknown organization; must not block
	// Formats finds a format of the hub or, in a World, of a third party; nil for an unknown one.
	Formats func(w *flow.World, name string) connectors.Format
	Writer  Writer // nil: there are no formats of third parties
	// Answers says whether a third party's connector answers on this node, as Via does. nil: it does.
	Answers func(w *flow.World, connector string) bool
	// Via says through what this node delivers to an endpoint; ok is false while it
	// cannot, and other nodes may. It must not block. nil: a process of the connector's
	// name, with a Request. What it says may change with the World and at Renew.
	Via func(w *flow.World, e *flow.Endpoint) (v Via, ok bool)
	// Lease is under what this node leases now, and until when it may rely on that; the zero
	// time is for ever. nil: it never changes.
	Lease func() (lease flow.Lease, until time.Time)
	// Leased is what the ledger has leased to this node, with the time since when each is due.
	// nil: nobody looks for leases that were lost on their way here.
	Leased    func(ctx context.Context) (map[string]time.Time, error)
	Clock     clockwork.Clock
	IDs       *ids.Maker
	Log       *slog.Logger
	Version   string   // for the User-Agent
	Open      []string // CIDRs that the operator opened
	PlainHTTP bool     // formats that demand https take http, too

	MaxBytes      int64 // of deliveries in memory; 64 MiB
	MaxUnrecorded int   // results that wait for the ledger before sending stops; 4096
}

const (
	sweepEvery  = time.Second            // how often the ledger is asked for what is due
	doubtOver   = 5 * time.Second        // after a lost connection: its commit has ended by then
	recheck     = 50 * time.Millisecond  // from a refusal to its commit, as a rule
	unknown     = 30 * time.Second       // how long a webhook may be missing from a World that lags
	takeAtOnce  = 16                     // deliveries built per turn of a lane
	recorders   = 2                      // goroutines that record; while one commits, the other collects
	claimers    = 2                      // goroutines that claim and release
	wakeAtOnce  = 256                    // lanes told of their backlog while the mutex is held
	recordMost  = 512                    // records per call
	claimMost   = 256                    // deliveries per claim
	firstClaim  = 32                     // while nothing is known of their size
	maxCrashes  = 5                      // broken connectors that one delivery is forgiven
	crashPause  = 250 * time.Millisecond // after a broken connector, doubling
	crashMost   = 8 * time.Second
	forgetAfter = time.Hour              // of a delivery that was to be tried again, and has ended elsewhere
	writeMost   = 15 * time.Second       // for a third party's format to write one down, and to keep that
	askMost     = 30 * time.Second       // for one question to the ledger, and its answer
	firstWait   = 100 * time.Millisecond // between tries to reach a lost database, doubling
	longWait    = 5 * time.Second
)

// Dispatcher is the whole of it. Its methods are safe for concurrent use.
type Dispatcher struct {
	cfg Config

	mu        sync.Mutex
	lanes     map[string]*lane     // by webhook
	endpoints map[string]*endpoint // by ID
	flights   map[*flight]struct{}
	records   []flow.Record       // to be recorded
	stuck     []flow.Record       // that the ledger refuses; tried again at each sweep
	releases  []string            // leases to give up
	doubts    []doubt             // that may have to be, in the order of their time
	hands     []*hand             // of the goroutines that record and claim
	stray     map[string]stray    // leases that nobody is known to have, by delivery
	came      map[string]struct{} // in hand since the look at them began; nil: nobody looks
	looks     int                 // at them that have begun
	strayAt   time.Time           // when to look for them next
	claims    []*lane             // that want to claim, in order
	busy      int                 // deliveries being claimed, or leases being given up, right now
	unsaved   int                 // records that are not yet durable, wherever they are
	bytes     int64               // of all deliveries in memory
	renewed   int                 // how often plans were made to be made anew
	lease     flow.Lease          // when it was last looked at
	held      bool
	draining  bool
	down      bool // the database is lost
	lapsed    bool // what is leased to this node may be others' by now
	throttled bool // a lane stopped because of unsaved
	starved   bool // a lane did not claim because of bytes
	count     Counters

	toRecord, toClaim, toSweep, quiet signal
	running                           sync.WaitGroup // lanes being served
}

// signal wakes one goroutine; raising it twice is the same as once.
type signal chan struct{}

func (s signal) raise() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// New makes a Dispatcher; nothing happens before Run.
func New(c Config) *Dispatcher {
	if c.MaxBytes == 0 {
		c.MaxBytes = 64 << 20
	}
	if c.MaxUnrecorded == 0 {
		c.MaxUnrecorded = 4096
	}
	if c.Lease == nil {
		c.Lease = func() (flow.Lease, time.Time) { return flow.Lease{}, time.Time{} }
	}
	if c.Answers == nil {
		c.Answers = func(*flow.World, string) bool { return true }
	}
	if c.Via == nil {
		c.Via = func(_ *flow.World, e *flow.Endpoint) (Via, bool) { return Via{e.Connector, true}, true }
	}
	lease, _ := c.Lease()
	return &Dispatcher{
		cfg:       c,
		lanes:     map[string]*lane{},
		endpoints: map[string]*endpoint{},
		flights:   map[*flight]struct{}{},
		lease:     lease,
		toRecord:  make(signal, 1), toClaim: make(signal, 1), toSweep: make(signal, 1), quiet: make(signal, 1),
	}
}

// Run records, claims and sweeps until ctx ends; call Drain before that. Deliveries in
// flight at its end keep their leases, which the ledger gives to others in time.
func (d *Dispatcher) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for range recorders {
		all.Go(func() { d.record(ctx, d.newHand()) })
	}
	for range claimers {
		all.Go(func() { d.claim(ctx, d.newHand()) })
	}
	all.Go(func() { d.sweep(ctx) })
	<-ctx.Done()
	d.mu.Lock()
	d.draining = true
	for _, l := range d.lanes {
		l.disarm()
	}
	d.mu.Unlock()
	all.Wait()
	d.running.Wait()
	return nil
}

// Reserve takes credit for one delivery to w: true means that it may be born leased to
// this node and must then be given to Hand, or back to Unreserve. False means that it
// waits in the ledger, from where its lane will fetch it.
func (d *Dispatcher) Reserve(w *flow.Webhook) bool {
	now := d.cfg.Clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.lane(w.ID)
	l.known = true
	e := l.end
	if e == nil || e.id != w.Endpoint {
		e = d.endpoint(w.Endpoint)
	}
	if l.backlog || d.stopped() || w.State != flow.WebhookActive ||
		l.plan != nil && d.verdict(l, now) != send ||
		l.total() >= d.capacity(l) || !e.breaker.admits(now, l.total()) {
		l.backlog, l.refusedAt = true, now
		return false
	}
	l.reserved++
	return true
}

// Unreserve gives back credit for n deliveries that were not accepted after all.
func (d *Dispatcher) Unreserve(w *flow.Webhook, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.lanes[w.ID]; l != nil {
		l.reserved = max(0, l.reserved-n)
	}
}

// Disown is told of deliveries whose commit is in doubt: they may be in the ledger, leased
// to this node, although nobody has them in hand. Once it must be over, the leases are
// given up, if there are any; the lanes then find the deliveries.
func (d *Dispatcher) Disown(deliveries ...string) {
	if len(deliveries) == 0 {
		return
	}
	now := d.cfg.Clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.doubts = append(d.doubts, doubt{now.Add(doubtOver), deliveries})
}

// doubt is deliveries whose commit is settled at a time, one way or the other.
type doubt struct {
	over       time.Time
	deliveries []string
}

// settleDoubts has the leases given up of what was in doubt long enough ago.
func (d *Dispatcher) settleDoubts(now time.Time) {
	for len(d.doubts) > 0 && !d.doubts[0].over.After(now) {
		d.releases = append(d.releases, d.doubts[0].deliveries...)
		d.doubts = d.doubts[1:]
		d.toClaim.raise()
	}
}

// Hand takes deliveries that are committed and leased to this node.
func (d *Dispatcher) Hand(dues ...*flow.Due) {
	now := d.cfg.Clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.term(now)
	for i, due := range dues {
		l := d.lane(due.Webhook)
		l.org = due.Org
		l.reserved = max(0, l.reserved-1)
		d.push(l, due)
		if i+1 == len(dues) || dues[i+1].Webhook != due.Webhook {
			d.settle(l, now)
		}
	}
}

// Changed says that the organization has a new World.
func (d *Dispatcher) Changed(org string) {
	now := d.cfg.Clock.Now()
	d.mu.Lock()
	for _, l := range d.lanes {
		if l.org == org {
			d.settle(l, now)
		}
	}
	for id, e := range d.endpoints {
		if len(e.lanes) == 0 { // somebody only asked for it
			delete(d.endpoints, id)
		}
	}
	d.mu.Unlock()
	d.toSweep.raise()
}

// Linked says that an agent of a Presence has linked to this node, or that the last one has gone.
func (d *Dispatcher) Linked(presence string) {
	now := d.cfg.Clock.Now()
	d.mu.Lock()
	for _, l := range d.lanes {
		if l.plan != nil && l.plan.endpoint != nil && l.plan.endpoint.Presence == presence {
			l.look = true
			d.settle(l, now)
		}
	}
	d.mu.Unlock()
	d.toSweep.raise()
}

// Late takes what came of an attempt that was handed over under a lease of the past, and
// that nobody waits for any more: due is held under the lease that it names, if any. When
// it began is by another clock: it was after the delivery was made, or first failed, and is over.
func (d *Dispatcher) Late(due *flow.Due, attempt string, number int, r connectors.Result, recorded func()) {
	now := d.cfg.Clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.lane(due.Webhook)
	l.org = due.Org
	d.replan(l, now)
	began := r.Started
	for _, earliest := range []time.Time{due.Created, due.FirstFailed} {
		if began.Before(earliest) {
			began = earliest
		}
	}
	if began.After(now) {
		began = now
	}
	f := &flight{lane: l, due: due, plan: l.plan, started: began, attempt: attempt, ended: true}
	f.record(&r, now)
	d.arrives(due.ID)
	d.bytes += weight(due) // until it is recorded
	rec := d.judge(f, &r, now)
	rec.Number, rec.Recorded = number, recorded
	if r.Request != nil {
		rec.URL = r.Request.URL
	}
	d.save(rec)
}

// Renew says that Via may have changed for the organization.
func (d *Dispatcher) Renew(org string) {
	d.mu.Lock()
	d.renewed++
	d.mu.Unlock()
	d.Changed(org)
}

// Hold stops everything before it is handed over, or lets it go on. What is in flight
// is recorded as always.
func (d *Dispatcher) Hold(held bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held != held {
		d.held = held
		d.settleAll()
		d.toSweep.raise()
	}
}

// Drain stops handing over for good, waits for what is in flight until ctx ends, and
// gives up the leases of the rest. Run must still be running.
func (d *Dispatcher) Drain(ctx context.Context) error {
	d.mu.Lock()
	d.draining = true
	d.settleAll()
	d.mu.Unlock()
	for !d.drained() {
		select {
		case <-d.quiet:
		case <-ctx.Done():
			return d.abandon(ctx)
		}
	}
	return nil
}

func (d *Dispatcher) drained() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.flights) == 0 && d.unsaved == 0 && len(d.releases) == 0 && d.busy == 0
}

// abandon gives up what is in flight: it is in doubt, and whoever takes over sends it again.
func (d *Dispatcher) abandon(ctx context.Context) error {
	d.mu.Lock()
	give := d.releases
	d.releases = nil
	for f := range d.flights {
		give = append(give, f.due.ID)
	}
	d.mu.Unlock()
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), longWait)
	defer stop()
	if len(give) > 0 {
		d.cfg.Log.Warn("deliveries were still in flight at the end; they will be sent again", "deliveries", len(give))
		if err := d.cfg.Ledger.Release(ctx, give); err != nil {
			return fmt.Errorf("give up %d deliveries at the end: %w", len(give), err)
		}
	}
	return nil
}

// stopped says that nothing may be handed over by any lane.
func (d *Dispatcher) stopped() bool { return d.held || d.draining || d.down || d.lapsed }

func (d *Dispatcher) settleAll() {
	now := d.cfg.Clock.Now()
	for _, l := range d.lanes {
		d.settle(l, now)
	}
}

func (d *Dispatcher) lane(webhook string) *lane {
	l := d.lanes[webhook]
	if l == nil {
		l = &lane{webhook: webhook, window: newWindow(), forgiven: map[string]int{}}
		d.lanes[webhook] = l
	}
	return l
}

func (d *Dispatcher) endpoint(id string) *endpoint {
	e := d.endpoints[id]
	if e == nil {
		e = &endpoint{id: id, revision: -1, lanes: map[*lane]struct{}{}}
		d.endpoints[id] = e
	}
	return e
}
