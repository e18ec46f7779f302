package server_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookyard/hookyard/server/servertest/program"
)

// everything are all kinds of events, for webhooks that want more than their format's own.
var everything = []string{"scan.scheduled", "scan.started", "scan.progress", "scan.completed", "scan.failed", "finding.discovered",
	"finding.changed", "ticket.opened", "ticket.closed", "report.ready", "application.changed"}

func anySuccess(t *testing.T, w *acme) {
	r := newTarget(t)
	r.answers(func(int) int { return http.StatusAccepted })
	hook, _ := w.hook(t, "appscan", r.url+"/ended/{SubjectId}", nil)
	defer w.remove(hook)
	w.happen(t, "scan.completed", "a1", program.Input{"scan": program.Input{"key": "any success", "name": "any success"}})
	d := w.become(t, hook, "SUCCEEDED")[0]
	if n := len(d.Attempts); n != 1 || d.Attempts[0].HTTPStatus != http.StatusAccepted {
		t.Errorf("%d attempts: %+v", n, d.Attempts)
	}
	if got := r.all(); len(got) != 1 || got[0].Method != http.MethodGet {
		t.Errorf("the target got %+v", got)
	}
}

// dailyScan is what holm/finished_scan.json tells.
var dailyScan = program.Input{"key": "daily", "name": "Daily scan", "type": "network", "status": "completed", "startedAt": "2018-08-21T12:02:00Z", "finishedAt": "2018-08-21T12:59:00Z",
	"counts": program.Input{"critical": 1, "high": 0, "medium": 3, "low": 0}, "link": "https://sc.holmsecurity.com/scans/scans/view/123"}

func holmFinished(t *testing.T, w *acme) {
	got := w.emit(t, "holm", "a1", "scan.completed", program.Input{"scan": dailyScan})
	if got.Method != http.MethodPost || !strings.HasPrefix(got.Header.Get("Content-Type"), "application/json") || got.Length != int64(len(got.Body)) {
		t.Errorf("%s, %s, a Content-Length of %d for %d bytes", got.Method, got.Header.Get("Content-Type"), got.Length, len(got.Body))
	}
	for name := range got.Header {
		if strings.EqualFold(name, "Content_Type") || strings.EqualFold(name, "Content_Length") {
			t.Errorf("there is a header %s", name)
		}
	}
	same(t, "holm/finished_scan.json", got.Body, nil)
}

func holmScheduled(t *testing.T, w *acme) {
	got := w.emit(t, "holm", "a1", "scan.scheduled", program.Input{"scan": program.Input{"key": "scheduled", "name": "Daily scan", "type": "network",
		"startsAt": "2018-08-22T12:00:00Z", "link": "https://sc.holmsecurity.com/scans/schedules/view/17"}})
	if got.Method != http.MethodPost {
		t.Errorf("called with %s", got.Method)
	}
	same(t, "holm/scheduled_scan.json", got.Body, nil)
}

