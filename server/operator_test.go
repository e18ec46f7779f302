package server_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/server/servertest/program"
)

// as is the same hub in the eyes of another key.
func as(h *program.Hub, key string) *program.Hub {
	return &program.Hub{Client: &program.Client{URL: h.URL, Key: key, HTTP: h.HTTP}}
}

// lastLine is where tools print keys.
func lastLine(said string) string {
	lines := strings.Split(strings.TrimSpace(said), "\n")
	return lines[len(lines)-1]
}

// code is what the hub answers to a query of the viewer: "" when it answers it.
func code(t *testing.T, h *program.Hub) string {
	t.Helper()
	err := h.Do(t.Context(), `{ viewer { id } }`, nil, nil)
	var refusal *program.Error
	if err != nil && !errors.As(err, &refusal) {
		t.Fatal(err)
	}
	if refusal == nil {
		return ""
	}
	return refusal.Extensions.Code
}

func TestSuspendOrganization(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := newSink(t)
		var down atomic.Bool
		down.Store(true)
		s.answer = func(string, int) int {
			if down.Load() {
				return 503
			}
			return 200
		}
		dir := t.TempDir()
		h := startIn(t, dir, url, "--allow-private-targets")
		said, err := tool(t, at(dir, url, "org", "create", "Beta", "--administrator", "beta@example.com")...)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tool(t, at(dir, url, "org", "create", "Beta", "--administrator", "beta@example.com")...)
		refused(t, "a second organization of that name", err, `"Beta" already`)
		beta := as(h, lastLine(said))
		if c := code(t, beta); c != "" {
			t.Fatalf("the new organization's key: %s", c)
		}
		a, _ := world(t, h, s, "a")
		b, _ := world(t, beta, s, "b")
		retried := func(n float64) func() bool {
			return func() bool { return metric(t, h, `hookyard_deliveries_total{outcome="retried"}`) >= n }
		}
		if err := send(h.HTTP, a, 1); err != nil {
			t.Fatal(err)
		}
		until(t, 5*time.Second, "the first attempt", retried(1))

		if _, err := tool(t, at(dir, url, "org", "suspend", "Default")...); err != nil {
			t.Fatal(err)
		}
		until(t, 5*time.Second, "its source answers 403", func() bool {
			err := send(h.HTTP, a, 2)
			return err != nil && strings.Contains(err.Error(), "403")
		})
		if c := code(t, h); c != "UNAUTHENTICATED" {
			t.Errorf("the suspended organization's key: %q", c)
		}
		if said, err := tool(t, at(dir, url, "org", "list")...); err != nil || !strings.Contains(said, "suspended") || !strings.Contains(said, "active") {
			t.Errorf("org list: %s, %v", said, err)
		}
		// The other organization goes on. Its retry is due after that of the suspended one.
		before := metric(t, h, `hookyard_deliveries_total{outcome="retried"}`)
		if err := send(h.HTTP, b, 1); err != nil {
			t.Fatal(err)
		}
		until(t, 5*time.Second, "the other's first attempt", retried(before+1))
		down.Store(false)
		s.await(t, "b", []int{1}, 10*time.Second)
		if lost := s.missing("a", []int{1}); len(lost) == 0 {
			t.Error("a delivery of a suspended organization went out")
		}

		if _, err := tool(t, at(dir, url, "org", "suspend", "Default", "--lift")...); err != nil {
			t.Fatal(err)
		}
		s.await(t, "a", []int{1}, 15*time.Second)
		if err := send(h.HTTP, a, 3); err != nil || code(t, h) != "" {
			t.Errorf("after the suspension: %v, %s", err, code(t, h))
		}
		s.await(t, "a", []int{3}, 5*time.Second)
		_, err = tool(t, at(dir, url, "org", "suspend", "Gamma")...)
		refused(t, "suspending what does not exist", err, `no organization "Gamma"`)
	})
}

