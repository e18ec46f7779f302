package ledger

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hookyard/hookyard/server/flow"
)

// job is one call of Accept or Record on its way to the database.
type job struct {
	ctx      context.Context
	receipt  *flow.Receipt
	events   []flow.NewEvent
	accepted []flow.Accepted

	records []flow.Record

	bytes int
	taken bool // by a writer; under the queue's mutex
	doubt bool // an earlier try may have been committed
	err   error
	done  chan struct{}
}

func (j *job) isRecord() bool { return j.records != nil }

// queue is where calls wait while the previous group is committed.
type queue struct {
	mu                    sync.Mutex
	wake                  sync.Cond
	accepts, records      []*job
	bytes                 int
	busy                  int // jobs in the hands of writers
	maxCalls, maxBytes    int
	maxGroup              int
	closed, aborted, idle bool
}

func (q *queue) init(calls, bytes, group int) {
	q.wake.L = &q.mu
	q.maxCalls, q.maxBytes, q.maxGroup = calls, bytes, group
}

func (q *queue) put(j *job) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	if j.isRecord() {
		q.records = append(q.records, j)
	} else {
		// A single call that is larger than the limit is let through when nothing waits.
		if len(q.accepts) >= q.maxCalls || q.bytes > 0 && q.bytes+j.bytes > q.maxBytes {
			return flow.ErrBusy
		}
		q.accepts = append(q.accepts, j)
		q.bytes += j.bytes
	}
	q.wake.Signal()
	return nil
}

// maxGroupBytes bounds a transaction.
const maxGroupBytes = 8 << 20

// take waits for work and returns a group of it; nil at the end.
func (q *queue) take(into []*job) []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.accepts)+len(q.records) == 0 && !q.closed || q.idle && !q.aborted {
		q.wake.Wait()
	}
	if q.aborted || len(q.accepts)+len(q.records) == 0 {
		return nil
	}
	n := min(len(q.records), q.maxGroup)
	into = append(into[:0], q.records[:n]...)
	q.records = shift(q.records, n)
	n = 0
	for bytes := 0; n < len(q.accepts) && n < q.maxGroup && bytes < maxGroupBytes; n++ {
		bytes += q.accepts[n].bytes
		q.bytes -= q.accepts[n].bytes
	}
	into = append(into, q.accepts[:n]...)
	q.accepts = shift(q.accepts, n)
	for _, j := range into {
		j.taken = true
	}
	q.busy += len(into)
	return into
}

func shift(s []*job, n int) []*job {
	rest := copy(s, s[n:])
	clear(s[rest:])
	return s[:rest]
}

// finish answers a job.
func (q *queue) finish(j *job, err error) {
	j.err = err
	close(j.done)
	q.mu.Lock()
	q.busy--
	if q.closed {
		q.wake.Broadcast()
	}
	q.mu.Unlock()
}

// back puts records in front of the queue again, but for those whose caller has gone.
func (q *queue) back(js []*job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.busy -= len(js)
	var kept []*job
	for _, j := range js {
		j.taken = false
		if j.err = j.ctx.Err(); j.err != nil {
			close(j.done)
		} else {
			kept = append(kept, j)
		}
	}
	q.records = append(kept, q.records...)
	if q.aborted {
		q.failAll()
	}
	q.wake.Broadcast()
}

// pause holds all writers, for the time that the database is away.
func (q *queue) pause(on bool) {
	q.mu.Lock()
	q.idle = on
	q.wake.Broadcast()
	q.mu.Unlock()
}

// drop takes a job out that no writer has taken yet.
func (q *queue) drop(j *job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if j.taken {
		return false
	}
	list := &q.accepts
	if j.isRecord() {
		list = &q.records
	}
	for i, other := range *list {
		if other == j {
			*list = append((*list)[:i], (*list)[i+1:]...)
			if !j.isRecord() {
				q.bytes -= j.bytes
			}
			q.wake.Broadcast()
			return true
		}
	}
	return false
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.wake.Broadcast()
	q.mu.Unlock()
}

// drained waits until nothing waits and nothing is in a writer's hands.
func (q *queue) drained() {
	q.mu.Lock()
	for len(q.accepts)+len(q.records)+q.busy > 0 {
		q.wake.Wait()
	}
	q.mu.Unlock()
}

func (q *queue) abort() {
	q.mu.Lock()
	q.aborted = true
	q.failAll()
	q.wake.Broadcast()
	q.mu.Unlock()
}

func (q *queue) failAll() {
	for _, j := range append(q.accepts, q.records...) {
		j.err = ErrClosed
		close(j.done)
	}
	q.accepts, q.records, q.bytes = nil, nil, 0
}

func (q *queue) stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Stats{Calls: len(q.accepts), Bytes: q.bytes, Records: len(q.records)}
}

// submit waits for the job's end. A job that waits is given up with ctx; one that is
// being written is not, so that its caller always knows what became of it.
func (l *Ledger) submit(ctx context.Context, j *job) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j.ctx, j.done = ctx, make(chan struct{})
	if err := l.queue.put(j); err != nil {
		return err
	}
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
	}
	if l.queue.drop(j) {
		return ctx.Err()
	}
	<-j.done // in a writer's hands: it ends soon
	return j.err
}

func (l *Ledger) writer() {
	var group []*job
	for {
		group = l.queue.take(group)
		if group == nil {
			return
		}
		if back := l.commit(group); len(back) > 0 {
			l.queue.pause(true)
			l.queue.back(back)
			select {
			case <-l.clock.After(retryPause):
			case <-l.ctx.Done():
			}
			l.queue.pause(false)
		}
	}
}

const (
	retryPause   = 250 * time.Millisecond // between tries while the database is away
	groupTimeout = 30 * time.Second       // for one transaction of the group commit
)

// commit writes the group and answers its jobs. It returns those that must be tried
// again when the database is back.
func (l *Ledger) commit(group []*job) (back []*job) {
	err := l.tryGroup(group)
	if err == nil {
		for _, j := range group {
			l.queue.finish(j, nil)
		}
		return nil
	}
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{cause: invalid, err: err}
	}
	switch {
	case f.cause == lost:
		l.health.lost(l.clock.Now())
		l.log.Warn("the database cannot commit", "err", f.err)
		for _, j := range group {
			if j.isRecord() && l.ctx.Err() == nil {
				j.doubt = j.doubt || f.doubt
				back = append(back, j)
			} else {
				l.queue.finish(j, f.public("commit"))
			}
		}
		return back
	case len(group) == 1:
		l.queue.finish(group[0], f.public("commit"))
		return nil
	}
	half := len(group) / 2
	back = l.commit(group[:half:half])
	return append(back, l.commit(group[half:])...)
}

// tryGroup is one transaction, tried again while it only loses against others.
func (l *Ledger) tryGroup(group []*job) error {
	for try := 1; ; try++ {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), groupTimeout)
		g := newWriting(l, group)
		start := l.clock.Now()
		err := l.db.write(ctx, func(t tx) error { return g.write(ctx, t) })
		cancel()
		var f *failure
		switch {
		case err == nil:
			if g.entries.n > 0 {
				l.wake()
			}
			if l.c.OnCommit != nil {
				l.c.OnCommit(Commit{Calls: len(group), Events: g.events.n, Records: g.recorded, Took: l.clock.Since(start)})
			}
			return nil
		case errors.Is(err, errFenced) && try < maxTries:
			if err := l.Join(l.ctx); err != nil {
				return err
			}
		case !errors.As(err, &f) || f.cause != again || try == maxTries:
			return err
		}
	}
}
