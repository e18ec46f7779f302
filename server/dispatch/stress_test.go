package dispatch

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/server/flow"
)

// Whatever happens to endpoints, connectors, webhooks and the database: every delivery
// ends, its attempts are numbered without a gap, it is never in two places at once, and
// nothing is sent more often than the timetable has slots.
func TestEverythingEndsOnce(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			rng, theirs := rand.New(rand.NewPCG(seed, 7)), rand.New(rand.NewPCG(seed, 8))
			var mu sync.Mutex
			flying, calm := map[string]bool{}, false
			var late []func()
			b := start(t, nil, func(w *flow.World) {
				for i := 1; i < 5; i++ {
					addWebhook(w, fmt.Sprint("h", i), fmt.Sprint("e", i/2))
				}
				w.Endpoints["e2"].Rate, w.Endpoints["e2"].Burst = 50, 5
			})
			b.sender.answer = func(h handed) *connectors.Result {
				mu.Lock()
				defer mu.Unlock()
				if flying[h.delivery.ID] {
					t.Errorf("%s is in flight twice", h.delivery.ID)
				}
				flying[h.delivery.ID] = true
				r := arrived
				switch n := theirs.IntN(20); {
				case calm || n < 9:
				case n < 15:
					r = refused
				case n < 17:
					r = crashed
				case n < 18:
					r = connectors.Result{Outcome: connectors.Permanent, Fault: connectors.FaultTarget, Error: "The endpoint said no."}
				}
				late = append(late, func() {
					mu.Lock()
					flying[h.delivery.ID] = false
					mu.Unlock()
					h.done(r)
				})
				return nil
			}
			answer := func() {
				mu.Lock()
				rng.Shuffle(len(late), func(i, j int) { late[i], late[j] = late[j], late[i] })
				n := len(late)
				if !calm && n > 0 {
					n = rng.IntN(n + 1)
				}
				now := late[:n:n]
				late = late[n:]
				mu.Unlock()
				for _, f := range now {
					f()
				}
			}
			const many = 400
			for range many {
				b.accept(fmt.Sprint("h", rng.IntN(5)))
				switch hook := fmt.Sprint("h", rng.IntN(5)); rng.IntN(60) {
				case 0:
					b.set(hook, flow.WebhookPaused)
				case 1, 2:
					b.set(hook, flow.WebhookActive)
				case 3:
					b.ledger.set(flow.ErrUnavailable)
				case 4, 5:
					b.ledger.set(nil)
				case 6:
					b.Hold(true)
				case 7, 8:
					b.Hold(false)
				}
				answer()
				if rng.IntN(4) == 0 {
					b.clock.Advance(time.Duration(rng.IntN(3000)) * time.Millisecond)
				}
			}
			mu.Lock()
			calm = true
			mu.Unlock()
			b.ledger.set(nil)
			b.Hold(false)
			for i := range 5 {
				b.set(fmt.Sprint("h", i), flow.WebhookActive)
			}
			b.until("every delivery to end", func() bool {
				answer()
				b.clock.Advance(time.Second)
				return b.ledger.count(func(r *row) bool { return r.state.Final() }) == many
			})
			for _, r := range b.ledger.rows {
				records := b.ledger.of(r.due.ID)
				counted := 0
				for i, rec := range records {
					if rec.Number != i+1 {
						t.Fatalf("%s: record %d is attempt %d", r.due.ID, i, rec.Number)
					}
					if rec.Result.Fault != connectors.FaultConnector {
						counted++
					}
				}
				if counted > 5 {
					t.Errorf("%s had %d attempts that count", r.due.ID, counted)
				}
			}
			b.until("memory to be free", func() bool {
				s := b.Stats()
				return s.Bytes == 0 && s.InFlight == 0 && s.Unrecorded == 0 && s.Queued == 0
			})
		})
	}
}
