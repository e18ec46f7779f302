package veracode_test

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
	"github.com/hookyard/hookyard/connectors/veracode"
)

const (
	scanned    = "scan_success"
	discovered = "vuln_issues_discovered_after_scan"
	changed    = "vuln_issues_changed_after_scan"
)

func sample(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func receive(body []byte) (connectors.Received, error) {
	return veracode.Receiver{}.Receive(connectors.Inbound{Method: http.MethodPost, Body: body, Location: time.UTC})
}

func receiveOne(t *testing.T, body []byte) connectors.Incoming {
	t.Helper()
	got, err := receive(body)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Items) != 1 {
		t.Fatalf("got %d items, want 1 (note %q)", len(got.Items), got.Note)
	}
	return got.Items[0]
}

func ptr[T any](v T) *T { return &v }

func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func TestReceiveScan(t *testing.T) {
	got := receiveOne(t, sample(t, scanned))
	want := connectors.Incoming{
		Type: connectors.ScanCompleted,
		Data: connectors.Data{Scan: &connectors.Scan{
			Key: "1099430", Name: "example-javascript", Status: "SCAN_SUCCESS", Counts: &connectors.Counts{Total: ptr(31)},
			Link: "<LINK TO REPORT>", Actor: &connectors.Actor{ID: "2910", Name: "John Smith"},
			Commit: "2bedd63b8e3019121c89108bfccb2421b08e28e9", Branch: "New_demo_branch", OutOfDate: ptr(9), Licence: ptr(0),
		}},
		Key: "scan 1099430",
		Fields: map[string]string{"event": "SCAN_SUCCESS", "organization": "Veracode", "organization.id": "310", "workspace": "Webhooks", "workspace.id": "4788",
			"project": "example-javascript", "project.id": "20757", "user": "John Smith", "user.id": "2910",
			"commit": "2bedd63b8e3019121c89108bfccb2421b08e28e9", "branch": "New_demo_branch"},
		DefaultField: "project",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %s\nwant %s", show(got), show(want))
	}
}

func TestReceiveIssues(t *testing.T) {
	one := receiveOne(t, sample(t, discovered))
	f := one.Data.Finding
	if one.Type != connectors.FindingDiscovered || f.Title != "Title of vulnerability" || f.Severity != connectors.SeverityMedium || f.Status != "open" ||
		*f.CVSS2 != 4.3 || *f.CVSS3 != 5.9 || *f.HasExploits || !one.Time.IsZero() {
		t.Errorf("got %s", show(one))
	}
	two := receiveOne(t, sample(t, changed))
	g := two.Data.Finding
	if two.Type != connectors.FindingChanged || g.Key != f.Key || g.Key != "111967" || g.Status != "resolved" || *g.CVSS2 != 7.8 || g.Severity != connectors.SeverityMedium {
		t.Errorf("got %s", show(two))
	}
	if one.Key != two.Key || one.State == two.State {
		t.Errorf("the issue %s, %s has the states %s, %s", one.Key, two.Key, one.State, two.State)
	}
	if again := receiveOne(t, []byte(strings.ReplaceAll(string(sample(t, discovered)), "\n", ""))); again.State != one.State {
		t.Error("white space makes another state")
	}
	three := strings.Replace(string(sample(t, discovered)), `"issues": [`, `"issues": [{"id":1,"status":"FIXING","vuln":{"id":2,"title":"other","cvssScore":9.5}},`, 1)
	got, err := receive([]byte(three))
	if err != nil || len(got.Items) != 2 || got.Items[0].Data.Finding.Status != "FIXING" || got.Items[0].Data.Finding.Severity != connectors.SeverityHigh {
		t.Errorf("got %s, %v", show(got), err)
	}
}

func TestSeverityFollowsTheScore(t *testing.T) {
	for scores, want := range map[string]connectors.Severity{
		`"cvss3Score":9`: "critical", `"cvss3Score":8.9`: "high", `"cvss3Score":7`: "high", `"cvss3Score":4`: "medium", `"cvss3Score":0.1`: "low",
		`"cvss3Score":0`: "info", `"cvssScore":10`: "high", `"cvssScore":10,"cvss3Score":3.9`: "low", `"cvssScore":null`: "",
	} {
		got := receiveOne(t, []byte(`{"event":"VULN_ISSUES_CHANGED_AFTER_SCAN","project":{"id":1},"issues":[{"id":1,"status":"NEW","vuln":{"id":2,"title":"t",`+scores+`}}]}`))
		if got.Data.Finding.Severity != want {
			t.Errorf("%s: got %q, want %q", scores, got.Data.Finding.Severity, want)
		}
	}
}

func TestHandshake(t *testing.T) {
	if r := (veracode.Receiver{}).Handshake(connectors.Inbound{Method: http.MethodHead}); r == nil || r.Status != http.StatusOK || len(r.Body) > 0 {
		t.Errorf("got %+v", r)
	}
	if r := (veracode.Receiver{}).Handshake(connectors.Inbound{Method: http.MethodPost}); r != nil {
		t.Errorf("got %+v", r)
	}
}

