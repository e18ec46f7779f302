package ledger

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/server/flow"
)

// BenchmarkEvent is one event on its way: a receipt, the event with a document of
// 1 KiB, its key, a scan in the catalogue, a delivery, its end and its entry, from 64
// callers at a time, so in groups of about 64 calls. "cpu-us/op" is this process.
func BenchmarkEvent(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) { benchEvent(b, storetest.Open(b, store.Config{DataDir: b.TempDir()})) })
	b.Run("postgres", func(b *testing.B) { benchEvent(b, storetest.Open(b, store.Config{DatabaseURL: storetest.Postgres(b)})) })
}

func benchEvent(b *testing.B, db *store.DB) {
	var mu sync.Mutex
	var groups, calls int
	var took time.Duration
	l := open(b, db, func(c *Config) {
		c.Clock = clockwork.NewRealClock()
		c.IDs = ids.NewMaker(time.Now)
		c.OnCommit = func(m Commit) {
			mu.Lock()
			groups, calls, took = groups+1, calls+m.Calls, took+m.Took
			mu.Unlock()
		}
	})
	document := bytes.Repeat([]byte("x"), 1024)
	header := []byte(`[["Content-Type","application/json"],["User-Agent","bench/1.0"],["Ce-Type","scan.completed"]]`)
	answer := []connectors.Header{{Name: "Content-Type", Value: "text/plain"}, {Name: "Date", Value: "Sun, 22 Nov 2026 10:00:00 GMT"}, {Name: "Content-Length", Value: "2"}}
	request := []connectors.Header{{Name: "Content-Type", Value: "application/json"}, {Name: "Webhook-Id", Value: "dlv_01kanxxxxxxxxxxxxxxxxxxxxx"}, {Name: "Webhook-Timestamp", Value: "1795000000"}, {Name: "Webhook-Signature", Value: "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="}, {Name: "User-Agent", Value: "Hookyard/1"}}
	maker := l.c.IDs
	total := 3
	var ru0, ru1 syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &ru0)
	b.ResetTimer()
	var wg sync.WaitGroup
	for w := range 64 {
		wg.Go(func() {
			ctx := context.Background()
			for i := w; i < b.N; i += 64 {
				now := time.Now().UTC()
				r := &flow.Receipt{ID: maker.New(ids.Receipt), Org: org, Source: "src_01kanxxxxxxxxxxxxxxxxxxxxx", At: now, Method: "POST", Header: header, ContentType: "application/json", Body: document, Remote: "127.0.0.1:1234", State: flow.ReceiptAccepted}
				key := fmt.Sprintf("/bench/%d", i)
				scan := ids.Of(ids.Scan, org, key)
				e := flow.NewEvent{ID: maker.New(ids.Event), Org: org, Source: r.Source, Receipt: r.ID, Type: connectors.ScanCompleted, Time: now, Received: now,
					Subject: scan, Group: "grp_01kanxxxxxxxxxxxxxxxxxxxxx", App: "app_01kanxxxxxxxxxxxxxxxxxxxxx", Severity: "high", Document: document, Key: key, Digest: []byte("0123456789abcdef"),
					Catalogue:  &flow.CatalogueRow{Scan: &connectors.Scan{ID: scan, Key: key, Name: "Nightly", Status: "Finished", FinishedAt: &now, Counts: &connectors.Counts{Total: &total, High: &total}}},
					Deliveries: []flow.NewDelivery{{ID: maker.New(ids.Delivery), Webhook: "whk_01kanxxxxxxxxxxxxxxxxxxxxx", Endpoint: "end_01kanxxxxxxxxxxxxxxxxxxxxx", Rendering: documentKey, State: flow.Pending, Lease: true}}}
				events := []flow.NewEvent{e}
				if _, err := l.Accept(ctx, r, events); err != nil {
					b.Error(err)
					return
				}
				d := due(&events[0], 0)
				if err := l.Record(ctx, flow.Record{Due: d, Attempt: maker.New(ids.Attempt), Number: 1, State: flow.Succeeded, URL: "https://example.com/hooks/in", At: now,
					Result: &connectors.Result{DeliveryID: d.ID, Outcome: connectors.Done, Started: now, Request: &connectors.Request{Method: "POST", Header: request},
						Response: &connectors.Response{Status: 200, Header: answer, Body: []byte("ok")}, Timing: connectors.Timing{FirstByte: time.Millisecond, Total: time.Millisecond}}}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &ru1)
	cpu := time.Duration(ru1.Utime.Nano()+ru1.Stime.Nano()-ru0.Utime.Nano()-ru0.Stime.Nano()) * time.Nanosecond
	b.ReportMetric(float64(cpu.Microseconds())/float64(b.N), "cpu-us/op")
	b.ReportMetric(float64(calls)/float64(groups), "calls/group")
	b.ReportMetric(float64(took.Microseconds())/float64(groups), "us/group")
}
