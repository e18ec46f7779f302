package apviso_test

import (
	"bytes"
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
	"github.com/hookyard/hookyard/connectors/apviso"
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
	return apviso.Receiver{}.Receive(connectors.Inbound{Method: http.MethodPost, Body: body, Location: time.UTC})
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

func at(h, m int) time.Time { return time.Date(2026, time.April, 10, h, m, 0, 0, time.UTC) }

func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func TestReceiveFinding(t *testing.T) {
	got := receiveOne(t, sample(t, "finding_created"))
	want := connectors.Incoming{
		Type: connectors.FindingDiscovered,
		Time: at(14, 30),
		Data: connectors.Data{Finding: &connectors.Finding{
			Key: "01961234-5678-7abc-8ef0-123456789abc", ScanKey: "01961234-0000-7abc-8ef0-123456789abc", Title: "SQL Injection in /api/users",
			Severity: connectors.SeverityCritical, Status: "open", CVSS3: ptr(9.8), Vector: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", CWE: "CWE-89",
			Endpoint: "https://app.example.com/api/users", Description: "The sort parameter is concatenated into a SQL statement.",
			Reproduction: []string{"Send GET /api/users?sort=name' OR 1=1--", "Observe that every user record is returned"},
			Remediation:  "Use parameterised queries.", Link: "https://hub.example.com/findings/01961234-5678-7abc-8ef0-123456789abc",
		}},
		Key: "finding.discovered 2026-04-10T14:30:00Z 01961234-5678-7abc-8ef0-123456789abc",
		Fields: map[string]string{
			"event": "finding.created", "id": "01961234-5678-7abc-8ef0-123456789abc", "scanId": "01961234-0000-7abc-8ef0-123456789abc",
			"title": "SQL Injection in /api/users", "severity": "critical", "status": "open", "cwe": "CWE-89",
			"affectedEndpoint": "https://app.example.com/api/users", "target": "https://app.example.com",
		},
		DefaultField: "target",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %s\nwant %s", show(got), show(want))
	}
}

func TestReceiveFindingByOtherNames(t *testing.T) {
	want := receiveOne(t, sample(t, "finding_created")).Data.Finding
	rename := strings.NewReplacer(`"cwe"`, `"cweId"`, `"affectedEndpoint"`, `"affected_endpoint"`, `"reproduction"`, `"reproduction_steps"`,
		`"remediation"`, `"remediationGuidance"`, `"cvssScore"`, `"cvss"`, "finding.created", "finding.new")
	if got := receiveOne(t, []byte(rename.Replace(string(sample(t, "finding_created"))))).Data.Finding; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %s\nwant %s", show(got), show(want))
	}
	got := receiveOne(t, []byte(`{"event":"finding.critical","timestamp":"2026-04-10T16:30:00.5+02:00","data":{"id":"f","title":"t","endpoint":"/x","cvss_score":9,"reproductionSteps":"one"}}`))
	if f := got.Data.Finding; f.Severity != connectors.SeverityCritical || f.Endpoint != "/x" || *f.CVSS3 != 9 || !reflect.DeepEqual(f.Reproduction, []string{"one"}) {
		t.Errorf("got %s", show(f))
	}
	if !got.Time.Equal(at(14, 30).Add(time.Second / 2)) {
		t.Errorf("got %v", got.Time)
	}
}

func TestReceiveScans(t *testing.T) {
	base := func(more connectors.Scan) *connectors.Scan {
		more.Key, more.Name, more.Target = "01961234-0000-7abc-8ef0-123456789abc", "https://app.example.com", "https://app.example.com"
		more.StartedAt, more.Link = ptr(at(14, 0)), "https://hub.example.com/scans/01961234-0000-7abc-8ef0-123456789abc"
		return &more
	}
	counts := &connectors.Counts{Critical: ptr(1), High: ptr(2), Medium: ptr(3), Low: ptr(4), Info: ptr(5), Total: ptr(15)}
	for _, c := range []struct {
		name string
		want connectors.EventType
		time time.Time
		scan *connectors.Scan
	}{
		{"scan_started", connectors.ScanStarted, at(14, 0), base(connectors.Scan{Status: "running"})},
		{"scan_progress", connectors.ScanProgress, at(14, 15), base(connectors.Scan{Status: "running", Progress: ptr(45)})},
		{"scan_completed", connectors.ScanCompleted, at(15, 0), base(connectors.Scan{Status: "completed", FinishedAt: ptr(at(15, 0)), Counts: counts})},
		{"vector_scan", connectors.ScanCompleted, at(15, 0), base(connectors.Scan{Status: "completed", FinishedAt: ptr(at(15, 0)), Counts: counts})},
		{"scan_failed", connectors.ScanFailed, at(14, 20), base(connectors.Scan{Status: "failed", Errors: []string{"Target unreachable"}})},
	} {
		got := receiveOne(t, sample(t, c.name))
		if got.Type != c.want || !got.Time.Equal(c.time) || !reflect.DeepEqual(got.Data.Scan, c.scan) || got.Fields["target"] != "https://app.example.com" {
			t.Errorf("%s: got %s\nwant %s", c.name, show(got), show(c.scan))
		}
	}
}

