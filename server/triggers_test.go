package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/simulated"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/server/servertest/program"
)

// stage is a target that says what its scans do: the simulated scanner asks it, step by
// step, and shows it the job.
type stage struct {
	t     *testing.T
	url   string
	asked chan simulated.Job
	steps chan simulated.Step
}

func newStage(t *testing.T) *stage {
	s := &stage{t: t, asked: make(chan simulated.Job), steps: make(chan simulated.Step)}
	s.url = listen(t, "127.0.0.1:0", s)
	return s
}

func (s *stage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var job simulated.Job
	if err := json.NewDecoder(r.Body).Decode(&job); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	select {
	case s.asked <- job:
	case <-r.Context().Done():
		return
	}
	select {
	case step := <-s.steps:
		_ = json.NewEncoder(w).Encode(step)
	case <-r.Context().Done():
	}
}

// begun waits until a scanner asks what to do first.
func (s *stage) begun() simulated.Job {
	s.t.Helper()
	select {
	case job := <-s.asked:
		return job
	case <-time.After(30 * time.Second):
		s.t.Fatal("no scanner asks for its first step")
		return simulated.Job{}
	}
}

// say plays a step; when it returns the hub has kept what the scanner told, unless the
// step was the last.
func (s *stage) say(step simulated.Step) {
	s.t.Helper()
	select {
	case s.steps <- step:
	case <-time.After(30 * time.Second):
		s.t.Fatal("the scanner does not take its step")
	}
	if step.Kind != connectors.ScanDone {
		s.begun()
	}
}

// end ends the scan and waits until that is known.
func (s *stage) end(address string, scan int64, end connectors.ScanState) {
	s.t.Helper()
	s.say(simulated.Step{Kind: connectors.ScanDone, End: end})
	s.over(address, scan)
}

func (s *stage) over(address string, scan int64) {
	s.t.Helper()
	until(s.t, 30*time.Second, "the scan ends", func() bool { return status(s.t, address, scan) > 101 })
}

// project makes a project whose scans are played on the stage, with a trigger, and returns
// its ID and the trigger's address.
func (s *stage) project(c *program.Client, app string, in program.Input) (project, address string) {
	s.t.Helper()
	input := program.Input{"name": fmt.Sprintf("project of %s %v", app, in["targetKind"]), "applicationId": app, "targetKind": "WEB", "targetUrl": s.url + "/shop", "scanner": "simulated",
		"settings": program.Input{"script": s.url + "/script"}}
	for k, v := range in {
		input[k] = v
	}
	var made struct {
		R struct{ Project struct{ ID string } }
	}
	if err := c.Do(s.t.Context(), `mutation ($in: CreateProjectInput!) { r: createProject(input: $in) { project { id } } }`, program.Input{"in": input}, &made); err != nil {
		s.t.Fatal(err)
	}
	_, address = generate(s.t, c, made.R.Project.ID)
	return made.R.Project.ID, address
}

func generate(t *testing.T, c *program.Client, project string) (trigger, address string) {
	t.Helper()
	var got struct {
		R struct {
			Trigger  struct{ ID string }
			Address  string
			Snippets []struct{ Name, Text string }
		}
	}
	if err := c.Do(t.Context(), `mutation ($p: ID!) { r: generateTrigger(input: {projectId: $p}) { trigger { id } address snippets { name text } } }`, program.Input{"p": project}, &got); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"curl", "Heroku", "TeamCity", "CircleCI", "GitHub", "GitLab"} {
		found := false
		for _, s := range got.R.Snippets {
			found = found || strings.HasPrefix(s.Name, want) && s.Text != ""
		}
		if !found {
			t.Errorf("there is no snippet for %s", want)
		}
	}
	return got.R.Trigger.ID, got.R.Address
}

// call calls a trigger.
func call(t *testing.T, method, address, contentType string, body []byte) (int, []byte) {
	t.Helper()
	code, _, b := callFor(t, method, address, contentType, body)
	return code, b
}

// callFor is call with the answer's content type.
func callFor(t *testing.T, method, address, contentType string, body []byte) (code int, answerType string, answer []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), b
}

const formType = "application/x-www-form-urlencoded"

var started = regexp.MustCompile(`^\{"message":"webhook_scan_started","data":\{"scanId":(\d+)\}\}$`)

