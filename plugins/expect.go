package plugins

import "sync"

// expect is the answers that somebody waits for, by number.
type expect[T any] struct {
	mu   sync.Mutex
	last uint64
	open map[uint64]chan T
}

// add returns a new number and where its answer will be.
func (e *expect[T]) add() (number uint64, answer <-chan T) {
	e.mu.Lock()
	e.last++
	number = e.last
	e.mu.Unlock()
	return number, e.wait(number)
}

// wait is add with a number that is known already.
func (e *expect[T]) wait(number uint64) <-chan T {
	c := make(chan T, 1)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open == nil {
		e.open = map[uint64]chan T{}
	}
	e.open[number] = c
	return c
}

// drop says that nobody waits any more.
func (e *expect[T]) drop(number uint64) {
	e.mu.Lock()
	delete(e.open, number)
	e.mu.Unlock()
}

// put hands an answer over, if somebody waits for it.
func (e *expect[T]) put(number uint64, v T) {
	e.mu.Lock()
	c := e.open[number]
	delete(e.open, number)
	e.mu.Unlock()
	if c != nil {
		c <- v
	}
}
