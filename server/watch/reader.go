package watch

import (
	"context"
	"fmt"
	"sort"
	"sync/atomic"

	"github.com/hookyard/hookyard/server/flow"
)

// readLimit is how many entries one read of the ledger takes.
const readLimit = 1000

// reader follows one organization's log and publishes what it reads as views.
type reader struct {
	org      string
	tail     Tail
	opt      *Options
	cancel   context.CancelFunc
	wake     chan struct{}
	started  chan struct{} // closed when view or failed is set
	failed   error         // why it could not start
	view     atomic.Pointer[view]
	watchers int // guarded by Watch.mu
}

// view is the log's end at one moment. It is immutable; the next one usually shares
// its array, which only ever grows behind the older view's end.
type view struct {
	floor   int64        // every entry with floor < Seq <= last is in entries
	last    int64        // how far the log has been read
	entries []flow.Entry // in order
	newer   chan struct{}
}

// after returns up to limit entries behind pos, and the position behind them. Where
// pos is before the floor the answer is of no use.
func (v *view) after(pos int64, limit int) ([]flow.Entry, int64) {
	i := sort.Search(len(v.entries), func(i int) bool { return v.entries[i].Seq > pos })
	if rest := v.entries[i:]; len(rest) > limit {
		return rest[:limit:limit], rest[limit-1].Seq
	}
	return v.entries[i:len(v.entries):len(v.entries)], max(pos, v.last)
}

func newReader(org string, tail Tail, opt *Options, cancel context.CancelFunc) *reader {
	return &reader{org: org, tail: tail, opt: opt, cancel: cancel,
		wake: make(chan struct{}, 1), started: make(chan struct{})}
}

// poke asks for a read soon.
func (r *reader) poke() {
	select {
	case r.wake <- struct{}{}:
	default: // already asked
	}
}

// gaveUp says that the reader is started and has failed.
func (r *reader) gaveUp() bool {
	select {
	case <-r.started:
		return r.failed != nil
	default:
		return false
	}
}

func (r *reader) run(ctx context.Context) {
	last, err := r.tail.LastSeq(ctx, r.org)
	if err != nil {
		r.failed = fmt.Errorf("watch: read the end of the log: %w", err)
		close(r.started)
		return
	}
	r.view.Store(&view{floor: last, last: last, newer: make(chan struct{})})
	close(r.started)

	poll := r.opt.Clock.NewTicker(r.opt.Poll)
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
				r.opt.Log.Info("the delivery log can be read again", "organization", r.org)
			} else {
				r.opt.Log.Warn("cannot read the delivery log, trying again", "organization", r.org, "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-r.opt.Clock.After(r.opt.Tick):
		}
	}
}

// read takes everything that is new since the last read.
func (r *reader) read(ctx context.Context) error {
	for {
		entries, err := r.tail.Tail(ctx, r.org, r.view.Load().last, readLimit)
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
func (r *reader) publish(entries []flow.Entry) {
	old := r.view.Load()
	v := &view{floor: old.floor, last: entries[len(entries)-1].Seq, newer: make(chan struct{})}
	v.entries = append(old.entries, entries...)
	if n := len(v.entries); n > 2*r.opt.Ring { // a new array, so that the old one can go
		v.floor = v.entries[n-r.opt.Ring-1].Seq
		v.entries = append(make([]flow.Entry, 0, 2*r.opt.Ring+readLimit), v.entries[n-r.opt.Ring:]...)
	}
	r.view.Store(v)
	close(old.newer)
}