// census counts the rows of each table, and of each that names organizations those of org.
func census(t *testing.T, dir, url, org string) (all, of map[string]int) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{DataDir: dir, DatabaseURL: url, Existing: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	texts := func(query string, args ...any) (out []string) {
		rows, err := db.Client.QueryContext(t.Context(), query, args...)
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		defer rows.Close()
		for rows.Next() {
			var s string
			if err := rows.Scan(&s); err != nil {
				t.Fatal(err)
			}
			out = append(out, s)
		}
		return out
	}
	count := func(query string, args ...any) (n int) {
		_, err := fmt.Sscan(texts(query, args...)[0], &n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	tables := "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE 'goose%'"
	columns := "SELECT name FROM pragma_table_info($1)"
	if url != "" {
		tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'goose%'"
		columns = "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = $1"
	}
	all, of = map[string]int{}, map[string]int{}
	for _, name := range texts(tables) {
		all[name] = count("SELECT count(*) FROM " + name)
		for _, c := range texts(columns, name) {
			if c == "organization_id" || c == "org" {
				of[name] = count("SELECT count(*) FROM "+name+" WHERE "+c+" = $1", org)
			}
		}
	}
	delete(all, "marks") // retention's own, at its own pace
	return all, of
}

// TestDeleteOrganization deletes an organization from under a running hub, while one of
// its deliveries is in flight: no row of it stays, and no other row goes.
func TestDeleteOrganization(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := newSink(t)
		var slow atomic.Bool
		s.hang = func(endpoint string) bool { return endpoint == "b" && slow.Load() }
		dir := t.TempDir()
		h := startIn(t, dir, url, "--allow-private-targets")
		a, _ := world(t, h, s, "a")
		from := mark(t, h)
		if err := send(h.HTTP, a, 1); err != nil {
			t.Fatal(err)
		}
		succeeded(t, h, from, 1)
		before, _ := census(t, dir, url, "")

		said, err := tool(t, at(dir, url, "org", "create", "Beta", "--administrator", "beta@example.com")...)
		if err != nil {
			t.Fatal(err)
		}
		beta := as(h, lastLine(said))
		b, hooks := world(t, beta, s, "b")
		if err := beta.Do(t.Context(), `mutation ($id: ID!) { updateWebhook(input: {id: $id, timeoutSeconds: 2}) { webhook { id } } }`, program.Input{"id": hooks[0]}, nil); err != nil {
			t.Fatal(err)
		}
		var its struct{ Organization struct{ ID string } }
		if err := beta.Do(t.Context(), `{ organization { id } }`, nil, &its); err != nil {
			t.Fatal(err)
		}
		furnish(t, beta, s)
		if err := send(h.HTTP, b, 1); err != nil {
			t.Fatal(err)
		}
		s.await(t, "b", []int{1}, 5*time.Second)
		slow.Store(true)
		if err := send(h.HTTP, b, 2); err != nil {
			t.Fatal(err)
		}
		until(t, 5*time.Second, "one is in flight", func() bool { return metric(t, h, "hookyard_deliveries_in_flight") > 0 })
		if _, of := census(t, dir, url, its.Organization.ID); of["open_deliveries"] == 0 || of["entries"] == 0 || of["events"] == 0 || of["webhooks"] == 0 {
			t.Fatalf("the test has too little to delete: %v", of)
		}

		_, err = tool(t, at(dir, url, "org", "delete", "Beta", "--confirm", "Default")...)
		refused(t, "deleting without the name", err, "--confirm", "Beta")
		// Senders do not stop because of it.
		l := startLoad(100, 4, b)
		if _, err := tool(t, at(dir, url, "org", "delete", "Beta", "--confirm", "Beta")...); err != nil {
			t.Fatal(err)
		}
		until(t, 5*time.Second, "its source is unknown", func() bool {
			err := send(h.HTTP, b, 100_000)
			return err != nil && strings.Contains(err.Error(), "404")
		})
		l.end()
		until(t, 15*time.Second, "nothing is in flight", func() bool {
			return metric(t, h, "hookyard_deliveries_in_flight") == 0 && metric(t, h, "hookyard_results_unrecorded") == 0
		})
		after, of := census(t, dir, url, its.Organization.ID)
		for table, n := range of {
			if n > 0 {
				t.Errorf("%d rows of the deleted organization are left in %s", n, table)
			}
		}
		if !maps.Equal(before, after) {
			t.Errorf("rows before: %v\nrows after: %v", before, after)
		}
		if c := code(t, beta); c != "UNAUTHENTICATED" {
			t.Errorf("the deleted organization's key: %q", c)
		}
		if err := send(h.HTTP, a, 2); err != nil {
			t.Fatal(err)
		}
		s.await(t, "a", []int{2}, 5*time.Second)
	})
}

