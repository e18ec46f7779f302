package host

import (
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/plugins"
)

const (
	guilty       = 3           // processes that ended with one delivery in flight, until it alone is to blame
	mostTried    = 16          // suspects that are tried at once
	mostSuspects = 10_000      // that are remembered
	trialTime    = time.Second // after which others need not wait for one that is tried
)

// suspects are the deliveries that were in flight when a process ended, because one of them
// may be what ended it. When they come back they are tried: one, and then twice as many with
// each that is answered, or after a while if none is; those of two crashes one at a time.
// What was never in flight at a crash does not wait for them. So what kills its process is
// soon alone, takes few others along and those only a few times, and it alone is blamed.
//
// All fields belong to the connector's mutex.
type suspects struct {
	strikes map[string]int // processes that ended with it in flight, by delivery
	waiting []held
	barren  int       // processes in a row that ended before they had answered anything
	tried   int       // handed over, not yet answered, and waited for
	width   int       // so many may be
	last    time.Time // when one was handed over
}

// suspect has an item wait for its turn, or answers it. The mutex is held.
func (c *connector) suspect(h held) {
	if len(c.suspects.waiting) >= holdMost {
		go h.done(plugins.Broken(h.delivery.ID, h.at, c.cfg.BackoffMin, "the connector's process has ended, and too much waits to be handed over again"))
		return
	}
	c.suspects.waiting = append(c.suspects.waiting, h)
	c.try()
}

// lost tells of what was in flight when the process ended, and how much it had answered. It
// returns the delivery that is to blame, "" if that cannot be told: if none is answered any
// more, it is the connector.
func (c *connector) lost(deliveries []string, answered int) (culprit string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.suspects
	if c.state == Draining || c.state == Stopped {
		return "" // it was ended
	}
	if s.barren++; answered > 0 {
		s.barren = 0
	}
	if s.strikes == nil || len(s.strikes)+len(deliveries) > mostSuspects {
		s.strikes = map[string]int{}
	}
	most := guilty - 1
	for _, id := range deliveries[:min(len(deliveries), mostSuspects)] {
		s.strikes[id]++
		switch n := s.strikes[id]; {
		case n > most:
			culprit, most = id, n
		case n == most:
			culprit = ""
		}
	}
	if s.barren >= guilty {
		return ""
	}
	return culprit
}

// try hands over those whose turn it is. The mutex is held, but not while it does so.
func (c *connector) try() {
	s := &c.suspects
	for len(s.waiting) > 0 && c.process != nil && c.state == Running {
		h, p := s.waiting[0], c.process
		if s.tried > 0 && (s.tried >= s.width || s.strikes[h.delivery.ID] > 1) {
			return
		}
		if s.strikes[h.delivery.ID] > 1 {
			s.width = 1 // nor does any other go with it
		}
		s.waiting = s.waiting[1:]
		s.tried++
		s.last = c.cfg.Clock.Now()
		c.mu.Unlock()
		taken := p.session.Deliver(h.endpoint, h.delivery, func(r connectors.Result) { c.acquit(p, h.delivery.ID); h.done(r) })
		c.mu.Lock()
		switch {
		case taken:
		case c.process == p || c.process == nil: // it has just ended; run will find out too
			c.hold(h)
			return
		default: // and there is another already
			s.waiting = append([]held{h}, s.waiting...)
		}
	}
}

// acquit takes note that a suspect was answered, unless that is because its process ended.
func (c *connector) acquit(p *process, delivery string) {
	if p.session.Err() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.suspects
	delete(s.strikes, delivery)
	s.tried = max(s.tried-1, 0)
	s.width = min(2*s.width, mostTried)
	c.try()
}

// beat lets the next ones go ahead when those that are tried are not answered: endpoints
// that are slow hold up nobody for long.
func (c *connector) beat() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := &c.suspects; len(s.waiting) > 0 && c.cfg.Clock.Since(s.last) >= trialTime {
		s.tried, s.width = 0, min(2*s.width, mostTried)
		c.try()
	}
}