func TestReceiveReport(t *testing.T) {
	got := receiveOne(t, sample(t, "report_ready"))
	if r := got.Data.Report; got.Type != connectors.ReportReady || r.Format != "pdf" || r.ScanKey != "01961234-0000-7abc-8ef0-123456789abc" || !strings.HasSuffix(r.DownloadURL, "/download") {
		t.Errorf("got %s", show(got))
	}
}

func TestRepeatsAreRecognised(t *testing.T) {
	one, two := receiveOne(t, sample(t, "vector_finding")), receiveOne(t, sample(t, "vector_finding_other_bytes"))
	if one.Key != two.Key || one.State != two.State {
		t.Errorf("%q and %q are one message", one.Key, two.Key)
	}
	keys := map[string]bool{}
	for _, name := range []string{"finding_created", "scan_started", "scan_progress", "scan_completed", "scan_failed", "report_ready"} {
		keys[receiveOne(t, sample(t, name)).Key] = true
	}
	later := bytes.Replace(sample(t, "scan_progress"), []byte("45"), []byte("46"), 1)
	if keys[receiveOne(t, later).Key] = true; len(keys) != 7 {
		t.Errorf("seven messages have the keys %v", keys)
	}
}

func TestIgnoredAndRefused(t *testing.T) {
	for body, note := range map[string]string{
		string(sample(t, "webhook_verification")):                                                   "can be reached",
		`{"event":"schedule.triggered","timestamp":"2026-04-10T14:30:00Z","data":{}}`:               "schedule.triggered",
		`{"event":"` + strings.Repeat("é", 500) + `","timestamp":"2026-04-10T14:30:00Z","data":{}}`: "…",
	} {
		got, err := receive([]byte(body))
		if err != nil || len(got.Items) != 0 || !strings.Contains(got.Note, note) {
			t.Errorf("%.80s: got %+v, %v", body, got, err)
		}
	}
	data := func(event, data string) string {
		return `{"event":"` + event + `","timestamp":"2026-04-10T14:30:00Z","data":` + data + `}`
	}
	for _, c := range []struct {
		body   string
		status int
		field  string
	}{
		{`{`, 400, ""},
		{`[]`, 422, ""},
		{`{}`, 422, "event"},
		{`{"event":7}`, 422, "event"},
		{`{"event":"finding.created","data":{}}`, 422, "timestamp"},
		{`{"event":"unheard.of","timestamp":"now","data":{}}`, 422, "timestamp"},
		{`{"event":"unheard.of","timestamp":"2026-04-10T14:30:00Z"}`, 422, "data"},
		{data("finding.created", "null"), 422, "data"},
		{data("finding.created", "[]"), 422, "data"},
		{data("finding.created", `{}`), 422, "data.id"},
		{data("finding.created", `{"id":"f"}`), 422, "data.title"},
		{data("finding.created", `{"id":"f","title":"t","severity":"dire"}`), 422, "data.severity"},
		{data("finding.created", `{"id":"f","title":"t","cvssScore":11}`), 422, "data.cvssScore"},
		{data("finding.created", `{"id":"f","title":"t","cvssScore":"9"}`), 422, "data.cvssScore"},
		{data("finding.created", `{"id":"f","title":"t","reproduction":[7]}`), 422, "data.reproduction"},
		{data("scan.completed", `{"id":"s","summary":{"high":-1}}`), 422, "data.summary.high"},
		{data("scan.completed", `{"id":"s","startedAt":"yesterday"}`), 422, "data.startedAt"},
		{data("scan.progress", `{"id":"s","progress":101}`), 422, "data.progress"},
		{data("scan.progress", `{"id":"s","progress":4.5}`), 422, "data.progress"},
		{data("report.ready", `{}`), 422, "data.id"},
	} {
		_, err := receive([]byte(c.body))
		var refused *connectors.RefuseError
		if !errors.As(err, &refused) || refused.Status != c.status || refused.Field != c.field {
			t.Errorf("%s: got %v, want %d at %q", c.body, err, c.status, c.field)
		}
	}
}

