package holm_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/holm"
)

const samples = "testdata"

func sample(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(samples, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func inbound(body string) connectors.Inbound {
	return connectors.Inbound{Method: http.MethodPost, Body: []byte(body), Location: time.UTC}
}

func receiveOne(t *testing.T, in connectors.Inbound) connectors.Incoming {
	t.Helper()
	got, err := holm.Receiver{}.Receive(in)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Items) != 1 {
		t.Fatalf("got %d items, want 1 (note %q)", len(got.Items), got.Note)
	}
	return got.Items[0]
}

func ptr[T any](v T) *T { return &v }

func at(t *testing.T, s string) *time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return &v
}

func TestReceiveFinishedScan(t *testing.T) {
	in := inbound(string(sample(t, "finished_scan.wire.json")))
	if len(in.Body) != 306 {
		t.Fatalf("the sample has %d bytes, the document's has 306", len(in.Body))
	}
	in.Header = http.Header{"Content_Type": {"text/plain"}, "Content_Length": {"320"}, "User-Agent": {"python-requests/2.8.1"}, "Accept": {"*/*"}}
	got := receiveOne(t, in)
	want := connectors.Incoming{
		Type: connectors.ScanCompleted,
		Time: *at(t, "2018-08-21T12:59:00Z"),
		Data: connectors.Data{Scan: &connectors.Scan{
			Key:       "https://sc.holmsecurity.com/scans/scans/view/123@2018-08-21 12:02:00",
			Name:      "Daily scan",
			Type:      "network",
			Status:    "Completed",
			StartedAt: at(t, "2018-08-21T12:02:00Z"), FinishedAt: at(t, "2018-08-21T12:59:00Z"),
			Duration: ptr(3420),
			Counts:   &connectors.Counts{Critical: ptr(1), High: ptr(0), Medium: ptr(3), Low: ptr(0)},
			Link:     "https://sc.holmsecurity.com/scans/scans/view/123",
		}},
		Key: "finished_scan 2018-08-21 12:59:00 https://sc.holmsecurity.com/scans/scans/view/123",
		Fields: map[string]string{
			"kind": "finished_scan", "name": "Daily scan", "type": "network", "status": "Completed", "errors": "",
			"started": "2018-08-21 12:02", "finished": "2018-08-21 12:59", "duration": "00:57",
			"critical_cnt": "1", "high_cnt": "0", "medium_cnt": "3", "low_cnt": "0",
			"link": "https://sc.holmsecurity.com/scans/scans/view/123",
		},
		DefaultField: "name",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %s\nwant %s", show(got), show(want))
	}
	if again := receiveOne(t, in); again.Key != got.Key || again.State != got.State {
		t.Error("the same bytes have another key")
	}
}

func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func TestReceiveScheduledScan(t *testing.T) {
	got := receiveOne(t, inbound(string(sample(t, "scheduled_scan.json"))))
	s := got.Data.Scan
	if got.Type != connectors.ScanScheduled || s == nil || s.Name != "Daily scan" || !s.StartsAt.Equal(*at(t, "2018-08-22T12:00:00Z")) {
		t.Errorf("got %s", show(got))
	}
	if !got.Time.IsZero() {
		t.Errorf("a schedule is told of when it is received, not at %v", got.Time)
	}
}

func TestReceiveTickets(t *testing.T) {
	opened := receiveOne(t, inbound(string(sample(t, "ticket_opened.json"))))
	closed := receiveOne(t, inbound(string(sample(t, "ticket_closed.json"))))
	want := connectors.Ticket{Key: "4211", Number: ptr(4211), Title: "SQL Injection in /api/users", Status: "open",
		Severity: connectors.SeverityCritical, Asset: "app.example.com", AssetLink: "https://sc.holmsecurity.com/assets/view/88",
		DueDate: "2018-09-01", Owner: "owner@example.com"}
	if opened.Type != connectors.TicketOpened || !reflect.DeepEqual(*opened.Data.Ticket, want) || opened.DefaultField != "asset_name" {
		t.Errorf("got %s", show(opened))
	}
	want.Status = "closed"
	if closed.Type != connectors.TicketClosed || !reflect.DeepEqual(*closed.Data.Ticket, want) {
		t.Errorf("got %s", show(closed))
	}
	accepted := receiveOne(t, inbound(strings.Replace(string(sample(t, "ticket_closed.json")), "Closed (Fixed)", "Closed (Accepted risk)", 1)))
	if accepted.Type != connectors.TicketClosed || accepted.Data.Ticket.Status != "Closed (Accepted risk)" {
		t.Errorf("got %s", show(accepted))
	}
	wantSkip(t, accepted.Type, accepted.Data, connectors.RenderOptions{}, "Accepted risk")
	if opened.Key != closed.Key || opened.State == closed.State {
		t.Errorf("states of one ticket share a key and differ in state: %q %q, %q %q", opened.Key, opened.State, closed.Key, closed.State)
	}
	reordered := receiveOne(t, inbound(`{"ticket":{"owner":"owner@example.com","due_date":"2018-09-01","asset_link":"https://sc.holmsecurity.com/assets/view/88",
		"asset_name":"app.example.com","vulnerability_name":"SQL Injection in /api/users","severity":"Critical","status":"Open","number":4211}}`))
	if reordered.State != opened.State {
		t.Error("the order of the keys changed the state")
	}
	postponed := receiveOne(t, inbound(strings.Replace(string(sample(t, "ticket_opened.json")), "2018-09-01", "2018-10-01", 1)))
	if postponed.State == opened.State {
		t.Error("another due date is the same state")
	}
}

