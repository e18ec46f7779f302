package server_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/server/servertest/program"
)

// scratch is a folder of this test run.
var scratch string

// binary is the built program: these tests kill it, so it runs as users run it. The
// environment names one that is built already (make test), else it is built once.
var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("HOOKYARD_TEST_BINARY"); path != "" {
		return path, nil
	}
	path := filepath.Join(scratch, "hookyard")
	build := exec.Command("go", "build", "-o", path, "./cmd/hookyard")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	_ = os.Unsetenv("SUDO_USER") // or the audit log of the tests would depend on who runs them
	var err error
	if scratch, err = os.MkdirTemp("", "hookyard-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	_ = os.RemoveAll(scratch)
	os.Exit(status)
}

// onEach runs a test on both databases, side by side; url is "" for the embedded one.
func onEach(t *testing.T, test func(t *testing.T, url string)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, "")
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, storetest.Postgres(t))
	})
}

// start starts a hub; what it logged is shown when the test fails.
func start(t *testing.T, url string, args ...string) *program.Hub {
	t.Helper()
	return startIn(t, t.TempDir(), url, args...)
}

func startIn(t *testing.T, dir, url string, args ...string) *program.Hub {
	t.Helper()
	h, _ := startLogged(t, dir, url, args...)
	return h
}

// startLogged is startIn with what the hub logs.
func startLogged(t *testing.T, dir, url string, args ...string) (*program.Hub, *lockedBuffer) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return startConfigured(t, program.Config{Binary: path, Dir: dir, Args: args}, url)
}

// startConfigured is startLogged with all that may be said of a start.
func startConfigured(t *testing.T, c program.Config, url string) (*program.Hub, *lockedBuffer) {
	t.Helper()
	log := &lockedBuffer{}
	c.Log = log
	if url != "" {
		c.Args = append(c.Args, "--database-url", url)
	}
	h, err := program.Start(t.Context(), c)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	t.Cleanup(func() {
		if err := h.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the hub said:\n%s", log)
		}
	})
	return h, log
}

// tool runs one of the operator's commands; what it complains about is the error.
func tool(t *testing.T, args ...string) (said string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	var out, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, &complaint)
	}
	return out.String(), nil
}

// at names a hub's data to a tool.
func at(dir, url string, args ...string) []string {
	args = append(args, "--data-dir", dir)
	if url != "" {
		args = append(args, "--database-url", url)
	}
	return args
}

