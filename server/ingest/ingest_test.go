package ingest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/secret"
	"github.com/hookyard/hookyard/server/flow"
	"github.com/hookyard/hookyard/server/ingest"
)

// plain is a connector whose requests are a JSON list of scans, "key@application", and whose
// formats are "plain" and, for nothing, "mute" and "broken". An item that begins with "-" has
// no key of its own, one with "!" speaks of nothing besides.
type plain struct{}

func (plain) Spec() connectors.Spec              { return connectors.Spec{Name: "plain"} }
func (plain) Kind() string                       { return "plain" }
func (p plain) Receivers() []connectors.Receiver { return []connectors.Receiver{p} }
func (plain) Formats() []connectors.Format {
	return []connectors.Format{format("plain"), format("mute"), format("broken")}
}

func (plain) Receive(in connectors.Inbound) (connectors.Received, error) {
	if string(in.Body) == "later" {
		return connectors.Received{Note: "nothing that we know"}, nil
	}
	var names []string
	if string(in.Body) == "many" {
		return connectors.Received{Items: make([]connectors.Incoming, 2001)}, nil
	}
	if err := json.Unmarshal(in.Body, &names); err != nil {
		return connectors.Received{}, connectors.Refuse(http.StatusUnprocessableEntity, "names", "must be a list of strings")
	}
	var out connectors.Received
	for _, n := range names {
		key, app, _ := strings.Cut(n, "@")
		item := connectors.Incoming{
			Type: connectors.ScanCompleted, Key: key, Fields: map[string]string{"app": app}, DefaultField: "app",
			Data: connectors.Data{Scan: &connectors.Scan{Key: key, Name: key}},
		}
		if strings.HasPrefix(n, "-") || strings.HasPrefix(n, "!") {
			item.Key = ""
		}
		if strings.HasPrefix(n, "!") {
			item.Data = connectors.Data{}
		}
		out.Items = append(out.Items, item)
	}
	return out, nil
}

type format string

func (f format) Name() string                     { return string(f) }
func (format) EventTypes() []connectors.EventType { return connectors.EventTypes() }
func (f format) Render(e *connectors.Event, _ connectors.RenderOptions) (connectors.Rendered, error) {
	switch f {
	case "mute":
		return connectors.Rendered{}, &connectors.SkipError{Reason: "it has no words for this"}
	case "broken":
		return connectors.Rendered{}, errors.New("a bug")
	}
	return connectors.Rendered{Body: []byte(e.Data.Scan.Name)}, nil
}

// ledger remembers what it accepted and knows keys.
type ledger struct {
	mu       sync.Mutex
	fail     error
	receipts []flow.Receipt
	events   []flow.NewEvent
	byKey    map[string]flow.NewEvent
}

func (l *ledger) Accept(_ context.Context, r *flow.Receipt, events []flow.NewEvent) ([]flow.Accepted, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return nil, l.fail
	}
	if r != nil {
		l.receipts = append(l.receipts, *r)
	}
	out := make([]flow.Accepted, len(events))
	for i, e := range events {
		if first, known := l.byKey[e.Key]; known && e.Key != "" {
			out[i] = flow.Accepted{ID: first.ID, Duplicate: true, Unmapped: first.App == "", Conflict: !slices.Equal(first.Digest, e.Digest)}
			continue
		}
		l.byKey[e.Key] = e
		l.events = append(l.events, e)
		out[i] = flow.Accepted{ID: e.ID}
	}
	return out, nil
}

func (l *ledger) Given(_ context.Context, r *flow.Receipt) (given []flow.Given, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e.Receipt == r.ID {
			given = append(given, flow.Given{ID: e.ID, Type: e.Type, Time: e.Time, Subject: e.Subject, Group: e.Group, App: e.App})
		}
	}
	return given, nil
}

// forget has the keys' window be over.
func (l *ledger) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.byKey)
}

func (*ledger) Numbers(context.Context, string, []connectors.NumberKey) (map[connectors.NumberKey]int32, error) {
	return nil, nil
}
func (*ledger) FindingKnown(context.Context, string, string, string) (bool, error) { return false, nil }

