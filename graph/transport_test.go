package graph

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/flow"
	"github.com/hookyard/hookyard/server/watch"
)

// client is a websocket that speaks graphql-transport-ws.
type client struct {
	t    testing.TB
	conn *websocket.Conn
}

type wsMessage struct {
	ID      string          `json:"id,omitempty"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

func (w *world) dial(as string) *client {
	w.t.Helper()
	conn, _, err := websocket.Dial(w.t.Context(), w.server.URL, &websocket.DialOptions{Subprotocols: []string{Protocol}})
	if err != nil {
		w.t.Fatal(err)
	}
	conn.SetReadLimit(16 << 20)
	c := &client{w.t, conn}
	w.t.Cleanup(func() { _ = conn.CloseNow() })
	c.send(wsMessage{Type: "connection_init", Payload: json.RawMessage(fmt.Sprintf(`{"Authorization":"Bearer %s"}`, as))})
	return c
}

func (c *client) send(m wsMessage) {
	c.t.Helper()
	b, _ := json.Marshal(m)
	if err := c.conn.Write(context.Background(), websocket.MessageText, b); err != nil {
		c.t.Fatal(err)
	}
}

// next returns the next message that is not about keeping the socket alive.
func (c *client) next() (wsMessage, error) {
	for {
		_, b, err := c.conn.Read(context.Background())
		if err != nil {
			return wsMessage{}, err
		}
		var m wsMessage
		if err := json.Unmarshal(b, &m); err != nil {
			c.t.Fatal(err)
		}
		switch m.Type {
		case "ping":
			c.send(wsMessage{Type: "pong"})
		case "pong", "connection_ack":
		default:
			return m, nil
		}
	}
}

const logQuery = `subscription ($filter: DeliveryLogFilter, $after: String) { deliveryLog(filter: $filter, after: $after) { cursor heartbeat
	entries { id deliveryId eventId webhookId endpointId applicationId eventType number state outcome fault startedAt duration httpStatus error nextAttemptAt } } }`

func (c *client) follow(filter map[string]any, after string) {
	c.t.Helper()
	vars := map[string]any{"filter": filter}
	if after != "" {
		vars["after"] = after
	}
	b, _ := json.Marshal(map[string]any{"query": logQuery, "variables": vars})
	c.send(wsMessage{ID: "1", Type: "subscribe", Payload: b})
}

type logAnswer struct {
	Data struct {
		DeliveryLog struct {
			Cursor    string
			Heartbeat bool
			Entries   []struct{ ID, State, DeliveryID, EventType string }
		}
	}
	Errors []struct {
		Message    string
		Extensions struct{ Code Code }
	}
}

func (c *client) batch() logAnswer {
	c.t.Helper()
	m, err := c.next()
	if err != nil {
		c.t.Fatal(err)
	}
	if m.Type != "next" {
		c.t.Fatalf("message %s %s, want next", m.Type, m.Payload)
	}
	var a logAnswer
	if err := json.Unmarshal(m.Payload, &a); err != nil {
		c.t.Fatal(err)
	}
	return a
}

// entries reads batches until there are n entries, and returns their IDs and the last cursor.
func (c *client) entries(n int) (ids []string, cursor string) {
	c.t.Helper()
	for len(ids) < n {
		a := c.batch()
		if len(a.Errors) > 0 {
			c.t.Fatalf("errors: %+v", a.Errors)
		}
		for _, e := range a.Data.DeliveryLog.Entries {
			ids = append(ids, e.ID)
		}
		cursor = a.Data.DeliveryLog.Cursor
	}
	return ids, cursor
}

// deliver makes n deliveries that arrive at once.
func (w *world) deliver(n int) {
	w.t.Helper()
	events := make([]flow.Sent, n)
	for i := range events {
		events[i].Type = "scan.completed"
	}
	if _, err := w.Send(w.t.Context(), w.org, "key_admin", "", events); err != nil {
		w.t.Fatal(err)
	}
	w.end(flow.Succeeded)
}

func (w *world) webhookForAll() {
	w.t.Helper()
	e := w.must("admin", `mutation { createEndpoint(input: {name: "hq", url: "https://example.com"}) { endpoint { id } } }`)
	id := e["createEndpoint"].(map[string]any)["endpoint"].(map[string]any)["id"]
	w.must("admin", fmt.Sprintf(`mutation { createWebhook(input: {name: "all", endpointId: %q, global: true}) { webhook { id } } }`, id))
}

func TestDeliveryLogOverWebsocket(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, Options{}, watch.Options{Tick: 5 * time.Millisecond})
		w.webhookForAll()
		c := w.dial("admin")
		c.follow(nil, "")
		if a := c.batch(); !a.Data.DeliveryLog.Heartbeat || a.Data.DeliveryLog.Cursor == "" {
			t.Fatalf("first batch %+v, want an empty one with a cursor", a)
		}
		w.deliver(3)
		first, cursor := c.entries(3)
		_ = c.conn.CloseNow()

		w.deliver(4) // while nobody watches
		c = w.dial("admin")
		c.follow(nil, cursor)
		second, _ := c.entries(4)
		if both := slices.Concat(first, second); len(slices.Compact(slices.Sorted(slices.Values(both)))) != 7 {
			t.Errorf("saw %v and then %v: something twice", first, second)
		}

		// Another organization and another group see nothing of it.
		for _, who := range []string{"stranger", "manager"} {
			c := w.dial(who)
			c.follow(nil, "")
			c.batch()
			w.deliver(1)
			c.send(wsMessage{ID: "1", Type: "complete"})
			m, err := c.next()
			if err != nil || m.Type != "complete" {
				t.Errorf("%s: %s %s (%v), want nothing but the end", who, m.Type, m.Payload, err)
			}
		}

		// A cursor that is another organization's, or none, is refused.
		for _, after := range []string{cursor, "nonsense", logCursor(deliveryMark, w.vars["other"], 1<<40)} {
			c := w.dial("stranger")
			c.follow(nil, after)
			if a := c.batch(); len(a.Errors) != 1 || a.Errors[0].Extensions.Code != BadUserInput && a.Errors[0].Extensions.Code != Expired {
				t.Errorf("cursor %q: %+v", after, a)
			}
		}
	})
}

// Batches are written by hand: what a selection can hold must come through.
func TestBatchIsWrittenAsSelected(t *testing.T) {
	w := newWorld(t, storetest.Open(t, store.Config{DataDir: t.TempDir()}), Options{}, watch.Options{Tick: time.Millisecond})
	w.webhookForAll()
	w.deliver(2)
	c := w.dial("admin")
	b, _ := json.Marshal(map[string]any{"query": `subscription ($no: Boolean!, $after: String) { log: deliveryLog(after: $after) { __typename ...rest quiet: heartbeat cursor @skip(if: $no) } }
		fragment rest on DeliveryLogBatch { entries { kind: __typename s: state number @include(if: $no) outcome @skip(if: $no) } }`,
		"variables": map[string]any{"no": true, "after": logCursor(deliveryMark, w.org, 0)}})
	c.send(wsMessage{ID: "\"1\"", Type: "subscribe", Payload: b})
	m, err := c.next()
	if err != nil || m.ID != "\"1\"" {
		t.Fatalf("%+v, %v", m, err)
	}
	want := `{"data":{"log":{"__typename":"DeliveryLogBatch","entries":[{"kind":"DeliveryLogEntry","s":"SUCCEEDED","number":1},{"kind":"DeliveryLogEntry","s":"SUCCEEDED","number":1}],"quiet":false}}}`
	if string(m.Payload) != want {
		t.Errorf("%s, want %s", m.Payload, want)
	}
}

func TestSocketsKeepToTheProtocol(t *testing.T) {
	w := newWorld(t, storetest.Open(t, store.Config{DataDir: t.TempDir()}), Options{Ping: 20 * time.Millisecond}, watch.Options{})
	follow := wsMessage{ID: "1", Type: "subscribe", Payload: json.RawMessage(`{"query": "subscription { deliveryLog { cursor } }"}`)}
	for want, send := range map[websocket.StatusCode][]wsMessage{
		closeSameID:     {follow, follow},
		closeInitTwice:  {{Type: "connection_init"}},
		closeBadMessage: {{Type: "connection_ack"}},
	} {
		c := w.dial("admin")
		for _, m := range send {
			c.send(m)
		}
		err := error(nil)
		for err == nil {
			_, err = c.next()
		}
		if websocket.CloseStatus(err) != want {
			t.Errorf("%v: %v, want close code %d", send, err, want)
		}
	}
	early, _, err := websocket.Dial(t.Context(), w.server.URL, &websocket.DialOptions{Subprotocols: []string{Protocol}})
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t, early}
	c.send(follow)
	if _, err := c.next(); websocket.CloseStatus(err) != closeNoInit {
		t.Errorf("subscribe before connection_init: %v, want close code %d", err, closeNoInit)
	}

	// Queries can be sent over it, too; a document that is wrong is an error without an answer.
	c = w.dial("admin")
	for query, want := range map[string]string{"{ held }": "next complete", "{ nonsense }": "error", "{": "error"} {
		b, _ := json.Marshal(map[string]any{"query": query})
		c.send(wsMessage{ID: "q", Type: "subscribe", Payload: b})
		for _, kind := range strings.Fields(want) {
			if m, err := c.next(); err != nil || m.Type != kind || m.ID != "q" {
				t.Errorf("%s: %+v %v, want %s", query, m, err, kind)
			}
		}
	}

	// Who does not answer pings is let go.
	mute, _, err := websocket.Dial(t.Context(), w.server.URL, &websocket.DialOptions{Subprotocols: []string{Protocol}})
	if err != nil {
		t.Fatal(err)
	}
	defer mute.CloseNow()
	c = &client{t, mute}
	c.send(wsMessage{Type: "connection_init", Payload: json.RawMessage(`{"Authorization":"Bearer admin"}`)})
	pings := 0
	for {
		_, b, err := mute.Read(t.Context())
		if err != nil {
			break
		}
		if strings.Contains(string(b), `"ping"`) {
			pings++
		}
	}
	if pings != 1 {
		t.Errorf("let go after %d pings, want 1", pings)
	}
}

func TestDeliveryLogFilterAndExpiry(t *testing.T) {
	w := newWorld(t, storetest.Open(t, store.Config{DataDir: t.TempDir()}), Options{}, watch.Options{Tick: time.Millisecond})
	w.webhookForAll()
	c := w.dial("admin")
	c.follow(map[string]any{"states": []string{"FAILED"}, "types": []string{"scan.completed"}}, logCursor(deliveryMark, w.org, 0))
	c.batch()
	w.deliver(2)
	if _, err := w.Send(t.Context(), w.org, "key_admin", "", []flow.Sent{{}, {}}); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	for _, d := range w.dues {
		d.Type = "scan.completed"
	}
	w.mu.Unlock()
	w.end(flow.Failed)
	for n := 0; n < 2; {
		for _, e := range c.batch().Data.DeliveryLog.Entries {
			if n++; e.State != "FAILED" {
				t.Errorf("state %s gets through the filter", e.State)
			}
		}
	}
	c = w.dial("admin")
	c.follow(nil, logCursor(deliveryMark, w.org, 1<<40))
	if a := c.batch(); len(a.Errors) != 1 || a.Errors[0].Extensions.Code != Expired {
		t.Errorf("a cursor ahead of the log: %+v", a)
	}
	if m, err := c.next(); err != nil || m.Type != "complete" {
		t.Errorf("then %v %v, want complete", m, err)
	}
}

func TestDeliveryLogOverServerSentEvents(t *testing.T) {
	w := newWorld(t, storetest.Open(t, store.Config{DataDir: t.TempDir()}), Options{}, watch.Options{Tick: time.Millisecond})
	w.webhookForAll()
	body, _ := json.Marshal(map[string]any{"query": logQuery})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, w.server.URL, bytes.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Authorization", "Bearer admin")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	event := func() (a logAnswer) {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				if err := json.Unmarshal([]byte(data), &a); err != nil {
					t.Fatal(err)
				}
				return a
			}
		}
		t.Fatalf("the stream ended: %v", lines.Err())
		return a
	}
	event()
	w.deliver(2)
	for n := 0; n < 2; {
		n += len(event().Data.DeliveryLog.Entries)
	}
}

func TestSocketsNeedACredential(t *testing.T) {
	w := newWorld(t, storetest.Open(t, store.Config{DataDir: t.TempDir()}), Options{Limits: Limits{Streams: 1}}, watch.Options{})
	if _, err := w.dial("unheardof").next(); websocket.CloseStatus(err) != closeRefused {
		t.Errorf("a bad credential: %v, want close code %d", err, closeRefused)
	}
	_, resp, err := websocket.Dial(t.Context(), w.server.URL, &websocket.DialOptions{Subprotocols: []string{"graphql-ws"}})
	if err == nil || resp == nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("the old protocol: %v, want 400", err)
	} else {
		_ = resp.Body.Close()
	}
	_, resp, err = websocket.Dial(t.Context(), w.server.URL, &websocket.DialOptions{Subprotocols: []string{Protocol}, HTTPHeader: http.Header{"Origin": {"https://evil.example"}}})
	if err == nil || resp == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("a foreign page: %v, want 403", err)
	} else {
		_ = resp.Body.Close()
	}
	one := w.dial("admin")
	one.follow(nil, "")
	one.batch()
	if _, err := w.dial("admin").next(); websocket.CloseStatus(err) != closeRefused {
		t.Errorf("one socket too many: %v, want close code %d", err, closeRefused)
	}
}

// Many operations on one socket are as many as many sockets; what has ended counts no more.
func TestOperationsOfASocketAreCounted(t *testing.T) {
	w := newWorld(t, storetest.Open(t, store.Config{DataDir: t.TempDir()}), Options{Limits: Limits{Streams: 3}}, watch.Options{})
	c := w.dial("admin")
	start := func(id string) string { // the type of the first message about it
		t.Helper()
		b, err := json.Marshal(map[string]any{"query": `subscription { deliveryLog { cursor heartbeat } }`})
		if err != nil {
			t.Fatal(err)
		}
		c.send(wsMessage{ID: id, Type: "subscribe", Payload: b})
		for {
			m, err := c.next()
			if err != nil {
				t.Fatal(err)
			}
			if m.ID == id {
				if m.Type == "error" && !strings.Contains(string(m.Payload), `"limit":"streams"`) {
					t.Errorf("refused with %s", m.Payload)
				}
				return m.Type
			}
		}
	}
	for _, step := range []struct{ id, want string }{{"a", "next"}, {"b", "next"}, {"c", "next"}, {"d", "error"}, {"d", "error"}} {
		if got := start(step.id); got != step.want {
			t.Fatalf("%s: %s, want %s", step.id, got, step.want)
		}
	}
	if _, err := w.dial("admin").next(); websocket.CloseStatus(err) != closeRefused {
		t.Errorf("another socket: %v, want close code %d", err, closeRefused)
	}
	c.send(wsMessage{ID: "b", Type: "complete"})
	for {
		m, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		if m.ID == "b" && m.Type == "complete" {
			break
		}
	}
	if got := start("e"); got != "next" {
		t.Errorf("in place of one that has ended: %s", got)
	}
	if got := start("f"); got != "error" {
		t.Errorf("one more: %s", got)
	}
}

func TestSocketEndsWithItsCredential(t *testing.T) {
	clock := clockwork.NewFakeClock()
	w := newWorld(t, storetest.Open(t, store.Config{DataDir: t.TempDir()}), Options{Clock: clock, Recheck: time.Minute}, watch.Options{})
	w.expires["tester"] = clock.Now().Add(10 * time.Second)
	token, manager := w.dial("tester"), w.dial("manager")
	for _, c := range []*client{token, manager} {
		c.follow(nil, "")
		c.batch()
	}
	closed := func(c *client) error {
		for {
			if _, err := c.next(); err != nil {
				return err
			}
		}
	}
	clock.Advance(10 * time.Second)
	if err := closed(token); websocket.CloseStatus(err) != closeExpired {
		t.Errorf("the token has expired: %v, want close code %d", err, closeExpired)
	}
	w.mu.Lock()
	v := *w.viewers["manager"]
	v.Role, v.Permissions = viewer.Tester, viewer.Tester.Permissions()
	w.viewers["manager"] = &v
	w.mu.Unlock()
	clock.Advance(time.Minute)
	if err := closed(manager); websocket.CloseStatus(err) != closeExpired {
		t.Errorf("the role has changed: %v, want close code %d", err, closeExpired)
	}
}

// A client that stops reading is let go within the limit, and holds nobody up.
// A client that does not read is cut off, and another one is not. How long that takes is the
// system's affair: it holds what it can for the client.
func TestClientThatDoesNotRead(t *testing.T) {
	w := newWorld(t, storetest.Open(t, store.Config{DataDir: t.TempDir()}), Options{Limits: Limits{Write: 2 * time.Second}}, watch.Options{Tick: time.Millisecond, SendLimit: time.Minute})
	w.webhookForAll()
	raw, err := net.Dial("tcp", strings.TrimPrefix(w.server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.(*net.TCPConn).SetReadBuffer(4 << 10)
	body, _ := json.Marshal(map[string]any{"query": logQuery, "variables": map[string]any{"after": logCursor(deliveryMark, w.org, 0)}})
	fmt.Fprintf(raw, "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	good := w.dial("admin")
	good.follow(nil, logCursor(deliveryMark, w.org, 0))
	limit := time.Now().Add(time.Minute)
	for w.watch.Watchers() < 2 && time.Now().Before(limit) {
		runtime.Gosched()
	}
	alone := make(chan struct{})
	go func() {
		defer close(alone)
		for w.watch.Watchers() > 1 {
			good.entries(1)
		}
	}()
	for {
		select {
		case <-alone:
			w.deliver(1)
			good.entries(1)
			return
		default:
		}
		if time.Now().After(limit) {
			t.Fatal("the client that does not read is still there")
		}
		w.deliver(200)
	}
}

func TestLimits(t *testing.T) {
	w := newWorld(t, storetest.Open(t, store.Config{DataDir: t.TempDir()}), Options{Limits: Limits{Body: 20_000, Tokens: 1_000}}, watch.Options{})
	many := func(n int, s string) string { return "{" + strings.Repeat(s, n) + "}" }
	aliases := "{"
	for i := range 21 {
		aliases += fmt.Sprintf(" a%d: held", i)
	}
	fragments := "{ ...f0 }"
	for i := range 24 {
		fragments += fmt.Sprintf(" fragment f%d on Query { ...f%d ...f%d }", i, i+1, i+1)
	}
	fragments += " fragment f24 on Query { held }"
	tests := map[string]struct {
		query string
		want  Code
	}{
		"too large":             {"{ held }" + strings.Repeat(" ", 20_000), Limited},
		"too many tokens":       {many(1500, "held "), Limited},
		"too many root fields":  {aliases + "}", Limited},
		"too costly":            {`{ deliveries(first: 200) { edges { node { event { deliveries(first: 200) { edges { node { id } } } } } } } }`, Limited},
		"fragments that double": {fragments, Limited},
		"introspection":         {`{ __schema { types { name } } }`, BadUserInput},
		"a page of none":        {`{ events(first: 0) { edges { cursor } } }`, BadUserInput},
		"both ends":             {`{ events(first: 1, last: 1) { edges { cursor } } }`, BadUserInput},
		"a mix of both ends":    {`{ events(first: 1, before: "gaFpoA") { edges { cursor } } }`, BadUserInput},
		"too many nodes":        {`{ nodes(ids: [` + strings.Repeat(`"x",`, 201) + `]) { id } }`, Limited},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			if _, out := w.post("admin", c.query); len(codes(out)) == 0 || codes(out)[0] != string(c.want) {
				t.Errorf("%v, want %s: %v", codes(out), c.want, out)
			}
		})
	}
	for what, body := range map[string]string{"not JSON": "{", "not of the form": `{"query": 1}`} {
		if status, out := w.postBody("admin", []byte(body)); status != http.StatusBadRequest || !slices.Equal(codes(out), []string{string(BadUserInput)}) {
			t.Errorf("%s: %d %v", what, status, out)
		}
	}
	resp, err := http.Get(w.server.URL + "?query={held}")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %s", resp.Status)
	}
}

// What is the hub's own fault is told as an ID, and logged with its cause.
func TestInternalErrorsDoNotLeak(t *testing.T) {
	w := newWorld(t, storetest.Open(t, store.Config{DataDir: t.TempDir()}), Options{}, watch.Options{})
	e := presenter{log: w.api.opt.Log, ids: w.ids}.present(t.Context(), fmt.Errorf("connect to 10.0.0.5: password hunter2"))
	if e.Extensions["code"] != string(Internal) || strings.Contains(e.Message, "hunter2") || !strings.Contains(e.Message, "err_") {
		t.Errorf("told: %+v", e)
	}
	if w.mu.Lock(); !strings.Contains(w.log.String(), "10.0.0.5") {
		t.Error("the cause is not in the log")
	}
	w.mu.Unlock()
}

// BenchmarkWatchers runs 1,000 watchers, 100 of them unfiltered, each on its own
// websocket, at 200 entries per second, and reports the share of one core of clients
// and server together.
func BenchmarkWatchers(b *testing.B) {
	w := newWorld(b, storetest.Open(b, store.Config{DataDir: b.TempDir()}), Options{}, watch.Options{})
	w.webhookForAll()
	var got atomic.Int64
	for i := range 1000 {
		c := w.dial("admin")
		var f map[string]any
		if i >= 100 {
			f = map[string]any{"eventId": fmt.Sprintf("evt_%d", i)}
		}
		c.follow(f, "")
		c.batch()
		go func() {
			for {
				_, r, err := c.conn.Reader(context.Background())
				if err != nil {
					return
				}
				n, err := io.Copy(io.Discard, r)
				if err != nil {
					return
				}
				got.Add(n)
			}
		}()
	}
	cpu0, t0 := cpu(), time.Now()
	for b.Loop() {
		pace := time.NewTicker(50 * time.Millisecond)
		for range 40 {
			<-pace.C
			w.deliver(10)
		}
		pace.Stop()
	}
	b.ReportMetric(100*(cpu()-cpu0).Seconds()/time.Since(t0).Seconds(), "%core")
	b.ReportMetric(float64(got.Load())/time.Since(t0).Seconds()/1e6, "MB/s")
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
