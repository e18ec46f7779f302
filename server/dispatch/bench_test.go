package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/server/flow"
)

type instantly struct{}

func (instantly) Deliver(_ string, _ connectors.Endpoint, d connectors.Delivery, done func(connectors.Result)) {
	done(connectors.Result{DeliveryID: d.ID, Outcome: connectors.Done})
}

func (instantly) Forget(string, string) {}

// counting is a ledger that only counts.
type counting struct{ recorded chan int }

func (c counting) Record(_ context.Context, r ...flow.Record) error { c.recorded <- len(r); return nil }
func (counting) Claim(context.Context, string, time.Time, int) ([]*flow.Due, error) {
	return nil, nil
}
func (counting) Release(context.Context, []string) error { return nil }
func (counting) Backlog(context.Context, time.Time) ([]flow.Backlog, error) {
	return nil, nil
}

// BenchmarkDispatch is the whole path of a delivery within this package: reserve, hand,
// build, send, judge, record; without signing.
func BenchmarkDispatch(b *testing.B) {
	for _, lanes := range []int{1, 10} {
		b.Run(fmt.Sprintf("lanes=%d", lanes), func(b *testing.B) {
			w := &flow.World{Webhooks: map[string]*flow.Webhook{}, Endpoints: map[string]*flow.Endpoint{}}
			var hooks []*flow.Webhook
			for i := range lanes {
				addWebhook(w, fmt.Sprint("h", i), fmt.Sprint("e", i))
				hooks = append(hooks, w.Webhooks[fmt.Sprint("h", i)])
			}
			ledger := counting{make(chan int, 1024)}
			clock := clockwork.NewRealClock()
			d := New(Config{Ledger: ledger, Sender: instantly{}, Worlds: func(string) *flow.World { return w },
				Formats: func(*flow.World, string) connectors.Format { return nil }, Clock: clock, IDs: ids.NewMaker(clock.Now), Log: slog.New(slog.DiscardHandler)})
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan struct{})
			go func() { _ = d.Run(ctx); close(ended) }()
			defer func() { cancel(); <-ended }()
			body := make([]byte, 1024)
			b.ReportAllocs()
			open := 0
			for n := 0; b.Loop(); n++ {
				h := hooks[n%lanes]
				for open >= 48 {
					open -= <-ledger.recorded
				}
				if !d.Reserve(h) {
					b.Fatal("no credit")
				}
				d.Hand(&flow.Due{ID: "dlv", Org: "org", Webhook: h.ID, Endpoint: h.Endpoint, Document: body})
				open++
			}
			for open > 0 {
				open -= <-ledger.recorded
			}
		})
	}
}
