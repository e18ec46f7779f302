package crashtest_test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/connectortest"
	"github.com/hookyard/hookyard/connectors/crashtest"
)

const form = "application/x-www-form-urlencoded"

func sample(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func post(body []byte, contentType string) connectors.Inbound {
	return connectors.Inbound{Method: http.MethodPost, Body: body, ContentType: contentType, Header: http.Header{"Content-Type": {contentType}}}
}

func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func TestRoutes(t *testing.T) {
	for _, c := range []struct {
		method, path string
		verb         connectors.TriggerVerb
		scan         int64
		status       int // of the refusal, 0 none
	}{
		{"POST", "", connectors.TriggerStart, 0, 0},
		{"POST", "/", connectors.TriggerStart, 0, 0},
		{"GET", "", connectors.TriggerStart, 0, 405},
		{"HEAD", "", connectors.TriggerStart, 0, 405},
		{"GET", "/scans/4711/status", connectors.TriggerStatus, 4711, 0},
		{"POST", "/scans/4711/status", connectors.TriggerStatus, 0, 405},
		{"GET", "/scans/4711/report/junit", connectors.TriggerReport, 4711, 0},
		{"GET", "/scans/null/status", connectors.TriggerStatus, 0, 404},
		{"GET", "/scans/-1/status", connectors.TriggerStatus, 0, 404},
		{"GET", "/scans/4711/report/pdf", "", 0, 404},
		{"GET", "/scans", "", 0, 404},
	} {
		got, err := crashtest.Trigger{}.Call(connectors.Inbound{Method: c.method, Path: c.path}, connectors.TargetWeb)
		var refused *connectors.RefuseError
		switch {
		case c.status == 0 && (err != nil || got.Verb != c.verb || got.Scan != c.scan):
			t.Errorf("%s %s: got %+v, %v", c.method, c.path, got, err)
		case c.status != 0 && (!errors.As(err, &refused) || refused.Status != c.status || got.Verb != c.verb):
			t.Errorf("%s %s: got %v, want %d", c.method, c.path, err, c.status)
		}
	}
}

func TestPayloads(t *testing.T) {
	basic := &connectors.BasicAuth{Username: "username", Password: "password"}
	header := func(value string) []connectors.ScanParameter {
		return []connectors.ScanParameter{{In: "HEADER", Name: "Authorization", Value: value}}
	}
	web, api := connectors.TargetWeb, connectors.TargetAPI
	for _, c := range []struct {
		body        string
		contentType string
		target      connectors.TargetKind
		want        connectors.ScanSetup
	}{
		{"", form, web, connectors.ScanSetup{}},
		{" \n", "", web, connectors.ScanSetup{}},
		{"{}", form, web, connectors.ScanSetup{}},
		{"app=shop&user=a%40b.c&head=4f20bdd", form, web, connectors.ScanSetup{}},
		{"--x\r\n\r\n{}", "Multipart/Form-Data; boundary=x", web, connectors.ScanSetup{}},
		{string(sample(t, "trigger_payload_web.json")), form, web, connectors.ScanSetup{Basic: basic,
			Logins: []connectors.Login{{Username: "username", Password: "password"}}, Parameters: header("Bearer 12345678")}},
		{string(sample(t, "trigger_payload_jwt.json")), "application/json", web, connectors.ScanSetup{Parameters: header("Bearer ABCDEF")}},
		{`{"application_authentication":[],"parameter_authentication":[],"system_authentication":{}}`, "", web,
			connectors.ScanSetup{Basic: &connectors.BasicAuth{}, Logins: []connectors.Login{}, Parameters: []connectors.ScanParameter{}}},
		{`{"application_authentication":null,"parameter_authentication":null,"system_authentication":null,"specs":null}`, "", web, connectors.ScanSetup{}},
		{`{"application_authentication":[]}`, "", api, connectors.ScanSetup{}},
		{`{"parameter_authentication":[{"type":"cookie","key":"a","value":"b"},{"type":"GET","key":"a"},{"type":"post","key":"a"}]}`, "", api,
			connectors.ScanSetup{Parameters: []connectors.ScanParameter{{In: "COOKIE", Name: "a", Value: "b"}, {In: "QUERY", Name: "a"}, {In: "BODY", Name: "a"}}}},
	} {
		got, err := crashtest.Trigger{}.Call(post([]byte(c.body), c.contentType), c.target)
		if err != nil || !reflect.DeepEqual(got.Setup, c.want) || len(got.Hosts) > 0 {
			t.Errorf("%s: got %s, %v\nwant %s", c.body, show(got), err, show(c.want))
		}
	}
	got, err := crashtest.Trigger{}.Call(post(sample(t, "trigger_payload_api.json"), form), api)
	var spec struct{ BasePath string }
	if err != nil || json.Unmarshal(got.Setup.APISpec, &spec) != nil || spec.BasePath != "/v1" || len(got.Hosts) > 0 {
		t.Errorf("got %s, %v", show(got), err)
	}
}

func TestRefusedPayloads(t *testing.T) {
	web, api := connectors.TargetWeb, connectors.TargetAPI
	for _, c := range []struct {
		body   string
		target connectors.TargetKind
		status int
		field  string
	}{
		{"{", web, 400, ""},
		{`{"a":1} x`, web, 400, ""},
		{"[]", web, 400, ""},
		{"hello", web, 400, ""},
		{string(sample(t, "trigger_payload_full_seed.json")), web, 422, "specs"},
		{string(sample(t, "trigger_payload_full_seed.json")), api, 422, "application_authentication"},
		{`{"application_authentication":{}}`, web, 422, "application_authentication"},
		{`{"application_authentication":[{"url":"/login"}]}`, web, 422, "application_authentication[0].url"},
		{`{"parameter_authentication":[{"type":"BODY","key":"a"}]}`, web, 422, "parameter_authentication[0].type"},
		{`{"parameter_authentication":[{"type":"HEADER"}]}`, web, 422, "parameter_authentication[0].key"},
		{`{"system_authentication":{"basic_auth":{"username":7}}}`, web, 422, "system_authentication.basic_auth.username"},
		{`{"system_authentication":{"basic_auth":{}}}`, web, 422, "system_authentication.basic_auth.username"},
		{`{"system_authentication":{"basic_auth":{"password":"p"}}}`, web, 422, "system_authentication.basic_auth.username"},
		{`{"specs":{}}`, web, 422, "specs"},
		{`{"specs":{"api_spec":null}}`, web, 422, "specs"},
		{`{"specs":{"api_spec":[]}}`, api, 422, "specs.api_spec"},
		{`{"specs":{"api_spec":{}}}`, api, 422, "specs.api_spec"},
		{`{"specs":{"api_spec":{"swagger":"2.0","host":7}}}`, api, 422, "specs.api_spec.host"},
		{`{"specs":{"api_spec":{"swagger":"2.0","x":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}}}`, api, 422, "specs.api_spec"},
	} {
		_, err := crashtest.Trigger{}.Call(post([]byte(c.body), "application/json"), c.target)
		var refused *connectors.RefuseError
		if !errors.As(err, &refused) || refused.Status != c.status || refused.Field != c.field {
			t.Errorf("%.90s: got %v, want %d at %q", c.body, err, c.status, c.field)
		}
	}
}

// Whatever could lead a scanner elsewhere is named, wherever it hides.
func TestNamedHosts(t *testing.T) {
	got, err := crashtest.Trigger{}.Call(post([]byte(`{"application_authentication":[{"url":"https://login.example.com:8443/form?x"}]}`), ""), connectors.TargetWeb)
	if want := []connectors.NamedHost{{Host: "https://login.example.com:8443", Field: "application_authentication[0].url"}}; err != nil || !reflect.DeepEqual(got.Hosts, want) {
		t.Errorf("got %v, %v", got.Hosts, err)
	}
	got, err = crashtest.Trigger{}.Call(post([]byte(`{"specs":{"api_spec":{"openapi":"3.0.0","host":"a.example:81","servers":[{"url":"https://b.example/v1"},{"url":"/v2"},{"url":"//c.example/"},{"url":"https://u:p@d.example"}],
		"paths":{"/x":{"servers":[{"url":"http://{region}.example"}],"get":{"parameters":[{"$ref":"https://e.example/p.json"},{"$ref":"#/a"}]}}}}}}`), ""), connectors.TargetAPI)
	want := []connectors.NamedHost{
		{Host: "a.example:81", Field: "specs.api_spec.host"},
		{Host: "https://e.example", Field: "specs.api_spec.paths./x.get.parameters[0].$ref"},
		{Host: "http://{region}.example", Field: "specs.api_spec.paths./x.servers[0].url"},
		{Host: "https://b.example", Field: "specs.api_spec.servers[0].url"},
		{Host: "c.example", Field: "specs.api_spec.servers[2].url"},
		{Host: "https://d.example", Field: "specs.api_spec.servers[3].url"},
	}
	if err != nil || !reflect.DeepEqual(got.Hosts, want) {
		t.Errorf("got  %v, %v\nwant %v", got.Hosts, err, want)
	}
}

// An address that readers could take for another host is refused.
func TestAmbiguousAddresses(t *testing.T) {
	for _, c := range []struct{ spec, field string }{
		{`"servers":[{"url":"{base}/v1","variables":{"base":{"default":"https://evil.example"}}}]`, "servers[0].url"},
		{`"servers":[{"url":"/{a}evil.example","variables":{"a":{"default":"/"}}}]`, "servers[0].url"},
		{`"servers":[{"url":"v{a}evil.example","variables":{"a":{"default":"://"}}}]`, "servers[0].url"},
		{`"servers":[{"url":"https:evil.example/x"}]`, "servers[0].url"},
		{`"servers":[{"url":"https:/evil.example/x"}]`, "servers[0].url"},
		{`"servers":[{"url":"\\\\evil.example"}]`, "servers[0].url"},
		{`"servers":[{"url":"/\\evil.example"}]`, "servers[0].url"},
		{`"servers":[{"url":"https://shop.example.com\\@evil.example"}]`, "servers[0].url"},
		{`"servers":[{"url":"/\t/evil.example"}]`, "servers[0].url"},
		{`"servers":[{"url":" //evil.example"}]`, "servers[0].url"},
		{`"x":{"server":{"url":"https:evil.example"}}`, "x.server.url"},
		{`"x":{"$ref":"file:/etc/passwd"}`, "x.$ref"},
		{`"x":{"$id":"https:evil.example"}`, "x.$id"},
		{`"basePath":".evil.example"`, "basePath"},
		{`"basePath":"//evil.example"`, "basePath"},
		{`"basePath":"@evil.example/"`, "basePath"},
		{`"basePath":"/\\evil.example"`, "basePath"},
		{`"basePath":7`, "basePath"},
	} {
		_, err := crashtest.Trigger{}.Call(post([]byte(`{"specs":{"api_spec":{"swagger":"2.0",`+c.spec+`}}}`), ""), connectors.TargetAPI)
		var refused *connectors.RefuseError
		if !errors.As(err, &refused) || refused.Status != 422 || refused.Field != "specs.api_spec."+c.field {
			t.Errorf("%s: got %v", c.spec, err)
		}
	}
	harmless := `{"specs":{"api_spec":{"swagger":"2.0","basePath":"/v1","servers":[{"url":"/v{n}/{x}"},{"url":"v1"},{"url":""}],"x":[{"$ref":"#/a\\b c:{d}"},{"$ref":"parts/x.json#/a"}]}}}`
	if got, err := (crashtest.Trigger{}).Call(post([]byte(harmless), ""), connectors.TargetAPI); err != nil || len(got.Hosts) > 0 {
		t.Errorf("got %v, %v", got.Hosts, err)
	}
}

func TestAnswers(t *testing.T) {
	start := connectors.TriggerCall{Verb: connectors.TriggerStart}
	status := connectors.TriggerCall{Verb: connectors.TriggerStatus}
	refuse := func(status int, field string) *connectors.RefuseError {
		return &connectors.RefuseError{Status: status, Field: field, Message: "no"}
	}
	scan := func(s connectors.ScanState) connectors.TriggerResult {
		return connectors.TriggerResult{Report: connectors.ScanReport{Scan: 4711, State: s}}
	}
	for _, c := range []struct {
		call   connectors.TriggerCall
		result connectors.TriggerResult
		status int
		body   string // of a file, or as it is
		allow  string
	}{
		{start, scan(connectors.ScanQueued), 200, "trigger_success.response.json", ""},
		{start, connectors.TriggerResult{Refused: refuse(409, ""), Reason: connectors.TriggerRunning}, 409, "trigger_already_running.response.json", ""},
		{status, scan(connectors.ScanQueued), 200, "status_queued.response.json", ""},
		{status, scan(connectors.ScanRunning), 200, "status_running.response.json", ""},
		{status, scan(connectors.ScanFinished), 200, "status_finished.response.json", ""},
		{status, scan(connectors.ScanBroken), 200, `{"data":{"status":{"code":103,"status_code":103}}}`, ""},
		{status, scan(connectors.ScanStopped), 200, `{"data":{"status":{"code":104,"status_code":104}}}`, ""},
		{connectors.TriggerCall{}, connectors.TriggerResult{Refused: refuse(422, "a.b")}, 422, `{"message":"a.b: no"}`, ""},
		{status, connectors.TriggerResult{Refused: refuse(404, ""), Reason: connectors.TriggerUnknown}, 404, `{"message":"There is no such scan"}`, ""},
		{connectors.TriggerCall{Verb: connectors.TriggerReport}, connectors.TriggerResult{Refused: refuse(409, ""), Reason: connectors.TriggerNotReady}, 409,
			`{"message":"The report is not ready: the scan has not ended"}`, ""},
		{start, connectors.TriggerResult{Refused: refuse(405, "")}, 405, `{"message":"no"}`, "POST"},
		{status, connectors.TriggerResult{Refused: refuse(405, "")}, 405, `{"message":"no"}`, "GET"},
	} {
		got := crashtest.Trigger{}.Answer(c.call, c.result)
		body := []byte(c.body)
		if c.body[0] != '{' {
			body = sample(t, c.body)
		}
		var is, want any
		if json.Unmarshal(got.Body, &is) != nil || json.Unmarshal(body, &want) != nil || !reflect.DeepEqual(is, want) ||
			got.Status != c.status || got.Header.Get("Content-Type") != "application/json" || got.Header.Get("Allow") != c.allow {
			t.Errorf("got %d %v %s, want %d %s", got.Status, got.Header, got.Body, c.status, body)
		}
	}
	// One variant of the scripts compares the text.
	if got := (crashtest.Trigger{}).Answer(start, connectors.TriggerResult{Refused: refuse(409, ""), Reason: connectors.TriggerRunning}); string(got.Body) != `{"message":"Scan is already running"}` {
		t.Errorf("got %s", got.Body)
	}
}

func TestReport(t *testing.T) {
	began := connectortest.Moment()
	check := func(key, class, title string, f *connectors.Finding) connectors.ScanCheck {
		return connectors.ScanCheck{Key: key, Class: class, Title: title, Finding: f}
	}
	got := crashtest.Trigger{}.Answer(connectors.TriggerCall{Verb: connectors.TriggerReport, Scan: 4711}, connectors.TriggerResult{Report: connectors.ScanReport{
		Scan: 4711, State: connectors.ScanFinished, Started: began, Finished: began.Add(3420*time.Second + time.Millisecond), Checks: []connectors.ScanCheck{
			check("1", "xss", "Cross-Site Scripting (XSS) (1)", &connectors.Finding{Title: "XSS", Severity: connectors.SeverityHigh, Endpoint: "https://app.example.com/search",
				Description: "Found reflected XSS in GET parameter 'q' with payload '<script>alert(\"1\")</script>'\x00\n."}),
			check("2", "sqlinjection", "SQL Injection (1)", &connectors.Finding{Title: "Found SQL injection", Severity: connectors.SeverityCritical, Asset: "app.example.com"}),
			check("3", "xxe", "XML External Entity (XXE) (1)", nil),
			check("4", "SSL", "Transport Layer Security (TLS/SSL) (1)", nil),
		}}})
	if got.Status != http.StatusOK || !strings.Contains(got.Header.Get("Content-Type"), "xml") || strings.Contains(string(got.Body), "DOCTYPE") {
		t.Errorf("got %d %v %s", got.Status, got.Header, got.Body)
	}
	type failure struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
	}
	type testcase struct {
		Class    string    `xml:"classname,attr"`
		Name     string    `xml:"name,attr"`
		Failures []failure `xml:"failure"`
	}
	type suite struct {
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Disabled *int       `xml:"disabled,attr"`
		Errors   *int       `xml:"errors,attr"`
		Failures int        `xml:"failures,attr"`
		Time     int        `xml:"time,attr"`
		Cases    []testcase `xml:"testcase"`
	}
	type suites struct {
		XMLName xml.Name `xml:"testsuites"`
		suite
		Suites []suite `xml:"testsuite"`
	}
	var is, was suites
	if err := xml.Unmarshal(got.Body, &is); err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(sample(t, "report_junit.xml"), &was); err != nil {
		t.Fatal(err)
	}
	messages := []string{
		"Found reflected XSS in GET parameter 'q' with payload '<script>alert(\"1\")</script>'\uFFFD for URL 'https://app.example.com/search'",
		"Found SQL injection on site 'app.example.com'",
	}
	for i, m := range messages {
		if f := is.Suites[0].Cases[i].Failures; len(f) != 1 || strings.Join(strings.Fields(f[0].Message), " ") != strings.Join(strings.Fields(m), " ") {
			t.Errorf("got %+v, want %s", f, m)
		}
		is.Suites[0].Cases[i].Failures[0].Message = was.Suites[0].Cases[i].Failures[0].Message
	}
	if !reflect.DeepEqual(is, was) {
		t.Errorf("got  %s\nwant %s", show(is), show(was))
	}
}