func holmTickets(t *testing.T, w *acme) {
	r := newTarget(t)
	hook, _ := w.hook(t, "holm", r.url, nil)
	defer w.remove(hook)
	for i, c := range []struct{ kind, status, file string }{{"ticket.opened", "open", "holm/ticket_opened.json"}, {"ticket.closed", "closed", "holm/ticket_closed.json"}} {
		w.happen(t, c.kind, "a1", program.Input{"ticket": program.Input{"key": "4211", "number": 4211, "title": "SQL Injection in /api/users", "status": c.status, "severity": "critical",
			"asset": "app.example.com", "assetLink": "https://sc.holmsecurity.com/assets/view/88", "dueDate": "2018-09-01", "owner": "owner@example.com"}})
		got := r.await(t, i+1, 10*time.Second)[i]
		if got.Method != http.MethodPost {
			t.Errorf("called with %s", got.Method)
		}
		same(t, c.file, got.Body, nil)
	}
	w.become(t, hook, "SUCCEEDED", "SUCCEEDED")
	if n := len(r.all()); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

// emit publishes an event to a webhook of its own and returns the one request it causes.
func (w *acme) emit(t *testing.T, format, app, kind string, event program.Input) arrival {
	t.Helper()
	r := newTarget(t)
	hook, _ := w.hook(t, format, r.url, nil)
	defer w.remove(hook)
	w.happen(t, kind, app, event)
	w.become(t, hook, "SUCCEEDED")
	got := r.all()
	if len(got) != 1 {
		t.Fatalf("%d requests, want 1", len(got))
	}
	return got[0]
}

// scanFact is what the document of a scan's event holds.
type scanFact struct {
	Scan struct {
		Name, Type            string
		StartedAt, FinishedAt string
		DurationSeconds       int
		Counts                map[string]int
		Errors                []string
		Commit, Branch        string
		OutOfDateCount        *int
		LicenceCount          *int
		Actor                 *struct{ Name string }
	}
}

func isDailyScan(t *testing.T, facts []fact) {
	t.Helper()
	if len(facts) != 1 || facts[0].Type != "scan.completed" {
		t.Fatalf("got %+v", facts)
	}
	var d scanFact
	if err := json.Unmarshal(facts[0].Document.Data, &d); err != nil {
		t.Fatal(err)
	}
	s := d.Scan
	if s.Name != "Daily scan" || s.Type != "network" || s.StartedAt != "2018-08-21T12:02:00Z" || s.FinishedAt != "2018-08-21T12:59:00Z" || s.DurationSeconds != 3420 ||
		s.Counts["critical"] != 1 || s.Counts["high"] != 0 || s.Counts["medium"] != 3 || s.Counts["low"] != 0 || len(s.Counts) < 4 || len(s.Errors) > 0 {
		t.Errorf("got %s", facts[0].Document.Data)
	}
}

func holmReceive(t *testing.T, w *acme) {
	id, address := w.source(t, "holm", "a1", nil)
	wire := sample(t, "holm/finished_scan.wire.json")
	if len(wire) != 306 {
		t.Fatalf("the sample has %d bytes", len(wire))
	}
	for range 2 {
		if status := w.post(t, address, wire); status != http.StatusOK {
			t.Errorf("status %d", status)
		}
		isDailyScan(t, w.facts(t, id))
	}
}

func holmOddHeaders(t *testing.T, w *acme) {
	id, address := w.source(t, "holm", "a1", nil)
	if status := w.post(t, address, sample(t, "holm/finished_scan.wire.json"), "Content_Type", "application/json", "Content_Length", "320",
		"User-Agent", "python-requests/2.8.1", "Accept", "*/*"); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	isDailyScan(t, w.facts(t, id))
}

func holmTicketsReceive(t *testing.T, w *acme) {
	id, address := w.source(t, "holm", "a1", nil)
	for _, file := range []string{"holm/ticket_opened.json", "holm/ticket_closed.json"} {
		if status := w.post(t, address, sample(t, file)); status != http.StatusOK {
			t.Errorf("%s: status %d", file, status)
		}
	}
	if status := w.post(t, address, []byte(`{"ticket":{"number":"4211"}}`)); status != http.StatusUnprocessableEntity {
		t.Errorf("a ticket without most of it: status %d", status)
	}
	facts := w.facts(t, id)
	if len(facts) != 2 || facts[0].Type != "ticket.opened" || facts[1].Type != "ticket.closed" {
		t.Fatalf("got %+v", facts)
	}
	for _, f := range facts {
		var d struct {
			Ticket struct {
				Number                   int
				Severity, Owner, DueDate string
			}
		}
		if err := json.Unmarshal(f.Document.Data, &d); err != nil {
			t.Fatal(err)
		}
		if k := d.Ticket; k.Number != 4211 || k.Severity != "critical" || k.Owner != "owner@example.com" || k.DueDate != "2018-09-01" {
			t.Errorf("%s: %s", f.Type, f.Document.Data)
		}
	}
}

// apvisoSecret is the one of the published vectors.
const apvisoSecret = "whsec_test_0123456789abcdef"

// finding is what apviso/finding_created.json tells.
func finding(key string) program.Input {
	return program.Input{"time": "2026-04-10T14:30:00Z", "finding": program.Input{"key": key, "scanKey": "01961234-0000-7abc-8ef0-123456789abc", "title": "SQL Injection in /api/users",
		"severity": "critical", "cvss3": 9.8, "cvssVector": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", "cwe": "CWE-89", "affectedEndpoint": "https://app.example.com/api/users",
		"description":  "The sort parameter is concatenated into a SQL statement.",
		"reproduction": []string{"Send GET /api/users?sort=name' OR 1=1--", "Observe that every user record is returned"}, "remediation": "Use parameterised queries.",
		"link": "https://hub.example.com/findings/01961234-5678-7abc-8ef0-123456789abc"}}
}

func apvisoEnvelope(t *testing.T, w *acme) {
	r := newTarget(t)
	hook, _ := w.hook(t, "apviso", r.url, program.Input{"eventTypes": everything})
	defer w.remove(hook)
	w.verified(t, hook)
	before := len(r.all())
	w.happen(t, "finding.discovered", "a1", finding("01961234-5678-7abc-8ef0-123456789abc"))
	got := r.await(t, before+1, 5*time.Second)[before]
	if got.Method != http.MethodPost {
		t.Errorf("called with %s", got.Method)
	}
	same(t, "apviso/finding_created.json", got.Body, nil)
}

func apvisoSelection(t *testing.T, w *acme) {
	var targets []*target
	var hooks []string
	for _, types := range [][]string{{"finding.discovered"}, {"scan.scheduled", "scan.started", "scan.progress", "scan.completed", "scan.failed"}, everything} {
		r := newTarget(t)
		hook, _ := w.hook(t, "apviso", r.url, program.Input{"eventTypes": types, "signingSecret": apvisoSecret})
		defer w.remove(hook)
		w.verified(t, hook)
		targets, hooks = append(targets, r), append(hooks, hook)
	}
	before := len(targets[2].all())
	scan := func(more program.Input) program.Input {
		in := program.Input{"key": "selection", "name": "selection", "target": "https://app.example.com", "startedAt": "2026-04-10T14:00:00Z"}
		for k, v := range more {
			in[k] = v
		}
		return program.Input{"scan": in}
	}
	for i, e := range []struct {
		kind string
		in   program.Input
	}{
		{"scan.started", scan(nil)}, {"scan.progress", scan(program.Input{"progressPercent": 40})}, {"finding.discovered", finding("selection")},
		{"scan.completed", scan(program.Input{"finishedAt": "2026-04-10T15:00:00Z", "counts": program.Input{"critical": 1, "high": 2, "medium": 3, "low": 4, "info": 5}})},
		{"report.ready", program.Input{"report": program.Input{"key": "selection", "scanKey": "selection", "format": "pdf", "downloadUrl": "https://hub.example.com/reports/1/download", "link": "https://hub.example.com/reports/1"}}},
	} {
		w.happen(t, e.kind, "a1", e.in)
		targets[2].await(t, before+i+1, 10*time.Second)
	}
	w.become(t, hooks[0], "SUCCEEDED")
	w.become(t, hooks[1], slices.Repeat([]string{"SUCCEEDED"}, 3)...)
	w.become(t, hooks[2], slices.Repeat([]string{"SUCCEEDED"}, 5)...)
	for i, want := range []int{1, 3, 5} {
		if got := len(targets[i].all()) - before; got != want {
			t.Errorf("webhook %d: %d requests, want %d", i+1, got, want)
		}
	}
	var kinds []string
	for _, c := range targets[2].all()[before:] {
		var body struct {
			Event string
			Data  struct{ DownloadURL string }
		}
		if err := json.Unmarshal(c.Body, &body); err != nil {
			t.Fatal(err)
		}
		if kinds = append(kinds, body.Event); body.Event == "report.ready" && body.Data.DownloadURL == "" {
			t.Error("the report has no downloadUrl")
		}
	}
	if want := []string{"scan.started", "scan.progress", "finding.created", "scan.completed", "report.ready"}; !slices.Equal(kinds, want) {
		t.Errorf("events %v, want %v", kinds, want)
	}
	w.signed = nil
	for _, r := range targets {
		w.signed = append(w.signed, r.all()...)
	}
}

// apvisoSignature looks at what the case before has recorded, and has somebody else reckon.
func apvisoSignature(t *testing.T, w *acme) {
	if n := len(w.signed); n != 3+1+3+5 {
		t.Fatalf("%d requests are recorded, want those of three handshakes and nine", n)
	}
	w.signatures(t)
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Logf("reckoned with Go's own HMAC only: %v", err)
		return
	}
	for _, c := range w.signed {
		dgst := exec.Command(openssl, "dgst", "-sha256", "-hmac", apvisoSecret)
		dgst.Stdin = bytes.NewReader(c.Body)
		out, err := dgst.Output()
		if err != nil {
			t.Fatal(err)
		}
		words := strings.Fields(string(out))
		if want := "sha256=" + words[len(words)-1]; c.Header.Get("X-Apviso-Signature") != want {
			t.Errorf("signature %q, openssl says %q", c.Header.Get("X-Apviso-Signature"), want)
		}
	}
}

