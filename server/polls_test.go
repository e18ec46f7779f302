package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/server/servertest/program"
)

// board is a system that does not call: who asks gets the numbers after the last one.
type board struct {
	url, host string
	entered   chan string          // a path that hangs was asked
	answered  chan struct{}        // a token after an answer
	slow      func() time.Duration // an answer takes

	mu       sync.Mutex
	numbers  map[string][]int // by path
	status   map[string]int
	hanging  map[string]chan struct{}
	asked    map[string]int // how often
	firsts   map[string]int // of them, from the start
	asking   map[string]bool
	overlaps int // while somebody else was asking
}

func newBoard(t *testing.T) *board {
	b := &board{entered: make(chan string, 64), answered: make(chan struct{}, 1), slow: func() time.Duration { return 0 },
		numbers: map[string][]int{}, status: map[string]int{}, hanging: map[string]chan struct{}{}, asked: map[string]int{}, firsts: map[string]int{}, asking: map[string]bool{}}
	server := httptest.NewServer(b)
	b.url, b.host = server.URL, strings.TrimPrefix(server.URL, "http://")
	t.Cleanup(func() {
		b.mu.Lock()
		for _, c := range b.hanging {
			close(c)
		}
		b.mu.Unlock()
		server.Close()
	})
	return b
}

func (b *board) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	b.mu.Lock()
	if b.asking[path] {
		b.overlaps++
	}
	b.asking[path] = true
	b.asked[path]++
	if r.URL.Query().Get("after") == "" {
		b.firsts[path]++
	}
	numbers, status, hanging := b.numbers[path], b.status[path], b.hanging[path]
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.asking[path] = false
		b.mu.Unlock()
	}()
	if hanging != nil {
		b.entered <- path
		select {
		case <-hanging:
		case <-r.Context().Done():
			return
		}
	}
	select {
	case <-time.After(b.slow()):
	case <-r.Context().Done():
		return
	}
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	from, _ := strconv.Atoi(r.URL.Query().Get("after"))
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	to := min(from+limit, len(numbers))
	page := map[string]any{"numbers": numbers[min(from, to):to], "last": strconv.Itoa(to), "more": to < len(numbers)}
	_ = json.NewEncoder(w).Encode(page)
	select {
	case b.answered <- struct{}{}:
	default:
	}
}

// has adds the numbers from one to another.
func (b *board) has(path string, from, to int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for n := from; n <= to; n++ {
		b.numbers[path] = append(b.numbers[path], n)
	}
}

func (b *board) answers(path string, status int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status[path] = status
}

func (b *board) count(of map[string]int, path string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return of[path]
}

func (b *board) isAsked() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, now := range b.asking {
		if now {
			return true
		}
	}
	return false
}

// none fails for every time that two asked for the same at once.
func (b *board) none(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.overlaps > 0 {
		t.Errorf("%d times two asked at once", b.overlaps)
	}
}

func numbersTo(from, to int) (list []int) {
	for n := from; n <= to; n++ {
		list = append(list, n)
	}
	return list
}

