package ledger

import (
	"slices"
	"testing"

	"github.com/hookyard/hookyard/server/flow"
)

// TestAdopt brings in what was tried under a lease of the past: an attempt ends its
// delivery once, is in the log once, and never takes a delivery out of other hands for
// an attempt that is over.
func TestAdopt(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		e := b.event(4)
		for i := range e.Deliveries {
			e.Deliveries[i].Endpoint = "end_p"
		}
		b.accept(e)
		old := b.Lease()
		if err := b.Join(t.Context()); err != nil { // as after a restart
			t.Fatal(err)
		}
		held := b.claim(1)[0] // tried again already, as the same attempt
		adopt := func(number int, list ...string) map[string]*flow.Due {
			t.Helper()
			tried := map[string]int{}
			for _, id := range list {
				tried[id] = number
			}
			dues, err := b.Adopt(t.Context(), org, []string{"end_p"}, tried)
			if err != nil {
				t.Fatal(err)
			}
			out := map[string]*flow.Due{}
			for _, d := range dues {
				out[d.ID] = d
			}
			return out
		}
		var rest []string
		for _, d := range e.Deliveries {
			if d.ID != held.ID {
				rest = append(rest, d.ID)
			}
		}
		free, twice, foreign := rest[0], rest[1], rest[2]

		// In nobody's hands: it ends here, and telling it again changes nothing.
		d := adopt(1, free)[free]
		if d == nil || d.Lease != b.Lease() || d.Lease == old || d.Attempts != 0 || d.Event != e.ID || d.Org != org {
			t.Fatalf("adopted %+v", d)
		}
		r := b.result(d, flow.Succeeded)
		b.record(r)
		again := adopt(1, free)[free]
		if again == nil || again.Lease == b.Lease() {
			t.Fatalf("an ended delivery was adopted: %+v", again)
		}
		r.Due = again
		b.record(r)
		if n := b.count("deliveries WHERE id = ? AND state = 'SUCCEEDED'", free); n != 1 || b.count("entries WHERE delivery = ?", free) != 1 {
			t.Errorf("%d deliveries, %d entries", n, b.count("entries WHERE delivery = ?", free))
		}

		// In the hands of somebody who waits for the same attempt: the first result counts.
		d = adopt(1, held.ID)[held.ID]
		b.record(b.result(d, flow.Succeeded))
		b.record(b.result(held, flow.Failed))
		if n := b.count("deliveries WHERE id = ? AND state = 'SUCCEEDED'", held.ID); n != 1 || b.count("deliveries WHERE id = ?", held.ID) != 1 {
			t.Errorf("%d deliveries have succeeded", n)
		}

		// In the hands of somebody who makes the next attempt: what came of the first is late.
		d = b.claimed(twice)
		b.record(b.result(d, flow.Retrying))
		b.clock.Advance(3600e9)
		second := b.claimed(twice)
		if late := adopt(1, twice)[twice]; late == nil || late.Lease == b.Lease() {
			t.Errorf("taken out of other hands: %+v", late)
		} else {
			r := b.result(late, flow.Succeeded)
			r.Number = 1
			b.record(r)
		}
		if b.count("open_deliveries WHERE id = ?", twice) != 1 || b.count("entries WHERE delivery = ?", twice) != 2 {
			t.Error("a late attempt is to be in the log and to change nothing")
		}
		b.record(b.result(second, flow.Succeeded))

		// Other organizations and endpoints: unknown.
		for _, c := range []struct {
			org       string
			endpoints []string
		}{{"org_2", []string{"end_p"}}, {org, []string{"end_1"}}, {org, nil}} {
			if dues, err := b.Adopt(t.Context(), c.org, c.endpoints, map[string]int{foreign: 1}); err != nil || len(dues) > 0 {
				t.Errorf("%s, %v: %v, %v", c.org, c.endpoints, dues, err)
			}
		}
		if b.count("open_deliveries WHERE id = ? AND lease_node = ''", foreign) != 1 {
			t.Error("somebody has the delivery of others")
		}
	})
}

// claimed claims until it has the delivery; the others are released.
func (b *bench) claimed(id string) *flow.Due {
	b.t.Helper()
	dues := b.claim(100)
	i := slices.IndexFunc(dues, func(d *flow.Due) bool { return d.ID == id })
	if i < 0 {
		b.t.Fatalf("%s is not to be claimed", id)
	}
	var others []string
	for _, d := range dues {
		if d.ID != id {
			others = append(others, d.ID)
		}
	}
	if err := b.Release(b.t.Context(), others); err != nil {
		b.t.Fatal(err)
	}
	return dues[i]
}
