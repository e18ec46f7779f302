package ledger

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/flow"
)

// observed is a database that tells what is read outside of transactions, after it was, and
// counts the rows.
type observed struct {
	database
	read func(sql string, rows int)
}

func (d *observed) query(ctx context.Context, sql string, args []any, each func(func(...any) error) error) error {
	rows := 0
	err := d.database.query(ctx, sql, args, func(scan func(...any) error) error {
		rows++
		return each(scan)
	})
	d.read(sql, rows)
	return err
}

// While retention finds out what is still open, which takes its time when much is, events
// are accepted and old ones delivered again; and what is opened by that stays.
func TestRetentionLooksBeforeItLocks(t *testing.T) {
	const day = 24 * time.Hour
	each(t, func(t *testing.T, b *bench) {
		for _, c := range []struct {
			name string
			keep map[string]flow.Retention
		}{
			{"whole", map[string]flow.Retention{org: {Events: 5 * day}}}, // days, on PostgreSQL: first, so that the first day is that of the event
			{"rows", map[string]flow.Retention{org: {Events: 5 * day, Payloads: 5 * day}, "org_2": {Events: 100 * day}}},
			{"payloads", map[string]flow.Retention{org: {Payloads: 5 * day}}},
		} {
			t.Run(c.name, func(t *testing.T) {
				old := b.aged()
				b.record(b.result(due(&old, 0), flow.Succeeded))
				b.clock.Advance(10 * day)
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				looks := 0
				of := b.Ledger.db
				b.Ledger.db = &observed{database: of, read: func(sql string, _ int) {
					if !strings.Contains(sql, "FROM open_deliveries") || looks > 0 {
						return
					}
					looks++
					e := b.event(0)
					if _, err := b.Accept(ctx, b.receipt(), []flow.NewEvent{e}); err != nil {
						t.Errorf("an event while retention looks: %v", err)
					}
					again, err := b.RedeliverMatching(ctx, scope(t, org, viewer.Administrator), flow.DeliveryFilter{IDs: []string{old.Deliveries[0].ID}}, 10, false)
					if err != nil || len(again.IDs) != 1 {
						t.Errorf("an old event is delivered again: %+v, %v", again, err)
					}
				}}
				b.retain(c.keep)
				b.Ledger.db = of
				if looks == 0 {
					t.Fatal("it looked while it held everybody up")
				}
				if n := b.count("events WHERE id = ? AND document IS NOT NULL", old.ID) + b.count("renderings WHERE event = ? AND body IS NOT NULL", old.ID) +
					b.count("receipts WHERE id = ? AND body IS NOT NULL", old.Receipt); n != 3 {
					t.Errorf("an open delivery has %d of event, rendering and receipt", n)
				}
				dues := b.claim(10)
				if len(dues) != 1 || dues[0].Rendering == nil || string(dues[0].Rendering.Body) != "h" {
					t.Fatalf("claimed %v", dues)
				}
				b.record(b.result(dues[0], flow.Succeeded))
			})
		}
	})
}

// What is needed does not keep what lies behind it, however much it is, and goes when it
// is not needed any more.
func TestRetentionPassesOverWhatIsOpen(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		r := b.receipt()
		var open []flow.NewEvent
		for range retainBatch + 1 {
			e := b.event(1)
			e.Receipt = r.ID
			open = append(open, e)
		}
		if _, err := b.Accept(t.Context(), r, open); err != nil {
			t.Fatal(err)
		}
		waits := b.receipt()
		waits.State = flow.ReceiptWaiting
		if _, err := b.Accept(t.Context(), waits, nil); err != nil {
			t.Fatal(err)
		}
		ended := b.aged()
		b.record(b.result(due(&ended, 0), flow.Succeeded))
		b.clock.Advance(10 * 24 * time.Hour)
		keep := map[string]flow.Retention{org: {Events: 5 * 24 * time.Hour, Payloads: 4 * 24 * time.Hour}, "org_2": {}}
		b.retain(keep)
		if n := b.count("events WHERE document IS NOT NULL"); n != len(open) {
			t.Errorf("%d events are left, want the open ones", n)
		}
		if b.count("receipts WHERE id IN (?, ?) AND body IS NOT NULL", r.ID, waits.ID) != 2 || b.count("receipts") != 2 || b.count("renderings") != 0 {
			t.Error("the receipt of the open ones, and that which waits, are not what is left")
		}
		var records []flow.Record
		for i := range open {
			records = append(records, b.result(due(&open[i], 0), flow.Succeeded))
		}
		b.record(records...)
		if err := b.Settle(t.Context(), org, waits.ID, flow.ReceiptRejected, "", "given up"); err != nil {
			t.Fatal(err)
		}
		b.clock.Advance(agedAgain)
		b.retain(keep)
		if n := b.count("events") + b.count("receipts") + b.count("deliveries"); n != 0 {
			t.Errorf("%d rows are left at last", n)
		}
	})
}

