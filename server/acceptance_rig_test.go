package server_test

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"go/build"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookyard/hookyard/server/servertest/program"
)

// movable is the program in the build whose clock can be moved.
var movable = sync.OnceValues(func() (string, error) {
	file := filepath.Join(scratch, "hookyard-movable")
	cmd := exec.Command("go", "build", "-tags", "movableclock", "-o", file, "./cmd/hookyard")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program with the movable clock: %w: %s", err, out)
	}
	return file, nil
})

// TestMovableClockIsForTests looks for the clock in the program that people run: it is neither
// in its tags nor in its bytes, and cannot be told to move it. What is looked for is in the
// file that the tag adds.
func TestMovableClockIsForTests(t *testing.T) {
	const dir, tag, name = "cmd/hookyard", "movableclock", "HOOKYARD_CLOCK"
	for _, tags := range [][]string{nil, {tag}} {
		of := build.Default
		of.BuildTags = tags
		p, err := of.ImportDir(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		inside := slices.ContainsFunc(p.GoFiles, func(file string) bool {
			b, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				t.Fatal(err)
			}
			return bytes.Contains(b, []byte(name))
		})
		if inside != (tags != nil) {
			t.Errorf("with the tags %v the clock is among %v: %t", tags, p.GoFiles, inside)
		}
	}
	file, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tagged := slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "-tags" && strings.Contains(s.Value, tag) })
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if inside := bytes.Contains(b, []byte(name)); tagged || inside {
		t.Errorf("%s: the tag is set: %t; the clock is inside: %t", file, tagged, inside)
	}
}

// newMovableAcme is newAcme on a hub whose clock can be moved: see ahead.
func newMovableAcme(t *testing.T, url string) *acme {
	t.Helper()
	binary, err := movable()
	if err != nil {
		t.Fatal(err)
	}
	clock := filepath.Join(t.TempDir(), "clock")
	w := newAcmeOn(t, program.Config{Binary: binary, Args: []string{"--allow-plain-http"}, Env: []string{"HOOKYARD_CLOCK=" + clock}}, url)
	w.clock = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", clock)
	}}}
	t.Cleanup(w.clock.CloseIdleConnections)
	return w
}

