package auth

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
	"golang.org/x/time/rate"
)

// throttled is how many callers a Throttle remembers. One that it has forgotten has a
// full bucket, and only one that has not called for longest is forgotten.
const throttled = 10_000

// Throttle is a bucket of tokens for each of many callers, in bounded memory. It is
// safe for concurrent use.
type Throttle struct {
	limit rate.Limit
	burst int
	clock clockwork.Clock

	mu      sync.Mutex
	callers map[string]*list.Element
	recent  *list.List // of *bucket, the latest caller first
}

type bucket struct {
	caller string
	tokens *rate.Limiter
}

// NewThrottle lets each caller do perSecond things a second, and what it has not done in
// the last few seconds besides; 0 lets everybody do everything.
func NewThrottle(perSecond float64, clock clockwork.Clock) *Throttle {
	const saved = 5 // seconds
	t := &Throttle{limit: rate.Limit(perSecond), burst: max(int(perSecond*saved), 1), clock: clock, callers: map[string]*list.Element{}, recent: list.New()}
	if perSecond <= 0 {
		t.limit = rate.Inf
	}
	return t
}

// Take lets a caller do one thing more. If it may not, it may after wait. A caller is an
// ID, or an address; the addresses of one IPv6 network (/64) are one caller.
func (t *Throttle) Take(caller string) (wait time.Duration, ok bool) {
	if t.limit == rate.Inf {
		return 0, true
	}
	if a, err := netip.ParseAddr(caller); err == nil && a.Is6() && !a.Is4In6() {
		network, _ := a.WithZone("").Prefix(64)
		caller = network.String()
	}
	now := t.clock.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.callers[caller]
	if e == nil {
		if t.recent.Len() >= throttled {
			oldest := t.recent.Remove(t.recent.Back()).(*bucket)
			delete(t.callers, oldest.caller)
		}
		e = t.recent.PushFront(&bucket{caller, rate.NewLimiter(t.limit, t.burst)})
		t.callers[caller] = e
	} else {
		t.recent.MoveToFront(e)
	}
	tokens := e.Value.(*bucket).tokens
	if tokens.AllowN(now, 1) {
		return 0, true
	}
	missing := 1 - tokens.TokensAt(now)
	return time.Duration(missing / float64(t.limit) * float64(time.Second)), false
}