func TestSnippets(t *testing.T) {
	const address = "https://hub.example.com/webhook/0123456789abcdef0123456789abcdef"
	var names []string
	for _, s := range (crashtest.Trigger{}).Snippets(address) {
		names = append(names, s.Name)
		whole := strings.Contains(s.Text, address)
		parts := strings.Contains(s.Text, `"https://hub.example.com/webhook"`) && strings.Contains(s.Text, `"0123456789abcdef0123456789abcdef"`)
		if !whole && !parts {
			t.Errorf("%s does not say where to:\n%s", s.Name, s.Text)
		}
	}
	if want := []string{"curl", "Shell", "Heroku", "TeamCity", "CircleCI", "GitHub Actions", "GitLab CI"}; !reflect.DeepEqual(names, want) {
		t.Errorf("got %q", names)
	}
}

// block is what a pipeline has its shell run: the lines that are indented below "|".
func block(pipeline string) string {
	_, text, _ := strings.Cut(pipeline, "|\n")
	indent := text[:len(text)-len(strings.TrimLeft(text, " "))]
	var out []string
	for line := range strings.Lines(text) {
		if line != "\n" && !strings.HasPrefix(line, indent) {
			break
		}
		out = append(out, strings.TrimPrefix(line, indent))
	}
	return strings.Join(out, "")
}

