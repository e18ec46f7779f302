package dispatch

import "time"

// A lane's window is how many of its deliveries may be in flight. It is judged once per
// round of as many answers as it is wide: it doubles when it was used up and the answers
// were quick, and halves when they were slow or mostly failures. Quick and slow are
// meant against the best that this endpoint has shown, within absolute bounds.
const (
	minWindow   = 4
	firstWindow = 16
	maxWindow   = 256

	surelyQuick = 50 * time.Millisecond
	surelySlow  = 2 * time.Second
)

type window struct {
	size    int
	full    bool // it held up a delivery in this round
	n, bad  int
	sum     time.Duration
	typical time.Duration // the best round, forgotten slowly
}

func newWindow() window { return window{size: firstWindow} }

// shrink makes the window as narrow as it gets, for a gentle start.
func (w *window) shrink() { *w = window{size: minWindow} }

func (w *window) answered(took time.Duration, failed bool) {
	w.n++
	w.sum += took
	if failed {
		w.bad++
	}
	if w.n < w.size {
		return
	}
	average := w.sum / time.Duration(w.n)
	if w.typical == 0 || average < w.typical {
		w.typical = average
	} else {
		w.typical += w.typical / 32
	}
	switch {
	case 2*w.bad > w.n || average > surelySlow || average > max(4*surelyQuick, 4*w.typical):
		w.size = max(minWindow, w.size/2)
	case w.full && average <= max(surelyQuick, 2*w.typical):
		w.size = min(maxWindow, 2*w.size)
	}
	w.full, w.n, w.bad, w.sum = false, 0, 0, 0
}