// The signatures are those that openssl computes over the exact bytes.
func TestVerify(t *testing.T) {
	const findingSum, scanSum, lineSum = "9062fabd2f30c089bb7ec4f4a2592a093a9b235464f220b80c78b64fbb2f0050",
		"1d0e896b1a60d3beaa1e05ea012a559aa80826741b9dfe6137d29bfd9ba6f466", "c711ed763a2d40724d3fd82bf4aadffcc9b13f5c8ca407dd4f356276c95b90e1"
	finding, scan := sample(t, "vector_finding"), sample(t, "vector_scan")
	line := append(bytes.Clone(finding), '\n')
	secret := [][]byte{[]byte("whsec_test_0123456789abcdef")}
	for _, c := range []struct {
		name   string
		body   []byte
		header string
		keys   [][]byte
		ok     bool
	}{
		{"finding", finding, "sha256=" + findingSum, secret, true},
		{"scan", scan, "sha256=" + scanSum, secret, true},
		{"no prefix", finding, findingSum, secret, true},
		{"capitals", finding, "SHA256=" + strings.ToUpper(findingSum), secret, true},
		{"old secret", finding, "sha256=" + findingSum, append([][]byte{[]byte("new")}, secret...), true},
		{"no secret agreed", finding, "", nil, true},
		{"last digit", finding, "sha256=" + findingSum[:63] + "1", secret, false},
		{"absent", finding, "", secret, false},
		{"empty", finding, "sha256=", secret, false},
		{"short", finding, "sha256=" + findingSum[:62], secret, false},
		{"no hex", finding, "sha256=" + strings.Repeat("g", 64), secret, false},
		{"one newline more", line, "sha256=" + findingSum, secret, false},
		{"signed with the newline", line, "sha256=" + lineSum, secret, true},
		{"other bytes, same content", sample(t, "vector_finding_other_bytes"), "sha256=" + findingSum, secret, false},
	} {
		in := connectors.Inbound{Body: c.body, Header: http.Header{}}
		if c.header != "" {
			in.Header.Set("X-APVISO-Signature", c.header)
		}
		err := apviso.Receiver{}.Verify(in, c.keys)
		var refused *connectors.RefuseError
		if c.ok != (err == nil) || err != nil && (!errors.As(err, &refused) || refused.Status != http.StatusUnauthorized) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	signed, err := connectors.SignerOf(apviso.Format{}).Sign(secret, "dlv_1", time.Now(), finding)
	if err != nil || len(signed) != 1 || signed[0] != (connectors.Header{Name: "X-APVISO-Signature", Value: "sha256=" + findingSum}) {
		t.Errorf("got %v, %v", signed, err)
	}
}

// What APVISO sends comes out as it went in, down to the keys.
func TestThereAndBack(t *testing.T) {
	for _, name := range []string{"finding_created", "scan_started", "scan_progress", "scan_completed", "scan_failed", "report_ready"} {
		in := receiveOne(t, sample(t, name))
		got, err := apviso.Format{}.Render(&connectors.Event{ID: "evt_1", Type: in.Type, Time: in.Time, Data: in.Data}, connectors.RenderOptions{PublicURL: "https://other.example.com"})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var is, was any
		if json.Unmarshal(got.Body, &is) != nil || json.Unmarshal(sample(t, name), &was) != nil || !reflect.DeepEqual(is, was) {
			t.Errorf("%s: got %s", name, got.Body)
		}
	}
}

// FuzzReceive: no input makes the receiver panic, and what it accepts can be kept and
// written down.
func FuzzReceive(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		f.Fatal("no samples", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, "sha256=00")
	}
	f.Fuzz(func(t *testing.T, body []byte, signature string) {
		in := connectors.Inbound{Method: http.MethodPost, Body: body, Location: time.UTC, Header: http.Header{"X-Apviso-Signature": {signature}}}
		_ = apviso.Receiver{}.Verify(in, [][]byte{[]byte("secret")})
		got, err := apviso.Receiver{}.Receive(in)
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
			e := &connectors.Event{ID: "evt_1", Type: in.Type, Source: "s", Time: in.Time, Data: in.Data}
			if b, err := connectors.AppendEvent(nil, e); err != nil {
				t.Fatal(err)
			} else if bytes.Contains(b, []byte(`\u0000`)) && !bytes.Contains(b, []byte(`\\u0000`)) {
				t.Fatal("a NUL is left")
			}
			if _, err := (apviso.Format{}).Render(e, connectors.RenderOptions{UnknownCounts: connectors.UnknownCountsZero}); err != nil {
				t.Fatal(err)
			}
			if in.Key == "" || len(in.Key) > 512 || len(in.Data.Attributes) > 0 {
				t.Fatalf("key %q", in.Key)
			}
		}
	})
}
