package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jonboulle/clockwork"
	"golang.org/x/time/rate"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/server/flow"
)

// lane is what is under way for one webhook. Dispatcher.mu guards it.
type lane struct {
	webhook, org string
	known        bool  // the webhook was seen, so that it is deleted when it is missing
	plan         *plan // under the latest World that was looked at
	end          *endpoint
	window       window

	queue    []*flow.Due
	mean     int64 // weight of its recent deliveries
	reserved int   // credit given away
	inflight int   //
	running  bool  // a goroutine serves it
	claiming bool
	backlog  bool // the ledger has deliveries that are due: new ones wait behind them
	news     bool // of a backlog, since the last claim
	look     bool // it may have some; new ones need not wait

	crashes   int            // broken connectors in a row
	forgiven  map[string]int // broken connectors, by delivery
	forgetAt  time.Time      // when none of those is tried again any more
	resumeAt  time.Time      // after a broken connector
	dueAt     time.Time      // the earliest retry known
	lookAt    time.Time      // when to look again
	rateAt    time.Time      // when the endpoint's rate allows one more
	refusedAt time.Time      // when credit was last refused
	lostAt    time.Time      // when the webhook was first found missing
	timer     clockwork.Timer
	wakeAt    time.Time // of the timer, zero: it is not set
}

// endpoint is what lanes of one endpoint share.
type endpoint struct {
	id       string
	process  string // that knows it; "" none
	revision int64  // -1: none was looked at
	lanes    map[*lane]struct{}
	breaker  breaker
	limiter  *rate.Limiter // nil: unlimited
}

// update takes over today's rate. What the breaker and the connector's process know is
// of the endpoint as it was.
func (d *Dispatcher) update(e *endpoint, p *plan, now time.Time) {
	c, moved := p.endpoint, p.process != "" && p.process != e.process
	if e.process != "" && (moved || e.revision >= 0 && e.revision != c.Revision) {
		d.cfg.Sender.Forget(e.process, e.id)
	}
	if moved {
		e.process = p.process
	}
	if e.revision == c.Revision {
		return
	}
	e.revision, e.breaker = c.Revision, breaker{}
	if c.Rate <= 0 {
		e.limiter = nil
		return
	}
	burst := max(1, c.Burst)
	if e.limiter == nil {
		e.limiter = rate.NewLimiter(rate.Limit(c.Rate), burst)
		return
	}
	e.limiter.SetLimitAt(now, rate.Limit(c.Rate))
	e.limiter.SetBurstAt(now, burst)
}

// join has the lane share what is known of today's endpoint, nil: of none. An endpoint
// that its last lane leaves is forgotten, with its secrets.
func (d *Dispatcher) join(l *lane, p *plan, now time.Time) {
	var c *flow.Endpoint
	if p != nil {
		c = p.endpoint
	}
	if e := l.end; e != nil && (c == nil || e.id != c.ID) {
		l.end = nil
		if delete(e.lanes, l); len(e.lanes) == 0 {
			delete(d.endpoints, e.id)
			d.cfg.Sender.Forget(e.process, e.id)
		}
	}
	if c == nil {
		return
	}
	if l.end == nil {
		l.end = d.endpoint(c.ID)
		l.end.lanes[l] = struct{}{}
	}
	d.update(l.end, p, now)
	l.rateAt = time.Time{}
}

// over says that a lane has nothing left to do: its webhook is gone, or the organization
// is, whose deliveries went with it. Should a World only lag, the sweep finds them again.
func (d *Dispatcher) over(l *lane, v verdict) bool {
	if l.total() > 0 || l.running || l.claiming {
		return false
	}
	return v == cancel && !l.backlog && !l.look && l.dueAt.IsZero() && l.lookAt.IsZero() || l.org != "" && l.plan.world == nil
}

func (d *Dispatcher) drop(l *lane, now time.Time) {
	l.disarm()
	d.join(l, nil, now)
	if d.lanes[l.webhook] == l {
		delete(d.lanes, l.webhook)
	}
}

