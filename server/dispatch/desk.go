package dispatch

import (
	"context"
	"errors"
	"time"

	"github.com/hookyard/hookyard/server/flow"
)

// save puts a record in line for the ledger.
func (d *Dispatcher) save(r flow.Record) {
	d.records = append(d.records, r)
	d.unsaved++
	d.count.add(&r)
	d.toRecord.raise()
}

// record is the life of one recorder: a batch is what arrived while others committed.
func (d *Dispatcher) record(ctx context.Context, h *hand) {
	for {
		batch := d.takeRecords(h)
		if len(batch) > 0 {
			d.write(ctx, batch, false)
			continue
		}
		select {
		case <-d.toRecord:
		case <-ctx.Done():
			return
		}
	}
}

func (d *Dispatcher) takeRecords(h *hand) []flow.Record {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.records) <= recordMost {
		h.records, d.records = d.records, nil
		return h.records
	}
	h.records, d.records = d.records[:recordMost:recordMost], d.records[recordMost:]
	d.toRecord.raise()
	return h.records
}

// write keeps at a batch until it is recorded. A batch that the ledger refuses, although
// the database is there, is written record by record; what is refused alone is set aside
// and tried again at each sweep.
func (d *Dispatcher) write(ctx context.Context, batch []flow.Record, alone bool) {
	for n := 0; ; n++ {
		err := d.cfg.Ledger.Record(ctx, batch...)
		switch {
		case err == nil:
			d.written(batch)
			for i := range batch {
				if batch[i].Recorded != nil {
					batch[i].Recorded()
				}
			}
			return
		case ctx.Err() != nil:
			return
		case errors.Is(err, flow.ErrBusy):
		case errors.Is(err, flow.ErrUnavailable):
			d.lost("record", err)
		case alone:
			d.setAside(batch[0], err)
			return
		default:
			for i := range batch {
				d.write(ctx, batch[i:i+1], true)
			}
			return
		}
		if !d.wait(ctx, pause(firstWait, longWait, n)) {
			return
		}
	}
}

func (d *Dispatcher) setAside(r flow.Record, err error) {
	d.cfg.Log.Error("the ledger refuses a result; it is kept and tried again", "delivery", r.Due.ID, "error", err)
	d.mu.Lock()
	d.stuck = append(d.stuck, r)
	d.mu.Unlock()
}

// written frees what a batch took, and remembers when its retries are due.
func (d *Dispatcher) written(batch []flow.Record) {
	now := d.cfg.Clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.found()
	d.unsaved -= len(batch)
	for i := range batch {
		r := &batch[i]
		d.bytes -= weight(r.Due)
		if r.State != flow.Retrying {
			continue
		}
		l := d.lane(r.Due.Webhook)
		l.org = r.Due.Org
		if l.dueAt.IsZero() || r.NextAt.Before(l.dueAt) {
			l.dueAt = r.NextAt
			d.settle(l, now)
		}
	}
	if d.throttled && d.unsaved < d.cfg.MaxUnrecorded/2 || d.starved && d.bytes < d.cfg.MaxBytes/2 {
		d.throttled, d.starved = false, false
		d.settleAll()
	}
	d.calm()
}

// calm tells Drain that there may be nothing left.
func (d *Dispatcher) calm() {
	if d.draining {
		d.quiet.raise()
	}
}

// lost notes that the database does not answer: nothing is sent or claimed until it does.
func (d *Dispatcher) lost(doing string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.down {
		d.down = true
		d.settleAll()
		d.cfg.Log.Warn("deliveries wait: the ledger does not answer", "doing", doing, "error", err)
	}
}

// found notes that the database answers. d.mu is held.
func (d *Dispatcher) found() {
	if d.down {
		d.down = false
		d.strayAt = time.Time{} // answers may have been lost
		d.cfg.Log.Info("deliveries go on: the ledger answers again")
		d.settleAll()
		d.toSweep.raise()
	}
}

// term looks at the lease before anything is handed over under it. When it is another, the
// ledger has taken back all that was leased under the old one; when it may be too old,
// others may have it soon, and it is given up. d.mu is held.
func (d *Dispatcher) term(now time.Time) {
	lease, until := d.cfg.Lease()
	if lease != d.lease {
		d.lease = lease
		d.releases, d.doubts = nil, nil
		for _, l := range d.lanes {
			d.forget(l)
		}
		d.toSweep.raise()
	}
	// By both clocks: one of them may have stood still while the machine slept.
	lapsed := !until.IsZero() && (now.After(until) || now.Round(0).After(until.Round(0)))
	if lapsed == d.lapsed {
		return
	}
	if d.lapsed = lapsed; lapsed {
		d.cfg.Log.Warn("deliveries wait: this node was cut off from the database, or asleep, and others may take over what it has leased", "since", until)
	} else {
		d.cfg.Log.Info("deliveries go on: this node's leases are good again")
		d.toSweep.raise()
	}
	d.settleAll()
}

// wait waits; false when ctx ended.
func (d *Dispatcher) wait(ctx context.Context, t time.Duration) bool {
	timer := d.cfg.Clock.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.Chan():
		return true
	case <-ctx.Done():
		return false
	}
}

// claim is the life of one claimer. Lanes are served in the order in which they asked.
func (d *Dispatcher) claim(ctx context.Context, h *hand) {
	for {
		l, limit := d.takeClaim(h)
		ok := true
		switch {
		case len(h.releases) > 0:
			ok = d.release(ctx, h)
		case l != nil:
			ok = d.fetch(ctx, l, limit)
		default:
			select {
			case <-d.toClaim:
			case <-ctx.Done():
				return
			}
		}
		if !ok && !d.wait(ctx, firstWait) {
			return
		}
	}
}

