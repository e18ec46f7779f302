package ledger

import (
	"strings"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/flow"
)

func TestGiven(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		r := b.receipt()
		var events []flow.NewEvent
		for _, app := range []string{"", "app_1"} {
			e := b.event(0)
			e.Receipt, e.App, e.Group, e.Subject, e.Type = r.ID, app, "grp_1", "fnd_1", connectors.FindingDiscovered
			events = append(events, e)
		}
		if _, err := b.Accept(t.Context(), r, events); err != nil {
			t.Fatal(err)
		}
		b.accept(b.event(0)) // of another receipt
		b.clock.Advance(20 * 24 * time.Hour)
		later := events[1]
		later.ID, later.App = b.ids.New(ids.Event), "app_2"
		if _, err := b.Accept(t.Context(), nil, []flow.NewEvent{later}); err != nil {
			t.Fatal(err)
		}
		given, err := b.Given(t.Context(), r)
		if err != nil || len(given) != 3 {
			t.Fatalf("%+v, %v", given, err)
		}
		for i, e := range append(events, later) {
			if want := (flow.Given{ID: e.ID, Type: e.Type, Time: e.Time, Subject: e.Subject, Group: e.Group, App: e.App}); given[i] != want {
				t.Errorf("event %d: %+v, want %+v", i, given[i], want)
			}
		}
		other := *r
		other.Org = "org_2"
		if given, err := b.Given(t.Context(), &other); err != nil || len(given) > 0 {
			t.Errorf("to another organization: %+v, %v", given, err)
		}
	})
}

// TestKeysOfAnOldReceipt has an event come of a receipt that waited: its key is as young as
// the event.
func TestKeysOfAnOldReceipt(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		e := b.event(0)
		e.Key = "a"
		b.clock.Advance(8 * 24 * time.Hour)
		b.accept(e)
		for _, want := range []int{1, 0} {
			if _, err := b.Retain(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if n := b.count("keys"); n != want {
				t.Errorf("%d keys, want %d", n, want)
			}
			b.clock.Advance(8 * 24 * time.Hour)
		}
	})
}

// TestEventsOfReceiptsGoByReceipt asks SQLite how it would find them among all events.
func TestEventsOfReceiptsGoByReceipt(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		if b.pg {
			t.Skip("PostgreSQL goes by its statistics")
		}
		for _, s := range []rule.Scope{scope(t, org, viewer.Administrator), scope(t, org, viewer.Tester, "grp_1", "grp_2")} {
			page, args, err := eventsOf(s, []string{"rct_1", "rct_2"})
			if err != nil {
				t.Fatal(err)
			}
			for query, args := range map[string][]any{page: args, givenBy: {"rct_1", org, "evt_"}} {
				plan := ""
				if err := b.read(t.Context(), "explain", "EXPLAIN QUERY PLAN "+query, args, func(scan func(...any) error) error {
					var step string
					err := scan(new(int), new(int), new(int), &step)
					plan += step + "; "
					return err
				}); err != nil || !strings.Contains(plan, "events_receipt") {
					t.Errorf("%s: %s %v", query, plan, err)
				}
			}
		}
	})
}