func TestIgnoredAndRefused(t *testing.T) {
	for body, note := range map[string]string{
		`{"event":"SOMETHING"}`: "SOMETHING",
		`{"event":"VULN_ISSUES_CHANGED_AFTER_SCAN","project":{"id":1},"issues":[]}`: "no issues",
	} {
		got, err := receive([]byte(body))
		if err != nil || len(got.Items) != 0 || !strings.Contains(got.Note, note) {
			t.Errorf("%s: got %+v, %v", body, got, err)
		}
	}
	issue := func(s string) string {
		return `{"event":"VULN_ISSUES_CHANGED_AFTER_SCAN","project":{"id":1},"issues":[` + s + `]}`
	}
	for _, c := range []struct {
		body   string
		status int
		field  string
	}{
		{strings.Replace(string(sample(t, discovered)), `"Title of`, "“Title of", 1), 400, ""},
		{`[]`, 422, ""},
		{`{}`, 422, "event"},
		{`{"event":"SCAN_SUCCESS"}`, 422, "project"},
		{`{"event":"SCAN_SUCCESS","project":{}}`, 422, "project.id"},
		{`{"event":"SCAN_SUCCESS","project":{"id":1}}`, 422, "scan"},
		{`{"event":"SCAN_SUCCESS","project":{"id":1},"scan":{}}`, 422, "scan.id"},
		{`{"event":"SCAN_SUCCESS","project":{"id":1},"scan":{"id":"1"}}`, 422, "scan.id"},
		{`{"event":"SCAN_SUCCESS","project":{"id":1},"scan":{"id":1,"vulnIssuesCount":-1}}`, 422, "scan.vulnIssuesCount"},
		{`{"event":"SCAN_SUCCESS","project":{"id":-1},"scan":{"id":1}}`, 422, "project.id"},
		{`{"event":"VULN_ISSUES_CHANGED_AFTER_SCAN","project":{"id":1}}`, 422, "issues"},
		{issue(`{}`), 422, "issues[0].id"},
		{issue(`{"id":1}`), 422, "issues[0].vuln"},
		{issue(`{"id":1,"vuln":{}}`), 422, "issues[0].vuln.id"},
		{issue(`{"id":1,"vuln":{"id":2}}`), 422, "issues[0].vuln.title"},
	} {
		_, err := receive([]byte(c.body))
		var refused *connectors.RefuseError
		if !errors.As(err, &refused) || refused.Status != c.status || refused.Field != c.field {
			t.Errorf("%.120s: got %v, want %d at %q", c.body, err, c.status, c.field)
		}
	}
}

// event gives what was received a place, as the hub does.
func event(in connectors.Incoming) *connectors.Event {
	e := &connectors.Event{ID: "evt_1", Type: in.Type, Source: "/sources/src_1", Time: in.Time, Organization: connectors.Ref{ID: "org_1", Name: "Veracode"},
		AssetGroup: &connectors.Ref{ID: "grp_1", Name: "Webhooks"}, Application: &connectors.Ref{ID: "app_1", Name: "example-javascript"}, Data: in.Data}
	switch d := &e.Data; {
	case d.Scan != nil:
		d.Scan.ID = "scn_" + d.Scan.Key
	case d.Finding != nil:
		d.Finding.ID = "fnd_" + d.Finding.Key
	}
	return e
}

// What Veracode sends comes out as it went in, down to the keys; only the numbers are the
// hub's own.
func TestThereAndBack(t *testing.T) {
	own := map[string]int32{"organization": 310, "workspace": 4788, "user": 2910, "project": 20757, "scan": 1099430, "issue": 111967, "vulnerability": 16462}
	for _, name := range []string{scanned, discovered, changed} {
		e := event(receiveOne(t, sample(t, name)))
		numbers := map[connectors.NumberKey]int32{}
		for _, k := range (veracode.Format{}).Numbers(e) {
			numbers[k] = own[k.Kind]
		}
		got, err := veracode.Format{}.Render(e, connectors.RenderOptions{Numbers: numbers})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var is, was any
		if json.Unmarshal(got.Body, &is) != nil || json.Unmarshal(sample(t, name), &was) != nil || !reflect.DeepEqual(is, was) {
			t.Errorf("%s: got %s", name, got.Body)
		}
		_, err = veracode.Format{}.Render(e, connectors.RenderOptions{})
		var skipped *connectors.SkipError
		if !errors.As(err, &skipped) || !strings.Contains(skipped.Reason, "number") {
			t.Errorf("%s without numbers: %v", name, err)
		}
	}
}

// FuzzReceive: no input makes the receiver panic, and what it accepts can be kept and
// written down.
func FuzzReceive(f *testing.F) {
	for _, name := range []string{scanned, discovered, changed} {
		f.Add(sample(f, name))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := receive(body)
		if err != nil {
			var refused *connectors.RefuseError
			if !errors.As(err, &refused) || refused.Status < 400 || refused.Status > 499 || refused.Message == "" {
				t.Fatalf("got %v", err)
			}
			return
		}
		if len(got.Items) == 0 && got.Note == "" {
			t.Fatal("no event and no reason")
		}
		for _, in := range got.Items {
			e := event(in)
			if _, err := connectors.AppendEvent(nil, e); err != nil {
				t.Fatal(err)
			}
			numbers := map[connectors.NumberKey]int32{}
			for i, k := range (veracode.Format{}).Numbers(e) {
				numbers[k] = int32(i + 1)
			}
			if _, err := (veracode.Format{}).Render(e, connectors.RenderOptions{UnknownCounts: connectors.UnknownCountsZero, Numbers: numbers}); err != nil {
				t.Fatal(err)
			}
			if in.Key == "" || len(in.Key) > 512 {
				t.Fatalf("key %q", in.Key)
			}
		}
	})
}
