package ledger

import (
	"context"
	"sync"
	"time"

	"github.com/hookyard/hookyard/server/flow"
)

// signal wakes everybody who waits for it.
type signal struct {
	mu sync.Mutex
	ch chan struct{}
}

func (s *signal) init() { s.ch = make(chan struct{}) }

func (s *signal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ch
}

func (s *signal) wake() {
	s.mu.Lock()
	close(s.ch)
	s.ch = make(chan struct{})
	s.mu.Unlock()
}

// Notify returns a channel that is closed when entries have been committed, by this
// node or another. Take it before reading the tail, or one may be missed. It only
// wakes: what there is to know is in the tail.
func (l *Ledger) Notify() <-chan struct{} { return l.tail.wait() }

// wake tells of new entries, here and to the other nodes.
func (l *Ledger) wake() {
	l.tail.wake()
	select {
	case l.told <- struct{}{}:
	default:
	}
}

const (
	channel     = "hookyard_tail"
	notifyPause = 25 * time.Millisecond // between two notifications to other nodes
)

// notify tells other nodes of entries, outside of the commits, at a bounded rate.
func (l *Ledger) notify() {
	for {
		select {
		case <-l.told:
		case <-l.ctx.Done():
			return
		}
		if _, err := l.c.Postgres.Exec(l.ctx, "SELECT pg_notify($1, $2)", channel, l.Lease().Node); err != nil && l.ctx.Err() == nil {
			l.log.Debug("cannot notify other nodes", "err", err)
		}
		select {
		case <-l.clock.After(notifyPause):
		case <-l.ctx.Done():
			return
		}
	}
}

// listen wakes this node's watchers for what other nodes have written. When it cannot,
// watchers still see everything when they look by themselves.
func (l *Ledger) listen() {
	for l.ctx.Err() == nil {
		if err := l.listenOnce(); err != nil && l.ctx.Err() == nil {
			l.log.Debug("cannot listen to other nodes", "err", err)
		}
		select {
		case <-l.clock.After(time.Second):
		case <-l.ctx.Done():
		}
	}
}

func (l *Ledger) listenOnce() error {
	pooled, err := l.c.Postgres.Acquire(l.ctx)
	if err != nil {
		return err
	}
	conn := pooled.Hijack() // it is ours now, so that nobody else gets what it hears
	defer conn.Close(context.WithoutCancel(l.ctx))
	if _, err := conn.Exec(l.ctx, "LISTEN "+channel); err != nil {
		return err
	}
	l.tail.wake() // for whatever was missed
	for {
		n, err := conn.WaitForNotification(l.ctx)
		if err != nil {
			return err
		}
		if n.Payload != l.Lease().Node {
			l.tail.wake()
		}
	}
}

const entryFields = "seq, id, org, delivery, event, webhook, endpoint, level, app, type, number, state, outcome, fault, at, duration, status, error, next_at"

func scanEntry(scan func(...any) error, e *flow.Entry, more ...any) error {
	var at, duration, next int64
	err := scan(append([]any{&e.Seq, &e.ID, &e.Org, &e.Delivery, &e.Event, &e.Webhook, &e.Endpoint, &e.Level, &e.App, &e.Type, &e.Number, &e.State,
		&e.Outcome, &e.Fault, &at, &duration, &e.Status, &e.Error, &next}, more...)...)
	e.At, e.Duration, e.NextAt = instant(at), time.Duration(duration)*time.Microsecond, instant(next)
	return err
}

// Tail returns up to limit entries of an organization after the one numbered after, in
// order; org "" is all organizations. Who has read up to n has missed nothing below n.
// A cursor older than what is kept is flow.ErrExpired.
func (l *Ledger) Tail(ctx context.Context, org string, after int64, limit int) ([]flow.Entry, error) {
	var s selection
	if org != "" {
		s.and("org = ?", org)
	}
	s.and("seq > ?", after)
	s.args = append(s.args, int64(limit))
	var out []flow.Entry
	err := l.read(ctx, "read the tail", "SELECT "+entryFields+" FROM entries WHERE "+s.sql()+" ORDER BY seq LIMIT ?", s.args, func(scan func(...any) error) error {
		out = append(out, flow.Entry{})
		return scanEntry(scan, &out[len(out)-1])
	})
	if err != nil {
		return nil, err
	}
	// Asked afterwards: whatever was removed before the read above is known by now.
	oldest, err := l.OldestSeq(ctx, org)
	if err != nil {
		return nil, err
	}
	if after+1 < oldest {
		return nil, flow.ErrExpired
	}
	return out, nil
}

// LastSeq is the highest number that a reader can have seen, 0 for none.
func (l *Ledger) LastSeq(ctx context.Context, _ string) (int64, error) {
	var n int64
	err := l.read(ctx, "read the end of the tail", "SELECT seq FROM tail", nil, func(scan func(...any) error) error { return scan(&n) })
	return n, err
}

// OldestSeq is where the kept log of an organization begins: each of its entries with
// this number or a higher one is there. For org "" that holds of all organizations.
func (l *Ledger) OldestSeq(ctx context.Context, org string) (int64, error) {
	var s selection
	s.and("kind = ?", markEntries)
	if org != "" {
		s.and("org = ?", org)
	}
	var n int64
	err := l.read(ctx, "read the beginning of the tail", "SELECT coalesce(max(n), 0) FROM marks WHERE "+s.sql(), s.args, func(scan func(...any) error) error { return scan(&n) })
	return n + 1, err
}