// signatures checks each signature with the secret.
func (w *acme) signatures(t *testing.T) {
	t.Helper()
	for _, c := range w.signed {
		mac := hmac.New(sha256.New, []byte(apvisoSecret))
		mac.Write(c.Body)
		if got, want := c.Header.Get("X-Apviso-Signature"), "sha256="+hex.EncodeToString(mac.Sum(nil)); got != want {
			t.Errorf("signature %q, want %q, of %s", got, want, c.Body)
		}
	}
}

func apvisoVectors(t *testing.T, w *acme) {
	const good = "sha256=9062fabd2f30c089bb7ec4f4a2592a093a9b235464f220b80c78b64fbb2f0050"
	minimal, scan := sample(t, "vectors/v1_finding_minimal.json"), sample(t, "vectors/v6_scan_completed.json")
	longer := append(bytes.Clone(minimal), '\n')
	id, address := w.source(t, "apviso", "a1", program.Input{"secrets": []string{apvisoSecret}})
	for _, c := range []struct {
		what, signature string
		body            []byte
		status, events  int
	}{
		{"the minimal finding", good, minimal, http.StatusOK, 1},
		{"the completed scan", "sha256=1d0e896b1a60d3beaa1e05ea012a559aa80826741b9dfe6137d29bfd9ba6f466", scan, http.StatusOK, 2},
		{"another last digit", good[:len(good)-1] + "1", minimal, http.StatusUnauthorized, 2},
		{"no signature", "", minimal, http.StatusUnauthorized, 2},
		{"a newline more", good, longer, http.StatusUnauthorized, 2},
		{"a newline more, signed", "sha256=c711ed763a2d40724d3fd82bf4aadffcc9b13f5c8ca407dd4f356276c95b90e1", longer, http.StatusOK, 0},
	} {
		var headers []string
		if c.signature != "" {
			headers = []string{"X-Apviso-Signature", c.signature}
		}
		if status := w.post(t, address, c.body, headers...); status != c.status {
			t.Errorf("%s: status %d, want %d", c.what, status, c.status)
		}
		if got := len(w.facts(t, id)); c.events > 0 && got != c.events {
			t.Errorf("%s: %d events, want %d", c.what, got, c.events)
		}
	}
	var d scanFact
	if err := json.Unmarshal(w.facts(t, id)[1].Document.Data, &d); err != nil || d.Scan.Counts["total"] != 15 {
		t.Errorf("the scan's counts: %v (%v)", d.Scan.Counts, err)
	}
}