// ahead moves the hub's clock and returns what it says then.
func (w *acme) ahead(t *testing.T, by time.Duration) time.Time {
	t.Helper()
	resp, err := w.clock.Post("http://clock/?by="+by.String(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("the clock answers %s: %s (%v)", resp.Status, b, err)
	}
	now, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// sample is one of the published payloads, by vendor: they are kept in the vendors' rooms.
func sample(t *testing.T, name string) []byte {
	t.Helper()
	of, file := path.Split(name)
	dir := map[string]string{"vectors/": "testdata/vectors", "converted/": "../connectors/builtin/testdata/expected", "veracode-sca/": "../connectors/veracode/testdata"}[of]
	if dir == "" {
		dir = "../connectors/" + of + "testdata"
	}
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// arrival is one request as it arrived.
type arrival struct {
	Method, Target, Version, Host string
	Header                        http.Header
	Body                          []byte
	Length                        int64
	At                            time.Time
}

// target is a receiver that keeps every request and answers as it is told.
type target struct {
	url     string
	server  *http.Server
	changed chan struct{} // a token after each arrival

	mu     sync.Mutex
	calls  []arrival
	answer func(n int) int // the status of the n-th answer, from 1; nil: 200
}

func newTarget(t *testing.T) *target {
	t.Helper()
	r := &target{changed: make(chan struct{}, 1)}
	r.listen(t, "127.0.0.1:0")
	return r
}

// listen takes requests, again after close.
func (r *target) listen(t *testing.T, addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	r.serve(t, ln)
}

func (r *target) serve(t *testing.T, ln net.Listener) {
	r.url = "http://" + ln.Addr().String()
	server := &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(ln) }()
	r.server = server
	t.Cleanup(func() { _ = server.Close(); <-done })
}

func (r *target) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	b, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	r.mu.Lock()
	r.calls = append(r.calls, arrival{req.Method, req.RequestURI, req.Proto, req.Host, req.Header, b, req.ContentLength, time.Now()})
	n, answer := len(r.calls), r.answer
	r.mu.Unlock()
	if answer != nil {
		w.WriteHeader(answer(n))
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// answers sets how requests are answered from now on; n counts all there were.
func (r *target) answers(f func(n int) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

func (r *target) all() []arrival {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]arrival(nil), r.calls...)
}

// await waits until there have been n requests.
func (r *target) await(t *testing.T, n int, limit time.Duration) []arrival {
	t.Helper()
	timeout := time.After(limit)
	for {
		if got := r.all(); len(got) >= n {
			return got
		}
		select {
		case <-r.changed:
		case <-timeout:
			t.Fatalf("%d of %d requests within %v", len(r.all()), n, limit)
		}
	}
}

// hook makes an endpoint at an address and a webhook for it at the organization's level.
func (w *acme) hook(t *testing.T, format, address string, more program.Input) (id, secret string) {
	t.Helper()
	w.names++
	name := fmt.Sprintf("%s %d", format, w.names)
	endpoint, err := w.CreateEndpoint(t.Context(), program.Input{"name": name, "connector": "webhook", "url": address})
	if err != nil {
		t.Fatal(err)
	}
	in := program.Input{"name": name, "endpointId": endpoint, "format": format, "global": true}
	for k, v := range more {
		in[k] = v
	}
	if id, secret, err = w.CreateWebhook(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	return id, secret
}

// source makes a source whose events are all of one application, "" for none.
func (w *acme) source(t *testing.T, kind, app string, more program.Input) (id, address string) {
	t.Helper()
	w.names++
	in := program.Input{"name": fmt.Sprintf("%s %d", kind, w.names), "kind": kind}
	if app != "" {
		in["mapping"] = program.Input{"default": w.app[app]}
	}
	for k, v := range more {
		in[k] = v
	}
	id, address, err := w.CreateSource(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return id, address
}

// post sends bytes to a source and returns the status of the answer.
func (w *acme) post(t *testing.T, address string, body []byte, headers ...string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header[headers[i]] = []string{headers[i+1]}
	}
	resp, err := w.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode
}

// happen makes an event happen and returns its ID.
func (w *acme) happen(t *testing.T, kind, app string, more program.Input) string {
	t.Helper()
	in := program.Input{"type": kind, "applicationId": w.app[app]}
	for k, v := range more {
		in[k] = v
	}
	var got struct {
		SendEvent struct{ Result struct{ EventID string } }
	}
	if err := w.Do(t.Context(), `mutation ($in: SendEventInput!) { sendEvent(input: $in) { result { eventId } } }`, program.Input{"in": in}, &got); err != nil {
		t.Fatal(err)
	}
	return got.SendEvent.Result.EventID
}

// fact is an event as the API shows it.
type fact struct {
	ID, Type, SubjectID string
	Document            struct {
		Data json.RawMessage
	}
}

// facts are the events of a source, the oldest first.
func (w *acme) facts(t *testing.T, source string) []fact {
	t.Helper()
	var got struct {
		Events struct{ Edges []struct{ Node fact } }
	}
	if err := w.Do(t.Context(), `query ($s: [ID!]) { events(filter: {sourceIds: $s}, orderBy: OLDEST_FIRST, first: 200) { edges { node { id type subjectId document } } } }`,
		program.Input{"s": []string{source}}, &got); err != nil {
		t.Fatal(err)
	}
	out := make([]fact, len(got.Events.Edges))
	for i, e := range got.Events.Edges {
		out[i] = e.Node
	}
	return out
}

// shipment is a delivery as the API shows it.
type shipment struct {
	ID, State, Reason, EventID string
	FirstFailedAt              *time.Time
	NextAttemptAt              *time.Time
	Attempts                   []try
}

// try is an attempt as the API shows it.
type try struct {
	Number     int
	StartedAt  time.Time
	Duration   float64 // in milliseconds
	HTTPStatus int     // 0: there was no answer
	Error      string
	Request    *struct {
		Method, URL string
		Headers     []struct{ Name, Value string }
	}
	RequestBody *struct{ Text string }
	Response    *struct{ Status int }
}

func (a try) ended() time.Time {
	return a.StartedAt.Add(time.Duration(a.Duration * float64(time.Millisecond)))
}

// shipments are the deliveries of a webhook, the oldest first.
func (w *acme) shipments(t *testing.T, hook string) []shipment {
	t.Helper()
	var got struct {
		Deliveries struct{ Edges []struct{ Node shipment } }
	}
	if err := w.Do(t.Context(), `query ($w: [ID!]) { deliveries(filter: {webhookIds: $w}, orderBy: OLDEST_FIRST, first: 200) { edges { node {
		id state reason eventId firstFailedAt nextAttemptAt
		attempts { number startedAt duration httpStatus error request { method url headers { name value } } requestBody { text } response { status } } } } } }`,
		program.Input{"w": []string{hook}}, &got); err != nil {
		t.Fatal(err)
	}
	out := make([]shipment, len(got.Deliveries.Edges))
	for i, e := range got.Deliveries.Edges {
		out[i] = e.Node
	}
	return out
}

// become waits until a webhook's deliveries are in these states, the oldest first.
func (w *acme) become(t *testing.T, hook string, states ...string) []shipment {
	t.Helper()
	var got []shipment
	var said []string
	deadline := time.Now().Add(15 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		got, said = w.shipments(t, hook), nil
		for _, d := range got {
			said = append(said, d.State)
		}
		if fmt.Sprint(said) == fmt.Sprint(states) {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("deliveries %v, want %v", said, states)
		}
		<-tick.C
	}
}

// hubValue is "<HUB:organization.name>" and its like in an expected body.
var hubValue = regexp.MustCompile(`^<HUB:([a-zA-Z.]+)>$`)

// same compares a body with a file in which <ANY:…> stands for any value of a type and
// <HUB:…> for the value of a hub's object; there must be nothing else.
func same(t *testing.T, name string, body []byte, hub map[string]string) {
	t.Helper()
	var want, got any
	if err := json.Unmarshal(sample(t, name), &want); err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&got); err != nil {
		t.Fatalf("the body is not JSON: %v: %s", err, body)
	}
	for _, difference := range differences("", want, got, hub) {
		t.Errorf("%s: %s\nthe body: %s", name, difference, body)
	}
}

func differences(at string, want, got any, hub map[string]string) (out []string) {
	differ := func() []string { return []string{fmt.Sprintf("%s is %#v, want %#v", at, got, want)} }
	switch want := want.(type) {
	case map[string]any:
		is, ok := got.(map[string]any)
		if !ok {
			return differ()
		}
		for k, v := range want {
			if _, there := is[k]; !there {
				out = append(out, at+"."+k+" is missing")
				continue
			}
			out = append(out, differences(at+"."+k, v, is[k], hub)...)
		}
		for k := range is {
			if _, there := want[k]; !there {
				out = append(out, at+"."+k+" is too much")
			}
		}
		return out
	case []any:
		is, ok := got.([]any)
		if !ok || len(is) != len(want) {
			return differ()
		}
		for i := range want {
			out = append(out, differences(fmt.Sprintf("%s[%d]", at, i), want[i], is[i], hub)...)
		}
		return out
	case string:
		if m := hubValue.FindStringSubmatch(want); m != nil {
			if value, known := hub[m[1]]; !known || got != value {
				return []string{fmt.Sprintf("%s is %#v, want the hub's %s (%q)", at, got, m[1], value)}
			}
			return nil
		}
		if kind, ok := strings.CutPrefix(want, "<ANY:"); ok {
			if !anyOf(strings.TrimSuffix(kind, ">"), got) {
				return differ()
			}
			return nil
		}
		if got != want {
			return differ()
		}
	case float64:
		n, ok := got.(json.Number)
		if f, err := n.Float64(); !ok || err != nil || f != want {
			return differ()
		}
	default: // true, false, null
		if got != want {
			return differ()
		}
	}
	return nil
}

func anyOf(kind string, got any) bool {
	switch kind {
	case "int32":
		n, ok := got.(json.Number)
		i, err := n.Int64()
		return ok && err == nil && i >= 1 && i <= 1<<31-1
	case "nonempty-string":
		s, ok := got.(string)
		return ok && s != ""
	case "rfc3339-utc":
		s, ok := got.(string)
		at, err := time.Parse(time.RFC3339, s)
		return ok && err == nil && strings.HasSuffix(s, "Z") && !at.IsZero()
	}
	return false
}

// verified waits until a webhook fires: until its receiver has answered the handshake.
func (w *acme) verified(t *testing.T, hook string) {
	t.Helper()
	until(t, 10*time.Second, "the webhook is verified", func() bool { return w.stateOf(t, hook) == "ACTIVE" })
}

func (w *acme) stateOf(t *testing.T, hook string) string {
	t.Helper()
	var got struct{ Node struct{ State string } }
	if err := w.Do(t.Context(), `query ($id: ID!) { node(id: $id) { ... on Webhook { state } } }`, program.Input{"id": hook}, &got); err != nil {
		t.Fatal(err)
	}
	return got.Node.State
}
