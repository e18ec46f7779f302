package graph

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/flow"
	"github.com/hookyard/hookyard/server/watch"
)

// ledgerReads counts what the API reads of the ledger.
type ledgerReads struct {
	EventReader
	DeliveryReader
	ReceiptReader
	n atomic.Int64
}

func (l *ledgerReads) Event(ctx context.Context, s rule.Scope, id string) (*flow.EventView, error) {
	l.n.Add(1)
	return l.EventReader.Event(ctx, s, id)
}

func (l *ledgerReads) Events(ctx context.Context, s rule.Scope, f flow.EventFilter, p flow.Page) ([]flow.EventView, error) {
	l.n.Add(1)
	return l.EventReader.Events(ctx, s, f, p)
}

func (l *ledgerReads) Delivery(ctx context.Context, s rule.Scope, id string) (*flow.DeliveryView, error) {
	l.n.Add(1)
	return l.DeliveryReader.Delivery(ctx, s, id)
}

func (l *ledgerReads) Deliveries(ctx context.Context, s rule.Scope, f flow.DeliveryFilter, p flow.Page) ([]flow.DeliveryView, error) {
	l.n.Add(1)
	return l.DeliveryReader.Deliveries(ctx, s, f, p)
}

func (l *ledgerReads) Attempt(ctx context.Context, s rule.Scope, id string) (*flow.AttemptView, error) {
	l.n.Add(1)
	return l.DeliveryReader.Attempt(ctx, s, id)
}

func (l *ledgerReads) Attempts(ctx context.Context, s rule.Scope, d string) ([]flow.AttemptView, error) {
	l.n.Add(1)
	return l.DeliveryReader.Attempts(ctx, s, d)
}

func (l *ledgerReads) Receipt(ctx context.Context, s rule.Scope, id string) (*flow.ReceiptView, error) {
	l.n.Add(1)
	return l.ReceiptReader.Receipt(ctx, s, id)
}

func (l *ledgerReads) Receipts(ctx context.Context, s rule.Scope, f flow.ReceiptFilter, p flow.Page) ([]flow.ReceiptView, error) {
	l.n.Add(1)
	return l.ReceiptReader.Receipts(ctx, s, f, p)
}

// perRow are the fields that read the ledger once for each row of a page, with the reason.
// Their price is in the cost of a query, which is limited.
func perRow() map[string]string {
	return map[string]string{
		"Webhook.deliveries": "each webhook's newest deliveries are a page of their own in an index",
		"Event.deliveries":   "each event's deliveries are a page of their own in an index",
		"Source.receipts":    "each source's newest receipts are a page of their own in an index",
		"Delivery.attempts":  "each delivery's attempts are a range of their own in an index",
	}
}

// TestNoQueryPerRow asks for every list, with all that its rows lead to, for eight rows and
// for twenty, as an Administrator and as a member of a group: the number of SQL statements
// is the same, whatever the number of rows.
func TestNoQueryPerRow(t *testing.T) {
	w := newWorld(t, storetest.Open(t, store.Config{DataDir: t.TempDir()}), Options{Limits: Limits{Cost: 1 << 30}}, watch.Options{})
	w.many(20)
	var statements atomic.Int64
	log.SetOutput(writerFunc(func(b []byte) (int, error) { statements.Add(1); return len(b), nil }))
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	w.db.Client = w.db.Client.Debug() // it logs a line per statement
	ledger := &ledgerReads{EventReader: w.ledger, DeliveryReader: w.ledger, ReceiptReader: w.ledger}
	w.services.Events, w.services.Deliveries, w.services.Receipts = ledger, ledger, ledger
	w.api = New(w.services, w.api.opt)

	s := schema()
	for _, f := range s.Query.Fields {
		typ, ok := strings.CutSuffix(f.Type.Name(), "Connection")
		if !ok {
			continue
		}
		for _, e := range append(slices.Clone(s.Types[typ].Fields), nil) {
			selection, name := "id", f.Name
			if e != nil {
				if selection = edgeSelection(s, e); selection == "" || perRow()[typ+"."+e.Name] != "" {
					continue
				}
				name += "." + e.Name
			}
			for _, who := range []string{"admin", "manager"} {
				count := func(n int) (int64, int) {
					statements.Store(0)
					ledger.n.Store(0)
					answer := w.serve(t, who, fmt.Sprintf(`{ r: %s(first: %d) { edges { node { %s } } } }`, f.Name, n, selection))
					var got struct {
						Data   struct{ R struct{ Edges []struct{} } }
						Errors []any
					}
					if err := json.Unmarshal(answer, &got); err != nil || len(got.Errors) > 0 {
						t.Fatalf("%s: %v: %s", name, err, answer)
					}
					return statements.Load() + ledger.n.Load(), len(got.Data.R.Edges)
				}
				if c := codes(decoded(w.serve(t, who, `{ r: `+f.Name+`(first: 1) { pageInfo { endCursor } } }`))); slices.Contains(c, string(Forbidden)) {
					continue
				}
				few, _ := count(8) // events speak of four nouns in turn
				many, rows := count(20)
				if few != many {
					t.Errorf("%s, as %s: %d statements for 8 rows, %d for %d", name, who, few, many, rows)
				}
				if rows < 15 && !slices.Contains([]string{"users", "apiKeys", "assetGroups", "roles"}, f.Name) {
					t.Logf("%s, as %s: only %d rows", name, who, rows)
				}
			}
		}
	}
}

func decoded(answer []byte) (out any) {
	_ = json.Unmarshal(answer, &out)
	return out
}

