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
	"github.com/hookyard/hookyard/server/servertest/program"
)

// doubts counts the deliveries that may come twice: those that were handed over and not
// recorded when something was killed.
type doubts struct {
	load *load
	most int
}

// kill asks the hubs what they have in flight and lets do kill. Between the two they may hand
// over what was accepted since, or is being accepted for a sender.
func (d *doubts) kill(t *testing.T, endpoints int, do func(), hubs ...*program.Hub) {
	t.Helper()
	for _, h := range hubs {
		until(t, 20*time.Second, "nothing is left to claim", func() bool { return metric(t, h, `hookyard_lanes{state="backlog"}`) == 0 })
	}
	before := d.load.count()
	for _, h := range hubs {
		queued := metric(t, h, "hookyard_deliveries_queued") // first: they go that way
		d.most += int(queued) + handedOver(t, h)
	}
	do()
	d.most += endpoints * (d.load.count() - before + d.load.senders)
}

// check fails when more came twice than may.
func (d *doubts) check(t *testing.T, s *sink, endpoints ...string) {
	t.Helper()
	n := 0
	for _, e := range endpoints {
		n += len(s.twice(e))
	}
	t.Logf("%d accepted, %d refused; %d came twice, %d may", len(d.load.accepted), d.load.refused, n, d.most)
	if n > d.most {
		t.Errorf("%d deliveries came twice, and only %d were in flight at a kill", n, d.most)
	}
}

// handedOver is how many deliveries a node has handed over whose results are not recorded.
func handedOver(t *testing.T, h *program.Hub) int {
	t.Helper()
	return int(metric(t, h, "hookyard_deliveries_in_flight") + metric(t, h, "hookyard_results_unrecorded"))
}

func TestKillHub(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := newSink(t)
		h := start(t, url, "--allow-private-targets")
		address, _ := world(t, h, s, "a", "b")
		l := startLoad(300, 8, address)
		d := doubts{load: l}
		for i := range 3 {
			l.until(t, 400*(i+1))
			d.kill(t, 2, func() {
				if err := h.Kill(); err != nil {
					t.Fatal(err)
				}
			}, h)
			if err := h.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		l.until(t, 1600)
		accepted := l.end()
		for _, e := range []string{"a", "b"} {
			s.await(t, e, accepted, 30*time.Second)
		}
		d.check(t, s, "a", "b")
	})
}

func TestKillConnector(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := newSink(t)
		h := start(t, url, "--allow-private-targets")
		address, _ := world(t, h, s, "a")
		l := startLoad(300, 8, address)
		d := doubts{load: l}
		for i := range 3 {
			l.until(t, 300*(i+1))
			d.kill(t, 1, func() {
				for _, pid := range children(t, h.Pid()) {
					if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
						t.Fatal(err)
					}
				}
			}, h)
		}
		l.until(t, 1200)
		accepted := l.end()
		s.await(t, "a", accepted, 30*time.Second)
		d.check(t, s, "a")
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
	h, log := startLogged(t, t.TempDir(), url, "--allow-private-targets")
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
	do("BEGIN")
	do("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
	hook(t, h, "resume", hooks[0])
	const claimed = "open_deliveries WHERE lease_node <> ''"
	until(t, 20*time.Second, "the hub claims", func() bool { return count(claimed) > 0 })
	do("LOCK TABLE open_deliveries IN ACCESS EXCLUSIVE MODE")
	until(t, 20*time.Second, "the claim fails, and what it gives up", func() bool {
		count("(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'hookyard') cut")
		return strings.Contains(log.String(), "doing=claim")
	})
	do("COMMIT")
	if count(claimed) == 0 {
		t.Fatal("nothing is leased: the test shows nothing")
	}
	s.await(t, "a", events, 2*time.Minute)
	if n := len(s.twice("a")); n > 0 {
		t.Errorf("%d events came twice", n)
	}
}
