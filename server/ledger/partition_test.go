package ledger

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/server/flow"
)

// onPostgres is a ledger on a fresh database of PostgreSQL.
func onPostgres(t *testing.T, change ...func(*Config)) *bench {
	t.Helper()
	return open(t, storetest.Open(t, store.Config{DatabaseURL: storetest.Postgres(t)}), change...)
}

// names are those of a table's partitions.
func (b *bench) names(table string) []string {
	b.t.Helper()
	all, err := b.standing(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	var names []string
	for _, p := range all[table] {
		names = append(names, p.Name)
	}
	return names
}

// retain removes all that is due, and then what is empty by that.
func (b *bench) retain(keep map[string]flow.Retention) (sum Removed) {
	b.t.Helper()
	for rounds := 0; rounds < 2; {
		r, err := b.Retain(b.t.Context(), keep)
		if err != nil {
			b.t.Fatal(err)
		}
		sum.Partitions += r.Partitions
		if !r.More {
			rounds++
		}
	}
	return sum
}

// skipped is an event whose only delivery has ended: one entry.
func (b *bench) skipped(org string) {
	b.t.Helper()
	e := b.event(1)
	e.Org = org
	e.Deliveries[0].State, e.Deliveries[0].Lease = flow.SkippedState, false
	b.accept(e)
}

// Partitions of entries go when they are empty and full: all of their numbers given, and
// all of those removed.
func TestEntriesArePartitioned(t *testing.T) {
	b := onPostgres(t, func(c *Config) { c.EntriesEach = 10 })
	for i := range 35 { // the numbers 1 to 35, so the fourth partition is being filled
		o := org
		if i == 15 {
			o = "org_2" // keeps for ever, and has number 16
		}
		b.skipped(o)
	}
	before := b.names("entries")
	keep := map[string]flow.Retention{org: {Attempts: 24 * time.Hour}, "org_2": {}}
	if b.retain(keep); !slices.Equal(b.names("entries")[:4], []string{"entries_p0", "entries_p1", "entries_p10", "entries_p11"}) {
		t.Fatalf("%v of %v are left, and nothing was old", b.names("entries"), before)
	}
	b.clock.Advance(25 * time.Hour)
	if sum := b.retain(keep); sum.Partitions != 2 {
		t.Errorf("%d partitions dropped", sum.Partitions)
	}
	left := b.names("entries")
	for name, want := range map[string]bool{"entries_p0": false, "entries_p1": true, "entries_p2": false, "entries_p3": true, "entries_p4": true} {
		if slices.Contains(left, name) != want {
			t.Errorf("%s: there %v, want %v", name, !want, want)
		}
	}
	if n := b.count("entries"); n != 1 {
		t.Errorf("%d entries are left", n)
	}
	if _, err := b.Tail(t.Context(), org, 20, 10); !errors.Is(err, flow.ErrExpired) {
		t.Errorf("a cursor in a partition that is gone: %v", err)
	}
	b.skipped(org)
	if es := b.entries(35); len(es) != 1 || es[0].Seq != 36 {
		t.Errorf("the next entry: %+v", es)
	}
	if n := b.count("entries_default"); n != 0 {
		t.Errorf("%d entries in the default partition", n)
	}
}

// A statement for which the server has not enough room fails alone; the database is not
// away for that.
func TestTooManyLocksAreNotTheEndOfTheDatabase(t *testing.T) {
	b := onPostgres(t)
	bad, good := b.event(1), b.event(1)
	b.accept(bad, good)
	for _, sql := range []string{
		"CREATE FUNCTION full_table() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'out of shared memory' USING ERRCODE = '53200'; END $$",
		"CREATE TRIGGER full_table BEFORE INSERT ON deliveries FOR EACH ROW WHEN (NEW.id = '" + bad.Deliveries[0].ID + "') EXECUTE FUNCTION full_table()",
	} {
		if _, err := b.db.Pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	results := make(chan error)
	go func() { results <- b.Record(ctx, b.result(due(&bad, 0), flow.Succeeded)) }()
	if err := b.Record(ctx, b.result(due(&good, 0), flow.Succeeded)); err != nil {
		t.Errorf("the other result: %v", err)
	}
	if err := <-results; err == nil || errors.Is(err, flow.ErrUnavailable) || !strings.Contains(err.Error(), "53200") {
		t.Errorf("the one that asks for too much: %v", err)
	}
	if b.count("deliveries") != 1 || b.count("open_deliveries") != 1 {
		t.Error("it did not fail alone")
	}
}

// aged gives an event with a receipt, a rendering and two deliveries, of which the second
// has succeeded.
func (b *bench) aged() flow.NewEvent {
	b.t.Helper()
	e, r := b.event(2), b.receipt()
	e.Receipt = r.ID
	e.Deliveries[0].Rendering, e.Deliveries[1].Rendering = "holm", rawKey
	e.Renderings = []flow.Rendering{{Event: e.ID, Key: "holm", Rendered: connectors.Rendered{Body: []byte("h")}}}
	if _, err := b.Accept(b.t.Context(), r, []flow.NewEvent{e}); err != nil {
		b.t.Fatal(err)
	}
	b.record(b.result(due(&e, 1), flow.Succeeded))
	return e
}

// What is in the default partitions goes as well: a day's partition came too late, or
// something was restored that knew of none. That which is open stays.
func TestDefaultPartitionsAreEmptied(t *testing.T) {
	b := onPostgres(t)
	b.clock.Advance(10 * 24 * time.Hour) // beyond the partitions that are there
	ended, held := b.aged(), b.aged()
	b.record(b.result(due(&ended, 0), flow.Succeeded))
	all := map[string]int{"receipts_default": 2, "events_default": 2, "renderings_default": 2, "deliveries_default": 3}
	for table, n := range all {
		if got := b.count(table); got != n {
			t.Fatalf("%d rows in %s, want %d", got, table, n)
		}
	}
	keep := map[string]flow.Retention{org: {Events: 90 * 24 * time.Hour}}
	if b.retain(keep); b.count("events") != 2 {
		t.Fatal("it removed what is young")
	}
	b.clock.Advance(91 * 24 * time.Hour)
	b.retain(keep)
	for table, n := range map[string]int{"receipts": 1, "events": 1, "renderings": 1, "deliveries": 0} {
		if got := b.count(table); got != n {
			t.Errorf("%d %s are left, want those of the open delivery", got, table)
		}
	}
	if b.count("events WHERE id = ? AND document IS NOT NULL", held.ID) != 1 || b.count("receipts WHERE id = ? AND body IS NOT NULL", held.Receipt) != 1 {
		t.Error("what an open delivery needs is gone")
	}
	b.clock.Advance(25 * time.Hour)
	b.record(b.result(due(&held, 0), flow.Succeeded))
	b.retain(keep)
	for _, table := range []string{"receipts", "events", "renderings", "deliveries"} {
		if n := b.count(table); n != 0 {
			t.Errorf("%d %s are left at last", n, table)
		}
	}
}

// Somebody who reads for long, as a backup does, is in the way of new and old partitions.
// Neither acceptance nor the start of a node waits for that.
func TestPartitionsWaitForNobody(t *testing.T) {
	b := onPostgres(t)
	old := b.aged()
	b.record(b.result(due(&old, 0), flow.Succeeded))
	reader, err := b.db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Rollback(context.Background()) }()
	for _, table := range []string{"receipts", "events", "renderings", "deliveries", "entries"} {
		if _, err := reader.Exec(t.Context(), "SELECT count(*) FROM "+table); err != nil {
			t.Fatal(err)
		}
	}
	b.clock.Advance(100 * 24 * time.Hour)
	keep := map[string]flow.Retention{org: {Events: 90 * 24 * time.Hour, Attempts: 30 * 24 * time.Hour}}
	retained := make(chan error, 1)
	go func() {
		_, err := b.Retain(t.Context(), keep)
		retained <- err
	}()
	for running := true; running; {
		select {
		case err := <-retained:
			if running = false; err != nil {
				t.Errorf("retention: %v", err)
			}
		default:
		}
		began := time.Now()
		b.accept(b.event(1))
		if took := time.Since(began); took > time.Second {
			t.Fatalf("an event waited for %v", took)
		}
	}
	began := time.Now()
	open(t, b.db, func(c *Config) { c.NodeName, c.Clock, c.IDs = "two", b.clock, b.ids })
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("a node waited for %v when it started", took)
	}
	if b.count("events WHERE id = ?", old.ID) != 1 {
		t.Error("what goes with its partition was removed by itself")
	}
	if err := reader.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	tomorrow := "events_p" + b.clock.Now().AddDate(0, 0, 1).Format("20060102")
	if b.retain(keep); slices.Contains(b.names("events"), tomorrow) {
		t.Error("it did not wait for a while")
	}
	b.clock.Advance(alterPause)
	b.retain(keep)
	if got := b.names("events"); !slices.Contains(got, tomorrow) || slices.Contains(got, "events_p"+start.Format("20060102")) {
		t.Errorf("the partitions are %v", got)
	}
	if n := b.count("events WHERE id = ?", old.ID) + b.count("receipts WHERE id = ?", old.Receipt) + b.count("deliveries"); n != 0 {
		t.Errorf("%d old rows are left", n)
	}
	if b.count("events") != b.count("events_default") || b.count("events") == 0 {
		t.Error("what came meanwhile is not in the default partition")
	}
}
