package dispatch

import "time"

// A breaker opens only with volume, so that the timetable of a lone failing delivery is
// untouched: at least breakFails failures of the target within a minute, and of all
// answers at least 80 %. Open, it lets one delivery through after firstProbe, then
// after twice as long, up to lastProbe; the first that arrives closes it.
const (
	breakFails = 10
	breakShare = 0.8
	breakSlots = 6
	breakSlot  = 10 * time.Second
	firstProbe = 5 * time.Second
	lastProbe  = time.Minute
)

// breaker belongs to one endpoint. The zero value is closed.
type breaker struct {
	open    bool
	probe   *flight // the delivery that tries, nil: none is under way
	probeAt time.Time
	wait    time.Duration
	slots   [breakSlots]struct {
		slot    int64
		ok, bad int
	}
}

// passes says whether one more delivery may be handed over now.
func (b *breaker) passes(now time.Time) bool {
	return !b.open || b.probe == nil && !now.Before(b.probeAt)
}

// admits says whether a lane that has n deliveries may get another: an open breaker
// wants just one to try with, when its time has come.
func (b *breaker) admits(now time.Time, n int) bool {
	return !b.open || n == 0 && b.passes(now)
}

// answered tells of a delivery that ended: it arrived, it failed by the target's fault,
// or neither. It returns true when the breaker opened or closed.
func (b *breaker) answered(f *flight, arrived, failed bool, now time.Time) bool {
	if b.open {
		if f != b.probe {
			return false // from before it opened
		}
		b.probe = nil
		if arrived {
			*b = breaker{}
			return true
		}
		if failed {
			b.wait = min(2*b.wait, lastProbe)
		}
		b.probeAt = now.Add(b.wait)
		return false
	}
	if !arrived && !failed {
		return false
	}
	n := now.UnixNano() / int64(breakSlot)
	s := &b.slots[n%breakSlots]
	if s.slot != n {
		s.slot, s.ok, s.bad = n, 0, 0
	}
	if arrived {
		s.ok++
		return false
	}
	s.bad++
	var ok, bad int
	for _, s := range b.slots {
		if s.slot > n-breakSlots {
			ok += s.ok
			bad += s.bad
		}
	}
	if bad < breakFails || float64(bad) < breakShare*float64(ok+bad) {
		return false
	}
	*b = breaker{open: true, wait: firstProbe, probeAt: now.Add(firstProbe)}
	return true
}