// installedFor installs a program's package that may reach an address.
func installedFor(t *testing.T, dir, url string, plugin func() (string, error), egress string, args ...string) {
	t.Helper()
	folder := folderOf(t, plugin, args...)
	draft, err := json.Marshal(map[string]any{"run": append([]string{"program"}, args...), "grants": map[string]any{"egress": []string{egress}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "connector.json"), draft, 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "package.tar.gz")
	for _, args := range [][]string{{"connector", "pack", folder, "--out", file}, at(dir, url, "connector", "install", file, "--unsigned")} {
		if said, err := tool(t, args...); err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
	}
}

// askedSource is a source of the faulty connector that asks the board at a path.
func askedSource(t *testing.T, h *program.Hub, b *board, path string) (id string) {
	t.Helper()
	id, _, err := h.CreateSource(t.Context(), program.Input{"name": path, "kind": "faulty/numbers", "pollEverySeconds": 30,
		"settings": program.Input{"address": b.url + path}, "settingSecrets": []program.Input{{"name": "token", "value": "hush-hush"}}})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

type pollState struct {
	LastPolledAt, NextPollAt *time.Time
	Failures                 int
	Error                    string
	Permanent                bool
}

// pollOf is how asking a source goes, by way of the list of sources.
func pollOf(t *testing.T, h *program.Hub, id string) *pollState {
	t.Helper()
	var got struct {
		Sources struct {
			Edges []struct {
				Node struct {
					ID   string
					Poll *pollState
				}
			}
		}
	}
	if err := h.Do(t.Context(), `{ sources { edges { node { id poll { lastPolledAt nextPollAt failures error permanent } } } } }`, nil, &got); err != nil {
		t.Fatal(err)
	}
	for _, e := range got.Sources.Edges {
		if e.Node.ID == id {
			return e.Node.Poll
		}
	}
	t.Fatalf("there is no source %s", id)
	return nil
}

func pollNow(t *testing.T, h *program.Hub, id string, more program.Input) error {
	t.Helper()
	in := program.Input{"id": id}
	for name, v := range more {
		in[name] = v
	}
	return h.Do(t.Context(), `mutation ($in: PollSourceInput!) { pollSource(input: $in) { source { id } } }`, program.Input{"in": in}, nil)
}

// counted is how many receipts of a source there are in a state, and how many events.
func counted(t *testing.T, h *program.Hub, source, state string) (receipts, events int) {
	t.Helper()
	type page struct {
		Edges    []struct{ Cursor string }
		PageInfo struct {
			HasNextPage bool
			EndCursor   string
		}
	}
	count := func(query string, vars program.Input) (n int) {
		t.Helper()
		for {
			var got struct{ L page }
			if err := h.Do(t.Context(), query, vars, &got); err != nil {
				t.Fatal(err)
			}
			n += len(got.L.Edges)
			if !got.L.PageInfo.HasNextPage {
				return n
			}
			vars["a"] = got.L.PageInfo.EndCursor
		}
	}
	receipts = count(`query ($a: Cursor, $s: ID!, $state: ReceiptState!) { l: receipts(first: 200, after: $a, filter: {sourceIds: [$s], states: [$state]}) { edges { cursor } pageInfo { hasNextPage endCursor } } }`,
		program.Input{"s": source, "state": state})
	events = count(`query ($a: Cursor, $s: ID!) { l: events(first: 200, after: $a, filter: {sourceIds: [$s]}) { edges { cursor } pageInfo { hasNextPage endCursor } } }`, program.Input{"s": source})
	return receipts, events
}

// TestSourcesAreAsked has the hub ask what does not call, through a third party's connector,
// from the first time to the deletion of the source.
func TestSourcesAreAsked(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s, b := newSink(t), newBoard(t)
		dir := t.TempDir()
		h := startIn(t, dir, url, "--allow-private-targets", "--sandbox=prefer")
		installedFor(t, dir, url, faultyPlugin, b.host, "faulty", "1.0.0")
		enable(t, h, "1.0.0")
		world(t, h, s, "a")
		var kinds struct{ Asked, Not []string }
		if err := h.Do(t.Context(), `{ asked: sourceKinds(polled: true) not: sourceKinds(polled: false) }`, nil, &kinds); err != nil || fmt.Sprint(kinds.Asked) != "[faulty/numbers]" || len(kinds.Not) == 0 {
			t.Errorf("the kinds are %v, %v", kinds, err)
		}
		for _, wrong := range []struct {
			kind  string
			every int
			says  string
		}{{"cloudevents", 60, "cannot be asked"}, {"faulty/numbers", 29, "every 30 to 604800 seconds"}, {"faulty/numbers", 604801, "every 30 to 604800 seconds"}, {"faulty/numbers", -1, "every 30"}} {
			if _, _, err := h.CreateSource(t.Context(), program.Input{"name": "wrong", "kind": wrong.kind, "pollEverySeconds": wrong.every}); err == nil || !strings.Contains(err.Error(), wrong.says) {
				t.Errorf("%+v: %v", wrong, err)
			}
		}

		// One that hangs all along, and one that goes on meanwhile.
		release := make(chan struct{})
		b.mu.Lock()
		b.hanging["/b"] = release
		b.mu.Unlock()
		b.has("/b", 10001, 10005)
		b.has("/a", 1, 250)
		slow := askedSource(t, h, b, "/b")
		if path := <-b.entered; path != "/b" {
			t.Fatal(path)
		}
		source := askedSource(t, h, b, "/a")
		s.await(t, "a", numbersTo(1, 250), 30*time.Second)
		until(t, 20*time.Second, "the answer shows", func() bool {
			p := pollOf(t, h, source)
			return p != nil && p.LastPolledAt != nil && p.NextPollAt != nil && p.NextPollAt.Sub(*p.LastPolledAt) == 30*time.Second && p.Failures == 0 && p.Error == ""
		})
		until(t, 20*time.Second, "everything is read", func() bool { n, _ := counted(t, h, source, "ACCEPTED"); return n == 250 })
		if n := metric(t, h, `hookyard_polls_total{kind="faulty/numbers",outcome="answered"}`); n < 3 {
			t.Errorf("%v polls were answered", n)
		}
		if n := metric(t, h, "hookyard_polls_running"); n != 1 {
			t.Errorf("%v polls are under way", n)
		}

		// What fails says why, and what cannot help is left alone until something changes.
		b.answers("/a", http.StatusInternalServerError)
		if err := pollNow(t, h, source, nil); err != nil {
			t.Fatal(err)
		}
		until(t, 20*time.Second, "the failure shows", func() bool {
			p := pollOf(t, h, source)
			return p.Failures > 0 && strings.Contains(p.Error, "500") && !p.Permanent && p.LastPolledAt != nil
		})
		b.answers("/a", http.StatusGone)
		if err := pollNow(t, h, source, nil); err != nil {
			t.Fatal(err)
		}
		until(t, 20*time.Second, "the failure for good shows, without the secret", func() bool {
			p := pollOf(t, h, source)
			return p.Permanent && strings.Contains(p.Error, "gone, with [secret:token]") && p.NextPollAt.After(time.Now().Add(5*time.Hour))
		})
		b.answers("/a", 0)
		b.has("/a", 0, 0) // which its receiver refuses
		b.has("/a", 251, 260)
		if err := h.Do(t.Context(), `mutation ($id: ID!) { updateSource(input: {id: $id, timeZone: "Europe/Stockholm"}) { source { id } } }`, program.Input{"id": source}, nil); err != nil {
			t.Fatal(err)
		}
		s.await(t, "a", numbersTo(251, 260), 20*time.Second)
		until(t, 20*time.Second, "the bad document is a rejected receipt", func() bool { n, _ := counted(t, h, source, "REJECTED"); return n == 1 })
		if p := pollOf(t, h, source); p.Failures != 0 || p.Error != "" || p.Permanent {
			t.Errorf("it goes like %+v", p)
		}
		if n := metric(t, h, `hookyard_polls_total{kind="faulty/numbers",outcome="failed"}`); n < 2 {
			t.Errorf("%v polls failed", n)
		}

		// Disabled, and enabled again.
		set := func(mutation string) {
			t.Helper()
			if err := h.Do(t.Context(), `mutation ($id: ID!) { `+mutation+`(input: {id: $id}) { source { enabled } } }`, program.Input{"id": source}, nil); err != nil {
				t.Fatal(err)
			}
		}
		set("disableSource")
		if err := pollNow(t, h, source, nil); err == nil || !strings.Contains(err.Error(), "disabled") || pollOf(t, h, source).NextPollAt != nil {
			t.Errorf("a disabled source is asked: %v, %+v", err, pollOf(t, h, source))
		}
		b.has("/a", 261, 261)
		set("enableSource")
		s.await(t, "a", []int{261}, 20*time.Second)

		// From the start once more: nothing comes twice.
		if err := pollNow(t, h, source, program.Input{"from": "2020-01-01T00:00:00Z"}); err != nil {
			t.Fatal(err)
		}
		until(t, 20*time.Second, "it is asked from the start", func() bool { return b.count(b.firsts, "/a") == 2 })
		b.has("/a", 262, 262)
		until(t, 20*time.Second, "the last number has come", func() bool { _ = pollNow(t, h, source, nil); return len(s.missing("a", []int{262})) == 0 })
		if receipts, events := counted(t, h, source, "ACCEPTED"); receipts != 262 || events != 262 || len(s.twice("a")) > 0 {
			t.Errorf("%d receipts, %d events, %d came twice", receipts, events, len(s.twice("a")))
		}

		// The one that hung.
		if len(s.missing("a", numbersTo(10001, 10005))) != 5 {
			t.Error("what hangs has answered")
		}
		b.mu.Lock()
		delete(b.hanging, "/b")
		b.mu.Unlock()
		close(release)
		s.await(t, "a", numbersTo(10001, 10005), time.Minute)
		if p := pollOf(t, h, slow); p.LastPolledAt == nil {
			t.Errorf("it goes like %+v", p)
		}
		var audit struct {
			AuditLog struct {
				Edges []struct {
					Node struct{ ObjectID, ActorName string }
				}
			}
		}
		if err := h.Do(t.Context(), `{ auditLog(filter: {actions: ["POLL"]}) { edges { node { objectId actorName } } } }`, nil, &audit); err != nil || len(audit.AuditLog.Edges) < 3 || audit.AuditLog.Edges[0].Node.ObjectID != source {
			t.Errorf("the audit log has %+v, %v", audit, err)
		}
		// A version that cannot ask is not switched to, and a source that is not asked any more
		// says so.
		if err := h.Do(t.Context(), `mutation ($id: ID!) { updateSource(input: {id: $id, pollEverySeconds: 0}) { source { id } } }`, program.Input{"id": slow}, nil); err != nil {
			t.Fatal(err)
		}
		if err := pollNow(t, h, slow, nil); err == nil || !strings.Contains(err.Error(), "pollEverySeconds is 0") || pollOf(t, h, slow) != nil {
			t.Errorf("a source that is not asked: %v", err)
		}
		if err := h.Do(t.Context(), `mutation ($id: ID!) { deleteSource(input: {id: $id}) { deletedId } }`, program.Input{"id": source}, nil); err != nil {
			t.Fatal(err)
		}
		b.none(t)
	})
}

