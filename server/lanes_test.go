package server_test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookyard/hookyard/server/servertest/program"
)

// TestHangingLanes hangs twenty endpoints on one connector and compares how fast another
// is served with how fast it was without them.
func TestHangingLanes(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		ctx := t.Context()
		s := newSink(t)
		var hanging atomic.Int64
		s.hang = func(endpoint string) bool {
			if endpoint == "healthy" {
				return false
			}
			hanging.Add(1)
			return true
		}
		h := start(t, url, "--allow-private-targets", "--shutdown-timeout", "1s")
		lane := func(source, name string) {
			t.Helper()
			endpoint, err := h.CreateEndpoint(ctx, program.Input{"name": name, "connector": "webhook", "url": s.url + "/" + name})
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := h.CreateWebhook(ctx, program.Input{"name": name, "endpointId": endpoint, "global": true, "format": "hookyard",
				"sourceIds": []string{source}, "timeoutSeconds": 60}); err != nil {
				t.Fatal(err)
			}
		}
		good, toHealthy, err := h.CreateSource(ctx, program.Input{"name": "good", "kind": "cloudevents"})
		if err != nil {
			t.Fatal(err)
		}
		bad, toHanging, err := h.CreateSource(ctx, program.Input{"name": "bad", "kind": "cloudevents"})
		if err != nil {
			t.Fatal(err)
		}
		lane(good, "healthy")

		n := 0
		// measure returns the 99th of a hundred times from before the request to the arrival.
		measure := func() time.Duration {
			t.Helper()
			sent := map[int]time.Time{}
			var events []int
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for range 300 {
				<-tick.C
				n++
				sent[n] = time.Now()
				events = append(events, n)
				if err := send(h.HTTP, toHealthy, n); err != nil {
					t.Fatal(err)
				}
			}
			s.await(t, "healthy", events, 30*time.Second)
			s.mu.Lock()
			defer s.mu.Unlock()
			var took []time.Duration
			for _, n := range events {
				took = append(took, s.got["healthy"][n][0].Sub(sent[n]))
			}
			slices.Sort(took)
			return took[len(took)*99/100]
		}
		alone := min(measure(), measure())

		for i := range 20 {
			lane(bad, fmt.Sprintf("hangs-%d", i))
		}
		for i := 1; i <= 40; i++ {
			if err := send(h.HTTP, toHanging, i); err != nil {
				t.Fatal(err)
			}
		}
		until(t, 10*time.Second, "every lane is full", func() bool { return hanging.Load() >= 20*16 })
		limit := max(alone*3/2, alone+5*time.Millisecond)
		var beside time.Duration
		for range 3 { // the machine has other work, too: a lane that waits for another does so each time
			if beside = measure(); beside <= limit {
				break
			}
		}
		t.Logf("p99 %v alone, %v beside twenty hanging lanes", alone, beside)
		if beside > limit {
			t.Errorf("p99 is %v beside twenty hanging lanes, and %v alone", beside, alone)
		}
	})
}
