package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hookyard/hookyard/server/servertest/program"
)

// TestErasedIsNotSent erases the payload of an event whose delivery is in memory, in a lane
// that is held up; on PostgreSQL another node does it.
func TestErasedIsNotSent(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := newSink(t)
		gate := make(chan struct{})
		s.answer = func(string, int) int { <-gate; return http.StatusOK }
		dir := t.TempDir()
		h := startIn(t, dir, url, "--allow-private-targets")
		eraser := h
		if url != "" {
			eraser = second(t, h, dir, url)
		}
		address, _ := world(t, h, s, "a")
		var others []int
		const erased = 40
		for n := 1; n <= erased; n++ {
			if err := send(h.HTTP, address, n); err != nil {
				t.Fatal(err)
			}
			if n < erased {
				others = append(others, n)
			}
		}
		until(t, 10*time.Second, "the lane is full", func() bool {
			return metric(t, h, "hookyard_deliveries_in_flight") > 0 && metric(t, h, "hookyard_deliveries_queued")+metric(t, h, "hookyard_deliveries_in_flight") == erased
		})
		var newest struct {
			Events struct {
				Edges []struct{ Node struct{ ID string } }
			}
		}
		if err := h.Do(t.Context(), `{ events(first: 1) { edges { node { id } } } }`, nil, &newest); err != nil {
			t.Fatal(err)
		}
		var done struct{ EraseEventPayload struct{ Cancelled int } }
		if err := eraser.Do(t.Context(), `mutation ($id: ID!) { eraseEventPayload(input: {eventId: $id, reason: "a test"}) { cancelled } }`,
			program.Input{"id": newest.Events.Edges[0].Node.ID}, &done); err != nil || done.EraseEventPayload.Cancelled != 1 {
			t.Fatalf("erased %+v, %v", done, err)
		}
		if eraser != h {
			// Who knows what was made after it knows of it.
			_, later, err := eraser.CreateSource(t.Context(), program.Input{"name": "later", "kind": "cloudevents"})
			if err != nil {
				t.Fatal(err)
			}
			later = strings.Replace(later, eraser.URL, h.URL, 1)
			until(t, 5*time.Second, "the other node learns of it", func() bool { return send(h.HTTP, later, erased+1) == nil })
			others = append(others, erased+1)
		}
		close(gate)
		s.await(t, "a", others, 20*time.Second)
		if len(s.missing("a", []int{erased})) == 0 {
			t.Error("what was erased was sent")
		}
	})
}