func (l *lane) disarm() {
	if l.timer != nil {
		l.timer.Stop()
	}
	l.wakeAt = time.Time{}
}

// waits notes that the ledger has deliveries of this lane that are due.
func (l *lane) waits() { l.backlog, l.news = true, true }

// total is how many deliveries the lane has in memory, with those promised.
func (l *lane) total() int { return l.reserved + len(l.queue) + l.inflight }

// capacity is how many it may have: enough to stay busy while more are claimed, and no
// more than its share of memory. When memory is used up, a lane may still have a few, so
// that those who hold it starve nobody.
func (d *Dispatcher) capacity(l *lane) int {
	if d.bytes >= d.cfg.MaxBytes {
		d.starved = true
		return minWindow
	}
	n := max(64, 4*l.width())
	if l.mean > 0 {
		n = min(n, max(minWindow, int(d.cfg.MaxBytes/4/l.mean)))
	}
	return n
}

// width is how many may be in flight.
func (l *lane) width() int {
	n := l.window.size
	if l.plan != nil && l.plan.endpoint != nil && l.plan.endpoint.MaxInFlight > 0 {
		n = min(n, l.plan.endpoint.MaxInFlight)
	}
	if l.crashes > 0 {
		n = 1 // a broken connector is tried with one
	}
	return n
}

// weight is what a delivery takes in memory, in bytes.
func weight(due *flow.Due) int64 {
	n := 1024 + len(due.Document)
	if due.Rendering != nil {
		n += len(due.Rendering.Body)
	}
	return int64(n)
}

func (d *Dispatcher) push(l *lane, due *flow.Due) {
	if due.Lease.Node != "" && due.Lease != d.lease {
		l.waits() // it was taken back on its way here
		return
	}
	w := weight(due)
	if l.mean == 0 {
		l.mean = w
	}
	l.mean += (w - l.mean) / 8
	l.queue = append(l.queue, due)
	d.bytes += w
	d.arrives(due.ID)
}

// pop takes the delivery at the head of the queue; its weight stays counted until it is
// recorded or given up.
func (l *lane) pop() *flow.Due {
	due := l.queue[0]
	l.queue[0] = nil
	if l.queue = l.queue[1:]; len(l.queue) == 0 {
		l.queue = nil
	}
	return due
}

// settle brings a lane into line with how things stand: it may start to serve it, ask
// for a claim, give leases up, or end deliveries. It is called whenever something
// changed, and calling it once more does no harm.
func (d *Dispatcher) settle(l *lane, now time.Time) {
	if !l.dueAt.IsZero() && !l.dueAt.After(now) {
		l.dueAt = time.Time{}
		l.waits()
	}
	if !l.lookAt.IsZero() && !l.lookAt.After(now) {
		l.lookAt, l.look = time.Time{}, true
	}
	d.replan(l, now)
	if d.stopped() {
		d.giveUp(l) // while the database is away, leases may pass to others
		return
	}
	verdict := d.verdict(l, now)
	switch verdict {
	case hold:
		d.giveUp(l)
	case skip, cancel:
		state := flow.SkippedState
		if verdict == cancel {
			state = flow.Cancelled
		}
		for len(l.queue) > 0 {
			due := l.pop()
			d.save(flow.Record{Due: due, Attempt: d.cfg.IDs.New(ids.Attempt), State: state,
				FirstFailed: due.FirstFailed, Reason: l.plan.reason, At: now})
		}
		d.wantClaim(l, claimMost)
	case send:
		if !l.end.breaker.passes(now) {
			d.giveUp(l)
			break
		}
		if len(l.queue) > 0 && !l.running && d.room(l) && !now.Before(l.resumeAt) && !now.Before(l.rateAt) {
			l.running = true
			d.running.Go(func() { d.serve(l) })
		}
		capacity := d.capacity(l)
		credit := capacity - l.total()
		if l.end.breaker.open {
			credit = 1 - l.total()
		} else if 2*credit < capacity {
			credit = 0
		}
		d.wantClaim(l, credit)
	}
	if d.over(l, verdict) {
		d.drop(l, now)
		return
	}
	d.arm(l, now)
}

