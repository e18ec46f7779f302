package host

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/connectors"
)

// journal is a log whose lines can be waited for.
type journal struct {
	slog.Handler
	lines chan slog.Record
}

func newJournal() *journal { return &journal{slog.DiscardHandler, make(chan slog.Record, 10000)} }

func (j *journal) Enabled(context.Context, slog.Level) bool { return true }
func (j *journal) WithAttrs([]slog.Attr) slog.Handler       { return j }
func (j *journal) Handle(_ context.Context, r slog.Record) error {
	select {
	case j.lines <- r:
	default:
	}
	return nil
}

// await waits for a line.
func (j *journal) await(t testing.TB, message string) slog.Record {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case r := <-j.lines:
			if r.Message == message {
				return r
			}
		case <-late:
			t.Fatalf("never logged: %s", message)
		}
	}
}

func TestEveryItemIsAnsweredOnceWhenTheProcessIsKilled(t *testing.T) {
	j := newJournal()
	s := start(t, slog.New(j))
	j.await(t, "connector started")
	const lanes, each, kills = 8, 2500, 5
	var answers [lanes * each]atomic.Int32
	var handedOver, broke atomic.Int32
	var wg sync.WaitGroup
	for lane := range lanes {
		e := endpoint(lane)
		wg.Go(func() {
			credit := make(chan struct{}, 16)
			var open sync.WaitGroup
			for i := lane * each; i < (lane+1)*each; i++ {
				credit <- struct{}{}
				open.Add(1)
				d := delivery("dlv_"+strconv.Itoa(i), "OK", e)
				var done func(connectors.Result)
				again := func() { handedOver.Add(1); s.Deliver("obedient", e, d, done) }
				done = func(r connectors.Result) {
					answers[i].Add(1)
					if r.DeliveryID != d.ID {
						t.Errorf("%s was answered as %s", d.ID, r.DeliveryID)
					}
					if r.Outcome == connectors.Done {
						<-credit
						open.Done()
						return
					}
					if r.Fault != connectors.FaultConnector || r.Outcome != connectors.Retry {
						t.Errorf("got %+v", r)
					}
					answers[i].Add(-1)
					broke.Add(1)
					again()
				}
				again()
			}
			open.Wait()
		})
	}
	pids := map[int]bool{}
	for range kills {
		pid := s.Stats()[0].PID
		pids[pid] = true
		_ = syscall.Kill(pid, syscall.SIGKILL)
		j.await(t, "connector started")
	}
	wg.Wait()
	for i := range answers {
		if n := answers[i].Load(); n != 1 {
			t.Fatalf("item %d was answered %d times", i, n)
		}
	}
	st := s.Stats()[0]
	if st.Restarts != kills || len(pids) != kills || st.InFlight != 0 || st.Held != 0 {
		t.Errorf("%d processes, %+v", len(pids), st)
	}
	t.Logf("%d items, %d handed over, %d answered for a dead process", len(answers), handedOver.Load(), broke.Load())
}

func TestAHungProcessIsReplaced(t *testing.T) {
	j := newJournal()
	s := start(t, slog.New(j))
	j.await(t, "connector started")
	e := endpoint(1)
	pid := s.Stats()[0].PID
	stop(t, pid)
	r := deliver(t, s, e, delivery("dlv_1", "OK", e))
	if r.Outcome != connectors.Retry || r.Fault != connectors.FaultConnector {
		t.Errorf("got %+v", r)
	}
	j.await(t, "connector started")
	if r := deliver(t, s, e, delivery("dlv_1", "OK", e)); r.Outcome != connectors.Done {
		t.Errorf("got %+v", r)
	}
	if st := s.Stats()[0]; alive(pid) || st.PID == pid || !strings.Contains(st.LastError, "sign of life") {
		t.Errorf("the hung process is alive: %v; %+v", alive(pid), st)
	}
}

// stop stops a process and returns when each of its threads stands still: the signal is
// only sent when kill returns, and a thread may run on for a moment.
func stop(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(10 * time.Second); !still(t, pid); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("process %d does not stop", pid)
		}
	}
}

func still(t *testing.T, pid int) bool {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("no threads of process %d: %v", pid, err)
	}
	for _, f := range threads {
		b, _ := os.ReadFile(f) // nothing of a thread that has just ended
		if i := strings.LastIndex(string(b), ") "); i < 0 || !strings.HasPrefix(string(b)[i+2:], "T") {
			return false
		}
	}
	return true
}