// trigger starts a scan, in the way of curl, and returns its number.
func trigger(t *testing.T, address string, body []byte) (scan int64) {
	t.Helper()
	code, b := call(t, http.MethodPost, address, formType, body)
	m := started.FindSubmatch(b)
	if code != http.StatusOK || m == nil {
		t.Fatalf("the trigger answered %d %s", code, b)
	}
	if _, err := fmt.Sscan(string(m[1]), &scan); err != nil {
		t.Fatal(err)
	}
	return scan
}

// status polls a scan; both numbers must be there and equal.
func status(t *testing.T, address string, scan int64) int {
	t.Helper()
	code, b := call(t, http.MethodGet, fmt.Sprintf("%s/scans/%d/status", address, scan), "", nil)
	var got struct {
		Data struct {
			Status struct {
				Code       *int `json:"code"`
				StatusCode *int `json:"status_code"`
			}
		}
	}
	if err := json.Unmarshal(b, &got); err != nil || code != http.StatusOK || got.Data.Status.Code == nil || got.Data.Status.StatusCode == nil || *got.Data.Status.Code != *got.Data.Status.StatusCode {
		t.Fatalf("the status is %d %s, %v", code, b, err)
	}
	return *got.Data.Status.Code
}

// refusedCall expects an error with a JSON message.
func refusedCall(t *testing.T, want int, method, address, contentType string, body []byte) (message string) {
	t.Helper()
	code, b := call(t, method, address, contentType, body)
	var got struct{ Message string }
	if err := json.Unmarshal(b, &got); err != nil || code != want || got.Message == "" {
		t.Errorf("%s %.60q: got %d %s, want %d", method, body, code, b, want)
	}
	return got.Message
}

