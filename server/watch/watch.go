// Package watch carries the delivery log, and the audit log, to those who watch it live.
//
// Place in the path of an event: the last part. The ledger has committed an entry and
// wakes us; we read the ledger's tail and hand lists of entries to watchers. The audit
// log has a tail of the same kind.
//
// Guarantees:
//   - A watcher gets every entry that its scope and filter let through, once, in order
//     of Seq, from its cursor on: across reconnects, restarts and nodes, because the
//     cursor is a position in the ledger and nothing is remembered here.
//   - Lists go out at most once per tick (100 ms), the first after a quiet time at once.
//   - A wake-up only hastens: a lost one costs at most the poll interval.
//   - Watchers never slow the hub: there is one reader per watched organization,
//     whatever the number of its watchers, and no queue per watcher. Who falls behind
//     the reader's ring reads the ledger itself, few at a time; who does not take a
//     batch in time is cut off with flow.ErrSlow and may come back.
package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/server/flow"
)

// Tail is a log as far as it is read here: the ledger's, or the audit log.
type Tail[E any] interface {
	// Tail returns up to limit of the organization's entries with Seq > after, in order.
	Tail(ctx context.Context, org string, after int64, limit int) ([]E, error)
	// LastSeq is the highest Seq that a reader may have seen, 0 for none.
	LastSeq(ctx context.Context, org string) (int64, error)
	// OldestSeq is where the kept log begins: every entry with that Seq or a higher
	// one is still there. With nothing removed yet it is at most the first entry's.
	OldestSeq(ctx context.Context, org string) (int64, error)
}

// Options are the pace of watching. Zero values take the defaults.
type Options struct {
	Tick      time.Duration // between two lists of an organization: 100 ms
	Poll      time.Duration // between reads without a wake-up: 2 s
	Heartbeat time.Duration // between batches without an entry: 15 s
	SendLimit time.Duration // for a watcher to take a batch: 10 s
	Ring      int           // entries in memory per watched organization: 4096
	Batch     int           // entries in one list: 100
	CatchUp   int           // watchers that read the ledger themselves at a time: 4
	Clock     clockwork.Clock
	Log       *slog.Logger
}

func (o *Options) defaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&o.Tick, 100*time.Millisecond)
	set(&o.Poll, 2*time.Second)
	set(&o.Heartbeat, 15*time.Second)
	set(&o.SendLimit, 10*time.Second)
	if o.Ring == 0 {
		o.Ring = 4096
	}
	if o.Batch == 0 {
		o.Batch = 100
	}
	if o.CatchUp == 0 {
		o.CatchUp = 4
	}
	if o.Clock == nil {
		o.Clock = clockwork.NewRealClock()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Watch serves the watchers of all organizations' delivery logs.
type Watch struct{ log[flow.Entry] }

// New returns a Watch over the ledger's tail. It runs nothing until somebody watches.
func New(tail Tail[flow.Entry], o Options) *Watch {
	return &Watch{newLog("delivery log", tail, func(e *flow.Entry) int64 { return e.Seq }, o)}
}

// Follow watches the log from the cursor after (nil: from now on) and calls send with
// one batch after the other until ctx ends. The first batch comes at once, empty if
// need be, so that the watcher has a cursor. send must return when its context ends.
//
// Follow always returns an error: that of ctx, of send, flow.ErrSlow, flow.ErrExpired,
// or the ledger's.
func (w *Watch) Follow(ctx context.Context, scope rule.Scope, f flow.EntryFilter, after *int64,
	send func(context.Context, flow.EntryBatch) error) error {
	return w.follow(ctx, scope.Organization(), after, func(e *flow.Entry) bool { return scope.Sees(e.Org, e.Level) && f.Match(e) },
		func(ctx context.Context, entries []flow.Entry, cursor int64) error {
			return send(ctx, flow.EntryBatch{Entries: entries, Cursor: cursor, Heartbeat: len(entries) == 0})
		})
}

// log serves the watchers of all organizations' logs of one kind.
type log[E any] struct {
	name    string
	tail    Tail[E]
	seq     func(*E) int64
	opt     Options
	catchUp chan struct{} // one token per watcher that reads the log itself

	mu      *sync.RWMutex
	readers map[string]*reader[E]
}

func newLog[E any](name string, tail Tail[E], seq func(*E) int64, o Options) log[E] {
	o.defaults()
	return log[E]{name: name, tail: tail, seq: seq, opt: o, catchUp: make(chan struct{}, o.CatchUp), mu: &sync.RWMutex{}, readers: map[string]*reader[E]{}}
}

// Wake says that the organization ("": any) has new entries. The ledger calls it after
// a commit, here or on another node. It never blocks, and costs next to nothing when
// nobody watches.
func (w *log[E]) Wake(org string) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if org != "" {
		if r := w.readers[org]; r != nil {
			r.poke()
		}
		return
	}
	for _, r := range w.readers {
		r.poke()
	}
}

