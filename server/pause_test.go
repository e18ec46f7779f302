package server_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/hookyard/hookyard/server/servertest/program"
)

// hook does something to a webhook: pause, resume, disable, enable.
func hook(t *testing.T, h *program.Hub, verb, id string) {
	t.Helper()
	query := fmt.Sprintf(`mutation ($id: ID!) { %sWebhook(input: {id: $id}) { webhook { id } } }`, verb)
	if err := h.Do(t.Context(), query, program.Input{"id": id}, nil); err != nil {
		t.Fatalf("%s: %v", verb, err)
	}
}

type delivery struct {
	ID, State, Reason, RedeliversID string
}

// deliveries returns those that fit a filter, newest first.
func deliveries(t *testing.T, h *program.Hub, filter program.Input) (out []delivery) {
	t.Helper()
	var got struct {
		Deliveries struct {
			Edges []struct{ Node delivery }
		}
	}
	if err := h.Do(t.Context(), `query ($f: DeliveryFilter) { deliveries(first: 200, filter: $f) { edges { node { id state reason redeliversId } } } }`,
		program.Input{"f": filter}, &got); err != nil {
		t.Fatal(err)
	}
	for _, e := range got.Deliveries.Edges {
		out = append(out, e.Node)
	}
	return out
}

type bulk struct {
	R struct {
		Matched     int
		Capped      bool
		DeliveryIDs []string `json:"deliveryIds"`
	}
}

func redeliver(t *testing.T, h *program.Hub, filter program.Input, dry bool) (b bulk) {
	t.Helper()
	if err := h.Do(t.Context(), `mutation ($in: RedeliverDeliveriesInput!) { r: redeliverDeliveries(input: $in) { matched capped deliveryIds } }`,
		program.Input{"in": program.Input{"filter": filter, "dryRun": dry}}, &b); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPauseAndDisable pauses, resumes and disables webhooks with events coming in, and
// redelivers what was skipped, one and many.
func TestPauseAndDisable(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := newSink(t)
		h := start(t, url, "--allow-private-targets")
		address, hooks := world(t, h, s, "held", "off", "free")
		post := func(from, to int) (events []int) {
			t.Helper()
			for n := from; n <= to; n++ {
				if err := send(h.HTTP, address, n); err != nil {
					t.Fatal(err)
				}
				events = append(events, n)
			}
			return events
		}
		hook(t, h, "pause", hooks[0])
		hook(t, h, "disable", hooks[1])
		first := post(1, 20)
		s.await(t, "free", first, 10*time.Second)
		if n := len(s.missing("held", first)); n != 20 {
			t.Errorf("%d of 20 went to a paused webhook", 20-n)
		}
		if n := len(s.missing("off", first)); n != 20 {
			t.Errorf("%d of 20 went to a disabled webhook", 20-n)
		}
		if list := deliveries(t, h, program.Input{"webhookIds": hooks[:1], "states": []string{"PENDING"}}); len(list) != 20 {
			t.Errorf("%d of 20 are pending at the paused webhook", len(list))
		}
		skipped := program.Input{"webhookIds": hooks[1:2], "states": []string{"SKIPPED"}}
		list := deliveries(t, h, skipped)
		if len(list) != 20 {
			t.Fatalf("%d of 20 are skipped at the disabled webhook", len(list))
		}
		for _, d := range list {
			if d.Reason == "" {
				t.Errorf("delivery %s was skipped without a reason", d.ID)
			}
		}
		hook(t, h, "resume", hooks[0])
		s.await(t, "held", first, 10*time.Second)

		// A disabled webhook gets nothing by redelivery either.
		hook(t, h, "enable", hooks[1])
		if n := len(s.missing("off", first)); n != 20 {
			t.Errorf("%d of 20 went out because the webhook was enabled", 20-n)
		}
		if b := redeliver(t, h, skipped, true); b.R.Matched != 20 || b.R.Capped || len(b.R.DeliveryIDs) != 0 {
			t.Errorf("dry run: %+v", b.R)
		}
		if n := len(s.missing("off", first)); n != 20 {
			t.Errorf("the dry run sent %d", 20-n)
		}
		var one struct{ R struct{ Delivery delivery } }
		if err := h.Do(t.Context(), `mutation ($id: ID!) { r: redeliver(input: {deliveryId: $id}) { delivery { id state redeliversId } } }`,
			program.Input{"id": list[0].ID}, &one); err != nil || one.R.Delivery.RedeliversID != list[0].ID {
			t.Fatalf("redeliver: %+v, %v", one.R, err)
		}
		until(t, 10*time.Second, "one is redelivered", func() bool { return len(s.missing("off", first)) == 19 })
		b := redeliver(t, h, skipped, false)
		if b.R.Matched != 20 || len(b.R.DeliveryIDs) != 20 {
			t.Errorf("redeliver many: %+v", b.R)
		}
		s.await(t, "off", first, 10*time.Second)
		if list := deliveries(t, h, skipped); len(list) != 20 {
			t.Errorf("%d of 20 skipped deliveries are still on record", len(list))
		}
		second := post(21, 40)
		for _, e := range []string{"held", "off", "free"} {
			s.await(t, e, second, 10*time.Second)
		}
		for _, e := range []string{"held", "free"} {
			if n := len(s.twice(e)); n > 0 {
				t.Errorf("%d came twice to %s", n, e)
			}
		}
	})
}

// TestPauseUnderLoad pauses and resumes again and again while events come in: each
// arrives once.
func TestPauseUnderLoad(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := newSink(t)
		h := start(t, url, "--allow-private-targets")
		address, hooks := world(t, h, s, "a")
		l := startLoad(300, 8, address)
		for i := range 10 {
			l.until(t, 60*(i+1))
			hook(t, h, []string{"pause", "resume"}[i%2], hooks[0])
		}
		accepted := l.end()
		s.await(t, "a", accepted, 20*time.Second)
		if n := len(s.twice("a")); n > 0 {
			t.Errorf("%d came twice", n)
		}
	})
}
