package crashtest

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"strings"

	"github.com/hookyard/hookyard/connectors"
)

// The codes for how a scan stands: up to 101 it goes on.
const (
	codeQueued   = 100
	codeRunning  = 101
	codeFinished = 102
	codeFailed   = 103
	codeStopped  = 104
)

func code(s connectors.ScanState) int {
	switch s {
	case connectors.ScanQueued:
		return codeQueued
	case connectors.ScanRunning:
		return codeRunning
	case connectors.ScanFinished:
		return codeFinished
	case connectors.ScanStopped:
		return codeStopped
	}
	return codeFailed
}

// Answer writes what came of a call. Every refusal has a JSON message and is no 2xx, for
// clients read the one after having looked at the other.
func (Trigger) Answer(c connectors.TriggerCall, r connectors.TriggerResult) connectors.Reply {
	if r.Refused != nil {
		return refusal(c, r)
	}
	switch c.Verb {
	case connectors.TriggerStatus:
		n := code(r.Report.State)
		return answer(http.StatusOK, map[string]any{"data": map[string]any{"status": map[string]int{"code": n, "status_code": n}}})
	case connectors.TriggerReport:
		return report(r.Report)
	}
	return answer(http.StatusOK, struct {
		Message string `json:"message"`
		Data    any    `json:"data"`
	}{"webhook_scan_started", map[string]int64{"scanId": r.Report.Scan}})
}

func refusal(c connectors.TriggerCall, r connectors.TriggerResult) connectors.Reply {
	status, message := r.Refused.Status, r.Refused.Message
	if r.Refused.Field != "" {
		message = r.Refused.Field + ": " + message
	}
	switch r.Reason {
	case connectors.TriggerRunning:
		status, message = http.StatusConflict, "Scan is already running"
	case connectors.TriggerNotReady:
		status, message = http.StatusConflict, "The report is not ready: the scan has not ended"
	case connectors.TriggerUnknown:
		status, message = http.StatusNotFound, "There is no such scan"
	}
	out := answer(status, map[string]string{"message": message})
	if status == http.StatusMethodNotAllowed {
		allow := http.MethodPost
		if c.Verb == connectors.TriggerStatus || c.Verb == connectors.TriggerReport {
			allow = http.MethodGet
		}
		out.Header.Set("Allow", allow)
	}
	return out
}

func answer(status int, v any) connectors.Reply {
	b, err := json.Marshal(v)
	if err != nil { // plain structs of ours: it cannot happen
		status, b = http.StatusInternalServerError, []byte(`{"message":"the answer could not be written"}`)
	}
	return connectors.Reply{Status: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: b}
}

type testSuites struct {
	XMLName  xml.Name   `xml:"testsuites"`
	Name     string     `xml:"name,attr"`
	Tests    int        `xml:"tests,attr"`
	Disabled int        `xml:"disabled,attr"`
	Errors   int        `xml:"errors,attr"`
	Failures int        `xml:"failures,attr"`
	Time     int64      `xml:"time,attr"`
	Suite    *testSuite `xml:"testsuite"`
}

type testSuite struct {
	Name     string     `xml:"name,attr"`
	Tests    int        `xml:"tests,attr"`
	Disabled int        `xml:"disabled,attr"`
	Errors   int        `xml:"errors,attr"`
	Failures int        `xml:"failures,attr"`
	Skipped  int        `xml:"skipped,attr"`
	Time     int64      `xml:"time,attr"`
	Cases    []testCase `xml:"testcase"`
}

type testCase struct {
	Class   string   `xml:"classname,attr"`
	Name    string   `xml:"name,attr"`
	Failure *failure `xml:"failure"`
	Error   *failure `xml:"error"`
}

type failure struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr"`
}

// classDomain ends the class names, by which pipelines count.
const classDomain = ".crashtest.cloud"

// report is a scan as JUnit XML: a case for each thing that was looked for.
func report(r connectors.ScanReport) connectors.Reply {
	suite := &testSuite{Name: "Crashtest Security Suite", Tests: len(r.Checks)}
	if !r.Started.IsZero() && r.Finished.After(r.Started) {
		suite.Time = int64(r.Finished.Sub(r.Started).Seconds())
	}
	for _, c := range r.Checks {
		t := testCase{Class: strings.ToLower(c.Class) + classDomain, Name: c.Title}
		if f := c.Finding; f != nil {
			suite.Failures++
			t.Failure = &failure{Message: describe(f), Type: string(f.Severity)}
		}
		suite.Cases = append(suite.Cases, t)
	}
	if r.State != connectors.ScanFinished { // what was not looked for must not pass for clean
		suite.Tests++
		suite.Errors++
		suite.Cases = append(suite.Cases, testCase{Class: "scan" + classDomain, Name: "Scan",
			Error: &failure{Message: "The scan did not come to its end", Type: strings.ToLower(string(r.State))}})
	}
	b, err := xml.MarshalIndent(testSuites{Tests: suite.Tests, Errors: suite.Errors, Failures: suite.Failures, Time: suite.Time, Suite: suite}, "", "  ")
	if err != nil { // strings and numbers: it cannot happen
		return answer(http.StatusInternalServerError, map[string]string{"message": "the report could not be written"})
	}
	return connectors.Reply{Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/xml; charset=utf-8"}},
		Body: append([]byte(xml.Header), append(b, '\n')...)}
}

// describe says in one line what was found and where.
func describe(f *connectors.Finding) string {
	text := f.Description
	if text == "" {
		text = f.Title
	}
	text = strings.Join(strings.Fields(text), " ")
	switch {
	case f.Endpoint != "" && !strings.Contains(text, f.Endpoint):
		return fmt.Sprintf("%s for URL '%s'", strings.TrimSuffix(text, "."), f.Endpoint)
	case f.Endpoint == "" && f.Asset != "" && !strings.Contains(text, f.Asset):
		return fmt.Sprintf("%s on site '%s'", strings.TrimSuffix(text, "."), f.Asset)
	}
	return text
}