// TestPollsSurviveKills kills the hub in the middle of polls and right after them: nothing
// is lost or there twice, and no source is asked by two.
func TestPollsSurviveKills(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		const each = 800
		s, b := newSink(t), newBoard(t)
		b.slow = func() time.Duration { return time.Duration(50+rand.IntN(200)) * time.Millisecond }
		dir := t.TempDir()
		h := startIn(t, dir, url, "--allow-private-targets", "--sandbox=prefer")
		installedFor(t, dir, url, faultyPlugin, b.host, "faulty", "1.0.0")
		enable(t, h, "1.0.0")
		world(t, h, s, "a")
		b.has("/a", 1, each)
		b.has("/b", 10001, 10000+each)
		sources := []string{askedSource(t, h, b, "/a"), askedSource(t, h, b, "/b")}
		for i := range 6 {
			select { // an answer of now
			case <-b.answered:
			default:
			}
			if i%2 == 0 {
				until(t, 30*time.Second, "somebody asks", b.isAsked)
			} else {
				select {
				case <-b.answered:
				case <-time.After(30 * time.Second):
					t.Fatal("nobody asks")
				}
				<-time.After(time.Duration(rand.IntN(20)) * time.Millisecond) // wherever the commit is by then
			}
			if err := h.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := h.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		s.await(t, "a", append(numbersTo(1, each), numbersTo(10001, 10000+each)...), 2*time.Minute)
		until(t, 30*time.Second, "nothing waits any more", func() bool { return len(waiting(t, h)) == 0 })
		for _, id := range sources {
			if receipts, events := counted(t, h, id, "ACCEPTED"); receipts != each || events != each {
				t.Errorf("%d receipts and %d events of %d documents", receipts, events, each)
			}
		}
		b.none(t)
	})
}

