package server_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/server"
	"github.com/hookyard/hookyard/server/flow"
	"github.com/hookyard/hookyard/server/ledger"
	"github.com/hookyard/hookyard/server/servertest/program"
)

// onEachOwned is onEach for tests that need two databases; on PostgreSQL they belong to
// somebody without special rights.
func onEachOwned(t *testing.T, test func(t *testing.T, url, url2 string)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, "", "")
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, owned(t), owned(t))
	})
}

// refused fails unless a tool ended with an error that says all of the words.
func refused(t *testing.T, what string, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s was not refused", what)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s was refused without a word of %q: %v", what, w, err)
		}
	}
}

// TestBackupAndRestore takes a backup under load, loses the hub and restores it
// elsewhere: what was accepted before the backup is there, nothing goes out before it is
// released, and then what was open does, once.
func TestBackupAndRestore(t *testing.T) {
	onEachOwned(t, func(t *testing.T, url, url2 string) {
		s := newSink(t)
		var slow atomic.Bool
		slow.Store(true)
		s.hang = func(endpoint string) bool { return endpoint == "slow" && slow.Load() }
		dir := t.TempDir()
		h := startIn(t, dir, url, "--allow-private-targets")
		address, _ := world(t, h, s, "a")
		endpoint, err := h.CreateEndpoint(t.Context(), program.Input{"name": "slow", "connector": "webhook", "url": s.url + "/slow",
			"headers": []program.Input{{"name": "X-Secret", "value": "open sesame", "secret": true}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := h.CreateWebhook(t.Context(), program.Input{"name": "slow", "endpointId": endpoint, "global": true, "format": "hookyard"}); err != nil {
			t.Fatal(err)
		}

		l := startLoad(200, 8, address)
		l.until(t, 200)
		before := l.soFar()
		file := filepath.Join(t.TempDir(), "hub.tar.gz")
		if _, err := tool(t, at(dir, url, "backup", file)...); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the backup: %v, %v", info, err)
		}
		_, err = tool(t, at(dir, url, "backup", file)...)
		refused(t, "overwriting a backup", err, "exists")
		l.until(t, l.count()+50)
		if err := h.Kill(); err != nil {
			t.Fatal(err)
		}
		l.end()

		// What is no backup, or not a whole one, leaves the target as it was.
		dir2 := filepath.Join(t.TempDir(), "restored")
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for what, b := range map[string][]byte{"garbage": []byte("a day at the sea"), "nothing": nil, "half a backup": whole[:len(whole)/2], "all but the end": whole[:len(whole)-9]} {
			bad := filepath.Join(t.TempDir(), "bad")
			if err := os.WriteFile(bad, b, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := tool(t, at(dir2, url2, "restore", bad)...)
			refused(t, what, err, "backup")
		}
		if _, err := tool(t, at(dir2, url2, "restore", file)...); err != nil {
			t.Fatal(err)
		}
		_, err = tool(t, at(dir2, url2, "restore", file)...)
		refused(t, "restoring into a used folder", err, dir2, "empty data folder")
		if url2 != "" {
			fresh := t.TempDir()
			_, err = tool(t, at(fresh, url2, "restore", file)...)
			refused(t, "restoring into a used database", err, "empty database")
			if left, err := os.ReadDir(fresh); err != nil || len(left) > 0 {
				t.Errorf("the refused restore left %v, %v", left, err)
			}
		}

		db, err := store.Open(t.Context(), store.Config{DataDir: dir2, DatabaseURL: url2})
		if err != nil {
			t.Fatal(err)
		}
		for _, what := range []string{"open_deliveries WHERE lease_node <> ''", "nodes"} {
			rows, err := db.Client.QueryContext(t.Context(), "SELECT 1 FROM "+what+" LIMIT 1")
			if err != nil {
				t.Fatal(err)
			}
			if rows.Next() {
				t.Errorf("the restored hub would wait for a node that is gone: there are %s", what)
			}
			if err := rows.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}

		s.forget()
		slow.Store(false)
		if err := os.Link(filepath.Join(dir, "admin.json"), filepath.Join(dir2, "admin.json")); err != nil {
			t.Fatal(err)
		}
		back := startIn(t, dir2, url2, "--allow-private-targets")
		var is struct{ Held bool }
		if err := back.Do(t.Context(), `{ held }`, nil, &is); err != nil || !is.Held || metric(t, back, "hookyard_held") != 1 {
			t.Errorf("the restored hub does not hold: %v, %v", is, err)
		}
		address = back.URL + address[len(h.URL):]
		var later []int
		for n := 100_000; n < 100_050; n++ {
			if err := send(back.HTTP, address, n); err != nil {
				t.Fatal(err)
			}
			later = append(later, n)
		}
		if n := metric(t, back, "hookyard_attempts_total"); n != 0 || s.count() != 0 {
			t.Errorf("a hub that holds made %v attempts, %d arrived", n, s.count())
		}
		if _, err := tool(t, at(dir2, url2, "release")...); err != nil {
			t.Fatal(err)
		}
		s.await(t, "slow", append(before, later...), 20*time.Second)
		s.await(t, "a", later, 20*time.Second)
		for _, e := range []string{"a", "slow"} {
			if n := len(s.twice(e)); n > 0 {
				t.Errorf("%d events came twice to %s", n, e)
			}
		}
		s.mu.Lock()
		got := s.head["slow"].Get("X-Secret")
		s.mu.Unlock()
		if got != "open sesame" {
			t.Errorf("the restored secret is %q", got)
		}
		if err := back.Do(t.Context(), `{ held }`, nil, &is); err != nil || is.Held {
			t.Errorf("the released hub holds: %v, %v", is, err)
		}
		cli := "OPERATOR " + operator(t) + " from command line: "
		if log := strings.Join(auditLog(t, back), "\n"); !strings.HasSuffix(log, cli+"RESTORE Hub\n"+cli+"RELEASE_HOLD Hub") {
			t.Errorf("the audit log ends\n%s", log)
		}
	})
}

// TestRestoredHistoryGoesByAge restores a history on PostgreSQL to partitions as they were,
// and removes it when its time has come.
func TestRestoredHistoryGoesByAge(t *testing.T) {
	from, to := storetest.Postgres(t), storetest.Postgres(t)
	clock := clockwork.NewFakeClockAt(time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC))
	opened := func(url, node string) (*store.DB, *ledger.Ledger, *ids.Maker) {
		db := storetest.Open(t, store.Config{DatabaseURL: url})
		maker := ids.NewMaker(clock.Now)
		l, err := ledger.Open(t.Context(), ledger.Config{Postgres: db.Pool, Clock: clock, IDs: maker, NodeName: node})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close(context.Background()) })
		return db, l, maker
	}
	count := func(db *store.DB, table string) (n int) {
		t.Helper()
		if err := db.Pool.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	_, l, maker := opened(from, "one")
	r := &flow.Receipt{ID: maker.New(ids.Receipt), Org: "org_1", Source: "src_1", At: clock.Now(), Body: []byte("{}"), State: flow.ReceiptAccepted}
	e := flow.NewEvent{ID: maker.New(ids.Event), Org: "org_1", Source: "src_1", Receipt: r.ID, Type: connectors.ScanCompleted, Time: clock.Now(), Received: clock.Now(), Document: []byte("{}")}
	e.Renderings = []flow.Rendering{{Event: e.ID, Key: "slack"}}
	e.Deliveries = []flow.NewDelivery{{ID: maker.New(ids.Delivery), Webhook: "whk_1", Endpoint: "end_1", Rendering: "slack", State: flow.SkippedState}}
	if _, err := l.Accept(t.Context(), r, []flow.NewEvent{e}); err != nil {
		t.Fatal(err)
	}
	var backup bytes.Buffer
	if err := server.Backup(t.Context(), server.Config{DataDir: t.TempDir(), DatabaseURL: from}, &backup); err != nil {
		t.Fatal(err)
	}
	clock.Advance(24 * time.Hour) // the day that follows has a partition, too
	if err := server.Restore(t.Context(), server.Config{DataDir: t.TempDir(), DatabaseURL: to}, &backup); err != nil {
		t.Fatal(err)
	}
	db, l, _ := opened(to, "two")
	tables := []string{"receipts", "events", "renderings", "deliveries", "entries"}
	for _, table := range tables {
		if n, late := count(db, table), count(db, table+"_default"); n != 1 || late != 0 {
			t.Errorf("%d %s were restored, %d of them to the default partition", n, table, late)
		}
	}
	clock.Advance(91 * 24 * time.Hour)
	dropped := 0
	for more := true; more; {
		done, err := l.Retain(t.Context(), map[string]flow.Retention{"org_1": {Events: 90 * 24 * time.Hour, Attempts: 30 * 24 * time.Hour}})
		if err != nil {
			t.Fatal(err)
		}
		dropped, more = dropped+done.Partitions, done.More
	}
	for _, table := range tables {
		if n := count(db, table); n != 0 {
			t.Errorf("%d %s are left after 91 days", n, table)
		}
	}
	if dropped < 4 {
		t.Errorf("%d partitions were dropped whole", dropped)
	}
}

// TestToolsRefuseAnotherSchema sees tools and hub stand back from a database that
// another version has upgraded.
func TestToolsRefuseAnotherSchema(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		dir := t.TempDir()
		h := startIn(t, dir, url)
		if err := h.Stop(); err != nil {
			t.Fatal(err)
		}
		db, err := store.Open(t.Context(), store.Config{DataDir: dir, DatabaseURL: url})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Client.ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)"); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		_, err = tool(t, at(dir, url, "serve", "--listen", "127.0.0.1:0")...)
		refused(t, "serving a newer schema", err, "schema version 9999", "newer")
		file := filepath.Join(t.TempDir(), "hub.tar.gz")
		_, err = tool(t, at(dir, url, "backup", file)...)
		refused(t, "a backup of a newer schema", err, "schema version 9999")
		if _, err := os.Stat(file); err == nil {
			t.Error("the refused backup left a file")
		}
		_, err = tool(t, at(dir, url, "org", "list")...)
		refused(t, "listing a newer schema", err, "schema version 9999")
	})
}

// TestToolsMakeNoData sees that a tool with a wrong folder says so and makes nothing.
func TestToolsMakeNoData(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nothing here")
	for _, args := range [][]string{{"org", "list"}, {"release"}, {"user", "reset", "x@example.com"}, {"backup", filepath.Join(t.TempDir(), "b")}} {
		_, err := tool(t, at(dir, "", args...)...)
		refused(t, args[0], err, dir)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a tool has made the data folder")
	}
}
