package graph

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"go.uber.org/goleak"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/builtin"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/webhook"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/secret"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/flow"
	"github.com/hookyard/hookyard/server/ledger"
	"github.com/hookyard/hookyard/server/watch"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("os/exec.(*Cmd).watchCtx"), // the test's PostgreSQL server
		goleak.IgnoreAnyFunction("internal/poll.runtime_pollWait"))
}

var errBad = errors.New("bad credential")

// world is a hub's storage, ledger and watch with the API in front; what the hub would
// do with events is done by hand.
type world struct {
	t        testing.TB
	db       *store.DB
	ledger   *ledger.Ledger
	watch    *watch.Watch
	audit    *watch.Audit
	ids      *ids.Maker
	secrets  *secret.Box
	api      *Handler
	services Services
	server   *httptest.Server
	org      string
	vars     map[string]string // for scenarios

	mu      sync.Mutex
	viewers map[string]*viewer.Viewer // by credential
	expires map[string]time.Time
	held    bool
	log     bytes.Buffer
	dues    map[string]*flow.Due // deliveries that were made, by ID
}

func newWorld(t testing.TB, db *store.DB, o Options, wo watch.Options) *world {
	t.Helper()
	ctx := viewer.SystemContext(t.Context())
	w := &world{t: t, db: db, ids: ids.NewMaker(time.Now), viewers: map[string]*viewer.Viewer{}, expires: map[string]time.Time{},
		vars: map[string]string{}, dues: map[string]*flow.Due{}}
	var err error
	if w.secrets, err = secret.Open(ctx, secret.Config{KeyFile: filepath.Join(t.TempDir(), "key")}); err != nil {
		t.Fatal(err)
	}
	set, err := connectors.NewSet(builtin.Connectors())
	if err != nil {
		t.Fatal(err)
	}
	c := ledger.Config{IDs: w.ids, NodeName: "one"}
	if db.Pool != nil {
		c.Postgres = db.Pool
	} else {
		c.SQLite = &ledger.SQLite{Write: db.Write, Read: db.Read}
	}
	if w.ledger, err = ledger.Open(ctx, c); err != nil {
		t.Fatal(err)
	}
	w.watch = watch.New(w.ledger, wo)
	w.audit = watch.NewAudit(store.AuditTail{DB: db}, wo)
	done := make(chan struct{})
	waking, stop := context.WithCancel(context.Background())
	go func() {
		defer close(done)
		for {
			woken := w.ledger.Notify()
			select {
			case <-woken:
				w.watch.Wake("")
			case <-waking.Done():
				return
			}
		}
	}()
	if err := db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
		org, err := tx.Organization.Create().SetName("Acme").Save(ctx)
		if err != nil {
			return err
		}
		w.org = org.ID
		for group, app := range map[string]string{"red": "shop", "blue": "site"} {
			g, err := tx.AssetGroup.Create().SetName(group).SetOrganizationID(org.ID).Save(ctx)
			if err != nil {
				return err
			}
			a, err := tx.Application.Create().SetName(app).SetAssetGroup(g).SetOrganizationID(org.ID).Save(ctx)
			if err != nil {
				return err
			}
			w.vars[group], w.vars[app] = g.ID, a.ID
		}
		other, err := tx.Organization.Create().SetName("Other").Save(ctx)
		if err != nil {
			return err
		}
		w.vars["other"] = other.ID
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	w.vars["org"] = w.org
	w.viewer("admin", viewer.Administrator)
	w.viewer("manager", viewer.Manager, w.vars["red"])
	w.viewer("tester", viewer.Tester, w.vars["red"])
	w.viewer("reader", viewer.ReportViewer, w.vars["blue"])
	for name, group := range map[string]string{"auditor": w.vars["red"], "outsider": w.vars["blue"]} {
		w.viewer(name, viewer.ReportViewer, group)
		w.viewers[name].Permissions = []viewer.Permission{viewer.ReadAudit}
	}
	w.viewers["stranger"] = &viewer.Viewer{ID: "key_stranger", Organization: w.vars["other"], Role: viewer.Administrator, Permissions: viewer.Administrator.Permissions()}

	o.Auth, o.BadCredential = w, errBad
	if o.Clock == nil {
		o.Clock = clockwork.NewRealClock()
	}
	o.Log = slog.New(slog.NewTextHandler(writerFunc(func(b []byte) (int, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.log.Write(b)
	}), nil))
	w.services = Services{DB: db, Connectors: set, IDs: w.ids, Events: w.ledger, Deliveries: w.ledger, Receipts: w.ledger, Redeliverer: w.ledger, Eraser: w.ledger,
		Sender: w, Polls: w.ledger, Reprocessor: w, Checker: w, Catalogue: shelf{}, Handshakes: w, Explainer: w, Log: w.watch, Audit: w.audit, Hold: w, Secrets: w.secrets, Credentials: w, SignIn: w}
	w.api = New(w.services, o)
	w.server = httptest.NewUnstartedServer(w.api)
	w.server.Listener = narrow{w.server.Listener}
	w.server.Start()
	t.Cleanup(func() {
		w.server.CloseClientConnections()
		w.server.Close()
		stop()
		<-done
		if err := w.ledger.Close(context.Background()); err != nil {
			t.Errorf("close the ledger: %v", err)
		}
		if t.Failed() {
			w.mu.Lock()
			t.Logf("log:\n%s", w.log.String())
			w.mu.Unlock()
		}
	})
	return w
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func (w *world) viewer(name string, role viewer.Role, groups ...string) {
	w.viewers[name] = &viewer.Viewer{ID: "key_" + name, Name: name, Organization: w.org, Role: role, Permissions: role.Permissions(), Groups: groups}
}

// Authenticate implements Authenticator: the credential is the viewer's name, or the ID
// of a user.
func (w *world) Authenticate(ctx context.Context, header string) (*viewer.Viewer, time.Time, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := strings.TrimPrefix(header, "Bearer ")
	v := w.viewers[name]
	if name == "broken" {
		return nil, time.Time{}, errors.New("the database is gone")
	}
	if strings.HasPrefix(name, "usr_") { // a user of the database
		u, err := w.db.Client.User.Get(viewer.SystemContext(ctx), name)
		if err != nil || u.DisabledAt != nil {
			return nil, time.Time{}, errBad
		}
		v, err = u.Rights(ctx)
		return v, time.Time{}, err
	}
	if v == nil {
		return nil, time.Time{}, errBad
	}
	return v, w.expires[name], nil
}

// Send implements Sender: each event is due to every webhook that wants all.
func (w *world) Send(ctx context.Context, org, sender, source string, events []flow.Sent) ([]flow.Accepted, error) {
	if source != "" {
		s, err := w.db.Client.Source.Get(viewer.SystemContext(ctx), source)
		if err != nil {
			return nil, err
		}
		if !s.Enabled {
			return nil, flow.ErrDisabled
		}
		sender = source
	}
	hooks, err := w.db.Client.Webhook.Query().All(viewer.SystemContext(ctx))
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	body, _ := json.Marshal(map[string]int{"events": len(events)})
	receipt := &flow.Receipt{ID: w.ids.New(ids.Receipt), Org: org, Source: sender, At: now, Method: "GRAPHQL", Header: []byte(`[["X-Test","1"]]`),
		ContentType: "application/json", Body: body, State: flow.ReceiptAccepted}
	rows := make([]flow.NewEvent, len(events))
	for i, e := range events {
		doc, _ := json.Marshal(map[string]any{"type": e.Type})
		group := ""
		if e.Application != "" {
			a, err := w.db.Client.Application.Get(viewer.SystemContext(ctx), e.Application)
			if err != nil {
				return nil, err
			}
			group = a.AssetGroupID
		}
		n := flow.NewEvent{ID: w.ids.New(ids.Event), Org: org, Source: sender, Receipt: receipt.ID, Type: e.Type, Time: now, Received: now,
			App: e.Application, Group: group, Document: doc, Key: e.ID, Digest: doc}
		switch d := e.Data; {
		case d.Scan != nil:
			x := *d.Scan
			x.ID = ids.Of(ids.Scan, sender, x.Key)
			n.Subject, n.Catalogue = x.ID, &flow.CatalogueRow{Scan: &x}
		case d.Finding != nil:
			x := *d.Finding
			x.ID = ids.Of(ids.Finding, sender, x.Key)
			n.Subject, n.Catalogue = x.ID, &flow.CatalogueRow{Finding: &x}
		case d.Ticket != nil:
			x := *d.Ticket
			x.ID = ids.Of(ids.Ticket, sender, x.Key)
			n.Subject, n.Catalogue = x.ID, &flow.CatalogueRow{Ticket: &x}
		case d.Report != nil:
			x := *d.Report
			x.ID = ids.Of(ids.Report, sender, x.Key)
			n.Subject, n.Catalogue = x.ID, &flow.CatalogueRow{Report: &x}
		}
		for _, h := range hooks {
			if h.OrganizationID != org || !h.Global {
				continue
			}
			d := flow.NewDelivery{ID: w.ids.New(ids.Delivery), Webhook: h.ID, Endpoint: h.EndpointID, Level: or(h.AssetGroupID), Rendering: "hookyard", State: flow.Pending, Lease: true}
			n.Deliveries = append(n.Deliveries, d)
			w.mu.Lock()
			w.dues[d.ID] = &flow.Due{ID: d.ID, Org: org, Event: n.ID, Webhook: h.ID, Endpoint: h.EndpointID, Level: d.Level, App: n.App, Type: n.Type, Created: now, Document: doc}
			w.mu.Unlock()
		}
		rows[i] = n
	}
	return w.ledger.Accept(ctx, receipt, rows)
}

// end records an attempt for every open delivery.
func (w *world) end(state flow.DeliveryState) {
	w.t.Helper()
	w.mu.Lock()
	dues := w.dues
	w.dues = map[string]*flow.Due{}
	w.mu.Unlock()
	var recs []flow.Record
	for _, d := range dues {
		r := &connectors.Result{DeliveryID: d.ID, Outcome: connectors.Done, Started: time.Now().UTC().Truncate(time.Microsecond),
			Timing: connectors.Timing{Connect: time.Millisecond, Total: 1500 * time.Microsecond}, Response: &connectors.Response{Status: 204, Body: []byte("ok")},
			Request: &connectors.Request{Method: "POST", URL: "https://example.com", Header: []connectors.Header{{Name: "Authorization", Value: "[secret:bearer_token]"}}}}
		if state == flow.Failed {
			r.Outcome, r.Fault, r.Error, r.Response.Status = connectors.Permanent, connectors.FaultTarget, "It answered 410.", 410
		}
		recs = append(recs, flow.Record{Due: d, Attempt: w.ids.New(ids.Attempt), Number: 1, Result: r, URL: "https://example.com", State: state, At: time.Now()})
	}
	if err := w.ledger.Record(context.Background(), recs...); err != nil {
		w.t.Fatal(err)
	}
}

// Reprocess implements Reprocessor.
func (w *world) Reprocess(ctx context.Context, org, receipt string) ([]flow.Accepted, error) {
	return nil, connectors.Refuse(422, "x", "still malformed")
}

// Verify implements Handshakes: every address agrees.
func (w *world) Verify(ctx context.Context, _, id string) (string, error) {
	return "", w.db.WithTx(viewer.SystemContext(ctx), func(ctx context.Context, tx *gen.Tx) error {
		return tx.Webhook.UpdateOneID(id).SetState(webhook.StateACTIVE).SetStateReason("").SetVerifiedAt(time.Now()).Exec(ctx)
	})
}

// VerifyAll implements Handshakes; the addresses of endpoints that moved are not asked.
func (*world) VerifyAll(context.Context, string, string) error { return nil }

// Check implements Checker.
func (w *world) Check(context.Context, string, string) error { return errors.New("it does not answer") }

// Explain implements Explainer.
func (w *world) Explain(context.Context, string, string, string) ([]flow.Reason, error) {
	return []flow.Reason{{Rule: "EXISTS", Passed: true, Text: "The webhook exists."}, {Rule: "TYPE", Text: "It takes other kinds."}}, nil
}

// Held implements Hold.
func (w *world) Held() bool { return w.held }

// Unhold implements Hold.
func (w *world) Unhold(context.Context) error { w.held = false; return nil }

// NewKey implements Credentials.
func (w *world) NewKey() (key, hint, hash string) {
	id := w.ids.New("hky")
	return id, id[:8], "hash of " + id
}

// NewPresenceKey implements Credentials.
func (w *world) NewPresenceKey() (key, hint, hash string) {
	id := w.ids.New("hkp")
	return id, id[:8], "hash of " + id
}

// StartURL implements SignIn.
func (w *world) StartURL(provider string) string {
	return "https://hub.example.com/auth/oidc/" + provider + "/start"
}

// RedirectURL implements SignIn.
func (w *world) RedirectURL() string { return "https://hub.example.com/auth/oidc/callback" }

// CheckProvider implements SignIn.
func (w *world) CheckProvider(context.Context, string) error { return errors.New("it does not answer") }

// NewAddress implements Credentials.
func (w *world) NewAddress() (address, hash string) {
	id := w.ids.New("tok")
	return "https://hub.example.com/in/" + id, "hash of " + id
}

// NewTrigger implements Credentials.
func (w *world) NewTrigger() (address, hash string) {
	id := w.ids.New("tok")
	return "https://hub.example.com/webhook/" + id, "hash of " + id
}

// post sends a query and returns the status and the decoded answer.
func (w *world) post(as, query string) (int, any) {
	w.t.Helper()
	body, _ := json.Marshal(map[string]any{"query": query})
	return w.postBody(as, body)
}

func (w *world) request(as string, body []byte) *http.Request {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.server.URL, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if as != "nobody" {
		req.Header.Set("Authorization", "Bearer "+as)
	}
	return req
}

func (w *world) postBody(as string, body []byte) (int, any) {
	w.t.Helper()
	resp, err := http.DefaultClient.Do(w.request(as, body))
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		w.t.Fatalf("the answer is not JSON: %s", b)
	}
	return resp.StatusCode, out
}

// must sends a query that has to succeed, and returns its data.
func (w *world) must(as, query string) map[string]any {
	w.t.Helper()
	_, out := w.post(as, query)
	m := out.(map[string]any)
	if m["errors"] != nil {
		w.t.Fatalf("%s\n%v", query, m["errors"])
	}
	return m["data"].(map[string]any)
}

// codes are the codes of an answer's errors.
func codes(out any) []string {
	var list []string
	m, _ := out.(map[string]any)
	errs, _ := m["errors"].([]any)
	for _, e := range errs {
		ext, _ := e.(map[string]any)["extensions"].(map[string]any)
		list = append(list, fmt.Sprint(ext["code"]))
	}
	return list
}

// narrow keeps the system from holding megabytes for a client that does not read.
type narrow struct{ net.Listener }

func (l narrow) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(16 << 10)
	}
	return c, err
}