// timetable is the default one, after the first failure.
var timetable = []time.Duration{time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour}

// next waits until a webhook's only delivery has made n attempts.
func (w *acme) next(t *testing.T, hook string, n int) shipment {
	t.Helper()
	var got []shipment
	until(t, 10*time.Second, fmt.Sprintf("%d attempts are on record", n), func() bool {
		got = w.shipments(t, hook)
		return len(got) == 1 && len(got[0].Attempts) == n && got[0].State != "ATTEMPTING"
	})
	return got[0]
}

func retryTimetable(t *testing.T, w *acme) {
	r := newTarget(t)
	hook, _ := w.hook(t, "apviso", r.url, program.Input{"global": false, "applicationIds": []string{w.app["a2"]}}) // later cases leave it alone
	w.verified(t, hook)
	handshakes := len(r.all())
	r.answers(func(int) int { return http.StatusInternalServerError })
	w.happen(t, "finding.discovered", "a2", finding("timetable"))
	d := w.next(t, hook, 1)
	if d.State != "RETRYING" || d.FirstFailedAt == nil {
		t.Fatalf("after the first failure: %+v", d)
	}
	failed := *d.FirstFailedAt
	if ended := d.Attempts[0].ended(); failed.Sub(ended).Abs() > time.Second {
		t.Errorf("the first attempt ended at %v, and failed at %v", ended, failed)
	}
	for i, offset := range timetable {
		due := failed.Add(offset)
		if d.NextAttemptAt == nil || d.NextAttemptAt.Sub(due).Abs() > time.Second {
			t.Fatalf("attempt %d is due at %v, want %v", i+2, d.NextAttemptAt, due)
		}
		// To two seconds before it is due: it must not come yet.
		w.ahead(t, due.Add(-2*time.Second).Sub(w.ahead(t, 0)))
		if got := w.shipments(t, hook)[0]; len(got.Attempts) != i+1 || len(r.all()) != handshakes+i+1 {
			t.Fatalf("attempt %d came too early", i+2)
		}
		hub := w.ahead(t, 2*time.Second)
		here := time.Now()
		d = w.next(t, hook, i+2)
		if late := d.Attempts[i+1].StartedAt.Sub(due); late < 0 || late > 10*time.Second {
			t.Errorf("attempt %d began %v after it was due", i+2, late)
		}
		calls := r.all()[handshakes:]
		if len(calls) != i+2 {
			t.Fatalf("%d requests at attempt %d", len(calls), i+2)
		}
		// By the hub's clock, read from outside.
		if late := hub.Add(calls[i+1].At.Sub(here)).Sub(due); late < -time.Second || late > 10*time.Second {
			t.Errorf("attempt %d came %v after it was due", i+2, late)
		}
	}
	if d.State != "FAILED" || d.NextAttemptAt != nil {
		t.Errorf("after the last attempt: %+v", d)
	}
	w.ahead(t, 24*time.Hour)
	if got := w.shipments(t, hook)[0]; len(got.Attempts) != 5 {
		t.Errorf("%d attempts", len(got.Attempts))
	}
	w.failing, w.broken = hook, r
}