func payload(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../connectors/crashtest/testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type junit struct {
	XMLName  xml.Name `xml:"testsuites"`
	Tests    int      `xml:"tests,attr"`
	Failures int      `xml:"failures,attr"`
	Suites   []struct {
		Name     string `xml:"name,attr"`
		Tests    int    `xml:"tests,attr"`
		Failures int    `xml:"failures,attr"`
		Cases    []struct {
			Class   string `xml:"classname,attr"`
			Failure *struct {
				Type string `xml:"type,attr"`
			} `xml:"failure"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

func check(class, title string, s connectors.Severity) connectors.ScanCheck {
	c := connectors.ScanCheck{Key: class, Class: class, Title: title}
	if s != "" {
		c.Finding = &connectors.Finding{Key: class, Title: title, Severity: s}
	}
	return c
}

// TestTriggerCalls is PUB-32 to PUB-35: a scan from its start to its report, and what it
// becomes in the rest of the hub.
func TestTriggerCalls(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		w := newAcme(t, url)
		s := newStage(t)
		if _, _, err := w.CreateWebhook(t.Context(), w.webhook("A", program.Input{"global": true, "format": "hookyard", "eventTypes": []string{"scan.started", "scan.progress", "scan.completed", "finding.discovered"}})); err != nil {
			t.Fatal(err)
		}
		_, address := s.project(w.as["mgrA"], w.app["a1"], nil)

		scan := trigger(t, address, nil)
		s.begun()
		if got := status(t, address, scan); got != 100 {
			t.Errorf("a queued scan has the status %d", got)
		}
		s.say(simulated.Step{Kind: connectors.ScanBegan})
		if got := status(t, address, scan); got != 101 {
			t.Errorf("a running scan has the status %d", got)
		}
		if code, b := call(t, http.MethodPost, address, formType, nil); code != http.StatusConflict || string(b) != `{"message":"Scan is already running"}` {
			t.Errorf("a second start is answered with %d %s", code, b)
		}
		report := fmt.Sprintf("%s/scans/%d/report/junit", address, scan)
		refusedCall(t, http.StatusConflict, http.MethodGet, report, "", nil)
		s.say(simulated.Step{Kind: connectors.ScanProgressed, Percent: 50})
		s.say(simulated.Step{Kind: connectors.ScanFound, Checks: []connectors.ScanCheck{check("xss", "Cross-Site Scripting (XSS) (1)", "high"), check("sqlinjection", "SQL Injection (1)", "critical")}})
		s.say(simulated.Step{Kind: connectors.ScanFound, Checks: []connectors.ScanCheck{check("xxe", "XML External Entity (XXE) (1)", ""), check("ssl", "Transport Layer Security (TLS/SSL) (1)", "")}})
		s.end(address, scan, connectors.ScanFinished)
		if got := status(t, address, scan); got != 102 {
			t.Errorf("a finished scan has the status %d", got)
		}

		code, b := call(t, http.MethodGet, report, "", nil)
		var x junit
		if err := xml.Unmarshal(b, &x); err != nil || code != http.StatusOK || bytes.Contains(b, []byte("DOCTYPE")) {
			t.Fatalf("the report is %d %s, %v", code, b, err)
		}
		if len(x.Suites) != 1 || x.Tests != 4 || x.Failures != 2 || x.Suites[0].Tests != 4 || x.Suites[0].Failures != 2 || x.Suites[0].Name != "Crashtest Security Suite" || len(x.Suites[0].Cases) != 4 {
			t.Errorf("the report says %s", b)
		}
		types := map[string]string{}
		for _, c := range x.Suites[0].Cases {
			if c.Failure != nil {
				types[c.Class] = c.Failure.Type
			}
		}
		if len(types) != 2 || types["xss.crashtest.cloud"] != "high" || types["sqlinjection.crashtest.cloud"] != "critical" {
			t.Errorf("the failures are %v", types)
		}

		until(t, 20*time.Second, "what the scan told arrives at the webhook", func() bool { return w.sink.count() >= 5 })
		var got struct {
			Runs struct {
				Edges []struct {
					Node struct {
						Number   int64
						State    string
						Progress int
						Scan     struct {
							Status                      string
							Critical, High, Info, Total *int
							Application                 struct{ Name string }
						}
					}
				}
			}
			Findings struct {
				Edges []struct {
					Node struct{ Title, Severity, Status string }
				}
			}
		}
		if err := w.as["testerA"].Do(t.Context(), `{ runs { edges { node { number state progress scan { status critical high info total application { name } } } } } findings { edges { node { title severity status } } } }`, nil, &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Runs.Edges) != 1 || len(got.Findings.Edges) != 2 {
			t.Fatalf("the API shows %+v", got)
		}
		r := got.Runs.Edges[0].Node
		if r.Number != scan || r.State != "FINISHED" || r.Progress != 100 || r.Scan.Status != "Completed" || r.Scan.Application.Name != "a1" || r.Scan.Critical == nil || *r.Scan.Critical != 1 || *r.Scan.High != 1 || *r.Scan.Info != 0 || *r.Scan.Total != 2 {
			t.Errorf("the run is %+v", r)
		}
		if n := metric(t, w.Hub, `hookyard_scans_total{state="FINISHED"}`); n != 1 {
			t.Errorf("%v scans are counted", n)
		}

		// A foreign form starts a scan as well, which has another number; so does no body.
		next := trigger(t, address, []byte("app=shop&user=ann%40example.com&head=4f20bdd"))
		if next == scan {
			t.Error("the second scan has the first one's number")
		}
		s.begun()
		s.end(address, next, connectors.ScanBroken)
		if got := status(t, address, next); got != 103 {
			t.Errorf("a failed scan has the status %d", got)
		}
		if code, b := call(t, http.MethodGet, fmt.Sprintf("%s/scans/%d/report/junit", address, next), "", nil); code != http.StatusOK || !bytes.Contains(b, []byte(`errors="1"`)) {
			t.Errorf("the report of a failed scan is %d %s", code, b) // and no all-clear
		}
	})
}

// TestTriggerSetup is PUB-36 and PUB-37, and what is refused of a setup.
func TestTriggerSetup(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		w := newAcme(t, url)
		s := newStage(t)
		project, web := s.project(w.as["mgrA"], w.app["a1"], nil)
		_, api := s.project(w.as["mgrA"], w.app["a2"], program.Input{"targetKind": "API"})

		run := func(address string, body []byte) connectors.ScanSetup {
			t.Helper()
			scan := trigger(t, address, body)
			job := s.begun()
			s.end(address, scan, connectors.ScanFinished)
			return job.Setup
		}
		header := func(x connectors.ScanSetup) string {
			if len(x.Parameters) != 1 || x.Parameters[0].In != "HEADER" || x.Parameters[0].Name != "Authorization" {
				t.Errorf("the parameters are %+v", x.Parameters)
				return ""
			}
			return x.Parameters[0].Value
		}
		is := func(x connectors.ScanSetup, value string) {
			t.Helper()
			if x.Basic == nil || x.Basic.Username != "username" || x.Basic.Password != "password" || len(x.Logins) != 1 || x.Logins[0].Password != "password" || header(x) != value {
				t.Errorf("the scanner got %+v", x)
			}
		}
		is(run(web, payload(t, "trigger_payload_web.json")), "Bearer 12345678")
		is(run(web, payload(t, "trigger_payload_jwt.json")), "Bearer ABCDEF")
		is(run(web, nil), "Bearer ABCDEF")
		if x := run(web, []byte(`{"parameter_authentication": []}`)); len(x.Parameters) != 0 || x.Basic == nil || len(x.Logins) != 1 {
			t.Errorf("after an empty array the scanner got %+v", x)
		}
		is(run(web, payload(t, "trigger_payload_web.json")), "Bearer 12345678")

		x := run(api, payload(t, "trigger_payload_api.json"))
		var spec struct {
			Swagger, BasePath string
		}
		if err := json.Unmarshal(x.APISpec, &spec); err != nil || spec.Swagger != "2.0" || spec.BasePath != "/v1" || header(x) != "Bearer 12345678" || x.Basic == nil {
			t.Errorf("the scanner of an API got %+v, %v", x, err)
		}

		// What is refused changes nothing.
		for _, c := range []struct {
			address, contentType, body string
			status                     int
		}{
			{web, formType, `{"parameter_authentication": [`, 400},
			{web, "text/plain", `hello`, 400},
			{web, "application/json", `{"parameter_authentication": [{"type": "FAX", "key": "a", "value": "b"}]}`, 422},
			{web, "application/json", `{"specs": {"api_spec": {"openapi": "3.0.0"}}}`, 422},
			{web, "application/json", `{"application_authentication": [{"username": "u", "password": "p", "url": "https://evil.example.com/login"}]}`, 422},
			{web, "application/json", `{"application_authentication": [{"username": "u", "password": "p", "url": "` + s.url + `@evil.example.com/"}]}`, 422},
			{api, "application/json", `{"application_authentication": [{"username": "u", "password": "p", "url": ""}]}`, 422},
			{api, "application/json", `{"specs": {"api_spec": {"swagger": "2.0", "host": "evil.example.com"}}}`, 422},
			{api, "application/json", `{"specs": {"api_spec": {"openapi": "3.0.0", "servers": [{"url": "/v1"}, {"url": "https://evil.example.com/v1"}]}}}`, 422},
			{api, "application/json", `{"specs": {"api_spec": {"openapi": "3.0.0", "paths": {"/a": {"get": {"servers": [{"url": "//evil.example.com"}]}}}}}}`, 422},
			{api, "application/json", `{"specs": {"api_spec": {"openapi": "3.0.0", "components": {"securitySchemes": {"a": {"type": "oauth2", "flows": {"password": {"tokenUrl": "https://evil.example.com/token"}}}}}}}}`, 422},
			{api, "application/json", `{"specs": {"api_spec": {"basePath": "/v1"}}}`, 422},
			{web, formType, strings.Repeat("a", 2<<20), 413},
		} {
			refusedCall(t, c.status, http.MethodPost, c.address, c.contentType, []byte(c.body))
		}
		is(run(web, nil), "Bearer 12345678")
		refusedCall(t, 405, http.MethodGet, web, "", nil)
		refusedCall(t, 405, http.MethodPost, web+"/scans/1/status", "", nil)
		refusedCall(t, 404, http.MethodPost, web+"x", "", nil)
		refusedCall(t, 404, http.MethodGet, web+"/scans/99999/status", "", nil)
		refusedCall(t, 404, http.MethodGet, web+"/scans/99999/report/junit", "", nil)
		refusedCall(t, 404, http.MethodGet, web+"/elsewhere", "", nil)
		other := trigger(t, api, nil)
		s.begun()
		refusedCall(t, 404, http.MethodGet, fmt.Sprintf("%s/scans/%d/status", web, other), "", nil)
		s.end(api, other, connectors.ScanFinished)

		// Neither the API nor the audit log shows a secret.
		var shown any
		if err := w.Do(t.Context(), `query ($p: ID!) { node(id: $p) { ... on Project { name settings setupAt setup { basicAuth loginForms parameters apiSpec } approvedOrigins } }
			auditLog(first: 200) { edges { node { action noun actorKind actorName origin changes { field before after hidden } } } } }`, program.Input{"p": project}, &shown); err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(shown)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"12345678", "ABCDEF", `"password"`} {
			if bytes.Contains(b, []byte(secret)) {
				t.Errorf("%s is in an answer: %s", secret, b)
			}
		}
		for _, want := range []string{`"basicAuth":true`, `"HEADER Authorization"`, `"loginForms":1`, `"START_SCAN"`, `"TRIGGER"`} {
			if !bytes.Contains(b, []byte(want)) {
				t.Errorf("%s is not in the answer: %s", want, b)
			}
		}
		// Whoever sends credentials another way has them forgotten.
		var changed struct {
			R struct {
				Project struct {
					SetupAt *time.Time
					Setup   *struct{ BasicAuth bool }
				}
			}
		}
		if err := w.as["mgrA"].Do(t.Context(), `mutation ($p: ID!) { r: updateProject(input: {id: $p, origins: ["https://api.example.com"]}) { project { setupAt setup { basicAuth } } } }`, program.Input{"p": project}, &changed); err != nil {
			t.Fatal(err)
		}
		if changed.R.Project.Setup != nil || changed.R.Project.SetupAt != nil {
			t.Errorf("after a change of origins there is still %+v", changed)
		}
		if x := run(web, []byte(`{"application_authentication": [{"username": "u", "password": "p", "url": "https://api.example.com:443/login"}]}`)); x.Basic != nil || len(x.Logins) != 1 {
			t.Errorf("the scanner got %+v", x)
		}
	})
}

// TestTriggerAddress renews, disables and deletes triggers, and stops what they started.
func TestTriggerAddress(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		w := newAcme(t, url)
		s := newStage(t)
		do := func(who, query string, vars program.Input, into any) error {
			return w.as[who].Do(t.Context(), query, vars, into)
		}
		user := w.user("annA", program.Input{"role": "MANAGER", "groupIds": w.groups([]string{"A"})})
		project, old := s.project(w.as["annA"], w.app["a1"], nil)
		var got struct {
			R struct {
				Owned struct {
					TriggerCount int
					Triggers     []struct{ ID string }
				}
				TriggerIDs []string
				Address    string
				Run        struct{ ID, State, Reason string }
			}
		}
		if err := do("admin", `mutation ($id: ID!) { r: disableUser(input: {id: $id}) { owned { triggerCount triggers { id } } } }`, program.Input{"id": user}, &got); err != nil {
			t.Fatal(err)
		}
		if got.R.Owned.TriggerCount != 1 || len(got.R.Owned.Triggers) != 1 {
			t.Fatalf("the disabled user owns %+v", got.R.Owned)
		}
		id := got.R.Owned.Triggers[0].ID
		scan := trigger(t, old, nil) // it goes on
		s.begun()
		if err := do("testerA", `mutation { r: stopScan(input: {id: "`+newest(t, w.Client, project)+`"}) { run { id state reason } } }`, nil, &got); err != nil {
			t.Fatal(err)
		}
		if got.R.Run.State != "STOPPED" || !strings.Contains(got.R.Run.Reason, "testerA") {
			t.Errorf("the stopped run is %+v", got.R.Run)
		}
		if n := status(t, old, scan); n != 104 {
			t.Errorf("a stopped scan has the status %d", n)
		}
		if err := do("mgrA", `mutation ($id: ID!) { r: regenerateTrigger(input: {id: $id}) { address } }`, program.Input{"id": id}, &got); err != nil {
			t.Fatal(err)
		}
		refusedCall(t, 404, http.MethodPost, old, formType, nil)
		if n := status(t, got.R.Address, scan); n != 104 {
			t.Errorf("at the new address it has the status %d", n)
		}
		if err := do("admin", `mutation ($id: ID!) { r: transferOwnership(input: {fromId: $id, stop: true}) { triggerIds } }`, program.Input{"id": user}, &got); err != nil || len(got.R.TriggerIDs) != 1 {
			t.Fatalf("stopping what the user owns gave %+v, %v", got.R.TriggerIDs, err)
		}
		refusedCall(t, 403, http.MethodPost, got.R.Address, formType, nil)
		if err := do("mgrA", `mutation ($id: ID!) { enableTrigger(input: {id: $id}) { trigger { id } } }`, program.Input{"id": id}, nil); err != nil {
			t.Fatal(err)
		}
		// People start scans with what is kept; a project that is being scanned stays.
		if err := do("testerA", `mutation ($p: ID!) { r: startScan(input: {projectId: $p}) { run { id state } } }`, program.Input{"p": project}, &got); err != nil {
			t.Fatal(err)
		}
		s.begun()
		for who, code := range map[string]string{"testerA": "CONFLICT", "viewerAll": "FORBIDDEN", "mgrAll": "CONFLICT"} {
			if got := verdict(do(who, `mutation ($p: ID!) { startScan(input: {projectId: $p}) { run { id } } }`, program.Input{"p": project}, nil)); got != code {
				t.Errorf("%s: starting another scan gives %q, want %s", who, got, code)
			}
		}
		if got := verdict(do("mgrA", `mutation ($p: ID!) { deleteProject(input: {id: $p}) { deletedId } }`, program.Input{"p": project}, nil)); got != "CONFLICT" {
			t.Errorf("deleting a project that is being scanned gives %q", got)
		}
		// What belongs to an application moves with it.
		if err := do("admin", `mutation ($a: ID!, $g: ID!) { updateApplication(input: {id: $a, assetGroupId: $g}) { application { id } } }`, program.Input{"a": w.app["a1"], "g": w.group["B"]}, nil); err != nil {
			t.Fatal(err)
		}
		if got := verdict(do("testerA", `mutation ($id: ID!) { stopScan(input: {id: $id}) { run { id } } }`, program.Input{"id": got.R.Run.ID}, nil)); got != "NOT_FOUND" {
			t.Errorf("stopping a scan that has moved out of sight gives %q", got)
		}
		s.say(simulated.Step{Kind: connectors.ScanDone, End: connectors.ScanFinished})
		until(t, 10*time.Second, "the scan ends", func() bool { return state(t, w.Client, got.R.Run.ID) == "FINISHED" })
		if err := do("admin", `mutation ($p: ID!) { deleteProject(input: {id: $p}) { deletedId } }`, program.Input{"p": project}, nil); err != nil {
			t.Error(err)
		}
		refusedCall(t, 404, http.MethodPost, got.R.Address, formType, nil)
	})
}

func newest(t *testing.T, c *program.Client, project string) string {
	t.Helper()
	var got struct {
		Runs struct {
			Edges []struct{ Node struct{ ID string } }
		}
	}
	if err := c.Do(t.Context(), `query ($p: ID!) { runs(first: 1, where: {projectId: $p}) { edges { node { id } } } }`, program.Input{"p": project}, &got); err != nil || len(got.Runs.Edges) != 1 {
		t.Fatalf("the runs are %+v, %v", got, err)
	}
	return got.Runs.Edges[0].Node.ID
}

func state(t *testing.T, c *program.Client, run string) string {
	t.Helper()
	var got struct{ Node struct{ State string } }
	if err := c.Do(t.Context(), `query ($id: ID!) { node(id: $id) { ... on Run { state } } }`, program.Input{"id": run}, &got); err != nil {
		t.Fatal(err)
	}
	return got.Node.State
}

// TestKillScanning kills the hub, and a scanner, in mid-scan: the scan ends as failed, and
// that is told.
func TestKillScanning(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		w := newAcme(t, url)
		s := newStage(t)
		if _, _, err := w.CreateWebhook(t.Context(), w.webhook("A", program.Input{"global": true, "format": "hookyard", "eventTypes": []string{"scan.failed"}})); err != nil {
			t.Fatal(err)
		}
		_, address := s.project(w.as["mgrA"], w.app["a1"], nil)
		scan := trigger(t, address, payload(t, "trigger_payload_web.json"))
		s.begun()
		s.say(simulated.Step{Kind: connectors.ScanBegan})
		if err := w.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := w.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		until(t, time.Minute, "the scan of the killed hub ends", func() bool { return status(t, address, scan) == 103 })
		until(t, 20*time.Second, "its failure arrives at the webhook", func() bool { return w.sink.count() == 1 })

		scan = trigger(t, address, nil)
		if job := s.begun(); job.Setup.Basic == nil {
			t.Errorf("after the kill the scanner got %+v", job.Setup)
		}
		end(t, scannerOf(t, w.Pid()))
		until(t, 20*time.Second, "the scan of the killed scanner ends", func() bool { return status(t, address, scan) == 103 })
		until(t, 20*time.Second, "its failure arrives at the webhook, too", func() bool { return w.sink.count() == 2 })
	})
}

// scannerOf finds the simulated scanner among a hub's processes.
func scannerOf(t *testing.T, hub int) int {
	t.Helper()
	for _, pid := range children(t, hub) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && bytes.Contains(b, []byte(simulated.Name)) {
			return pid
		}
	}
	t.Fatal("the hub has no simulated scanner")
	return 0
}

func end(t *testing.T, pid int) {
	t.Helper()
	p, err := os.FindProcess(pid)
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestScanTakeOver kills one node of two in mid-scan: the other ends the scan.
func TestScanTakeOver(t *testing.T) {
	url := storetest.Postgres(t)
	dir := t.TempDir()
	one := startIn(t, dir, url, "--allow-private-targets", "--node-name", "one")
	two := second(t, one, dir, url)
	ctx := t.Context()
	group, err := one.CreateAssetGroup(ctx, "A")
	if err != nil {
		t.Fatal(err)
	}
	app, err := one.CreateApplication(ctx, "a1", group)
	if err != nil {
		t.Fatal(err)
	}
	s := newStage(t)
	_, address := s.project(one.Client, app, nil)
	there := two.URL + address[len(one.URL):]
	scan := trigger(t, address, nil)
	s.begun()
	s.say(simulated.Step{Kind: connectors.ScanBegan})
	if code, _ := call(t, http.MethodPost, there, formType, nil); code != http.StatusConflict {
		t.Errorf("the other node answers a second start with %d", code)
	}
	if n := status(t, there, scan); n != 101 {
		t.Errorf("the other node says %d", n)
	}
	if err := one.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	until(t, time.Minute, "the scan of the dead node ends", func() bool { return status(t, there, scan) == 103 })
	t.Logf("the scan of the dead node ended after %v", time.Since(killed).Round(time.Second))
	next := trigger(t, there, nil)
	s.begun()
	s.end(there, next, connectors.ScanFinished)
}

// TestPublicScript runs the public shell script of the vendor's page as it stands there,
// with its lost lines restored; only the two variables at its top are ours. What it sleeps
// is cut short from outside.
func TestPublicScript(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the script needs %s, which is not installed", tool)
		}
	}
	onEach(t, func(t *testing.T, url string) {
		w := newAcme(t, url)
		s := newStage(t)
		_, address := s.project(w.as["mgrA"], w.app["a1"], program.Input{"settings": program.Input{"seconds": 1}})
		cut := strings.LastIndexByte(address, '/')
		b, err := os.ReadFile("testdata/crashtest.sh")
		if err != nil {
			t.Fatal(err)
		}
		text := strings.NewReplacer("WEBHOOK=\n", "WEBHOOK="+address[cut+1:]+"\n", "API_ENDPOINT=https://api.crashtest.cloud/webhook\n", "API_ENDPOINT="+address[:cut]+"\n").Replace(string(b))
		dir := t.TempDir()
		for name, content := range map[string]string{"script.sh": text, "bin/sleep": "#!/bin/sh\nexec /bin/sleep 0.2\n"} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "bash", "script.sh") // its [[ is none of a plain sh
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+dir+"/bin:"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("Scan finished with status 102.")) {
			t.Fatalf("the script said %s, %v", out, err)
		}
		report, err := os.ReadFile(filepath.Join(dir, "report.xml"))
		if err != nil {
			t.Fatal(err)
		}
		var x junit
		if err := xml.Unmarshal(report, &x); err != nil || x.Tests != 4 || x.Failures != 2 {
			t.Errorf("report.xml is %s, %v", report, err)
		}
	})
}
