package acme_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/connectortest"

	acme "example.com/acme/hookyard-radar"
)

// radar is as much of ACME Radar as the tests need.
type radar struct {
	mu    sync.Mutex
	calls []string
}

func (r *radar) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, _ := io.ReadAll(q.Body)
	r.mu.Lock()
	r.calls = append(r.calls, strings.TrimSpace(q.Method+" "+q.URL.Path+" "+string(body)))
	r.mu.Unlock()
	switch {
	case q.Header.Get("Authorization") != "Bearer t0ken":
		w.WriteHeader(http.StatusUnauthorized)
	case q.URL.Path == "/cases":
		_, _ = io.WriteString(w, `{"ID": "C-1", "URL": "https://radar.example.com/C-1"}`)
	case q.URL.Path == "/alerts/A-7":
		_, _ = io.WriteString(w, `{"ID": "A-7", "App": "shop", "Title": "SQL Injection", "Severity": "high", "At": "2026-04-10T14:30:00Z"}`)
	case q.URL.Path == "/alerts":
		_, _ = io.WriteString(w, `{"Alerts": [{"ID": "A-8"}], "Last": "A-8"}`)
	}
}

func start(t *testing.T, token string) (*radar, *connectortest.Host, connectors.Endpoint) {
	r := &radar{}
	e := connectors.Endpoint{Ref: "end_1@1", ID: "end_1", URL: connectortest.NewServer(t, r.ServeHTTP),
		Settings: json.RawMessage(`{"board": "inbox"}`), Secrets: map[string]string{"token": token}}
	return r, connectortest.NewHost(t, e), e
}

func deliver(t *testing.T, h connectors.Host, typ connectors.EventType) (r connectors.Result) {
	doc, err := connectors.AppendEvent(nil, connectortest.Event(typ))
	if err != nil {
		t.Fatal(err)
	}
	d := connectors.Delivery{ID: "dlv_1", Attempt: 1, Endpoint: "end_1@1", Timeout: time.Minute, Event: doc}
	if err := (acme.Connector{}).Deliver(t.Context(), h, []connectors.Delivery{d}, func(got connectors.Result) { r = got }); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAFindingHasOneCase(t *testing.T) {
	r, h, e := start(t, "t0ken")
	for _, typ := range []connectors.EventType{connectors.FindingDiscovered, connectors.FindingDiscovered, connectors.FindingChanged} {
		if got := deliver(t, h, typ); got.Outcome != connectors.Done {
			t.Fatalf("%+v", got)
		}
	}
	id := connectortest.Event(connectors.FindingDiscovered).Data.Finding.ID
	want := []string{
		`POST /cases {"board":"inbox","key":"` + id + `","severity":"critical","title":"SQL Injection in /api/users"}`,
		`POST /cases/C-1/notes {"id":"dlv_1","status":"open"}`,
		`POST /cases/C-1/notes {"id":"dlv_1","status":"resolved"}`,
	}
	if got := strings.Join(r.calls, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("Radar was asked\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	if l, err := h.Link(t.Context(), e, "case", id); err != nil || l.Theirs != "C-1" || l.URL == "" {
		t.Errorf("the link is %+v, %v", l, err)
	}
}

func TestAWrongTokenIsSaidInWords(t *testing.T) {
	_, h, e := start(t, "wrong")
	if got := deliver(t, h, connectors.FindingDiscovered); got.Outcome != connectors.Retry || got.Fault != connectors.FaultSettings {
		t.Errorf("%+v", got)
	}
	if err := (acme.Connector{}).Check(t.Context(), h, e); err == nil || !strings.Contains(err.Error(), "Account > API") {
		t.Errorf("the check says %v", err)
	}
}

func TestANoticeBecomesAnEvent(t *testing.T) {
	_, h, e := start(t, "t0ken")
	in := connectors.Inbound{Method: http.MethodPost, Body: []byte(`{"alert": "A-7"}`)}
	got, err := acme.Receiver{}.Receive(in)
	if err != nil || !got.Enrich {
		t.Fatalf("%+v, %v", got, err)
	}
	doc, err := acme.Connector{}.Enrich(t.Context(), h, connectors.Enrichment{Source: e, Request: in})
	if err != nil {
		t.Fatal(err)
	}
	in.Via, in.Body = connectors.ViaEnrich, doc.Body
	if got, err = (acme.Receiver{}).Receive(in); err != nil || len(got.Items) != 1 || got.Items[0].Data.Finding.Severity != connectors.SeverityHigh || got.Items[0].Fields["app"] != "shop" {
		t.Errorf("%+v, %v", got, err)
	}
	e.Settings, e.URL = json.RawMessage(`{"address": "`+e.URL+`"}`), "" // as a source has it
	p, err := acme.Connector{}.Poll(t.Context(), h, connectors.Poll{Source: e, Limit: 10})
	if err != nil || len(p.Documents) != 1 || p.Documents[0].Key != "A-8" || string(p.Cursor) != "A-8" {
		t.Errorf("%+v, %v", p, err)
	}
}