func TestThePluginDiesWithItsHost(t *testing.T) {
	dir := shortTempDir(t)
	host := exec.Command("/proc/self/exe", "host", dir)
	stdout, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := host.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	// The plugin inherits a descriptor from the host (5; 3 and 4 are the launcher and its program): when it is
	// closed everywhere, both are gone.
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	host.ExtraFiles = []*os.File{write, write, write}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	lines := bufio.NewReader(stdout)
	line, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || !alive(pid) {
		t.Fatalf("no plugin: %q", line)
	}
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		_ = syscall.Kill(pid, sig) // the hub decides, not whoever signals the group
	}
	fmt.Fprintln(stdin, "check") // the host asks the plugin for a delivery
	if line, err := lines.ReadString('\n'); line != "DONE\n" {
		t.Fatalf("the plugin obeyed a signal: %q, %v", line, err)
	}
	died := time.Now()
	_ = host.Process.Kill()
	_ = host.Wait()
	_, _ = read.Read(make([]byte, 1)) // ends when nobody holds the other end
	if took := time.Since(died); took > time.Second {
		t.Errorf("the plugin lived on for %s", took)
	} else {
		t.Logf("the plugin ended %s after its host", took)
	}
}

func TestRepeatedCrashesAreTriedEverMoreSlowly(t *testing.T) {
	j, clock := newJournal(), clockwork.NewFakeClock()
	s, err := New(Config{Catalog: []Entry{{Name: "missing", Path: "/nowhere", SHA256: "00"}}, Logger: slog.New(j), Clock: clock, TempDir: shortTempDir(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close(t.Context()) }()
	var waits []time.Duration
	for range 12 {
		j.await(t, "connector is down")
		if err := clock.BlockUntilContext(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		wait := s.Stats()[0].NextStart.Sub(clock.Now())
		waits = append(waits, wait)
		clock.Advance(wait)
	}
	want := []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 1600 * time.Millisecond,
		3200 * time.Millisecond, 6400 * time.Millisecond, 12800 * time.Millisecond, 25600 * time.Millisecond, time.Minute, time.Minute, time.Minute}
	if !slices.Equal(waits, want) {
		t.Errorf("waited %v", waits)
	}
	if st := s.Stats()[0]; st.State != Quarantined {
		t.Errorf("%+v", st)
	}
}

// One lane is answered while 20 others of the same connector hang, for as long as it takes.
func TestHangingLanesDelayNobody(t *testing.T) {
	s := start(t, nil)
	var hanging sync.WaitGroup
	for lane := 1; lane <= 20; lane++ {
		for i := range 100 {
			hanging.Add(1)
			l := endpoint(lane)
			s.Deliver("obedient", l, delivery(fmt.Sprintf("dlv_%d_%d", lane, i), "HANG", l), func(connectors.Result) { hanging.Done() })
		}
	}
	e := endpoint(0)
	for i := range 1000 {
		if r := deliver(t, s, e, delivery("dlv_"+strconv.Itoa(i), "OK", e)); r.Outcome != connectors.Done {
			t.Fatalf("got %+v", r)
		}
	}
	if st := s.Stats()[0]; st.InFlight != 2000 {
		t.Errorf("%d items hang, not 2000", st.InFlight)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_ = s.Close(ended)
	hanging.Wait()
}

func TestNothingIsLeftAfterManyKills(t *testing.T) {
	j := newJournal()
	clock := clockwork.NewFakeClock()
	entries, self, err := Shipped("obedient")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	s, err := New(Config{Catalog: entries, Logger: slog.New(j), Clock: clock, TempDir: shortTempDir(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close(t.Context()) }()
	var before footprint
	for i := range 150 {
		j.await(t, "connector started")
		if i == 0 {
			before = settled(t)
		}
		clock.Advance(healthyAfter) // so that the next crash is a first one
		_ = syscall.Kill(s.Stats()[0].PID, syscall.SIGKILL)
		j.await(t, "connector is down")
		if err := clock.BlockUntilContext(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		clock.Advance(100 * time.Millisecond)
	}
	j.await(t, "connector started")
	if after := settled(t); after.exceeds(before) {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if dirs, _ := filepath.Glob(s.dir + "/*"); len(dirs) != 1 {
		t.Errorf("socket folders: %v", dirs)
	}
}

// footprint is what this process holds.
type footprint struct{ goroutines, sockets, files, children int }

func (f footprint) exceeds(before footprint) bool {
	return f.goroutines > before.goroutines || f.sockets > before.sockets || f.files > before.files || f.children > before.children
}

// settled is the footprint once it stays as it is: what ends takes its time.
func settled(t testing.TB) (now footprint) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for same := 0; same < 10; same++ {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("it does not settle: %+v", now)
		}
		if f := footprintNow(t); f != now {
			now, same = f, 0
		}
	}
	return now
}

func footprintNow(t testing.TB) (f footprint) {
	t.Helper()
	f.goroutines = runtime.NumGoroutine()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.HasPrefix(to, "socket:") {
			f.sockets++
		} else {
			f.files++
		}
	}
	children, _ := filepath.Glob("/proc/self/task/*/children")
	for _, c := range children {
		b, _ := os.ReadFile(c) // of a thread that has just ended: none
		f.children += len(strings.Fields(string(b)))
	}
	return f
}

func TestTheHubsEnvironmentIsWithheld(t *testing.T) {
	t.Setenv("HOOKYARD_DATABASE_URL", "postgres://hush")
	s := start(t, nil)
	e := endpoint(1)
	r := deliver(t, s, e, delivery("dlv_1", "ENV", e))
	for _, v := range strings.Split(string(r.Response.Body), "\x00") {
		switch name, _, _ := strings.Cut(v, "="); name {
		case "PATH", "HOME", "TMPDIR", "TZ", "LANG", "GOGC", "GOMEMLIMIT", "SSL_CERT_FILE", "SSL_CERT_DIR", "HOOKYARD_PLUGIN", "GORACE":
		default:
			if !strings.HasPrefix(name, "PLUGIN_") {
				t.Errorf("the plugin sees %s", name)
			}
		}
	}
}

func TestNobodyElseCanTalkToThePlugin(t *testing.T) {
	s := start(t, nil)
	sockets, _ := filepath.Glob(s.dir + "/*/plugin*")
	if len(sockets) != 1 {
		t.Fatalf("sockets: %v", sockets)
	}
	conn, err := net.Dial("unix", sockets[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}) //nolint:gosec // that is the point
	err = client.Handshake()
	if err == nil {
		_, err = client.Read(make([]byte, 1)) // TLS 1.3 tells the client afterwards
	}
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a stranger without a certificate got in: %v", err)
	}
}

func TestAnUpgradeInPlaceDoesNotChangeWhatRuns(t *testing.T) {
	dir := shortTempDir(t)
	program := filepath.Join(dir, "program")
	copyProgram(t, program)
	file, err := os.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	j := newJournal()
	s, err := New(Config{Catalog: []Entry{{Name: "obedient", Path: program, File: file, Args: []string{"plugin", "obedient"}}},
		Logger: slog.New(j), Clock: clockwork.NewRealClock(), TempDir: dir, BackoffMin: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	j.await(t, "connector started")
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, []byte("#!/bin/false\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(s.Stats()[0].PID, syscall.SIGKILL)
	j.await(t, "connector started")
	e := endpoint(1)
	if r := deliver(t, s, e, delivery("dlv_1", "EXE", e)); !strings.HasSuffix(r.Error, "program (deleted)") {
		t.Errorf("it runs %q", r.Error)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	_ = os.Remove(program)
}

func TestABrokenConnectorHoldsNobodyUp(t *testing.T) {
	dir := shortTempDir(t)
	program := filepath.Join(dir, "program")
	sum := copyProgram(t, program)
	entries, self, err := Shipped("obedient")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	args := []string{"plugin", "other"}
	entries = append(entries,
		Entry{Name: "other", Path: program, Args: args, SHA256: sum},
		Entry{Name: "changed", Path: program, Args: args, SHA256: strings.Repeat("0", 64)},
		Entry{Name: "unsigned", Path: program, Args: args},
		Entry{Name: "missing", Path: filepath.Join(dir, "nothing"), SHA256: sum},
		Entry{Name: "impostor", Path: program, Args: args, SHA256: sum},
		Entry{Name: "no-plugin", Path: "/bin/true", SHA256: sumOf(t, "/bin/true")})
	s, err := New(Config{Catalog: entries, Logger: slog.New(slog.DiscardHandler), Clock: clockwork.NewRealClock(), TempDir: dir, BackoffMin: time.Hour, BackoffMax: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"", "", "is not the program that the catalog names", "names no SHA-256", "no such file", `it is "other"`, "plugin"} {
		st := s.Stats()[i]
		if !strings.Contains(st.LastError, want) || (want == "") != (st.State == Running) {
			t.Errorf("%+v, want %q", st, want)
		}
	}
	if len(s.Specs()) != 2 {
		t.Errorf("specs: %+v", s.Specs())
	}
	answer := make(chan connectors.Result, 1)
	e := endpoint(1)
	s.Deliver("missing", e, delivery("dlv_1", "OK", e), func(r connectors.Result) { answer <- r })
	if r := <-answer; r.Outcome != connectors.Retry || r.Fault != connectors.FaultConnector || r.RetryAfter < time.Minute {
		t.Errorf("got %+v", r)
	}
	if err := s.Check(t.Context(), "missing", e); err == nil || !strings.Contains(err.Error(), "not running") {
		t.Errorf("got %v", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	_ = os.Remove(program)
}

func TestCloseFinishesWhatIsInFlight(t *testing.T) {
	s, self, err := newSupervisor(shortTempDir(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	e := endpoint(1)
	answers := make(chan connectors.Result, 600)
	done := func(r connectors.Result) { answers <- r }
	for i := range 500 {
		s.Deliver("obedient", e, delivery("dlv_"+strconv.Itoa(i), "OK", e), done)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	s.Deliver("obedient", e, delivery("dlv_late", "OK", e), done)
	for range 500 {
		if r := <-answers; r.Outcome != connectors.Done {
			t.Fatalf("got %+v", r)
		}
	}
	if r := <-answers; r.DeliveryID != "dlv_late" || r.Fault != connectors.FaultConnector {
		t.Errorf("got %+v", r)
	}
}

func copyProgram(t testing.TB, to string) (sum string) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o700); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

func sumOf(t testing.TB, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}