func TestReceiveZonesAndDurations(t *testing.T) {
	stockholm, err := time.LoadLocation("Europe/Stockholm")
	if err != nil {
		t.Fatal(err)
	}
	in := inbound(strings.Replace(string(sample(t, "finished_scan.wire.json")), "12:59", "12:59:30", 1))
	utc := receiveOne(t, in)
	in.Location = stockholm
	local := receiveOne(t, in)
	if !local.Data.Scan.FinishedAt.Equal(*at(t, "2018-08-21T10:59:30Z")) {
		t.Errorf("in Stockholm it finished at %v", local.Data.Scan.FinishedAt)
	}
	if local.Key != utc.Key {
		t.Error("a corrected zone makes a new event of a repeat")
	}
	for text, want := range map[string]int{"00:57": 3420, "26:03": 93780, "1:02:03": 3723, "1 day, 2:03:00": 93780,
		"2 days, 0:00:01": 172801, "0:57:01.123456": 3421} {
		in := inbound(strings.Replace(string(sample(t, "finished_scan.wire.json")), "00:57", text, 1))
		if got := receiveOne(t, in).Data.Scan.Duration; got == nil || *got != want {
			t.Errorf("duration %q: got %v, want %d", text, got, want)
		}
	}
}

func TestReceiveFailedScan(t *testing.T) {
	got := receiveOne(t, inbound(`{"finished_scan":{"name":"n","type":"network","started":"2018-08-21 12:02","finished":"2018-08-21 12:03",
		"status":"Aborted","errors":"one\n\ntwo\nlines\n\n","link":"l"}}`))
	if got.Type != connectors.ScanFailed || got.Data.Scan.Status != "Aborted" || !reflect.DeepEqual(got.Data.Scan.Errors, []string{"one", "two\nlines"}) {
		t.Errorf("got %s", show(got))
	}
	if c := got.Data.Scan.Counts; c.Critical != nil || c.Low != nil {
		t.Errorf("counts that were not sent became %s", show(c))
	}
}

