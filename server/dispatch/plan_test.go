package dispatch

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/server/flow"
)

// secure is a format that demands https.
type secure struct{ signed }

func (secure) HTTPSOnly() {}

// A webhook that was verified while plain HTTP was allowed sends nothing once it is not.
func TestPlainHTTPIsNoLongerAllowed(t *testing.T) {
	b := start(t, always(arrived), func(w *flow.World) { w.Endpoints["e0"].URL = "http://example.com/in" })
	for _, allowed := range []bool{false, true} { // as the operator starts the hub
		b.stop()
		b.run()
		b.cfg.Formats, b.cfg.PlainHTTP = func(*flow.World, string) connectors.Format { return secure{} }, allowed
		id := b.accept("h0")
		if allowed {
			b.next()
		}
		b.until("the delivery has ended", func() bool { return len(b.ledger.of(id)) > 0 })
		r := b.ledger.of(id)[0]
		if want := map[bool]flow.DeliveryState{false: flow.SkippedState, true: flow.Succeeded}[allowed]; r.State != want || !allowed && !strings.Contains(r.Reason, "--allow-plain-http") {
			t.Errorf("allowed %v: recorded %+v", allowed, r)
		}
	}
	if len(b.sender.calls) > 0 {
		t.Error("it was sent all the same")
	}
}

// Both secrets sign for the chosen time; where there is room for one signature, the old
// one does; afterwards the new one, whatever the row still holds.
func TestSigningKeysOverlap(t *testing.T) {
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	one, two := [][]byte{[]byte("new")}, [][]byte{[]byte("new"), []byte("old")}
	for _, c := range []struct {
		plan plan
		want string
	}{
		{plan{}, "[]"},
		{plan{keys: one}, "[new]"},
		{plan{keys: one, once: true}, "[new]"},
		{plan{keys: two}, "[new old]"},
		{plan{keys: two, once: true}, "[new]"},
		{plan{keys: two, old: now.Add(time.Second)}, "[new old]"},
		{plan{keys: two, old: now.Add(time.Second), once: true}, "[old]"},
		{plan{keys: two, old: now}, "[new]"},
		{plan{keys: two, old: now, once: true}, "[new]"},
	} {
		if got := fmt.Sprintf("%s", c.plan.signing(now)); got != c.want {
			t.Errorf("%s until %v, once %v: %s, want %s", c.plan.keys, c.plan.old, c.plan.once, got, c.want)
		}
	}
}
