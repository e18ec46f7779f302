package plugins

import "sync"

// outbox is what one end has to say, in order: many put, one writer takes all that
// is there. It never blocks those who put; what bounds it is the number of items in
// flight, which the dispatcher's credit per lane keeps.
type outbox[T any] struct {
	mu     sync.Mutex
	queue  []T
	spare  []T
	wake   chan struct{}
	closed bool
}

func newOutbox[T any]() *outbox[T] { return &outbox[T]{wake: make(chan struct{}, 1)} }

func (o *outbox[T]) put(v T) {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return
	}
	o.queue = append(o.queue, v)
	first := len(o.queue) == 1
	o.mu.Unlock()
	if first {
		select {
		case o.wake <- struct{}{}:
		default:
		}
	}
}

// taken returns all that is there, valid until the next call; wake says when to look.
func (o *outbox[T]) taken() []T {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 {
		return nil
	}
	clear(o.spare) // lets go of what was sent
	all := o.queue
	o.queue, o.spare = o.spare[:0], all
	return all
}

// close drops what was not taken.
func (o *outbox[T]) close() {
	o.mu.Lock()
	o.closed, o.queue = true, nil
	o.mu.Unlock()
}
