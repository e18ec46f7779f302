package dispatch

import (
	"context"
	"time"

	"github.com/hookyard/hookyard/server/flow"
)

// stray is a lease of this node that nobody here has in hand: the answer to a claim was
// lost, or a commit ended long after its connection.
type stray struct {
	seen time.Time // when that was first found
	look int       // by which look
	due  time.Time // since when the delivery is
}

const (
	strayEvery = time.Minute      // how often they are looked for
	strayAfter = 40 * time.Second // no delivery is on its way from the ledger to here for so long
	strayShare = 100              // of its time goes into looking, at most
)

// strays gives up the leases that nobody has in hand, when it is time to look for them. A
// delivery may be on its way to its lane: only what never comes is one.
func (d *Dispatcher) strays(ctx context.Context) {
	start := d.cfg.Clock.Now()
	d.mu.Lock()
	if d.cfg.Leased == nil || d.down || start.Before(d.strayAt) {
		d.mu.Unlock()
		return
	}
	var held []string
	d.inHand(func(id string) { held = append(held, id) })
	d.came = map[string]struct{}{}
	d.looks++
	look := d.looks
	d.mu.Unlock()
	asking, cancel := context.WithTimeout(ctx, askMost)
	leased, err := d.cfg.Leased(asking)
	cancel()
	for _, id := range held {
		delete(leased, id)
	}
	now := d.cfg.Clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	came := d.came
	d.came = nil
	d.strayAt = now.Add(max(strayEvery, strayShare*now.Sub(start)))
	for _, l := range d.lanes {
		if now.After(l.forgetAt) {
			clear(l.forgiven)
		}
	}
	if err != nil {
		if ctx.Err() == nil {
			d.cfg.Log.Warn("cannot look for leases that nobody has in hand", "error", err)
		}
		return
	}
	before, lost := d.stray, 0
	d.stray = map[string]stray{}
	for id, due := range leased {
		if _, here := came[id]; here {
			continue
		}
		s, known := before[id]
		if !known {
			s = stray{now, look, due}
		}
		if now.Sub(s.seen) >= strayAfter && !d.claimed(s.look) {
			d.releases = append(d.releases, id)
			lost++
			continue
		}
		d.stray[id] = s
	}
	if len(d.stray) > 0 {
		d.strayAt = now.Add(max(strayAfter, strayShare*now.Sub(start)))
	}
	if lost > 0 {
		d.toClaim.raise()
		d.cfg.Log.Warn("deliveries were leased to this node and in nobody's hands; they are given up, and due again", "deliveries", lost)
	}
}

// claimed says whether a claim is under way that may have been before the end of a look.
func (d *Dispatcher) claimed(look int) bool {
	for _, h := range d.hands {
		if h.claims && h.look <= look {
			return true
		}
	}
	return false
}

// arrives notes that a delivery is in hand.
func (d *Dispatcher) arrives(id string) {
	delete(d.stray, id)
	if d.came != nil {
		d.came[id] = struct{}{}
	}
}

// hand is what a goroutine has taken out of a line, until it takes the next.
type hand struct {
	records  []flow.Record
	releases []string
	lease    flow.Lease // under which those are leased
	claims   bool       // deliveries for a lane
	look     int        // at strays, the last that had begun before that
}

func (d *Dispatcher) newHand() *hand {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := &hand{}
	d.hands = append(d.hands, h)
	return h
}

// inHand names every delivery that somebody here answers for.
func (d *Dispatcher) inHand(name func(delivery string)) {
	for _, l := range d.lanes {
		for _, due := range l.queue {
			name(due.ID)
		}
	}
	for f := range d.flights {
		name(f.due.ID)
	}
	records := func(all []flow.Record) {
		for i := range all {
			name(all[i].Due.ID)
		}
	}
	ids := func(all []string) {
		for _, id := range all {
			name(id)
		}
	}
	records(d.records)
	records(d.stuck)
	ids(d.releases)
	for _, t := range d.doubts {
		ids(t.deliveries)
	}
	for _, h := range d.hands {
		records(h.records)
		ids(h.releases)
	}
}
