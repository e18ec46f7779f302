package server_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hookyard/hookyard/ent/store/storetest"
)

// inFlight is how long before a kill an event may have arrived and yet not have been
// recorded. Only such an event may come a second time.
const inFlight = 5 * time.Second

// checkTwice fails for every event that came twice although it was not in flight at any
// of the kills.
func checkTwice(t *testing.T, s *sink, endpoint string, kills ...time.Time) {
	t.Helper()
	for _, first := range s.twice(endpoint) {
		ok := false
		for _, k := range kills {
			ok = ok || (first.After(k.Add(-inFlight)) && first.Before(k.Add(inFlight)))
		}
		if !ok {
			t.Errorf("an event that came to %s at %v came again, and was not in flight at a kill (%v)", endpoint, first, kills)
		}
	}
}

func TestKillHub(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := newSink(t)
		h := start(t, url, "--allow-private-targets")
		address, _ := world(t, h, s, "a", "b")
		l := startLoad(300, 16, address)
		var kills []time.Time
		for i := range 3 {
			l.until(t, 400*(i+1))
			kills = append(kills, time.Now())
			if err := h.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := h.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		l.until(t, 1600)
		accepted := l.end()
		for _, e := range []string{"a", "b"} {
			s.await(t, e, accepted, 30*time.Second)
			checkTwice(t, s, e, kills...)
		}
		t.Logf("%d accepted, %d refused; %d and %d came twice", len(accepted), l.refused, len(s.twice("a")), len(s.twice("b")))
	})
}

func TestKillConnector(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := newSink(t)
		h := start(t, url, "--allow-private-targets")
		address, _ := world(t, h, s, "a")
		l := startLoad(300, 16, address)
		var kills []time.Time
		for i := range 3 {
			l.until(t, 300*(i+1))
			kills = append(kills, time.Now())
			for _, pid := range children(t, h.Pid()) {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}
		l.until(t, 1200)
		accepted := l.end()
		s.await(t, "a", accepted, 30*time.Second)
		checkTwice(t, s, "a", kills...)
		if l.refused > 0 {
			t.Errorf("%d requests were refused because a connector died", l.refused)
		}
	})
}

// TestHubDeathEndsConnectors kills the hub and sees its connectors go within a second.
func TestHubDeathEndsConnectors(t *testing.T) {
	h := start(t, "")
	pids := children(t, h.Pid())
	if len(pids) == 0 {
		t.Fatal("the hub has no connector processes")
	}
	if err := h.Kill(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for _, pid := range pids {
		for late := false; alive(pid); { // asked once more when time is up: the late one may be this process
			if late {
				t.Fatalf("connector process %d lives a second after its hub", pid)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				late = true
			}
		}
	}
}

// alive says whether a process runs; one that has ended and waits to be reaped does not.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(state, "Z")
}

// TestRestartKeepsRetries restarts the hub while a delivery waits for its retry.
func TestRestartKeepsRetries(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := newSink(t)
		refusing := make(chan struct{})
		s.answer = func(string, int) int {
			select {
			case <-refusing:
				return 200
			default:
				return 503
			}
		}
		h := start(t, url, "--allow-private-targets")
		address, _ := world(t, h, s, "a")
		from := mark(t, h)
		log, err := h.DeliveryLog(t.Context(), nil, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := send(h.HTTP, address, 1); err != nil {
			t.Fatal(err)
		}
		b, err := log.NextBatch(t.Context())
		if err != nil || len(b.Entries) != 1 || b.Entries[0].State != "RETRYING" || b.Entries[0].HTTPStatus != 503 {
			t.Fatalf("the log shows %+v, %v", b, err)
		}
		if err := h.Stop(); err != nil {
			t.Fatal(err)
		}
		close(refusing)
		if err := h.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.await(t, "a", []int{1}, 20*time.Second)
		if got := succeeded(t, h, from, 1); len(got) != 1 {
			t.Errorf("the log shows %v", got)
		}
		if n := len(s.twice("a")); n != 0 {
			t.Errorf("the retry ran %d times", n+1)
		}
	})
}

// TestKilledConnectionsOfAClaim cuts the hub off from PostgreSQL when it has claimed what
// waits and has yet to learn what that was: it is delivered without a restart.
func TestKilledConnectionsOfAClaim(t *testing.T) {
	url := storetest.Postgres(t)
	s := newSink(t)
	h := start(t, url, "--allow-private-targets")
	address, hooks := world(t, h, s, "a")
	hook(t, h, "pause", hooks[0])
	var events []int
	for n := 1; n <= 50; n++ {
		if err := send(h.HTTP, address, n); err != nil {
			t.Fatal(err)
		}
		events = append(events, n)
	}
	connect := func() *pgx.Conn {
		c, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close(context.Background()) })
		return c
	}
	lock, look := connect(), connect()
	count := func(sql string) (n int) {
		t.Helper()
		if err := look.QueryRow(t.Context(), "SELECT count(*) FROM "+sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	do := func(sql string) {
		t.Helper()
		if _, err := lock.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	cut := func() {
		t.Helper()
		if count("(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'hookyard') cut") == 0 {
			t.Error("the hub has no connections")
		}
	}
	do("BEGIN")
	do("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
	hook(t, h, "resume", hooks[0])
	const claimed = "open_deliveries WHERE lease_node <> ''"
	until(t, 20*time.Second, "the hub claims", func() bool { return count(claimed) > 0 })
	do("LOCK TABLE open_deliveries IN ACCESS EXCLUSIVE MODE")
	cut()
	until(t, 20*time.Second, "the hub gives up what it has claimed in vain", func() bool {
		return count("pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE open_deliveries SET lease_node = ''''%'") > 0
	})
	cut()
	do("COMMIT")
	if count(claimed) == 0 {
		t.Fatal("nothing is leased: the test shows nothing")
	}
	s.await(t, "a", events, 2*time.Minute)
	if n := len(s.twice("a")); n > 0 {
		t.Errorf("%d events came twice", n)
	}
}