func TestReceiveRefusals(t *testing.T) {
	finished := string(sample(t, "finished_scan.wire.json"))
	for _, c := range []struct {
		name, body, field string
		status            int
	}{
		{"not JSON", `{"ticket":`, "", 400},
		{"empty", ``, "", 400},
		{"no object", `[]`, "", 422},
		{"null", `null`, "", 422},
		{"no key", `{}`, "", 422},
		{"two kinds", `{"ticket":{},"finished_scan":{}}`, "ticket", 422},
		{"kind is no object", `{"ticket":[]}`, "ticket", 422},
		{"kind is null", `{"ticket":null}`, "ticket", 422},
		{"number as text", `{"ticket":{"number":"4211"}}`, "ticket.number", 422},
		{"number missing", `{"ticket":{}}`, "ticket.number", 422},
		{"number with a fraction", `{"ticket":{"number":1.5}}`, "ticket.number", 422},
		{"number too large", `{"ticket":{"number":2147483648}}`, "ticket.number", 422},
		{"status missing", `{"ticket":{"number":1,"vulnerability_name":"v"}}`, "ticket.status", 422},
		{"unknown severity", `{"ticket":{"number":1,"vulnerability_name":"v","status":"Open","severity":"Dire"}}`, "ticket.severity", 422},
		{"due date", `{"ticket":{"number":1,"vulnerability_name":"v","status":"Open","due_date":"soon"}}`, "ticket.due_date", 422},
		{"started", strings.Replace(finished, "2018-08-21 12:02", "yesterday", 1), "finished_scan.started", 422},
		{"count as text", strings.Replace(finished, `"critical_cnt": 1`, `"critical_cnt": "1"`, 1), "finished_scan.critical_cnt", 422},
		{"negative count", strings.Replace(finished, `"critical_cnt": 1`, `"critical_cnt": -1`, 1), "finished_scan.critical_cnt", 422},
		{"duration", strings.Replace(finished, "00:57", "57 minutes", 1), "finished_scan.duration", 422},
		{"negative duration", strings.Replace(finished, "00:57", "-1 day, 23:00:00", 1), "finished_scan.duration", 422},
		{"errors as list", strings.Replace(finished, `"errors": ""`, `"errors": []`, 1), "finished_scan.errors", 422},
		{"NUL", strings.Replace(finished, "Daily", `\u0000`, 1), "finished_scan.name", 422},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := holm.Receiver{}.Receive(inbound(c.body))
			var refused *connectors.RefuseError
			if !errors.As(err, &refused) {
				t.Fatalf("got %s, %v", show(got), err)
			}
			if refused.Status != c.status || refused.Field != c.field {
				t.Errorf("got %v", refused)
			}
		})
	}
	got, err := holm.Receiver{}.Receive(inbound(`{"report":{},"asset":1}`))
	if err != nil || len(got.Items) != 0 || got.Note != `No kind of message that we know: "asset", "report".` {
		t.Errorf("an unknown kind: got %s, %v", show(got), err)
	}
}

// render renders what a receiver read, as the hub would.
func render(t *testing.T, typ connectors.EventType, d connectors.Data, o connectors.RenderOptions) (map[string]any, error) {
	t.Helper()
	e := &connectors.Event{ID: "evt_1", Type: typ, Source: "s", Time: *at(t, "2018-08-21T13:00:00Z"), Data: d}
	if o.Numbers == nil {
		o.Numbers = map[connectors.NumberKey]int32{}
		for i, k := range (holm.Format{}).Numbers(e) {
			o.Numbers[k] = int32(7 + i)
		}
	}
	r, err := holm.Format{}.Render(e, o)
	if err != nil {
		return nil, err
	}
	if r.Method != http.MethodPost || r.TargetSuffix != "" || len(r.Header) != 1 || r.Header[0] != (connectors.Header{Name: "Content-Type", Value: "application/json"}) {
		t.Errorf("request line and headers: %+v", r)
	}
	var v map[string]any
	if err := json.Unmarshal(r.Body, &v); err != nil {
		t.Fatal(err)
	}
	return v, nil
}

func TestRoundTripOfTheSamples(t *testing.T) {
	for _, name := range []string{"finished_scan", "scheduled_scan", "ticket_opened", "ticket_closed"} {
		b := sample(t, ""+name+".json")
		in := receiveOne(t, inbound(string(b)))
		got, err := render(t, in.Type, in.Data, connectors.RenderOptions{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var want map[string]any
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %s", name, show(got))
		}
	}
}

func TestRenderFindings(t *testing.T) {
	f := &connectors.Finding{ID: "fnd_1", Key: "k", Title: "SQL Injection in /api/users", Severity: connectors.SeverityCritical,
		Endpoint: "https://app.example.com/api/users", Link: "https://hub.example.com/findings/01961234-5678-7abc-8ef0-123456789abc"}
	got, err := render(t, connectors.FindingDiscovered, connectors.Data{Finding: f}, connectors.RenderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]any
	if err := json.Unmarshal(sample(t, "apviso_finding_created.to_holm.json"), &want); err != nil {
		t.Fatal(err)
	}
	want["ticket"].(map[string]any)["number"] = 7.0
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %s\nwant %s", show(got), show(want))
	}
	f.Status = "resolved"
	if got, err = render(t, connectors.FindingChanged, connectors.Data{Finding: f}, connectors.RenderOptions{}); err != nil || got["ticket"].(map[string]any)["status"] != "Closed (Fixed)" {
		t.Errorf("resolved: %s, %v", show(got), err)
	}
	f.Status = "open"
	wantSkip(t, connectors.FindingChanged, connectors.Data{Finding: f}, connectors.RenderOptions{}, "still open")
	wantSkip(t, connectors.FindingDiscovered, connectors.Data{Finding: f}, connectors.RenderOptions{Numbers: map[connectors.NumberKey]int32{}}, "has none")
	for _, typ := range []connectors.EventType{connectors.ScanStarted, connectors.ScanProgress, connectors.ReportReady, connectors.ApplicationChanged} {
		wantSkip(t, typ, connectors.Data{}, connectors.RenderOptions{}, string(typ))
	}
}

