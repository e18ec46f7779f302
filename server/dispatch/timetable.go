package dispatch

import "time"

// defaultRetries are the offsets of a webhook that names none.
func defaultRetries() []time.Duration {
	return []time.Duration{time.Minute, 5 * time.Minute, 30 * time.Minute, 120 * time.Minute}
}

// farthest is how long a Retry-After can delay.
const farthest = 24 * time.Hour

// asked is a Retry-After that somebody may ask for.
func asked(after time.Duration) time.Duration { return min(max(after, 0), farthest) }

// next is when a delivery is tried again whose attempt, begun at started, was seen to
// fail at now; false when the timetable is used up. Offsets count from the first
// failure. An attempt stands for every slot that was due when it began, so an overdue
// delivery runs once and no slot is used twice; a slot that passed while the attempt
// lasted is due at once. after, which the target asked for, delays and never hastens.
func next(retries []time.Duration, first, started, now time.Time, after time.Duration) (time.Time, bool) {
	for _, offset := range retries {
		at := first.Add(offset)
		if !at.After(started) {
			continue
		}
		if soonest := milli(now.Add(asked(after))); at.Before(soonest) {
			at = soonest
		}
		return at, true
	}
	return time.Time{}, false
}

// milli rounds up to the millisecond, which every ledger keeps: a time that came back
// rounded down would look as if its slot were still to come.
func milli(t time.Time) time.Time {
	if r := t.Truncate(time.Millisecond); r.Before(t) {
		return r.Add(time.Millisecond)
	}
	return t
}

// pause is the n-th pause of a back-off that doubles.
func pause(first, most time.Duration, n int) time.Duration {
	for ; n > 0 && first < most; n-- {
		first *= 2
	}
	return min(first, most)
}
