package auth

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
)

// LimitedError says that there were too many attempts, and when the next may be made.
type LimitedError struct{ After time.Duration }

func (e *LimitedError) Error() string {
	return fmt.Sprintf("auth: too many attempts; the next in %v", e.After)
}

// allowance is how many attempts may be made at once, and then one each interval.
type allowance struct {
	burst int
	every time.Duration
}

// What one may try. An attempt that succeeds is not counted. The first is the strict one;
// the second bounds an attack from many places, at a rate at which nobody guesses a
// password of the policy, and leaves the user a way in meanwhile.
func fromPlaceToAccount() allowance { return allowance{10, time.Minute} }
func toAccount() allowance          { return allowance{100, 10 * time.Second} }
func fromPlace() allowance          { return allowance{50, 2 * time.Second} }
func secondFactor() allowance       { return allowance{5, 5 * time.Minute} } // only whoever knows the password gets as far

// attempts counts attempts in this node's memory. It is safe for concurrent use.
type attempts struct {
	clock clockwork.Clock

	mu   sync.Mutex
	full map[string]time.Time // when all attempts of a key may be made again
}

// most is how many keys are remembered.
const most = 50_000

func newAttempts(c clockwork.Clock) *attempts {
	return &attempts{clock: c, full: map[string]time.Time{}}
}

// counted is one key and what it is allowed.
type counted struct {
	key string
	allowance
}

// count counts an attempt under all keys, or none: then the error is a *LimitedError.
// refund takes the count back.
func (t *attempts) count(all ...counted) (refund func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.clock.Now()
	from := func(key string) time.Time {
		if at := t.full[key]; at.After(now) {
			return at
		}
		return now
	}
	for _, c := range all {
		// One more attempt must leave it at most burst intervals away from full.
		if wait := from(c.key).Sub(now) - time.Duration(c.burst-1)*c.every; wait > 0 {
			return nil, &LimitedError{After: wait}
		}
	}
	if len(t.full)+len(all) > most {
		t.forget(now)
	}
	for _, c := range all {
		t.full[c.key] = from(c.key).Add(c.every)
	}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, c := range all {
			if at, known := t.full[c.key]; known {
				t.full[c.key] = at.Add(-c.every)
			}
		}
	}, nil
}

// forget makes room: what is full again, and if that is not enough, anything.
func (t *attempts) forget(now time.Time) {
	for key, at := range t.full {
		if !at.After(now) {
			delete(t.full, key)
		}
	}
	for key := range t.full {
		if len(t.full) <= most*9/10 {
			return
		}
		delete(t.full, key)
	}
}

// place is what counts as one origin: an address, or the network that one holder of
// IPv6 addresses usually has.
func place(origin string) string {
	a, err := netip.ParseAddr(origin)
	if err != nil || a.Unmap().Is4() {
		return origin
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return origin
	}
	return p.String()
}