// failures are the requests of the timetable: what came after the handshake.
func (w *acme) failures(t *testing.T) []arrival {
	t.Helper()
	if w.broken == nil {
		t.Fatal("PUB-27 has left nothing to look at")
	}
	calls := w.broken.all()
	if len(calls) != 1+5 {
		t.Fatalf("%d requests, want the handshake's one and five", len(calls))
	}
	return calls[1:]
}

func identicalRetries(t *testing.T, w *acme) {
	calls := w.failures(t)
	for i, c := range calls {
		if !bytes.Equal(c.Body, calls[0].Body) { // and with it the timestamp
			t.Errorf("request %d has another body: %s, the first %s", i+1, c.Body, calls[0].Body)
		}
		if got, want := c.Header.Get("X-APVISO-Signature"), calls[0].Header.Get("X-APVISO-Signature"); got != want || want == "" {
			t.Errorf("request %d has the signature %q, the first %q", i+1, got, want)
		}
	}
}

func recoveryStopsRetries(t *testing.T, w *acme) {
	r := newTarget(t)
	hook, _ := w.hook(t, "apviso", r.url, nil)
	w.verified(t, hook)
	before := len(r.all())
	script := []int{http.StatusServiceUnavailable, http.StatusNotFound, http.StatusOK}
	r.answers(func(n int) int { return script[min(n-before, len(script))-1] })
	w.happen(t, "finding.discovered", "a1", finding("recovery"))
	d := w.next(t, hook, 1)
	for i := range 2 {
		w.ahead(t, d.FirstFailedAt.Add(timetable[i]).Sub(w.ahead(t, 0)))
		d = w.next(t, hook, i+2)
	}
	if d.State != "SUCCEEDED" || d.NextAttemptAt != nil {
		t.Errorf("after the third attempt: %+v", d)
	}
	w.ahead(t, 3*time.Hour)
	if got := w.shipments(t, hook); len(got) != 1 || len(got[0].Attempts) != 3 {
		t.Errorf("later: %+v", got)
	}
	if n := len(r.all()) - before; n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
	w.recovered = hook
}

