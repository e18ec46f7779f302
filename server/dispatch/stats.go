package dispatch

import (
	"cmp"
	"slices"
	"time"

	"github.com/hookyard/hookyard/server/flow"
)

// Counters count since the start. Attempts counts every record with an attempt; the
// others count states that deliveries entered.
type Counters struct {
	Attempts, Delivered, Failed, Retried, Skipped, Cancelled uint64
}

func (c *Counters) add(r *flow.Record) {
	if r.Number > 0 {
		c.Attempts++
	}
	switch r.State {
	case flow.Succeeded:
		c.Delivered++
	case flow.Failed:
		c.Failed++
	case flow.Retrying:
		c.Retried++
	case flow.SkippedState:
		c.Skipped++
	case flow.Cancelled:
		c.Cancelled++
	}
}

// Stats is how things stand.
type Stats struct {
	Counters
	Queued, InFlight, Unrecorded int
	Bytes                        int64 // of deliveries in memory
	Held                         bool
	Down                         bool            // the ledger does not answer
	Stray                        time.Time       // since when a delivery is due whose lease nobody has in hand; zero: there is none
	Lanes                        []LaneStats     // by webhook
	Endpoints                    []EndpointStats // by endpoint
}

// LaneStats is one webhook's lane.
type LaneStats struct {
	Org, Webhook             string
	Queued, InFlight, Window int
	Backlog                  bool // deliveries that are due wait in the ledger
}

// EndpointStats is one endpoint's breaker: closed, open, or (half-open) trying one.
type EndpointStats struct {
	Endpoint string
	Open     bool
	Probing  bool
}

// Stats returns how things stand. It takes time with the number of lanes.
func (d *Dispatcher) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := Stats{Counters: d.count, InFlight: len(d.flights), Unrecorded: d.unsaved, Bytes: d.bytes, Held: d.held, Down: d.down}
	for _, lost := range d.stray {
		if s.Stray.IsZero() || lost.due.Before(s.Stray) {
			s.Stray = lost.due
		}
	}
	for _, l := range d.lanes {
		s.Queued += len(l.queue)
		s.Lanes = append(s.Lanes, LaneStats{Org: l.org, Webhook: l.webhook, Queued: len(l.queue), InFlight: l.inflight, Window: l.width(), Backlog: l.backlog})
	}
	for _, e := range d.endpoints {
		s.Endpoints = append(s.Endpoints, EndpointStats{Endpoint: e.id, Open: e.breaker.open, Probing: e.breaker.probe != nil})
	}
	slices.SortFunc(s.Lanes, func(a, b LaneStats) int { return cmp.Compare(a.Webhook, b.Webhook) })
	slices.SortFunc(s.Endpoints, func(a, b EndpointStats) int { return cmp.Compare(a.Endpoint, b.Endpoint) })
	return s
}