// Watchers returns how many are watching now, for the metrics.
func (w *log[E]) Watchers() int {
	w.mu.RLock()
	defer w.mu.RUnlock()
	n := 0
	for _, r := range w.readers {
		n += r.watchers
	}
	return n
}

// follow is Follow with the watcher's view of an entry as see.
func (w *log[E]) follow(ctx context.Context, org string, after *int64, see func(*E) bool,
	send func(ctx context.Context, entries []E, cursor int64) error) error {
	if org == "" {
		return rule.ErrNoViewer
	}
	r, err := w.join(ctx, org)
	if err != nil {
		return err
	}
	defer w.leave(r)

	pos := r.view.Load().last
	if after != nil {
		pos = *after
		if pos > r.view.Load().last { // the reader may be late; the log is not
			last, err := w.tail.LastSeq(ctx, org)
			if err != nil {
				return fmt.Errorf("watch: read the end of the log: %w", err)
			}
			if pos > last {
				return fmt.Errorf("watch: cursor %d is ahead of the log's end %d: %w", pos, last, flow.ErrExpired)
			}
		}
	}

	beat := w.opt.Clock.NewTimer(w.opt.Heartbeat)
	defer beat.Stop()
	due := true
	for {
		v := r.view.Load()
		entries, next := v.after(pos, w.opt.Batch, w.seq)
		if pos < v.floor {
			if entries, err = w.page(ctx, org, pos); err != nil {
				return err
			}
			switch n := len(entries); {
			case n == w.opt.Batch:
				next = w.seq(&entries[n-1])
			case n > 0: // a short page: there is nothing else up to the view's end
				next = max(v.last, w.seq(&entries[n-1]))
			default:
				next = v.last
			}
		}
		entries = choose(entries, see)
		pos = next
		if len(entries) > 0 || due {
			if err := w.hand(ctx, entries, pos, send); err != nil {
				return err
			}
			due = false
			beat.Reset(w.opt.Heartbeat)
		}
		if pos < r.view.Load().last {
			if err := ctx.Err(); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-v.newer:
		case <-beat.Chan():
			due = true
		}
	}
}

// hand gives the watcher a batch within the limit.
func (w *log[E]) hand(ctx context.Context, entries []E, cursor int64, send func(context.Context, []E, int64) error) error {
	sctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer w.opt.Clock.AfterFunc(w.opt.SendLimit, func() { cancel(flow.ErrSlow) }).Stop()
	err := send(sctx, entries, cursor)
	if err != nil && errors.Is(context.Cause(sctx), flow.ErrSlow) {
		return fmt.Errorf("watch: a batch was not taken within %s: %w", w.opt.SendLimit, flow.ErrSlow)
	}
	return err
}

// page reads for a watcher that is behind the ring. What the log has lost is looked at
// after the read, so that a removal in between cannot pass for a quiet time.
func (w *log[E]) page(ctx context.Context, org string, pos int64) ([]E, error) {
	select {
	case w.catchUp <- struct{}{}:
		defer func() { <-w.catchUp }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	entries, err := w.tail.Tail(ctx, org, pos, w.opt.Batch)
	if err != nil {
		return nil, fmt.Errorf("watch: read the log from %d: %w", pos, err)
	}
	oldest, err := w.tail.OldestSeq(ctx, org)
	if err != nil {
		return nil, fmt.Errorf("watch: read the beginning of the log: %w", err)
	}
	if pos+1 < oldest {
		return nil, fmt.Errorf("watch: cursor %d is older than the log's beginning %d: %w", pos, oldest, flow.ErrExpired)
	}
	return entries, nil
}

// choose returns the entries that see lets through, without a copy when all are.
func choose[E any](entries []E, see func(*E) bool) []E {
	for i := range entries {
		if see(&entries[i]) {
			continue
		}
		chosen := entries[:i:i]
		for j := i + 1; j < len(entries); j++ {
			if see(&entries[j]) {
				chosen = append(chosen, entries[j])
			}
		}
		return chosen
	}
	return entries
}

// join returns the organization's reader, started, with one more watcher.
func (w *log[E]) join(ctx context.Context, org string) (*reader[E], error) {
	w.mu.Lock()
	r := w.readers[org]
	if r == nil {
		// The reader outlives the watcher that started it; leave ends it.
		rctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		r = newReader(org, w, cancel)
		w.readers[org] = r
		go r.run(rctx)
	}
	r.watchers++
	w.mu.Unlock()

	select {
	case <-r.started:
	case <-ctx.Done():
		w.leave(r)
		return nil, ctx.Err()
	}
	if r.failed != nil {
		w.leave(r)
		return nil, r.failed
	}
	return r, nil
}

// leave takes a watcher away, and the reader with the last one. A reader that could
// not start goes with the first, so that the next watcher tries again.
func (w *log[E]) leave(r *reader[E]) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.watchers--
	if r.watchers == 0 {
		r.cancel()
	}
	if (r.watchers == 0 || r.gaveUp()) && w.readers[r.org] == r {
		delete(w.readers, r.org)
	}
}