func (d *Dispatcher) takeClaim(h *hand) (l *lane, limit int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h.releases, h.claims = nil, false
	d.term(d.cfg.Clock.Now())
	if n := min(len(d.releases), recordMost); n > 0 {
		h.releases, d.releases, h.lease = d.releases[:n:n], d.releases[n:], d.lease
		d.busy++
		d.toClaim.raise()
		return nil, 0
	}
	for len(d.claims) > 0 {
		l, d.claims = d.claims[0], d.claims[1:]
		limit = min(d.capacity(l)-l.total(), claimMost)
		if free := max(0, d.cfg.MaxBytes-d.bytes); l.mean > 0 {
			limit = min(limit, max(minWindow, int(free/l.mean)))
		} else {
			limit = min(limit, firstClaim)
		}
		if l.plan.verdict == send && l.end.breaker.open {
			limit = min(limit, 1-l.total())
		}
		if d.stopped() || d.verdict(l, d.cfg.Clock.Now()) == hold || limit <= 0 {
			l.claiming = false
			continue
		}
		d.begin(l)
		h.claims, h.look = true, d.looks
		d.toClaim.raise()
		return l, limit
	}
	return nil, 0
}

// begin notes that a claim for the lane is under way.
func (d *Dispatcher) begin(l *lane) {
	l.claiming, l.news, l.look, l.lookAt = true, false, false, time.Time{}
	d.busy++
}

func (d *Dispatcher) release(ctx context.Context, h *hand) bool {
	asking, cancel := context.WithTimeout(ctx, askMost)
	defer cancel()
	err := d.cfg.Ledger.Release(asking, h.releases)
	if err != nil && ctx.Err() == nil {
		d.lost("give up leases", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy--
	d.calm()
	if err != nil {
		if h.lease == d.lease { // else they are free by now, or even claimed anew
			d.releases = append(d.releases, h.releases...)
		}
		return false
	}
	d.found()
	d.toSweep.raise() // some may be for lanes that know nothing of them
	return true
}

func (d *Dispatcher) fetch(ctx context.Context, l *lane, limit int) bool {
	now := d.cfg.Clock.Now()
	d.mu.Lock()
	before := l.plan
	d.mu.Unlock()
	asking, cancel := context.WithTimeout(ctx, askMost)
	defer cancel()
	dues, err := d.cfg.Ledger.Claim(asking, l.webhook, now, limit)
	if err != nil && ctx.Err() == nil {
		d.lost("claim", err)
	}
	now = d.cfg.Clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy--
	d.calm()
	l.claiming = false
	if err != nil {
		l.backlog = true
		return false
	}
	d.found()
	d.term(now)
	for _, due := range dues {
		l.org = due.Org
		d.push(l, due)
	}
	if before != nil && erased(before.world, d.cfg.Worlds(l.org)) { // while it was claimed, perhaps
		d.giveUp(l)
	}
	if len(dues) < limit {
		l.backlog = l.news
		if at := l.refusedAt.Add(recheck); at.After(now) {
			l.lookAt = at // what was refused may be committed by then
		}
	}
	d.settle(l, now)
	return true
}

// sweep is the life of the sweeper: each second it asks which webhooks have deliveries
// that nobody holds. It finds what other nodes, former lives of this one, and full
// lanes left behind; retries of this life are mostly known already.
func (d *Dispatcher) sweep(ctx context.Context) {
	tick := d.cfg.Clock.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		d.look(ctx)
		select {
		case <-tick.Chan():
		case <-d.toSweep:
		case <-ctx.Done():
			return
		}
	}
}

func (d *Dispatcher) look(ctx context.Context) {
	now := d.cfg.Clock.Now()
	d.mu.Lock()
	d.term(now)
	d.mu.Unlock()
	asking, cancel := context.WithTimeout(ctx, askMost)
	all, err := d.cfg.Ledger.Backlog(asking, now)
	cancel()
	if err != nil {
		if ctx.Err() == nil {
			d.lost("look for what is due", err)
		}
		return
	}
	if !d.try(ctx, all, now) {
		return
	}
	d.mu.Lock()
	d.settleDoubts(now)
	stuck := d.stuck
	d.stuck = nil
	d.mu.Unlock()
	for i := range stuck {
		d.write(ctx, stuck[i:i+1], true)
	}
	for len(all) > 0 {
		n := min(len(all), wakeAtOnce)
		d.wakeUp(all[:n], now)
		all = all[n:]
	}
	d.strays(ctx)
}

// try claims one delivery when the database was lost: it may answer and yet not be able
// to write. False when it is still lost.
func (d *Dispatcher) try(ctx context.Context, all []flow.Backlog, now time.Time) bool {
	d.mu.Lock()
	if !d.down {
		d.mu.Unlock()
		return true
	}
	for _, b := range all {
		if l := d.lane(b.Webhook); !b.Due.After(now) && !l.claiming {
			d.begin(l)
			d.mu.Unlock()
			return d.fetch(ctx, l, 1)
		}
	}
	if d.unsaved == 0 && len(d.releases) == 0 { // nothing else will tell
		d.found()
	}
	ok := !d.down
	d.mu.Unlock()
	return ok
}

// wakeUp tells lanes of their backlog.
func (d *Dispatcher) wakeUp(all []flow.Backlog, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped() {
		return
	}
	for _, b := range all {
		l := d.lane(b.Webhook)
		l.org = b.Org
		switch {
		case !b.Due.After(now):
			l.waits()
		case l.dueAt.IsZero() || b.Due.Before(l.dueAt):
			l.dueAt = b.Due
		default:
			continue
		}
		d.settle(l, now)
	}
}