// furnish gives an organization a row of each kind that people make.
func furnish(t *testing.T, h *program.Hub, s *sink) {
	t.Helper()
	ctx := t.Context()
	group, err := h.CreateAssetGroup(ctx, "group")
	if err != nil {
		t.Fatal(err)
	}
	app, err := h.CreateApplication(ctx, "application", group)
	if err != nil {
		t.Fatal(err)
	}
	source, _, err := h.CreateSource(ctx, program.Input{"name": "another", "kind": "cloudevents", "mapping": program.Input{"default": app}})
	if err != nil {
		t.Fatal(err)
	}
	endpoint, err := h.CreateEndpoint(ctx, program.Input{"name": "another", "connector": "webhook", "url": s.url + "/another"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.CreateWebhook(ctx, program.Input{"name": "another", "endpointId": endpoint, "format": "hookyard",
		"applicationIds": []string{app}, "scopeGroupIds": []string{group}, "sourceIds": []string{source}}); err != nil {
		t.Fatal(err)
	}
	if err := h.Do(ctx, `mutation ($g: [ID!]) {
		createUser(input: {email: "x@example.com", role: TESTER, groupIds: $g}) { user { id } }
		createAPIKey(input: {name: "k", role: TESTER, groupIds: $g}) { key } }`, program.Input{"g": []string{group}}, nil); err != nil {
		t.Fatal(err)
	}
}

func TestResetUser(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		dir := t.TempDir()
		h := startIn(t, dir, url)
		other, err := tool(t, at(dir, url, "org", "create", "Beta", "--administrator", "admin@localhost")...)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tool(t, at(dir, url, "user", "reset", "admin@localhost")...)
		refused(t, "an ambiguous user", err, "--organization")
		_, err = tool(t, at(dir, url, "user", "reset", "nobody@localhost")...)
		refused(t, "an unknown user", err, "nobody@localhost")
		said, err := tool(t, at(dir, url, "user", "reset", "Admin@localhost", "--organization", "Default")...)
		if err != nil {
			t.Fatal(err)
		}
		if c := code(t, h); c != "UNAUTHENTICATED" {
			t.Errorf("the old key: %q", c)
		}
		if c := code(t, as(h, lastLine(said))); c != "" {
			t.Errorf("the new key: %q", c)
		}
		if c := code(t, as(h, lastLine(other))); c != "" {
			t.Errorf("the key of the other organization's user: %q", c)
		}
	})
}

// TestFirstStart sees who may read the first credentials, that they are written once,
// and that a folder takes one hub.
func TestFirstStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by the hub")
	h := startIn(t, dir, "")
	file := filepath.Join(dir, "admin.json")
	for _, f := range []string{file, filepath.Join(dir, "hookyard.key")} {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f, info, err)
		}
	}
	_, err := tool(t, at(dir, "", "serve", "--listen", "127.0.0.1:0")...)
	refused(t, "a second hub in the folder", err, "another hub is running in "+dir)
	if err := h.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := h.Start(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the credentials were written a second time")
	}
	if c := code(t, h); c != "" {
		t.Errorf("the first key after a restart: %q", c)
	}
}