func deliveryLogKeepsAll(t *testing.T, w *acme) {
	calls := w.failures(t) // never a sixth, hours later
	if w.recovered == "" {
		t.Fatal("PUB-29 has left nothing to look at")
	}
	failed := w.become(t, w.failing, "FAILED")[0]
	if len(failed.Attempts) != 5 {
		t.Fatalf("%d attempts", len(failed.Attempts))
	}
	for i, a := range failed.Attempts {
		if a.Number != i+1 || a.StartedAt.IsZero() || a.Duration <= 0 || a.Request == nil || a.Request.URL != w.broken.url || len(a.Request.Headers) == 0 ||
			a.RequestBody == nil || a.RequestBody.Text != string(calls[i].Body) || a.Response == nil || a.Response.Status != http.StatusInternalServerError || a.HTTPStatus != http.StatusInternalServerError {
			t.Errorf("attempt %d: %+v", i+1, a)
		}
	}
	var codes []int
	for _, a := range w.become(t, w.recovered, "SUCCEEDED")[0].Attempts {
		codes = append(codes, a.HTTPStatus)
	}
	if want := []int{503, 404, 200}; !slices.Equal(codes, want) {
		t.Errorf("response codes %v, want %v", codes, want)
	}
	dead, _ := w.hook(t, "hookyard", closedAddress(t), program.Input{"retryOffsetsSeconds": []int{}})
	defer w.remove(dead)
	w.happen(t, "finding.discovered", "a1", finding("refused"))
	if a := w.become(t, dead, "FAILED")[0].Attempts[0]; a.Response != nil || a.HTTPStatus != 0 || a.Error == "" {
		t.Errorf("a refused connection: %+v", a)
	}
	w.remove(w.failing, w.recovered)
}

// closedAddress is one where nobody listens.
func closedAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return "http://" + ln.Addr().String()
}

func independentEndpoints(t *testing.T, w *acme) {
	r := newTarget(t)
	dead, _ := w.hook(t, "hookyard", closedAddress(t), nil)
	live, _ := w.hook(t, "hookyard", r.url, nil)
	defer w.remove(dead, live)
	w.happen(t, "finding.discovered", "a1", finding("independent"))
	r.await(t, 1, 5*time.Second)
	w.become(t, live, "SUCCEEDED")
}

func veracodeReceive(t *testing.T, w *acme) {
	id, address := w.source(t, "veracode-sca", "a1", nil)
	for _, name := range []string{"scan_success", "vuln_issues_discovered_after_scan", "vuln_issues_changed_after_scan"} {
		if status := w.post(t, address, sample(t, "veracode-sca/"+name+".json")); status != http.StatusOK {
			t.Errorf("%s: status %d", name, status)
		}
	}
	facts := w.facts(t, id)
	if len(facts) != 3 || facts[0].Type != "scan.completed" || facts[1].Type != "finding.discovered" || facts[2].Type != "finding.changed" {
		t.Fatalf("got %+v", facts)
	}
	var s scanFact
	if err := json.Unmarshal(facts[0].Document.Data, &s); err != nil {
		t.Fatal(err)
	}
	if x := s.Scan; x.Name != "example-javascript" || x.Commit != "2bedd63b8e3019121c89108bfccb2421b08e28e9" || x.Branch != "New_demo_branch" || x.Counts["total"] != 31 ||
		x.OutOfDateCount == nil || *x.OutOfDateCount != 9 || x.LicenceCount == nil || *x.LicenceCount != 0 || x.Actor == nil || x.Actor.Name != "John Smith" {
		t.Errorf("the scan: %s", facts[0].Document.Data)
	}
	var found [2]struct {
		Finding struct {
			Key, Title, Severity, Status string
			CVSS2, CVSS3                 *float64
		}
	}
	for i := range found {
		if err := json.Unmarshal(facts[i+1].Document.Data, &found[i]); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(facts[i+1].Document.Data), `"actor"`) {
			t.Errorf("finding %d has an actor: %s", i+1, facts[i+1].Document.Data)
		}
	}
	if f := found[0].Finding; f.Title != "Title of vulnerability" || f.Severity != "medium" || (f.CVSS2 == nil || *f.CVSS2 != 5.9) && (f.CVSS3 == nil || *f.CVSS3 != 5.9) {
		t.Errorf("discovered: %s", facts[1].Document.Data)
	}
	if f := found[1].Finding; f.Key != "111967" || f.Status != "resolved" || f.CVSS2 == nil || *f.CVSS2 != 7.8 || f.Key != found[0].Finding.Key || facts[1].SubjectID != facts[2].SubjectID {
		t.Errorf("changed: %s", facts[2].Document.Data)
	}
}