// TestTwoNodesAskInTurn has two nodes ask the same sources, then one of them.
func TestTwoNodesAskInTurn(t *testing.T) {
	url := storetest.Postgres(t)
	s, b := newSink(t), newBoard(t)
	b.slow = func() time.Duration { return time.Duration(rand.IntN(400)) * time.Millisecond }
	dir := t.TempDir()
	one := startIn(t, dir, url, "--allow-private-targets", "--sandbox=prefer", "--node-name", "one")
	dir2 := filepath.Join(dir, "two")
	two := secondIn(t, dir2, one, dir, url)
	for _, d := range []string{dir, dir2} {
		installedFor(t, d, url, faultyPlugin, b.host, "faulty", "1.0.0")
	}
	enable(t, one, "1.0.0")
	world(t, one, s, "a")
	var paths []string
	for i := range 4 {
		paths = append(paths, fmt.Sprintf("/%d", i))
		b.has(paths[i], i*10000+1, i*10000+250)
		askedSource(t, one, b, paths[i])
	}
	for i := range paths {
		s.await(t, "a", numbersTo(i*10000+1, i*10000+250), 2*time.Minute)
	}
	polls := func(h *program.Hub) float64 {
		resp, err := h.HTTP.Get(h.URL + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, found := strings.Cut(string(text), `hookyard_polls_total{kind="faulty/numbers",outcome="answered"} `)
		if !found {
			return 0
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]), 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	t.Logf("node one has asked %v times, node two %v times", polls(one), polls(two))
	if err := one.Stop(); err != nil {
		t.Fatal(err)
	}
	before := polls(two)
	for i, path := range paths {
		b.has(path, i*10000+251, i*10000+350)
	}
	for i := range paths {
		s.await(t, "a", numbersTo(i*10000+251, i*10000+350), 2*time.Minute)
	}
	if polls(two) == before {
		t.Error("node two did not take over")
	}
	if n := len(s.twice("a")); n > 0 {
		t.Errorf("%d events came twice", n)
	}
	b.none(t)
}

// TestTheExampleAsks polls alerts through examples/acme.
func TestTheExampleAsks(t *testing.T) {
	s := newSink(t)
	var mu sync.Mutex
	var calls []string
	radar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		calls = append(calls, r.URL.Path+" "+r.Header.Get("Authorization")+" "+r.URL.RawQuery)
		mu.Unlock()
		if r.URL.Query().Get("after") == "" {
			_, _ = io.WriteString(w, `{"Alerts": [{"ID": "A-7", "App": "shop", "Title": "SQL Injection", "Severity": "high", "At": "2026-04-10T14:30:00Z"}], "Last": "A-7", "More": true}`)
		} else {
			_, _ = io.WriteString(w, `{"Alerts": []}`)
		}
	}))
	defer radar.Close()
	dir := t.TempDir()
	h := startIn(t, dir, "", "--allow-private-targets", "--sandbox=prefer")
	installedFor(t, dir, "", acmePlugin, strings.TrimPrefix(radar.URL, "http://"))
	enableThe(t, h, "acme-radar", "")
	world(t, h, s, "a")
	var got struct {
		R struct {
			Source struct{ PollEverySeconds int }
		}
	}
	if err := h.Do(t.Context(), `mutation ($in: CreateSourceInput!) { r: createSource(input: $in) { source { pollEverySeconds } } }`, program.Input{"in": program.Input{"name": "radar", "kind": "acme-radar/acme-radar",
		"settings": program.Input{"address": radar.URL}, "settingSecrets": []program.Input{{"name": "token", "value": "t0ken"}}}}, &got); err != nil || got.R.Source.PollEverySeconds != 300 {
		t.Fatalf("%+v, %v", got, err)
	}
	s.await(t, "a", []int{0}, 30*time.Second)
	s.mu.Lock()
	body := string(s.body["a"])
	s.mu.Unlock()
	if !strings.Contains(body, "SQL Injection") {
		t.Errorf("what arrived is %s", body)
	}
	until(t, 20*time.Second, "it is asked for more", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(calls) == 2
	})
	mu.Lock()
	defer mu.Unlock()
	if !strings.HasPrefix(calls[0], "/alerts Bearer t0ken limit=100&since=20") || calls[1] != "/alerts Bearer t0ken after=A-7&limit=100" {
		t.Errorf("it was asked %q", calls)
	}
}