// dispatcher gives credit without end and fails the test when it is handed a delivery
// that is not in the ledger.
type dispatcher struct {
	t      *testing.T
	ledger *ledger
	credit int
	handed []*flow.Due
	disown []string
}

func (d *dispatcher) Reserve(w *flow.Webhook) bool {
	if w.State == flow.WebhookPaused {
		return false
	}
	d.credit--
	return true
}
func (d *dispatcher) Unreserve(_ *flow.Webhook, n int) { d.credit += n }
func (d *dispatcher) Disown(ids ...string)             { d.disown = append(d.disown, ids...) }
func (d *dispatcher) Hand(dues ...*flow.Due) {
	for _, due := range dues {
		if !slices.ContainsFunc(d.ledger.events, func(e flow.NewEvent) bool { return e.ID == due.Event }) {
			d.t.Errorf("%s was handed over before it was durable", due.ID)
		}
	}
	d.credit += len(dues)
	d.handed = append(d.handed, dues...)
}

// world is one organization; every webhook matches every event.
type world struct {
	place  *ingest.Place
	grown  int
	unread bool
	mu     sync.Mutex
	fresh  []bool // whether an event was new, as routed
}

func (w *world) Match(f flow.Facts, into []*flow.Webhook) []*flow.Webhook {
	w.mu.Lock()
	w.fresh = append(w.fresh, f.New)
	w.mu.Unlock()
	for _, id := range []string{"plain", "again", "doc", "mute", "broken", "paused", "disabled", "nowhere"} {
		if h := w.place.World.Webhooks[id]; h != nil {
			into = append(into, h)
		}
	}
	return into
}
func (w *world) Place(org string) *ingest.Place {
	if org != "org_1" {
		return nil
	}
	return w.place
}
func (w *world) Unread() bool { return w.unread }
func (w *world) Grown(string) { w.grown++ }
func (w *world) Source(token string) (*ingest.Place, *flow.Source) {
	for _, s := range w.place.World.Sources {
		if s.Token == token {
			return w.place, s
		}
	}
	return nil, nil
}

type rig struct {
	*ingest.Ingest
	ledger *ledger
	disp   *dispatcher
	world  *world
	source *flow.Source
	shelf  *shelf
	clock  *clockwork.FakeClock
	silent []string
	log    bytes.Buffer
}

func newRig(t *testing.T, webhooks ...*flow.Webhook) *rig {
	t.Helper()
	src := &flow.Source{ID: "src_1", Kind: "plain", Token: secret.Hash("tok"), Enabled: true, Group: "grp_a", Location: time.UTC}
	w := &flow.World{
		Organization: flow.Organization{ID: "org_1", Name: "Acme"},
		Groups:       map[string]flow.Group{"grp_a": {ID: "grp_a", Name: "A"}, "grp_b": {ID: "grp_b", Name: "B"}},
		Applications: map[string]flow.Application{"app_1": {ID: "app_1", Name: "shop", Group: "grp_a"}, "app_2": {ID: "app_2", Name: "other", Group: "grp_a"},
			"app_3": {ID: "app_3", Name: "theirs", Key: "key-3", Group: "grp_b"}},
		Sources:   map[string]*flow.Source{"src_1": src},
		Endpoints: map[string]*flow.Endpoint{"end_1": {ID: "end_1", Enabled: true}},
		Webhooks:  map[string]*flow.Webhook{},
	}
	for _, h := range webhooks {
		w.Webhooks[h.ID] = h
	}
	world := &world{}
	world.place = ingest.NewPlace(w, world)
	set, err := connectors.NewSet([]connectors.Connector{plain{}})
	if err != nil {
		t.Fatal(err)
	}
	clock := clockwork.NewFakeClockAt(time.Date(2026, 4, 10, 14, 30, 0, 0, time.UTC))
	l := &ledger{byKey: map[string]flow.NewEvent{}}
	d := &dispatcher{t: t, ledger: l}
	s := &shelf{settled: make(chan string, 20)}
	r := &rig{ledger: l, disp: d, world: world, source: src, shelf: s, clock: clock}
	r.Ingest = ingest.New(ingest.Config{Ledger: l, Dispatcher: d, Atlas: world, Connectors: set, IDs: ids.NewMaker(clock.Now), Clock: clock,
		Log: slog.New(slog.NewTextHandler(&r.log, nil)), MaxBody: 64, Waiting: s, Enricher: s,
		Silent: func() []string { return r.silent }})
	t.Cleanup(func() {
		if d.credit != 0 {
			t.Errorf("credit is off by %d", d.credit)
		}
	})
	return r
}

