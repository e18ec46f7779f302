package server_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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
	l := startLoad(200, 8, a, b)
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
	d := doubts{load: l}
	d.kill(t, 1, func() {
		if err := one.Kill(); err != nil {
			t.Fatal(err)
		}
	}, one)
	// Senders turn to the other node.
	l.until(t, 900)
	if err := one.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.until(t, 1200)
	accepted := l.end()
	s.await(t, "a", accepted, time.Minute)
	d.check(t, s, "a")
	if got := succeeded(t, two, from, len(accepted)); len(got) < len(accepted) {
		t.Errorf("the log shows %d of %d", len(got), len(accepted))
	}
}

// TestTwoNodesOneAway stops one of two nodes, or cuts it off from the database, for longer
// than the other waits: what it has not handed over by then it leaves to the other.
func TestTwoNodesOneAway(t *testing.T) {
	signal := func(t *testing.T, h *program.Hub, s syscall.Signal) {
		t.Helper()
		if err := syscall.Kill(h.Pid(), s); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("asleep", func(t *testing.T) {
		t.Parallel()
		awayNode(t, func(one *program.Hub, _ *relay) (inFlight int) {
			inFlight = handedOver(t, one) + 2 // one of which has ended and one begun since it was asked
			signal(t, one, syscall.SIGSTOP)
			t.Cleanup(func() { _ = syscall.Kill(one.Pid(), syscall.SIGCONT) })
			return inFlight
		}, func(one *program.Hub, _ *relay) { signal(t, one, syscall.SIGCONT) })
	})
	t.Run("cut off", func(t *testing.T) {
		t.Parallel()
		awayNode(t, func(one *program.Hub, wire *relay) int {
			wire.silence(true)
			until(t, 14*time.Second, "the node gives up what it has not handed over", func() bool { return metric(t, one, "hookyard_deliveries_queued") == 0 })
			return handedOver(t, one)
		}, func(_ *program.Hub, wire *relay) {
			wire.silence(false)
			wire.cut() // what hangs stays so
		})
	})
}

// awayNode has one of two nodes leave, which says how many deliveries it has handed over and
// not recorded, and come back when the other has delivered everything.
func awayNode(t *testing.T, leave func(one *program.Hub, wire *relay) int, comeBack func(one *program.Hub, wire *relay)) {
	direct := storetest.Postgres(t)
	u, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	wire := newRelay(t, u.Host)
	u.Host = strings.TrimPrefix(wire.url, "http://")
	s := newSink(t)
	dir := t.TempDir()
	one := startIn(t, dir, u.String(), "--allow-private-targets", "--node-name", "one")
	two := second(t, one, dir, direct)
	// While a node is away it earns as many hand-overs as the burst allows.
	endpoint, err := one.CreateEndpoint(t.Context(), program.Input{"name": "a", "connector": "webhook", "url": s.url + "/a", "ratePerSecond": 1, "burst": 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := one.CreateWebhook(t.Context(), program.Input{"name": "a", "endpointId": endpoint, "global": true, "format": "hookyard"}); err != nil {
		t.Fatal(err)
	}
	_, address, err := one.CreateSource(t.Context(), program.Input{"name": "events", "kind": "cloudevents"})
	if err != nil {
		t.Fatal(err)
	}
	var events []int
	for n := 1; n <= 45; n++ { // the rate makes 25 of them wait
		if err := send(one.HTTP, address, n); err != nil {
			t.Fatal(err)
		}
		events = append(events, n)
	}
	inFlight := leave(one, wire)
	until(t, time.Minute, "the other delivers everything", func() bool {
		return len(deliveries(t, two, program.Input{"states": []string{"PENDING", "ATTEMPTING", "RETRYING"}})) == 0
	})
	s.await(t, "a", events, time.Second)
	comeBack(one, wire)
	until(t, 30*time.Second, "it is back", func() bool { return send(one.HTTP, address, 46) == nil })
	s.await(t, "a", []int{46}, 30*time.Second)
	until(t, 30*time.Second, "it has nothing in hand", func() bool { return handedOver(t, one) == 0 && metric(t, one, "hookyard_deliveries_queued") == 0 })
	if n := len(s.twice("a")); n > inFlight {
		t.Errorf("%d events came twice, %d were handed over and not recorded", n, inFlight)
	}
	t.Logf("%d came twice, %d were handed over and not recorded", len(s.twice("a")), inFlight)
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
	l := startLoad(200, 8, address)
	d := doubts{load: l}
	for i := range 2 {
		l.until(t, 300*(i+1))
		d.kill(t, 1, func() {
			if err := server.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		}, h)
	}
	l.until(t, 1000)
	accepted := l.end()
	s.await(t, "a", accepted, time.Minute)
	d.check(t, s, "a")
}