// until asks again and again until the answer is yes: for what no signal tells.
func until(t *testing.T, limit time.Duration, what string, yes func() bool) {
	t.Helper()
	timeout := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !yes() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// metric reads one figure of /metrics, as "name" or "name{labels}".
func metric(t *testing.T, h *program.Hub, name string) float64 {
	t.Helper()
	resp, err := h.HTTP.Get(h.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("/metrics has no %s", name)
	return 0
}

// owned returns the URL of a fresh database for its owner, who may do nothing else.
func owned(t *testing.T) string {
	t.Helper()
	admin := storetest.Postgres(t)
	run := func(ctx context.Context, sql string) {
		c, err := pgx.Connect(ctx, admin)
		if err == nil {
			_, err = c.Exec(ctx, sql)
			_ = c.Close(ctx)
		}
		if err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	role, password := "hookyard_owner_"+strings.ToLower(rand.Text()), rand.Text()
	run(t.Context(), "CREATE ROLE "+role+" LOGIN PASSWORD '"+password+"'") // servers that trust nobody ask for it
	t.Cleanup(func() { run(context.Background(), "DROP ROLE "+role) })
	u, err := url.Parse(storetest.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	run(t.Context(), "ALTER DATABASE "+strings.TrimPrefix(u.Path, "/")+" OWNER TO "+role)
	u.User = url.UserPassword(role, password)
	return u.String()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// sink counts what arrives: by endpoint (the path) and event (attributes.n).
type sink struct {
	url     string
	changed chan struct{} // a token after each arrival
	answer  func(endpoint string, n int) int
	hang    func(endpoint string) bool
	release chan struct{} // ends hanging requests

	mu   sync.Mutex
	got  map[string]map[int][]time.Time
	body map[string][]byte // the last one, by endpoint
	head map[string]http.Header
}

func newSink(t *testing.T) *sink {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newSinkAt(t, ln)
}

func newSinkAt(t *testing.T, ln net.Listener) *sink {
	s := &sink{changed: make(chan struct{}, 1), release: make(chan struct{}), got: map[string]map[int][]time.Time{}, body: map[string][]byte{}, head: map[string]http.Header{}}
	s.url = "http://" + ln.Addr().String()
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(ln) }()
	t.Cleanup(func() { close(s.release); _ = server.Close(); <-done })
	return s
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if origin := r.Header.Get("WebHook-Request-Origin"); r.Method == http.MethodOptions && origin != "" {
		w.Header().Set("WebHook-Allowed-Origin", origin)
		return
	}
	endpoint := strings.TrimPrefix(r.URL.Path, "/")
	if s.hang != nil && s.hang(endpoint) {
		select {
		case <-s.release:
		case <-r.Context().Done():
		}
		return
	}
	var e struct {
		Data struct{ Attributes struct{ N int } }
	}
	_ = json.Unmarshal(b, &e)
	n := e.Data.Attributes.N
	if s.answer != nil {
		if status := s.answer(endpoint, n); status/100 != 2 {
			w.WriteHeader(status)
			return
		}
	}
	s.mu.Lock()
	if s.got[endpoint] == nil {
		s.got[endpoint] = map[int][]time.Time{}
	}
	s.got[endpoint][n] = append(s.got[endpoint][n], time.Now())
	s.body[endpoint], s.head[endpoint] = b, r.Header
	s.mu.Unlock()
	if secret := r.Header.Get("Authorization"); secret != "" {
		w.Header().Set("X-Repeated", secret) // as some do
	}
	_, _ = io.WriteString(w, "thank you")
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// missing returns which of the events have not arrived at the endpoint.
func (s *sink) missing(endpoint string, events []int) (out []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range events {
		if len(s.got[endpoint][n]) == 0 {
			out = append(out, n)
		}
	}
	return out
}

// twice returns when each event that came more than once came first.
func (s *sink) twice(endpoint string) (first []time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.got[endpoint] {
		if len(at) > 1 {
			first = append(first, at[0])
		}
	}
	return first
}

// count is how many requests were answered with success.
func (s *sink) count() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, events := range s.got {
		for _, times := range events {
			n += len(times)
		}
	}
	return n
}

// forget makes the sink as new.
func (s *sink) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.got)
}

// await waits until all events have arrived at the endpoint.
func (s *sink) await(t *testing.T, endpoint string, events []int, limit time.Duration) {
	t.Helper()
	timeout := time.After(limit)
	for {
		lost := s.missing(endpoint, events)
		if len(lost) == 0 {
			return
		}
		select {
		case <-s.changed:
		case <-timeout:
			t.Fatalf("%d of %d events have not arrived at %s after %v, such as %d", len(lost), len(events), endpoint, limit, lost[0])
		}
	}
}

// world makes a source and, for each name, an endpoint at the sink with a webhook for
// everything; it returns the source's address and the webhooks' IDs.
func world(t *testing.T, h *program.Hub, s *sink, endpoints ...string) (address string, webhooks []string) {
	t.Helper()
	ctx := t.Context()
	for _, name := range endpoints {
		id, err := h.CreateEndpoint(ctx, program.Input{"name": name, "connector": "webhook", "url": s.url + "/" + name})
		if err != nil {
			t.Fatal(err)
		}
		hook, _, err := h.CreateWebhook(ctx, program.Input{"name": name, "endpointId": id, "global": true, "format": "hookyard", "retryOffsetsSeconds": []int{1, 2, 4, 8}})
		if err != nil {
			t.Fatal(err)
		}
		webhooks = append(webhooks, hook)
	}
	// The source is last: another node that knows it knows the webhooks too, and one that
	// does not refuses its events.
	_, address, err := h.CreateSource(ctx, program.Input{"name": "events", "kind": "cloudevents"})
	if err != nil {
		t.Fatal(err)
	}
	return address, webhooks
}

// load sends events at a steady rate, to the addresses in turn, until it is stopped. Each
// is sent again, to the next address, until it is accepted or the load is stopped, as a
// sender that wants to lose nothing does.
type load struct {
	senders int
	stop    chan struct{}
	done    sync.WaitGroup
	post    func(client *http.Client, address string, n int) error

	mu       sync.Mutex
	accepted []int
	refused  int // answers other than 2xx, or none
}

func startLoad(perSecond, senders int, addresses ...string) *load {
	return startLoadOf(send, perSecond, senders, addresses...)
}

// startLoadOf is startLoad of what post sends.
func startLoadOf(post func(client *http.Client, address string, n int) error, perSecond, senders int, addresses ...string) *load {
	l := &load{senders: senders, stop: make(chan struct{}), post: post}
	numbers := make(chan int)
	l.done.Go(func() {
		defer close(numbers)
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-l.stop:
				return
			case <-tick.C:
			}
			select {
			case <-l.stop:
				return
			case numbers <- n:
			}
		}
	})
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: senders}}
	for range senders {
		l.done.Go(func() {
			for n := range numbers {
				l.send(client, addresses, n)
			}
		})
	}
	return l
}