func (r *rig) post(body string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	q := httptest.NewRequest(http.MethodPost, "/in/tok", strings.NewReader(body))
	for _, c := range change {
		c(q)
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, q)
	return w
}

func hook(id, format string, state flow.WebhookState) *flow.Webhook {
	return &flow.Webhook{ID: id, Format: format, Endpoint: "end_1", State: state, Global: true}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name     string
		body     string
		change   func(*rig, *http.Request)
		status   int
		says     string
		receipts int
	}{
		{"unknown address", `[]`, func(_ *rig, q *http.Request) { q.URL.Path = "/in/nobody" }, 404, "no source has this address", 0},
		{"disabled", `[]`, func(r *rig, _ *http.Request) { r.source.Enabled = false }, 403, "disabled", 0},
		{"suspended", `[]`, func(r *rig, _ *http.Request) { r.world.place.World.Organization.Suspended = true }, 403, "suspended", 0},
		{"no credentials", `[]`, func(r *rig, _ *http.Request) { r.source.Authorization = flow.NewSecret([]byte("Basic eA==")) }, 401, "Authorization", 0},
		{"wrong credentials", `[]`, func(r *rig, q *http.Request) {
			r.source.Authorization = flow.NewSecret([]byte("Basic eA=="))
			q.Header.Set("Authorization", "Basic eB==")
		}, 401, "Authorization", 0},
		{"too large, and says so", strings.Repeat("x", 65), nil, 413, "64 bytes", 0},
		{"too large, unannounced", strings.Repeat("x", 65), func(_ *rig, q *http.Request) { q.ContentLength = -1 }, 413, "64 bytes", 0},
		{"GET", ``, func(_ *rig, q *http.Request) { q.Method = http.MethodGet }, 405, "POST", 0},
		{"malformed", `{"a":1}`, nil, 422, `"field":"names"`, 1},
		{"too many events", `many`, nil, 413, "2000 are taken", 1},
		{"database lost", `["s1"]`, func(r *rig, _ *http.Request) { r.ledger.fail = flow.ErrUnavailable }, 503, "send again", 0},
		{"too busy", `["s1"]`, func(r *rig, _ *http.Request) { r.ledger.fail = flow.ErrBusy }, 429, "send again", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, hook("plain", "plain", flow.WebhookActive))
			w := r.post(c.body, func(q *http.Request) {
				if c.change != nil {
					c.change(r, q)
				}
			})
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
			if doubtful := c.status == 503; doubtful != (len(r.disp.disown) == 1) {
				t.Errorf("disowned %v", r.disp.disown)
			}
			if len(r.ledger.receipts) != c.receipts || len(r.ledger.events) != 0 || len(r.disp.handed) != 0 {
				t.Errorf("stored %d receipts, %d events; handed %d", len(r.ledger.receipts), len(r.ledger.events), len(r.disp.handed))
			}
		})
	}
}

// While not all is known, an address that is not may be one.
func TestUnknownForNow(t *testing.T) {
	r := newRig(t)
	r.world.unread = true
	if w := r.post(`[]`, func(q *http.Request) { q.URL.Path = "/in/nobody" }); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "send again later") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if w := r.post(`["s1"]`); w.Code/100 != 2 {
		t.Errorf("a known one got %d %s", w.Code, w.Body)
	}
}