func wantSkip(t *testing.T, typ connectors.EventType, d connectors.Data, o connectors.RenderOptions, word string) {
	t.Helper()
	got, err := render(t, typ, d, o)
	var skip *connectors.SkipError
	if !errors.As(err, &skip) || !strings.Contains(skip.Reason, word) {
		t.Errorf("%s: got %s, %v; want it skipped with %q", typ, show(got), err, word)
	}
}

func TestRenderScans(t *testing.T) {
	scan := &connectors.Scan{ID: "scn_1", Key: "k", Name: "a <b> & c", Type: "sca", Counts: &connectors.Counts{Total: ptr(31)},
		StartedAt: at(t, "2018-08-20T10:00:00+02:00"), FinishedAt: at(t, "2018-08-21T12:03:59+02:00")}
	data := connectors.Data{Scan: scan}
	wantSkip(t, connectors.ScanCompleted, data, connectors.RenderOptions{}, "not all known")
	zero := connectors.RenderOptions{UnknownCounts: connectors.UnknownCountsZero, PublicURL: "https://hub.example.com"}
	got, err := render(t, connectors.ScanCompleted, data, zero)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"finished_scan": map[string]any{
		"name": "a <b> & c", "type": "", "started": "2018-08-20 08:00", "finished": "2018-08-21 10:03", "duration": "26:03",
		"status": "Completed", "errors": "31 vulnerabilities in total; how they divide into severities is not known.",
		"critical_cnt": 0.0, "high_cnt": 0.0, "medium_cnt": 0.0, "low_cnt": 0.0, "link": "https://hub.example.com/scans/scn_1",
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %s\nwant %s", show(got), show(want))
	}
	scan.Counts = &connectors.Counts{Critical: ptr(1), High: ptr(2), Medium: ptr(3), Low: ptr(4), Total: ptr(10)}
	scan.Errors = []string{"no route", "gave up"}
	if got, err = render(t, connectors.ScanFailed, data, connectors.RenderOptions{}); err != nil {
		t.Fatal(err)
	}
	if m := got["finished_scan"].(map[string]any); m["status"] != "Failed" || m["errors"] != "no route\n\ngave up" {
		t.Errorf("got %s", show(got))
	}
	scan.Errors, scan.Status = nil, "Aborted"
	if got, err = render(t, connectors.ScanFailed, data, connectors.RenderOptions{}); err != nil || got["finished_scan"].(map[string]any)["errors"] != "The scan ended with the status Aborted." {
		t.Errorf("got %s, %v", show(got), err)
	}
}

// FuzzReceive: no input makes the receiver panic, and what it accepts can be kept and
// written down.
func FuzzReceive(f *testing.F) {
	for _, name := range []string{"finished_scan.wire", "scheduled_scan", "ticket_opened", "ticket_closed"} {
		f.Add(sample(f, ""+name+".json"))
	}
	f.Add([]byte(`{"ticket":{"number":"4211"}}`))
	f.Add([]byte(`{"finished_scan":{"name":"n","started":"9999-12-31 23:59","finished":"0001-01-01 00:00","status":"x","link":"l","duration":"999999999 days, 0:00:00"}}`))
	west := time.FixedZone("west", -12*3600)
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := holm.Receiver{}.Receive(connectors.Inbound{Method: http.MethodPost, Body: body, Location: west})
		if err != nil {
			var refused *connectors.RefuseError
			if !errors.As(err, &refused) || refused.Message == "" {
				t.Fatalf("got %v", err)
			}
			return
		}
		if len(got.Items) == 0 && got.Note == "" {
			t.Fatal("no event and no reason")
		}
		for _, in := range got.Items {
			e := &connectors.Event{ID: "evt_1", Type: in.Type, Source: "s", Data: in.Data}
			if _, err := connectors.AppendEvent(nil, e); err != nil {
				t.Fatal(err)
			}
			_, err := holm.Format{}.Render(e, connectors.RenderOptions{UnknownCounts: connectors.UnknownCountsZero})
			if err != nil {
				t.Fatal(err)
			}
			if in.Key == "" || len(in.Key) > 512 {
				t.Fatalf("key %q", in.Key)
			}
		}
	})
}