// replan looks at today's World.
func (d *Dispatcher) replan(l *lane, now time.Time) {
	var w *flow.World
	if l.org != "" {
		w = d.cfg.Worlds(l.org)
	}
	if l.plan != nil && l.plan.world == w && l.plan.renewed == d.renewed {
		return
	}
	before := l.plan
	l.plan = d.planFor(w, l.webhook)
	l.plan.renewed = d.renewed
	if before != nil && before.verdict != l.plan.verdict {
		l.look = true
	}
	if before != nil && erased(before.world, w) {
		d.giveUp(l)
	}
	d.join(l, l.plan, now)
	if l.plan.webhook != nil {
		l.known, l.lostAt = true, time.Time{}
	}
}

// erased says that a payload was erased between two Worlds.
func erased(before, now *flow.World) bool {
	return before != nil && now != nil && !before.Erased.Equal(now.Erased)
}

// verdict is the plan's, but for a webhook that is missing: it is deleted when it was
// there before, or when it is missing for longer than a World can lag.
func (d *Dispatcher) verdict(l *lane, now time.Time) verdict {
	if l.plan.verdict == send && !d.reaches(l.plan.endpoint) {
		return hold // with its Presence
	}
	if l.plan.verdict != missing {
		return l.plan.verdict
	}
	if l.lostAt.IsZero() {
		l.lostAt = now
	}
	if l.known || now.Sub(l.lostAt) >= unknown {
		return cancel
	}
	return hold
}

// reaches says whether an endpoint's calls can be made from here: by this node, or by an
// agent of the endpoint's Presence that is linked to it.
func (d *Dispatcher) reaches(e *flow.Endpoint) bool {
	return e.Presence == "" || d.cfg.Presences != nil && d.cfg.Presences.Linked(e.Presence)
}

// giveUp hands back the leases of what is queued.
func (d *Dispatcher) giveUp(l *lane) {
	if len(l.queue) == 0 {
		return
	}
	for _, due := range l.queue {
		d.releases = append(d.releases, due.ID)
	}
	d.forget(l)
	d.toClaim.raise()
}

// forget empties the queue, whose deliveries the ledger has, or will have.
func (d *Dispatcher) forget(l *lane) {
	if len(l.queue) == 0 {
		return
	}
	for _, due := range l.queue {
		d.bytes -= weight(due)
	}
	l.queue = nil
	l.waits()
}

// wantClaim lines the lane up to claim, when there may be something and room for it.
func (d *Dispatcher) wantClaim(l *lane, credit int) {
	if credit <= 0 || !l.backlog && !l.look || l.claiming {
		return
	}
	l.claiming = true
	d.claims = append(d.claims, l)
	d.toClaim.raise()
}

