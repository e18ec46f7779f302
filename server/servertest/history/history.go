// Package history gives a hub a past: events with their receipts, deliveries and attempts,
// of any age, as they would be there had the hub been running then.
//
// Place: in tests and in the commands that measure the hub. It writes through the ledger
// itself, with a clock that it turns, to the database of a hub that is not running.
package history

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/endpoint"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/flow"
	"github.com/hookyard/hookyard/server/ledger"
)

// Past is what to write, and where: for the first webhook that there is.
type Past struct {
	DataDir, DatabaseURL string // of the hub; no URL is SQLite
	Events               int    // each with a receipt, a delivery that succeeded and its attempt
	// Age is how long ago the i-th event came; it does not grow with i.
	Age func(i int) time.Duration
}

// Rows is how much there is.
type Rows struct{ Events, Deliveries, Attempts int }

// Sum is how many rows that are.
func (r Rows) Sum() int { return r.Events + r.Deliveries + r.Attempts }

const (
	writers = 256     // that wait for a commit together
	step    = 100_000 // events between looks at the clock, for the partitions of PostgreSQL
)

// Write writes the past.
func Write(ctx context.Context, p Past) error {
	return with(ctx, p.DataDir, p.DatabaseURL, func(db *store.DB) (err error) {
		now := time.Now()
		clock := clockwork.NewFakeClockAt(now.Add(-p.Age(0)))
		w := &writer{past: p, now: now, clock: clock, ids: ids.NewMaker(clock.Now)}
		if err := w.find(ctx, db.Client); err != nil {
			return err
		}
		c := ledger.Config{Clock: clock, IDs: w.ids, NodeName: "history", Postgres: db.Pool}
		if db.Dialect == store.SQLite {
			c.SQLite = &ledger.SQLite{Write: db.Write, Read: db.Read}
		}
		if w.ledger, err = ledger.Open(ctx, c); err != nil {
			return err
		}
		for from := 0; from < p.Events && err == nil; from += step {
			err = w.write(ctx, from, min(from+step, p.Events))
		}
		if err = errors.Join(err, w.ledger.Close(ctx)); err != nil || db.Pool == nil {
			return err
		}
		_, err = db.Pool.Exec(ctx, "ANALYZE") // as a database that has grown has been
		return err
	})
}

// Count counts what there is.
func Count(ctx context.Context, dataDir, databaseURL string) (r Rows, err error) {
	return r, with(ctx, dataDir, databaseURL, func(db *store.DB) error {
		for table, n := range map[string]*int{"events": &r.Events, "deliveries": &r.Deliveries, "entries": &r.Attempts} {
			rows, err := db.Client.QueryContext(ctx, "SELECT count(*) FROM "+table)
			if err != nil {
				return fmt.Errorf("count %s: %w", table, err)
			}
			for rows.Next() {
				err = rows.Scan(n)
			}
			if err := errors.Join(err, rows.Err(), rows.Close()); err != nil {
				return fmt.Errorf("count %s: %w", table, err)
			}
		}
		return nil
	})
}

