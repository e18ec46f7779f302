package watch

import (
	"context"
	"fmt"
	"sort"
	"sync/atomic"
)

// readLimit is how many entries one read of the ledger takes.
const readLimit = 1000

// reader follows one organization's log and publishes what it reads as views.
type reader[E any] struct {
	org      string
	log      *log[E]
	cancel   context.CancelFunc
	wake     chan struct{}
	started  chan struct{} // closed when view or failed is set
	failed   error         // why it could not start
	view     atomic.Pointer[view[E]]
	watchers int // guarded by Watch.mu
}

// view is the log's end at one moment. It is immutable; the next one usually shares
// its array, which only ever grows behind the older view's end.
type view[E any] struct {
	floor   int64 // every entry with floor < Seq <= last is in entries
	last    int64 // how far the log has been read
	entries []E   // in order
	newer   chan struct{}
}

// after returns up to limit entries behind pos, and the position behind them. Where
// pos is before the floor the answer is of no use.
func (v *view[E]) after(pos int64, limit int, seq func(*E) int64) ([]E, int64) {
	i := sort.Search(len(v.entries), func(i int) bool { return seq(&v.entries[i]) > pos })
	if rest := v.entries[i:]; len(rest) > limit {
		return rest[:limit:limit], seq(&rest[limit-1])
	}
	return v.entries[i:len(v.entries):len(v.entries)], max(pos, v.last)
}

func newReader[E any](org string, of *log[E], cancel context.CancelFunc) *reader[E] {
	return &reader[E]{org: org, log: of, cancel: cancel,
		wake: make(chan struct{}, 1), started: make(chan struct{})}
}

// poke asks for a read soon.
func (r *reader[E]) poke() {
	select {
	case r.wake <- struct{}{}:
	default: // already asked
	}
}

// gaveUp says that the reader is started and has failed.
func (r *reader[E]) gaveUp() bool {
	select {
	case <-r.started:
		return r.failed != nil
	default:
		return false
	}
}

func (r *reader[E]) run(ctx context.Context) {
	last, err := r.log.tail.LastSeq(ctx, r.org)
	if err != nil {
		r.failed = fmt.Errorf("watch: read the end of the log: %w", err)
		close(r.started)
		return
	}
	r.view.Store(&view[E]{floor: last, last: last, newer: make(chan struct{})})
	close(r.started)

	poll := r.log.opt.Clock.NewTicker(r.log.opt.Poll)
	defer poll.Stop()
	ok := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-poll.Chan():
		}
		if err := r.read(ctx); ctx.Err() == nil && (err == nil) != ok {
			ok = err == nil
			if ok {
				r.log.opt.Log.Info("the log can be read again", "log", r.log.name, "organization", r.org)
			} else {
				r.log.opt.Log.Warn("cannot read the log, trying again", "log", r.log.name, "organization", r.org, "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-r.log.opt.Clock.After(r.log.opt.Tick):
		}
	}
}

// read takes everything that is new since the last read.
func (r *reader[E]) read(ctx context.Context) error {
	for {
		entries, err := r.log.tail.Tail(ctx, r.org, r.view.Load().last, readLimit)
		if err != nil {
			return err
		}
		if len(entries) > 0 {
			r.publish(entries)
		}
		if len(entries) < readLimit {
			return nil
		}
	}
}

// publish replaces the view by one that has the new entries, too.
func (r *reader[E]) publish(entries []E) {
	old := r.view.Load()
	v := &view[E]{floor: old.floor, last: r.log.seq(&entries[len(entries)-1]), newer: make(chan struct{})}
	v.entries = append(old.entries, entries...)
	if n := len(v.entries); n > 2*r.log.opt.Ring { // a new array, so that the old one can go
		v.floor = r.log.seq(&v.entries[n-r.log.opt.Ring-1])
		v.entries = append(make([]E, 0, 2*r.log.opt.Ring+readLimit), v.entries[n-r.log.opt.Ring:]...)
	}
	r.view.Store(v)
	close(old.newer)
}