func (l *load) send(client *http.Client, addresses []string, n int) {
	for try := n; ; try++ {
		if err := l.post(client, addresses[try%len(addresses)], n); err == nil {
			l.mu.Lock()
			l.accepted = append(l.accepted, n)
			l.mu.Unlock()
			return
		}
		l.mu.Lock()
		l.refused++
		l.mu.Unlock()
		select {
		case <-l.stop:
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func send(client *http.Client, address string, n int) error {
	body := fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/test","type":"scan.completed","data":{"scan":{"key":"%d","name":"scan"},"attributes":{"n":%d}}}`, n, n, n)
	resp, err := client.Post(address, "application/cloudevents+json", strings.NewReader(body))
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return err
}

// soFar returns what was accepted until now.
func (l *load) soFar() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.accepted)
}

// count is how many were accepted until now.
func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted)
}

// refusals is how many answers were no acceptance.
func (l *load) refusals() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused
}

// until waits until n events have been accepted.
func (l *load) until(t *testing.T, n int) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(time.Minute)
	for l.count() < n {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("only %d of %d events were accepted in a minute", l.count(), n)
		}
	}
}

// end stops the load and returns what was accepted.
func (l *load) end() []int {
	close(l.stop)
	l.done.Wait()
	slices.Sort(l.accepted)
	return l.accepted
}

// children returns the process IDs of a process's children.
func children(t *testing.T, pid int) (out []int) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tasks {
		b, err := os.ReadFile(f)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for _, s := range strings.Fields(string(b)) {
			if child, err := strconv.Atoi(s); err == nil {
				out = append(out, child)
			}
		}
	}
	return out
}

// mark returns a cursor at the end of the log as it is now.
func mark(t *testing.T, h *program.Hub) string {
	t.Helper()
	s, err := h.Subscribe(t.Context(), `subscription { deliveryLog { cursor } }`, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	b, err := s.NextBatch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return b.Cursor
}

// succeeded reads the log from a mark on and counts, for each delivery, how often it is
// said to have succeeded, until there are want of them or time is up.
func succeeded(t *testing.T, h *program.Hub, from string, want int) map[string]int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := h.DeliveryLog(ctx, program.Input{"states": []string{"SUCCEEDED"}}, from)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	out := map[string]int{}
	for len(out) < want {
		b, err := s.NextBatch(ctx)
		if err != nil {
			t.Errorf("the log shows %d of %d successes: %v", len(out), want, err)
			return out
		}
		for _, e := range b.Entries {
			out[e.DeliveryID]++
		}
	}
	return out
}
