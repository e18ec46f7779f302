package ledger

import (
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/flow"
)

// TestWrite follows a delivery whose format, a third party's, writes it down when it is sent.
func TestWrite(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		e := b.event(1)
		const key = "acme/alerts+ZERO"
		e.Renderings, e.Deliveries[0].Rendering, e.Deliveries[0].Lease = nil, key, false
		e.Deliveries = e.Deliveries[:1]
		b.accept(e)
		claim := func() *flow.Due {
			t.Helper()
			got := b.claim(10)
			if len(got) != 1 || got[0].Rendering == nil || got[0].Rendering.Key != key || got[0].Document == nil {
				t.Fatalf("claimed %+v", got)
			}
			return got[0]
		}
		due := claim()
		if !due.Rendering.Open {
			t.Error("nobody has written it, and it is not open")
		}
		write := func(body string) *flow.Rendering {
			t.Helper()
			r, err := b.Write(ctx, org, &flow.Rendering{Event: e.ID, Key: key,
				Rendered: connectors.Rendered{Method: "PUT", TargetSuffix: "/1", Header: []connectors.Header{{Name: "X-A", Value: "b"}}, Body: []byte(body)}})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		for _, body := range []string{"first", "second"} {
			if r := write(body); r == nil || string(r.Body) != "first" || r.Method != "PUT" || r.TargetSuffix != "/1" || len(r.Header) != 1 || r.Open {
				t.Errorf("%s: kept is %+v", body, r)
			}
		}
		if err := b.Release(ctx, []string{due.ID}); err != nil {
			t.Fatal(err)
		}
		if due = claim(); due.Rendering.Open || string(due.Rendering.Body) != "first" {
			t.Errorf("claimed again: %+v", due.Rendering)
		}
		// What was skipped before it was written can be sent again.
		other := b.event(2)
		other.Renderings, other.Deliveries = nil, other.Deliveries[:1]
		other.Deliveries[0].Rendering, other.Deliveries[0].State, other.Deliveries[0].Reason, other.Deliveries[0].Lease = key, flow.SkippedState, "as told", false
		b.accept(other)
		again, err := b.RedeliverMatching(ctx, scope(t, org, viewer.Administrator), flow.DeliveryFilter{States: []flow.DeliveryState{flow.SkippedState}}, 10, false)
		if err != nil || again.Matched != 1 {
			t.Errorf("%+v, %v", again, err)
		}
		// What is erased is not written again.
		if _, err := b.Erase(ctx, scope(t, org, viewer.Administrator), e.ID, flow.Erasure{At: start.Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		if r := write("third"); r != nil || b.count("renderings WHERE event = ?", e.ID) != 0 {
			t.Errorf("written after it was erased: %+v", r)
		}
	})
}