func with(ctx context.Context, dataDir, databaseURL string, do func(*store.DB) error) (err error) {
	db, err := store.Open(ctx, store.Config{DataDir: dataDir, DatabaseURL: databaseURL, Existing: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return do(db)
}

type writer struct {
	past   Past
	now    time.Time
	mu     sync.Mutex // while the clock is turned
	clock  *clockwork.FakeClock
	ids    *ids.Maker
	ledger *ledger.Ledger
	like   flow.Due // organization, webhook and endpoint
	source string
	url    string
	org    connectors.Ref
}

// find looks for something to write a past for.
func (w *writer) find(ctx context.Context, c *gen.Client) error {
	ctx = viewer.SystemContext(ctx)
	hook, err := c.Webhook.Query().Order(gen.Asc("id")).First(ctx)
	if err != nil {
		return fmt.Errorf("look for a webhook: %w", err)
	}
	end, err := c.Endpoint.Query().Where(endpoint.ID(hook.EndpointID)).Only(ctx)
	if err != nil {
		return fmt.Errorf("look for its endpoint: %w", err)
	}
	src, err := c.Source.Query().Order(gen.Asc("id")).First(ctx)
	if err != nil {
		return fmt.Errorf("look for a source: %w", err)
	}
	w.like = flow.Due{Org: hook.OrganizationID, Webhook: hook.ID, Endpoint: end.ID, Type: connectors.ScanCompleted}
	w.source, w.url, w.org = src.ID, end.URL, connectors.Ref{ID: hook.OrganizationID}
	return nil
}

// write writes the events from one up to another.
func (w *writer) write(ctx context.Context, from, to int) error {
	w.turn(from)
	if _, err := w.ledger.Retain(ctx, nil); err != nil { // which makes the partitions of the day
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	next := atomic.Int64{}
	next.Store(int64(from))
	for range writers {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < to && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if i%256 == 0 {
					w.turn(i)
				}
				if err := w.event(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// turn sets the clock to when the i-th event came.
func (w *writer) turn(i int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.now.Add(-w.past.Age(i)).Sub(w.clock.Now()); d > 0 {
		w.clock.Advance(d)
	}
}

// event is accepted, delivered and recorded.
func (w *writer) event(ctx context.Context, i int) error {
	at := w.clock.Now()
	key := fmt.Sprintf("past-%d", i)
	scan := &connectors.Scan{ID: ids.Of(ids.Scan, w.like.Org, w.source, key), Key: key, Name: "past"}
	ev := connectors.Event{ID: w.ids.New(ids.Event), Type: w.like.Type, Source: "/past", Subject: scan.ID, Time: at, Received: at, Organization: w.org,
		Data: connectors.Data{Scan: scan, Attributes: json.RawMessage(`{"pad":"` + strings.Repeat("x", 600) + `"}`)}}
	document, err := connectors.AppendEvent(nil, &ev)
	if err != nil {
		return err
	}
	receipt := &flow.Receipt{ID: w.ids.New(ids.Receipt), Org: w.like.Org, Source: w.source, At: at, Method: "POST",
		Header: []byte(`[["Content-Type","application/json"]]`), ContentType: "application/json", Body: document, State: flow.ReceiptAccepted}
	due := w.like
	due.ID, due.Event, due.Created, due.Document = w.ids.New(ids.Delivery), ev.ID, at, document
	_, err = w.ledger.Accept(ctx, receipt, []flow.NewEvent{{
		ID: ev.ID, Org: due.Org, Source: w.source, Receipt: receipt.ID, Type: ev.Type, Time: at, Received: at, Subject: scan.ID,
		Document: document, Key: key, Digest: binary.BigEndian.AppendUint64(nil, uint64(i)), Catalogue: &flow.CatalogueRow{Scan: scan},
		Deliveries: []flow.NewDelivery{{ID: due.ID, Webhook: due.Webhook, Endpoint: due.Endpoint, Rendering: "hookyard", State: flow.Pending, Lease: true}},
	}})
	if err != nil {
		return fmt.Errorf("write event %d: %w", i, err)
	}
	done := &connectors.Result{DeliveryID: due.ID, Outcome: connectors.Done, Started: at, Timing: connectors.Timing{Total: 2 * time.Millisecond},
		Request:  &connectors.Request{Method: "POST", URL: w.url, Header: []connectors.Header{{Name: "Content-Type", Value: "application/json"}, {Name: "Webhook-Id", Value: due.ID}}},
		Response: &connectors.Response{Status: 200, Header: []connectors.Header{{Name: "Content-Length", Value: "2"}}, Body: []byte("ok")}}
	if err := w.ledger.Record(ctx, flow.Record{Due: &due, Attempt: w.ids.New(ids.Attempt), Number: 1, Result: done, URL: w.url, State: flow.Succeeded, At: at}); err != nil {
		return fmt.Errorf("write the attempt of event %d: %w", i, err)
	}
	return nil
}