// Who is not named, for one because the configuration cannot be read, keeps everything:
// days are not dropped whole then.
func TestRetentionKeepsWhatNobodyNamed(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		if err := b.db.WithTx(viewer.SystemContext(t.Context()), func(ctx context.Context, tx *gen.Tx) error {
			return tx.Organization.Create().SetID("org_2").SetName("unread").Exec(ctx)
		}); err != nil {
			t.Fatal(err)
		}
		b.skipped(org)
		b.skipped("org_2")
		b.clock.Advance(100 * 24 * time.Hour)
		keep := map[string]flow.Retention{org: {Events: 24 * time.Hour, Attempts: 24 * time.Hour, Payloads: 24 * time.Hour}}
		b.retain(keep)
		for _, table := range []string{"events", "deliveries", "entries"} {
			if mine, theirs := b.count(table+" WHERE org = ?", org), b.count(table+" WHERE org = 'org_2'"); mine != 0 || theirs != 1 {
				t.Errorf("%d %s of the one that is named, %d of the other", mine, table, theirs)
			}
		}
	})
}

// The events of receipts are found by receipt, not by reading all of the organization's.
func TestRetentionFindsEventsByReceipt(t *testing.T) {
	b := open(t, storetest.Open(t, store.Config{DataDir: t.TempDir()}))
	for sql, args := range map[string][]any{
		eventsOfReceipts: {org, "rct_1", "rct_2"},
		"DELETE FROM receipts WHERE org = ? AND id IN (?, ?) AND " + stillSilent: {org, "rct_1", "rct_2", "evt_1"},
	} {
		plan := ""
		if err := b.read(t.Context(), "explain", "EXPLAIN QUERY PLAN "+sql, args, func(scan func(...any) error) error {
			var step string
			err := scan(new(int), new(int), new(int), &step)
			plan += step + "; "
			return err
		}); err != nil || !strings.Contains(plan, "events_receipt") {
			t.Errorf("%s: %s %v", sql, plan, err)
		}
	}
}

// BenchmarkRetain removes 500 old events while a great many young ones are open.
func BenchmarkRetain(b *testing.B) {
	run := func(b *testing.B, db *store.DB) {
		l := open(b, db)
		const fill = "INSERT INTO open_deliveries WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 500000) " +
			"SELECT 'dlv_zz' || i, CAST(? AS text), 'evt_zz' || i, 'whk_1', 'end_1', '', '', 'scan.completed', 'hookyard', 'PENDING', 0, 0, 0, 0, '', '', '', 0 FROM s"
		if err := l.writeTx(b.Context(), "fill", func(t tx) error { return exec(b.Context(), t, fill, org) }); err != nil {
			b.Fatal(err)
		}
		keep := map[string]flow.Retention{org: {Events: 24 * time.Hour}, "org_2": {}}
		b.ResetTimer()
		for range b.N {
			b.StopTimer()
			var events []flow.NewEvent
			for range retainBatch {
				e := l.event(0)
				e.Receipt = ""
				e.Renderings = []flow.Rendering{{Event: e.ID, Key: "holm", Rendered: connectors.Rendered{Body: []byte("h")}}}
				events = append(events, e)
			}
			l.accept(events...)
			l.clock.Advance(25 * time.Hour)
			b.StartTimer()
			for more := true; more; {
				r, err := l.Retain(b.Context(), keep)
				if err != nil {
					b.Fatal(err)
				}
				more = r.More
			}
		}
	}
	b.Run("sqlite", func(b *testing.B) { run(b, storetest.Open(b, store.Config{DataDir: b.TempDir()})) })
	b.Run("postgres", func(b *testing.B) { run(b, storetest.Open(b, store.Config{DatabaseURL: storetest.Postgres(b)})) })
}
