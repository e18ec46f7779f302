package auth

import (
	"fmt"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
)

func TestThrottle(t *testing.T) {
	clock := clockwork.NewFakeClock()
	th := NewThrottle(2, clock) // 10 at once
	take := func(caller string) (n int, wait time.Duration) {
		for {
			w, ok := th.Take(caller)
			if !ok {
				return n, w
			}
			n++
		}
	}
	if n, wait := take("usr_a"); n != 10 || wait <= 0 || wait > time.Second/2 {
		t.Errorf("%d at once, then wait %v", n, wait)
	}
	if n, _ := take("usr_b"); n != 10 {
		t.Errorf("another caller: %d", n)
	}
	clock.Advance(time.Second)
	if n, _ := take("usr_a"); n != 2 {
		t.Errorf("a second later: %d", n)
	}
	if n, _ := take("2001:db8::1"); n != 10 {
		t.Errorf("a network: %d", n)
	}
	if n, _ := take("2001:db8::ffff"); n != 0 {
		t.Errorf("another address of the same network: %d", n)
	}
	if n, _ := take("192.0.2.1"); n != 10 {
		t.Errorf("an address: %d", n)
	}
	for i := range 3 * throttled {
		th.Take(fmt.Sprint("caller ", i))
	}
	if n := len(th.callers); n != throttled || th.recent.Len() != n {
		t.Errorf("remembers %d callers", n)
	}
	open := NewThrottle(0, clock)
	for range 1000 {
		if _, ok := open.Take("usr_a"); !ok {
			t.Fatal("no limit, and yet one")
		}
	}
}