func TestAccept(t *testing.T) {
	nowhere := hook("nowhere", "plain", flow.WebhookActive)
	nowhere.Endpoint = "end_gone"
	r := newRig(t, hook("plain", "plain", flow.WebhookActive), hook("again", "plain", flow.WebhookActive), hook("doc", "hookyard", flow.WebhookActive),
		hook("mute", "mute", flow.WebhookActive), hook("broken", "broken", flow.WebhookActive), hook("paused", "plain", flow.WebhookPaused),
		hook("disabled", "plain", flow.WebhookDisabled), nowhere)
	w := r.post(`["s1@shop"]`, func(q *http.Request) { q.Header.Set("Authorization", "Bearer hush") })
	if w.Code != 200 {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	var answer struct {
		Receipt    string
		Events     []string
		Duplicates int
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatal(err)
	}
	e := r.ledger.events[0]
	if answer.Receipt != e.Receipt || len(answer.Events) != 1 || answer.Events[0] != e.ID || answer.Duplicates != 0 {
		t.Errorf("answered %s for %+v", w.Body, e)
	}
	if e.App != "app_1" || e.Group != "grp_a" || e.Subject != e.Catalogue.Scan.ID || !strings.HasPrefix(e.Subject, "scn_") {
		t.Errorf("placed as %+v", e)
	}
	if len(e.Renderings) != 1 {
		t.Errorf("%d renderings for one format that needs a row", len(e.Renderings))
	}
	type got struct {
		state flow.DeliveryState
		lease bool
	}
	want := map[string]got{
		"plain": {flow.Pending, true}, "again": {flow.Pending, true}, "doc": {flow.Pending, true}, "paused": {flow.Pending, false},
		"mute": {flow.SkippedState, false}, "broken": {flow.SkippedState, false}, "disabled": {flow.SkippedState, false}, "nowhere": {flow.SkippedState, false},
	}
	for _, d := range e.Deliveries {
		if (got{d.State, d.Lease}) != want[d.Webhook] || (d.State == flow.SkippedState) != (d.Reason != "") {
			t.Errorf("%s is %+v", d.Webhook, d)
		}
		delete(want, d.Webhook)
	}
	if len(want) != 0 || len(r.disp.handed) != 3 {
		t.Errorf("missing %v; handed %d", want, len(r.disp.handed))
	}
	if strings.Contains(string(r.ledger.receipts[0].Header), "hush") {
		t.Error("a credential is in the receipt")
	}

	w = r.post(`["s1@shop"]`)
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"duplicates":1`) || len(r.ledger.events) != 1 || len(r.disp.handed) != 3 {
		t.Errorf("a repeat gave %d %s", w.Code, w.Body)
	}
	w = r.post(`later`)
	if last := r.ledger.receipts[len(r.ledger.receipts)-1]; w.Code != 200 || last.State != flow.ReceiptIgnored || last.Note == "" {
		t.Errorf("an unknown kind gave %d, %+v", w.Code, last)
	}
}

func TestMapping(t *testing.T) {
	for _, c := range []struct {
		name, item string
		mapping    flow.Mapping
		app        string // "*" is a new one
	}{
		{"by its own name", "s@shop", flow.Mapping{}, "app_1"},
		{"unknown name", "s@new", flow.Mapping{}, ""},
		{"rule before name", "s@shop", flow.Mapping{Rules: []flow.MappingRule{{Field: "app", Equals: "shop", Application: "app_2"}}}, "app_2"},
		{"first rule that fits", "s@shop", flow.Mapping{Rules: []flow.MappingRule{{Field: "x", Equals: "shop", Application: "app_2"}, {Field: "app", Matches: "s*p", Application: "app_1"}}}, "app_1"},
		{"a rule to an application that is gone", "s@new", flow.Mapping{Rules: []flow.MappingRule{{Field: "app", Matches: "*", Application: "app_gone"}}}, ""},
		{"default", "s@new", flow.Mapping{Default: "app_2"}, "app_2"},
		{"create", "s@new", flow.Mapping{Create: true}, "*"},
		{"default before create", "s@new", flow.Mapping{Default: "app_2", Create: true}, "app_2"},
		{"nothing to create from", "s", flow.Mapping{Create: true}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.source.Mapping = c.mapping
			if w := r.post(`["` + c.item + `"]`); w.Code != 200 {
				t.Fatalf("got %d %s", w.Code, w.Body)
			}
			e := r.ledger.events[0]
			if made := e.NewApplication != nil; made != (c.app == "*") || made != (r.world.grown == 1) {
				t.Errorf("made %+v, told %d times", e.NewApplication, r.world.grown)
			}
			if c.app != "*" && e.App != c.app {
				t.Errorf("mapped to %q", e.App)
			}
		})
	}
}

// What a sender calls an application does not lead out of the source's asset group.
func TestMappingStaysInItsGroup(t *testing.T) {
	for _, c := range []struct {
		name, item, group string
		mapping           flow.Mapping
		app               string
	}{
		{"another group's name", "s@theirs", "grp_a", flow.Mapping{Create: true}, ""},
		{"another group's key", "s@key-3", "grp_a", flow.Mapping{Create: true}, ""},
		{"the default instead", "s@theirs", "grp_a", flow.Mapping{Default: "app_1"}, "app_1"},
		{"a rule leads there", "s@theirs", "grp_a", flow.Mapping{Rules: []flow.MappingRule{{Field: "app", Equals: "theirs", Application: "app_3"}}}, "app_3"},
		{"their own source", "s@key-3", "grp_b", flow.Mapping{}, "app_3"},
		{"a source of no group", "s@theirs", "", flow.Mapping{}, "app_3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.source.Group, r.source.Mapping = c.group, c.mapping
			if w := r.post(`["` + c.item + `"]`); w.Code != 200 {
				t.Fatalf("got %d %s", w.Code, w.Body)
			}
			if e := r.ledger.events[0]; e.App != c.app || e.NewApplication != nil {
				t.Errorf("mapped to %q, made %+v", e.App, e.NewApplication)
			}
		})
	}
}

// Whatever the age of a receipt, and with or without keys, it gives its events once; one
// that is mapped later goes to the webhooks that it did not reach, once.
func TestProcessMakesNothingTwice(t *testing.T) {
	for name, body := range map[string]string{
		"with keys": `["s1@new","s2@shop"]`, "without": `["-s1@new","-s2@shop"]`, "without a subject": `["!@shop","!@new","!@shop"]`, "equal ones": `["-s@new","-s@new"]`,
	} {
		t.Run(name, func(t *testing.T) {
			group := hook("again", "hookyard", flow.WebhookActive)
			group.Group = "grp_a"
			r := newRig(t, hook("doc", "hookyard", flow.WebhookActive), group)
			ctx := context.Background()
			r.post(body)
			receipt, unmapped := r.ledger.receipts[0], strings.Count(body, "new")
			process := func(want int) []flow.Accepted {
				t.Helper()
				made, err := r.Process(ctx, &receipt)
				if err != nil || len(made) != want {
					t.Errorf("%d new events, want %d; %v", len(made), want, err)
				}
				r.ledger.forget()
				return made
			}
			process(0)
			process(0)
			r.source.Mapping = flow.Mapping{Rules: []flow.MappingRule{{Field: "app", Equals: "new", Application: "app_2"}}}
			for i := range process(unmapped) {
				e := r.ledger.events[len(r.ledger.events)-1-i]
				if e.App != "app_2" || len(e.Deliveries) != 1 || e.Deliveries[0].Webhook != "again" {
					t.Errorf("told as %+v", e)
				}
			}
			process(0)
			process(0)
			r.source.Mapping.Rules[0].Application = "app_1"
			process(0)
			r.source.Mapping = flow.Mapping{}
			process(0)
			if len(r.ledger.receipts) != 1 {
				t.Errorf("%d receipts of one request", len(r.ledger.receipts))
			}
		})
	}
}

// What a receipt has told is not told again because nothing of it is there any more.
func TestProcessAfterRetention(t *testing.T) {
	r := newRig(t)
	ctx := context.Background()
	r.post(`["-s1@shop"]`)
	r.post(`["s2@shop"]`)
	r.post(`["s2@shop"]`) // another one's event stands for it
	r.ledger.forget()
	r.ledger.events = slices.DeleteFunc(r.ledger.events, func(e flow.NewEvent) bool { return e.Key == "" })
	for _, receipt := range r.ledger.receipts {
		if made, err := r.Process(ctx, &receipt); err != nil || len(made) != 0 {
			t.Errorf("told again: %v, %v", made, err)
		}
	}
	// One that has told nothing does it now.
	r.post(`later`)
	receipt := r.ledger.receipts[3]
	if made, err := r.Process(ctx, &receipt); err != nil || len(made) != 0 {
		t.Errorf("still nothing that we know: %v, %v", made, err)
	}
	receipt.Body = []byte(`["-s3@shop"]`)
	for _, want := range []int{1, 0} {
		made, err := r.Process(ctx, &receipt)
		if err != nil || len(made) != want {
			t.Errorf("it gave %v, %v", made, err)
		}
		r.ledger.forget()
	}
}

// Whichever door it comes through, a known key with other bytes is in the log.
func TestConflictsAreLogged(t *testing.T) {
	r := newRig(t)
	r.post(`["s1@shop"]`)
	for door, repeat := range map[string]func(){
		"http": func() { r.post(`["s1@shop" ]`) },
		"api": func() {
			item := connectors.Incoming{Type: connectors.ScanCompleted, Data: connectors.Data{Scan: &connectors.Scan{Key: "s1"}}}
			if got, err := r.Send(t.Context(), "org_1", "key_1", "src_1", []flow.Sent{{ID: "s1", Incoming: item}}); err != nil || !got[0].Conflict {
				t.Errorf("%+v, %v", got, err)
			}
		},
		"enrichment": func() {
			r.shelf.body = `["s1@shop"]`
			r.shelf.due = append(r.shelf.due, &flow.Waiting{Receipt: flow.Receipt{ID: "rcp_1", Org: "org_1", Source: "src_1", Method: "POST", State: flow.ReceiptWaiting}, Attempt: 1})
			stop := r.run(t)
			<-r.shelf.settled
			stop()
		},
	} {
		r.log.Reset()
		repeat()
		if said := r.log.String(); strings.Count(said, "the first event was kept") != 1 || !strings.Contains(said, r.ledger.events[0].ID) || len(r.ledger.events) != 1 {
			t.Errorf("%s: the log says %q", door, said)
		}
	}
}

// A finding of which one request speaks twice is new once.
func TestNewOnceInARequest(t *testing.T) {
	r := newRig(t)
	yes := true
	finding := func(id, key string, kind connectors.EventType, says *bool) flow.Sent {
		return flow.Sent{ID: id, Incoming: connectors.Incoming{Type: kind, Data: connectors.Data{Finding: &connectors.Finding{Key: key, Title: key, New: says}}}}
	}
	sent := []flow.Sent{
		finding("1", "a", connectors.FindingDiscovered, nil), finding("2", "b", connectors.FindingDiscovered, nil), finding("3", "a", connectors.FindingDiscovered, nil),
		finding("4", "c", connectors.FindingChanged, nil), finding("5", "c", connectors.FindingDiscovered, nil), finding("6", "b", connectors.FindingDiscovered, &yes),
	}
	if _, err := r.Send(t.Context(), "org_1", "key_1", "", sent); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range r.ledger.events {
		if n := e.Catalogue.Finding.New; n != nil && *n {
			got = append(got, e.Key)
		}
	}
	if want := []string{"1", "2", "6"}; !slices.Equal(got, want) || !slices.Equal(r.world.fresh, []bool{true, true, false, false, false, true}) {
		t.Errorf("new are %v, want %v; routed as new: %v", got, want, r.world.fresh)
	}
}

// A receipt that is processed again gets the state and the asset group of what it became.
func TestProcessSettles(t *testing.T) {
	to := func(app string) flow.Mapping {
		return flow.Mapping{Rules: []flow.MappingRule{{Field: "app", Equals: "new", Application: app}}}
	}
	for _, c := range []struct {
		name, sent, read string // read: the body as today's connector understands it
		mapping          flow.Mapping
		want             *end
	}{
		{"rejected, understood by now", `{}`, `["s@shop"]`, flow.Mapping{}, &end{state: flow.ReceiptAccepted, group: "grp_a"}},
		{"rejected, known to mean nothing", `{}`, `later`, flow.Mapping{}, &end{state: flow.ReceiptIgnored, note: "nothing that we know"}},
		{"rejected as before", `{}`, `{}`, flow.Mapping{}, nil},
		{"ignored, understood by now", `later`, `["s1@shop","s2@theirs"]`, flow.Mapping{}, &end{state: flow.ReceiptAccepted}},
		{"nothing has changed", `["s@new"]`, `["s@new"]`, flow.Mapping{}, nil},
		{"mapped", `["s1@new","s2@shop"]`, `["s1@new","s2@shop"]`, to("app_2"), &end{state: flow.ReceiptAccepted, group: "grp_a"}},
		{"mapped to another group", `["s1@new","s2@shop"]`, `["s1@new","s2@shop"]`, to("app_3"), &end{state: flow.ReceiptAccepted}},
		{"one of two is mapped", `["s1@new","s2@none"]`, `["s1@new","s2@none"]`, to("app_2"), &end{state: flow.ReceiptAccepted}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.post(c.sent)
			receipt := r.ledger.receipts[0]
			receipt.Body = []byte(c.read)
			r.source.Mapping = c.mapping
			var refused *connectors.RefuseError
			if _, err := r.Process(t.Context(), &receipt); err != nil && !errors.As(err, &refused) {
				t.Fatal(err)
			}
			var want []end
			if c.want != nil {
				c.want.receipt = receipt.ID
				want = append(want, *c.want)
			}
			if !slices.Equal(r.shelf.ends, want) {
				t.Errorf("it ended as %+v, want %+v", r.shelf.ends, want)
			}
		})
	}
}

func TestSend(t *testing.T) {
	ctx := context.Background()
	scan := func(id, app string) flow.Sent {
		return flow.Sent{ID: id, Application: app, Incoming: connectors.Incoming{Type: connectors.ScanCompleted, Data: connectors.Data{Scan: &connectors.Scan{Key: id, Name: id}}}}
	}
	r := newRig(t, hook("doc", "hookyard", flow.WebhookActive))
	got, err := r.Send(ctx, "org_1", "key_1", "", []flow.Sent{scan("a", "app_1"), scan("b", "")})
	if err != nil || len(got) != 2 || r.ledger.events[0].App != "app_1" || r.ledger.events[1].App != "" || r.ledger.events[0].Source != "key_1" {
		t.Fatalf("got %+v, %v", got, err)
	}
	if got, err = r.Send(ctx, "org_1", "key_1", "", []flow.Sent{scan("a", "app_1")}); err != nil || !got[0].Duplicate {
		t.Errorf("a repeat gave %+v, %v", got, err)
	}
	if _, err = r.Send(ctx, "org_1", "key_1", "", []flow.Sent{scan("c", "app_1"), scan("d", "app_gone")}); !errors.Is(err, ingest.ErrNoApplication) || len(r.ledger.events) != 2 {
		t.Errorf("an unknown application gave %v; %d events", err, len(r.ledger.events))
	}
	if _, err = r.Send(ctx, "org_1", "key_1", "src_gone", nil); !errors.Is(err, ingest.ErrNoSource) {
		t.Errorf("an unknown source gave %v", err)
	}
	r.source.Enabled = false
	if _, err = r.Send(ctx, "org_1", "key_1", "src_1", []flow.Sent{scan("e", "")}); !errors.Is(err, flow.ErrDisabled) || len(r.ledger.events) != 2 {
		t.Errorf("a disabled source gave %v; %d events", err, len(r.ledger.events))
	}
	if _, err = r.Send(ctx, "org_2", "key_1", "", nil); !errors.Is(err, ingest.ErrNoOrganization) || !errors.Is(err, flow.ErrUnavailable) {
		t.Errorf("an unknown organization gave %v", err)
	}
}