// TestSnippetsRun runs the scripts as each system does, against a hub that answers and
// against one that does not any more.
func TestSnippetsRun(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the scripts need %s, which is not installed", tool)
		}
	}
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "sleep"), []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	shells := map[string][]string{"Shell": {"sh"}, "TeamCity": {"sh"}, "CircleCI": {"bash", "-eo", "pipefail"}, "GitHub Actions": {"bash", "-e"}, "GitLab CI": {"bash", "-eo", "pipefail"}}
	for _, c := range []struct {
		name     string
		statuses []int // HTTP statuses of the answers to the questions, the last one for ever
		report   int
		says     string
		fails    bool
		asked    int
	}{
		{"it ends", []int{200, 503, 404, 200, 200}, 200, "finished with status 102", false, 5},
		{"the address is dead", []int{200, 404}, 200, "status cannot be read", true, 11},
		{"the report is refused", []int{200}, 409, "report cannot be fetched", true, 1},
		{"it does not start", nil, 200, "Could not start", true, 0},
	} {
		var asked atomic.Int32
		hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodPost && c.statuses == nil:
				w.WriteHeader(http.StatusConflict)
				_, _ = fmt.Fprint(w, `{"message":"Scan is already running"}`)
			case r.Method == http.MethodPost:
				_, _ = fmt.Fprint(w, `{"data":{"scanId":17}}`)
			case strings.HasSuffix(r.URL.Path, "/status"):
				n := int(asked.Add(1))
				status, code := c.statuses[min(n, len(c.statuses))-1], 101
				if n >= len(c.statuses) {
					code = 102
				}
				w.WriteHeader(status)
				if status == http.StatusOK {
					_, _ = fmt.Fprintf(w, `{"data":{"status":{"status_code":%d}}}`, code)
					return
				}
				_, _ = fmt.Fprint(w, `{"message":"no"}`)
			default:
				w.WriteHeader(c.report)
				_, _ = fmt.Fprint(w, "<testsuites/>")
			}
		}))
		for _, s := range (crashtest.Trigger{}).Snippets(hub.URL + "/webhook/0123456789abcdef") {
			shell, text := shells[s.Name], s.Text
			if shell == nil {
				continue
			}
			if shell[0] == "bash" {
				text = block(text)
			}
			asked.Store(0)
			dir := t.TempDir()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			cmd := exec.CommandContext(ctx, shell[0], append(shell[1:], "-c", text)...)
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "CRASHTEST_WEBHOOK="+hub.URL+"/webhook/0123456789abcdef")
			out, err := cmd.CombinedOutput()
			cancel()
			_, none := os.Stat(filepath.Join(dir, "report.xml"))
			if (err != nil) != c.fails || (none != nil) != c.fails || !strings.Contains(string(out), c.says) || int(asked.Load()) != c.asked {
				t.Errorf("%s: %s said %s, %v; asked %d times; report: %v", c.name, s.Name, out, err, asked.Load(), none)
			}
		}
		hub.Close()
	}
}

// FuzzCall: no request makes the trigger panic or answer with a 5xx.
func FuzzCall(f *testing.F) {
	for _, name := range []string{"web", "api", "jwt", "full_seed"} {
		f.Add("", sample(f, "trigger_payload_"+name+".json"), form)
	}
	f.Add("/scans/1/status", []byte(nil), "")
	f.Fuzz(func(t *testing.T, path string, body []byte, contentType string) {
		for _, target := range []connectors.TargetKind{connectors.TargetWeb, connectors.TargetAPI} {
			for _, method := range []string{http.MethodPost, http.MethodGet} {
				in := post(body, contentType)
				in.Method, in.Path = method, path
				call, err := crashtest.Trigger{}.Call(in, target)
				var result connectors.TriggerResult
				if err != nil && !errors.As(err, &result.Refused) {
					t.Fatalf("got %v", err)
				}
				reply := crashtest.Trigger{}.Answer(call, result)
				if reply.Status < 200 || reply.Status > 499 || err != nil && reply.Status < 400 || len(reply.Body) == 0 {
					t.Fatalf("got %d %s", reply.Status, reply.Body)
				}
			}
		}
	})
}
