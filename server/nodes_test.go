package server_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/server/servertest/program"
)

// second starts another node on the database of the first.
func second(t *testing.T, first *program.Hub, firstDir, url string) *program.Hub {
	t.Helper()
	return secondIn(t, t.TempDir(), first, firstDir, url)
}

// secondIn does it in a folder, which is made when it is missing.
func secondIn(t *testing.T, dir string, first *program.Hub, firstDir, url string) *program.Hub {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(firstDir, "hookyard.key"))
	if err != nil {
		t.Fatal(err)
	}
	admin, err := os.ReadFile(filepath.Join(firstDir, "admin.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"hookyard.key": key, "admin.json": admin} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h := startIn(t, dir, url, "--allow-private-targets", "--node-name", "two")
	h.Key = first.Key
	return h
}

// TestTwoNodes runs two nodes on one PostgreSQL: each shows the other's deliveries live;
// one is killed in mid-load, the other takes over, and nothing is lost.
func TestTwoNodes(t *testing.T) {
	url := storetest.Postgres(t)
	s := newSink(t)
	dir := t.TempDir()
	one := startIn(t, dir, url, "--allow-private-targets", "--node-name", "one")
	two := second(t, one, dir, url)
	a, _ := world(t, one, s, "a")
	b := two.URL + a[len(one.URL):]

	from := mark(t, two)
	logs := map[string]*program.Subscription{}
	for name, h := range map[string]*program.Hub{"one": one, "two": two} {
		log, err := h.DeliveryLog(t.Context(), nil, "")
		if err != nil {
			t.Fatal(err)
		}
		logs[name] = log
	}
	// An event that comes in at one node is seen at both, as soon as both know the source.
	l := startLoad(200, 16, a, b)
	for name, log := range logs {
		seen := 0
		for seen < 50 {
			batch, err := log.NextBatch(t.Context())
			if err != nil {
				t.Fatalf("node %s: %v", name, err)
			}
			seen += len(batch.Entries)
		}
	}
	l.until(t, 600)
	killed := time.Now()
	if err := one.Kill(); err != nil {
		t.Fatal(err)
	}
	// Senders turn to the other node.
	l.until(t, 900)
	if err := one.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.until(t, 1200)
	accepted := l.end()
	s.await(t, "a", accepted, time.Minute)
	checkTwice(t, s, "a", killed)
	if got := succeeded(t, two, from, len(accepted)); len(got) < len(accepted) {
		t.Errorf("the log shows %d of %d", len(got), len(accepted))
	}
}

// TestTakeOver kills a node for good: the other delivers what it had in hand.
func TestTakeOver(t *testing.T) {
	url := storetest.Postgres(t)
	s := newSink(t)
	hung := make(chan struct{}, 64)
	var dead bool
	s.hang = func(string) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !dead {
			hung <- struct{}{}
		}
		return !dead
	}
	dir := t.TempDir()
	one := startIn(t, dir, url, "--allow-private-targets", "--node-name", "one")
	two := second(t, one, dir, url)
	address, _ := world(t, one, s, "a")
	for n := 1; n <= 8; n++ {
		if err := send(one.HTTP, address, n); err != nil {
			t.Fatal(err)
		}
	}
	for range 8 {
		<-hung
	}
	s.mu.Lock()
	dead = true
	s.mu.Unlock()
	if err := one.Kill(); err != nil {
		t.Fatal(err)
	}
	s.await(t, "a", []int{1, 2, 3, 4, 5, 6, 7, 8}, time.Minute)
	_ = two
}

// TestPostgresRestarts kills the database under load: the hub refuses what it cannot
// commit, comes back by itself and loses nothing.
func TestPostgresRestarts(t *testing.T) {
	server, err := storetest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	s := newSink(t)
	h := start(t, server.URL, "--allow-private-targets")
	address, _ := world(t, h, s, "a")
	l := startLoad(200, 16, address)
	var kills []time.Time
	for i := range 2 {
		l.until(t, 300*(i+1))
		kills = append(kills, time.Now())
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	l.until(t, 1000)
	accepted := l.end()
	s.await(t, "a", accepted, time.Minute)
	checkTwice(t, s, "a", kills...)
	t.Logf("%d accepted, %d refused", len(accepted), l.refused)
}
