package graph

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/watch"
)

// doors lets nobody in whose name is in it.
type doors struct {
	mu     sync.Mutex
	closed map[string]bool
}

func (d *doors) Take(caller string) (time.Duration, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return 1500 * time.Millisecond, !d.closed[caller]
}

func (d *doors) set(caller string, closed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed[caller] = closed
}

// Each limit says which one it is.
func TestLimitsHaveNames(t *testing.T) {
	w := newWorld(t, storetest.Open(t, store.Config{DataDir: t.TempDir()}), Options{Limits: Limits{Body: 20_000, Tokens: 1_000}}, watch.Options{})
	deep := func(n int) string { // fields in fields
		return "{ events(first: 1) { edges { node " + strings.Repeat("{ deliveries(first: 1) { edges { node { event ", n) + "{ id }" + strings.Repeat(" } } } }", n) + " } } }"
	}
	aliases := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, " a%d: id", i)
		}
		return "{ viewer {" + b.String() + " } }"
	}
	query := func(q string) []byte {
		b, _ := json.Marshal(map[string]string{"query": q})
		return b
	}
	for want, c := range map[string]struct {
		body   []byte
		status int
		field  string
	}{
		"bodySize":   {query("{ held }" + strings.Repeat(" ", 20_000)), 413, ""},
		"batch":      {[]byte(` [{"query": "{ held }"}]`), 400, ""},
		"tokens":     {query("{" + strings.Repeat("held ", 1500) + "}"), 200, ""},
		"rootFields": {query("{" + strings.Repeat(" held", 21) + " }"), 200, ""},
		"depth":      {query(deep(5)), 200, ""},
		"aliases":    {query(aliases(101)), 200, ""},
		"cost":       {query(`{ deliveries(first: 200) { edges { node { event { deliveries(first: 200) { edges { node { id } } } } } } } }`), 200, ""},
		"pageSize":   {query(`{ events(last: 201) { edges { cursor } } }`), 200, "events.last"},
	} {
		status, out := w.postBody("admin", c.body)
		e := only(t, out)
		if e["code"] != string(Limited) || e["limit"] != want || e["retryAfter"] != nil {
			t.Errorf("%s: %v", want, out)
		}
		if field, _ := e["field"].(string); field != c.field || c.status != 200 && status != c.status {
			t.Errorf("%s: status %d, field %q", want, status, field)
		}
	}
	for what, q := range map[string]string{"not too deep": deep(3), "not too many aliases": aliases(100)} {
		if _, out := w.post("admin", q); len(codes(out)) != 0 {
			t.Errorf("%s: %v", what, out)
		}
	}
}

// only returns the extensions of the only error.
func only(t *testing.T, out any) map[string]any {
	t.Helper()
	m, _ := out.(map[string]any)
	errs, _ := m["errors"].([]any)
	if len(errs) != 1 {
		t.Fatalf("%d errors: %v", len(errs), out)
	}
	e, _ := errs[0].(map[string]any)["extensions"].(map[string]any)
	return e
}

func TestTimeIsLimited(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, Options{Limits: Limits{Time: time.Nanosecond}}, watch.Options{})
		// Without a connection: the time to read a request is limited, too.
		rec := httptest.NewRecorder()
		w.api.ServeHTTP(rec, w.request("admin", []byte(`{"query": "{ webhooks { edges { cursor } } }"}`)))
		var out any
		if err := json.Unmarshal(rec.Body.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
		if e := only(t, out); e["code"] != string(Limited) || e["limit"] != "time" {
			t.Errorf("%v", out)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), 0, limited("time", "Late."))
		defer cancel()
		_, err := w.db.Client.Webhook.Query().All(viewer.NewContext(ctx, w.viewers["admin"]))
		if e := w.api.present.present(ctx, err); e.Extensions["limit"] != "time" {
			t.Errorf("%v is told as %+v", err, e)
		}
	})
}

// The rate is the viewer's own, whoever else comes from the same place; and strangers
// have one by where they come from, which those with a credential do not run into.
func TestRateIsLimited(t *testing.T) {
	viewers, origins := &doors{closed: map[string]bool{"key_manager": true}}, &doors{closed: map[string]bool{}}
	w := newWorld(t, storetest.Open(t, store.Config{DataDir: t.TempDir()}), Options{Rate: viewers, Strangers: origins}, watch.Options{})
	body := []byte(`{"query": "{ held }"}`)
	refused := func(who string) {
		t.Helper()
		resp, err := http.DefaultClient.Do(w.request(who, body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var out any
		if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
			t.Fatal(err)
		}
		if e := only(t, out); resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "2" || e["code"] != string(Limited) || e["limit"] != "rate" || e["retryAfter"] != 2.0 {
			t.Errorf("%s: %s %v %v", who, resp.Status, resp.Header, out)
		}
	}
	refused("manager")
	w.must("admin", "{ held }")
	if _, out := w.post("unheardof", "{ held }"); codes(out)[0] != string(Unauthenticated) {
		t.Errorf("a stranger: %v", out)
	}
	origins.set("", true) // nobody has said where these requests come from
	refused("unheardof")
	refused("nobody")
	w.must("admin", "{ held }")

	// On a websocket each operation counts.
	c := w.dial("admin")
	ask := func(id string) (a logAnswer) {
		t.Helper()
		c.send(wsMessage{ID: id, Type: "subscribe", Payload: body})
		for {
			m, err := c.next()
			if err != nil {
				t.Fatal(err)
			}
			switch m.Type {
			case "error":
				_ = json.Unmarshal(m.Payload, &a.Errors)
				return a
			case "next":
				_ = json.Unmarshal(m.Payload, &a)
			case "complete":
				return a
			}
		}
	}
	if a := ask("1"); len(a.Errors) != 0 {
		t.Errorf("%+v", a)
	}
	viewers.set("key_admin", true)
	if a := ask("2"); len(a.Errors) != 1 || a.Errors[0].Extensions.Code != Limited {
		t.Errorf("%+v", a)
	}
}