func emitAndConvert(t *testing.T, w *acme) {
	hub := map[string]string{"organization.name": "Acme", "assetGroup.name": "A", "application.name": "a1"}
	for _, c := range []struct{ kind, input, format, want string }{
		{"holm", "holm/finished_scan.json", "apviso", "converted/holm_finished_scan.to_apviso.json"},
		{"holm", "holm/finished_scan.json", "veracode-sca", "converted/holm_finished_scan.to_veracode.json"},
		{"apviso", "apviso/finding_created.json", "veracode-sca", "converted/apviso_finding_created.to_veracode.json"},
		{"apviso", "apviso/finding_created.json", "holm", "converted/apviso_finding_created.to_holm.json"},
		{"veracode-sca", "veracode-sca/vuln_issues_discovered_after_scan.json", "apviso", "converted/veracode_discovered.to_apviso.json"},
		{"veracode-sca", "veracode-sca/scan_success.json", "appscan", "GET"},
		{"veracode-sca", "veracode-sca/vuln_issues_discovered_after_scan.json", "appscan", "skipped"},
	} {
		t.Run(strings.ReplaceAll(c.input, "/", " ")+" to "+c.format, func(t *testing.T) {
			w.t = t
			more, app := program.Input{}, "a1"
			switch c.kind {
			case "apviso":
				more["secrets"] = []string{apvisoSecret}
			case "holm": // its scans are the applications
				more, app = program.Input{"assetGroupId": w.group["A"], "mapping": program.Input{"create": true}}, ""
			}
			id, address := w.source(t, c.kind, app, more)
			r := newTarget(t)
			hook, _ := w.hook(t, c.format, r.url+"/{SubjectId}", program.Input{"eventTypes": everything, "sourceIds": []string{id}})
			defer w.remove(hook)
			w.verified(t, hook)
			before := len(r.all())
			body := sample(t, c.input)
			mac := hmac.New(sha256.New, []byte(apvisoSecret))
			mac.Write(body)
			if status := w.post(t, address, body, "X-Apviso-Signature", "sha256="+hex.EncodeToString(mac.Sum(nil))); status != http.StatusOK {
				t.Fatalf("status %d", status)
			}
			if c.want == "skipped" {
				if d := w.become(t, hook, "SKIPPED")[0]; d.Reason == "" || len(r.all()) != before {
					t.Errorf("%+v, %d requests", d, len(r.all())-before)
				}
				return
			}
			w.become(t, hook, "SUCCEEDED")
			got := r.all()[before:]
			if len(got) != 1 {
				t.Fatalf("%d requests", len(got))
			}
			if c.want == "GET" {
				if want := "/" + w.facts(t, id)[0].SubjectID; got[0].Target != want || got[0].Method != http.MethodGet || len(got[0].Body) > 0 {
					t.Errorf("%s %s with %d bytes, want GET %s", got[0].Method, got[0].Target, len(got[0].Body), want)
				}
				if name := w.scanNamed(t, w.facts(t, id)[0].SubjectID); name != "example-javascript" {
					t.Errorf("the hub has the scan %q by that ID", name)
				}
				return
			}
			same(t, c.want, got[0].Body, hub)
		})
	}
}

// scanNamed is the name of the scan with an ID of the hub's.
func (w *acme) scanNamed(t *testing.T, id string) string {
	t.Helper()
	var got struct{ Node struct{ Name string } }
	if err := w.Do(t.Context(), `query ($id: ID!) { node(id: $id) { ... on Scan { name } } }`, program.Input{"id": id}, &got); err != nil {
		t.Fatal(err)
	}
	return got.Node.Name
}