// arm sets the lane's timer to the next moment at which something changes by itself.
func (d *Dispatcher) arm(l *lane, now time.Time) {
	var at time.Time
	sooner := func(t time.Time) {
		if t.After(now) && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	sooner(l.dueAt)
	sooner(l.lookAt)
	waiting := len(l.queue) > 0 || l.backlog || l.look
	if waiting {
		sooner(l.resumeAt)
		sooner(l.rateAt)
		if l.end != nil && l.end.breaker.open {
			sooner(l.end.breaker.probeAt)
		}
	}
	if at.IsZero() || !l.wakeAt.IsZero() && !l.wakeAt.After(at) || d.draining {
		return
	}
	l.disarm()
	l.wakeAt = at
	l.timer = d.cfg.Clock.AfterFunc(at.Sub(now), func() { d.wake(l, at) })
}

func (d *Dispatcher) wake(l *lane, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !l.wakeAt.Equal(at) {
		return // of a timer that was set anew
	}
	l.wakeAt = time.Time{}
	d.settle(l, d.cfg.Clock.Now())
}

// serve hands over what the lane may hand over, and ends when that is nothing.
func (d *Dispatcher) serve(l *lane) {
	var room [takeAtOnce]*flight
	for {
		taken := d.take(l, room[:0])
		if len(taken) == 0 {
			return
		}
		for i, f := range taken {
			if r := f.due.Rendering; r != nil && r.Open && f.plan.request {
				d.running.Go(func() { d.compose(f) })
			} else {
				d.handOver(f)
			}
			taken[i] = nil
		}
	}
}

func (d *Dispatcher) handOver(f *flight) {
	out, err := f.write()
	if err != nil {
		d.finish(f, connectors.Result{Outcome: connectors.Permanent, Fault: connectors.FaultSettings, Error: err.Error()}, nil)
		return
	}
	d.send(f, out)
}

// compose has a third party's format write down what is due, and hands it over then. A
// format that does not answer is a connector that is broken: the delivery is tried again.
func (d *Dispatcher) compose(f *flight) {
	ctx, cancel := context.WithTimeout(context.Background(), writeMost)
	defer cancel()
	r, err := d.cfg.Writer.Write(ctx, f.plan.world, f.due)
	var skip *connectors.SkipError
	switch {
	case errors.As(err, &skip):
		d.finish(f, connectors.Result{Outcome: connectors.Skipped, Error: skip.Reason}, nil)
	case errors.Is(err, flow.ErrUnavailable):
		d.finish(f, connectors.Result{}, nil) // nobody has tried
	case err != nil:
		d.finish(f, connectors.Result{Outcome: connectors.Retry, Fault: connectors.FaultConnector, Error: "It has not been written down: " + err.Error()}, nil)
	default:
		d.mu.Lock()
		d.bytes -= weight(f.due)
		f.due.Rendering = r
		d.bytes += weight(f.due)
		d.mu.Unlock()
		d.handOver(f)
	}
}

func (d *Dispatcher) send(f *flight, out connectors.Delivery) {
	e := f.plan.endpoint
	if e.Presence != "" {
		d.cfg.Presences.Deliver(e.Presence, e.Connector, f.plan.target, out, f.attempt, func(r connectors.Result, recorded func()) { d.finish(f, r, recorded) })
		return
	}
	d.cfg.Sender.Deliver(f.plan.process, f.plan.target, out, func(r connectors.Result) { d.finish(f, r, nil) })
}

// take moves deliveries from the queue into flight. When there are none to move, the
// lane is no longer running.
func (d *Dispatcher) take(l *lane, to []*flight) []*flight {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.cfg.Clock.Now() // not before the lock: who slept waiting for it must know
	d.term(now)
	d.replan(l, now)
	for len(l.queue) > 0 && len(to) < cap(to) && d.mayHandOver(l, now) {
		f := &flight{lane: l, due: l.pop(), plan: l.plan, started: now}
		if l.end.breaker.open {
			l.end.breaker.probe = f
		}
		if l.plan.endpoint.Presence != "" {
			f.attempt = d.cfg.IDs.New(ids.Attempt) // the agent's journal goes by it
		}
		l.inflight++
		d.flights[f] = struct{}{}
		to = append(to, f)
	}
	if len(to) == 0 {
		l.running = false
		d.settle(l, now)
	}
	return to
}

func (d *Dispatcher) mayHandOver(l *lane, now time.Time) bool {
	if d.stopped() || d.verdict(l, now) != send || now.Before(l.resumeAt) || !l.end.breaker.passes(now) {
		return false
	}
	if !d.room(l) {
		return false
	}
	if r := l.end.limiter; r != nil && !r.AllowN(now, 1) {
		l.rateAt = now.Add(max(time.Millisecond, time.Duration((1-r.TokensAt(now))/float64(r.Limit())*float64(time.Second))))
		return false
	}
	return true
}

// room says whether the lane's window and the results that wait for the ledger leave
// room for one more in flight, and notes who was in the way.
func (d *Dispatcher) room(l *lane) bool {
	if d.unsaved >= d.cfg.MaxUnrecorded {
		d.throttled = true
		return false
	}
	if l.inflight >= l.width() {
		l.window.full = true
		return false
	}
	return true
}

// finish takes the result of an attempt. It is the sender's callback.
func (d *Dispatcher) finish(f *flight, r connectors.Result, recorded func()) {
	now := d.cfg.Clock.Now()
	f.record(&r, now)
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.ended {
		return
	}
	f.ended = true
	delete(d.flights, f)
	l := f.lane
	l.inflight--
	if r.Outcome == "" {
		d.handBack(f, now)
		return
	}
	broken := r.Fault == connectors.FaultConnector
	arrived := r.Outcome == connectors.Done
	failed := !arrived && r.Fault == connectors.FaultTarget
	switch {
	case broken:
		if !now.Before(l.resumeAt) { // one crash breaks all that is in flight
			l.resumeAt = now.Add(pause(crashPause, crashMost, l.crashes))
			l.crashes++
		}
		if at := now.Add(asked(r.RetryAfter)); at.After(l.resumeAt) {
			l.resumeAt = at
		}
	default:
		l.crashes = 0
		l.window.answered(now.Sub(f.started), failed)
	}
	rec := d.judge(f, &r, now)
	rec.Recorded = recorded
	d.save(rec)
	switch e := d.endpoints[f.plan.endpoint.ID]; {
	case e == nil || e.revision != f.plan.endpoint.Revision: // it was handed over as that changed
		d.cfg.Sender.Forget(f.plan.process, f.plan.endpoint.ID)
	case e.breaker.open || !broken:
		if e.breaker.answered(f, arrived, failed, now) {
			d.turned(e, now)
		}
	}
	d.settle(l, now)
	d.calm()
}

// handBack gives a delivery back to the ledger that nobody is known to have tried.
func (d *Dispatcher) handBack(f *flight, now time.Time) {
	l := f.lane
	d.releases = append(d.releases, f.due.ID)
	d.bytes -= weight(f.due)
	l.waits()
	if e := d.endpoint(f.plan.endpoint.ID); e.breaker.probe == f {
		e.breaker.answered(f, false, false, now)
	}
	d.toClaim.raise()
	d.settle(l, now)
	d.calm()
}

// turned brings the endpoint's lanes into line when its breaker opened or closed.
func (d *Dispatcher) turned(e *endpoint, now time.Time) {
	for l := range e.lanes {
		if !e.breaker.open {
			l.window.shrink()
			l.look = true
		}
		d.settle(l, now)
	}
}

// judge turns a result into the delivery's new state.
func (d *Dispatcher) judge(f *flight, r *connectors.Result, now time.Time) flow.Record {
	due := f.due
	rec := flow.Record{Due: due, Attempt: f.attempt, Number: due.Attempts + 1, Result: r,
		URL: f.request.URL, FirstFailed: due.FirstFailed, Reason: r.Error, At: now}
	if rec.Attempt == "" {
		rec.Attempt = d.cfg.IDs.New(ids.Attempt)
	}
	crashes := f.lane.forgiven[due.ID]
	switch r.Outcome {
	case connectors.Done:
		rec.State, rec.Reason = flow.Succeeded, ""
	case connectors.Skipped:
		rec.State = flow.SkippedState
	case connectors.Permanent:
		rec.State = flow.Failed
	default:
		if r.Fault == connectors.FaultConnector && crashes < maxCrashes {
			f.lane.forgiven[due.ID] = crashes + 1
			rec.State, rec.NextAt = flow.Retrying, milli(now.Add(max(pause(crashPause, crashMost, crashes), asked(r.RetryAfter))))
			if at := rec.NextAt.Add(forgetAfter); at.After(f.lane.forgetAt) {
				f.lane.forgetAt = at
			}
			return rec
		}
		if rec.FirstFailed.IsZero() {
			rec.FirstFailed = milli(now)
		}
		var ok bool
		rec.State = flow.Retrying
		if rec.NextAt, ok = next(f.plan.retries, rec.FirstFailed, f.started, now, r.RetryAfter); !ok {
			rec.State, rec.Reason = flow.Failed, fmt.Sprintf("The last of %d attempts failed: %s", rec.Number, r.Error)
		}
	}
	if crashes > 0 {
		delete(f.lane.forgiven, due.ID)
	}
	return rec
}