// edgeSelection asks for what a field leads to, "" when it leads nowhere.
func edgeSelection(s *ast.Schema, f *ast.FieldDefinition) string {
	d := s.Types[f.Type.Name()]
	switch {
	case strings.HasSuffix(d.Name, "Connection"):
		return f.Name + " { edges { node { id } } }"
	case d.Name == "Node", slices.Contains(d.Interfaces, "Node"):
		return f.Name + " { id }"
	}
	return ""
}

// many makes n rows of everything that the group red has.
func (w *world) many(n int) {
	w.t.Helper()
	id := func(data map[string]any, mutation, noun string) string {
		return data[mutation].(map[string]any)[noun].(map[string]any)["id"].(string)
	}
	red := w.vars["red"]
	for i := range n {
		group := id(w.must("admin", fmt.Sprintf(`mutation { createAssetGroup(input: {name: "group %d"}) { assetGroup { id } } }`, i)), "createAssetGroup", "assetGroup")
		app := id(w.must("admin", fmt.Sprintf(`mutation { createApplication(input: {name: "application %d", assetGroupId: %q}) { application { id } } }`, i, red)), "createApplication", "application")
		source := id(w.must("admin", fmt.Sprintf(`mutation { createSource(input: {name: "source %d", kind: "cloudevents", assetGroupId: %q}) { source { id } } }`, i, red)), "createSource", "source")
		end := id(w.must("admin", fmt.Sprintf(`mutation { createEndpoint(input: {name: "endpoint %d", url: "https://example.com", assetGroupId: %q}) { endpoint { id } } }`, i, red)), "createEndpoint", "endpoint")
		w.must("admin", fmt.Sprintf(`mutation { createWebhook(input: {name: "webhook %d", endpointId: %q, assetGroupId: %q, applicationIds: [%q], sourceIds: [%q]}) { webhook { id } } }`, i, end, red, app, source))
		if i < 2 { // each gets every event
			w.must("admin", fmt.Sprintf(`mutation { createWebhook(input: {name: "global %d", endpointId: %q, assetGroupId: %q, global: true}) { webhook { id } } }`, i, end, red))
		}
		w.must("admin", fmt.Sprintf(`mutation { createWebhook(input: {name: "wide %d", endpointId: %q, scopeGroupIds: [%q]}) { webhook { id } } }`, i, w.hq(), group))
		w.must("admin", fmt.Sprintf(`mutation { createUser(input: {email: "u%d@example.com", role: TESTER, groupIds: [%q, %q]}) { user { id } } }`, i, red, group))
		w.must("admin", fmt.Sprintf(`mutation { createAPIKey(input: {name: "key %d", role: TESTER, groupIds: [%q, %q]}) { apiKey { id } } }`, i, red, group))
		for _, data := range []string{`type: "scan.completed", scan: {key: "s%d", name: "x"}`, `type: "finding.discovered", finding: {key: "f%d", title: "x"}`,
			`type: "ticket.opened", ticket: {key: "t%d", title: "x"}`, `type: "report.ready", report: {key: "r%d"}`} {
			w.must("admin", fmt.Sprintf(`mutation { sendEvent(input: {sourceId: %q, applicationId: %q, `+data+`}) { result { eventId } } }`, source, app, i))
		}
	}
	w.end(flow.Succeeded)
}

// hq is an endpoint of the organization.
func (w *world) hq() string {
	w.t.Helper()
	if w.vars["hq"] == "" {
		e := w.must("admin", `mutation { createEndpoint(input: {name: "hq", url: "https://example.com"}) { endpoint { id } } }`)
		w.vars["hq"] = e["createEndpoint"].(map[string]any)["endpoint"].(map[string]any)["id"].(string)
	}
	return w.vars["hq"]
}

// serve asks without a network in between.
func (w *world) serve(t testing.TB, as, query string) []byte {
	t.Helper()
	body, err := json.Marshal(map[string]string{"query": query})
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+as)
	rec := httptest.NewRecorder()
	w.api.ServeHTTP(rec, req)
	return rec.Body.Bytes()
}

// BenchmarkWall lists 50 webhooks with their endpoints, applications and groups as an
// Administrator and as a member of the one group that they are in. The member's figure
// should be at most one and a half times the Administrator's.
func BenchmarkWall(b *testing.B) {
	w := newWorld(b, storetest.Open(b, store.Config{DataDir: b.TempDir()}), Options{}, watch.Options{})
	red := w.vars["red"]
	for i := range 50 {
		e := w.must("admin", fmt.Sprintf(`mutation { createEndpoint(input: {name: "endpoint %d", url: "https://example.com", assetGroupId: %q}) { endpoint { id } } }`, i, red))
		end := e["createEndpoint"].(map[string]any)["endpoint"].(map[string]any)["id"]
		w.must("admin", fmt.Sprintf(`mutation { createWebhook(input: {name: "webhook %d", endpointId: %q, assetGroupId: %q, applicationIds: [%q]}) { webhook { id } } }`, i, end, red, w.vars["shop"]))
	}
	w.viewer("member", viewer.Manager, red)
	for _, who := range []string{"admin", "member"} {
		b.Run(who, func(b *testing.B) {
			for b.Loop() {
				answer := w.serve(b, who, `{ webhooks(first: 50) { edges { node { id name state endpoint { id name } applications { id name } assetGroup { id name } } } } }`)
				if n := bytes.Count(answer, []byte(`"state"`)); n != 50 {
					b.Fatalf("%d webhooks: %.300s", n, answer)
				}
			}
		})
	}
}
