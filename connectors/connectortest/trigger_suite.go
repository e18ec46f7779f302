package connectortest

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

func testTrigger(t *testing.T, x connectors.Trigger) {
	if !nameForm.MatchString(x.Kind()) {
		t.Errorf("kind %q: lower-case letters, digits and hyphens", x.Kind())
	}
	for _, target := range []connectors.TargetKind{connectors.TargetWeb, connectors.TargetAPI} {
		for _, path := range []string{"", "/", "/scans/1/status", "/scans/x/status", "/scans/1/report/junit", "/scans/99999999999999999999/status", "/../..", "/%00"} {
			for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodHead, http.MethodDelete} {
				for _, body := range junk() {
					in := connectors.Inbound{Method: method, Path: path, Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, Body: body,
						ReceivedAt: Moment(), Location: time.UTC, ContentType: "application/x-www-form-urlencoded"}
					testCall(t, x, in, target)
				}
			}
		}
	}
	moment := Moment()
	report := connectors.ScanReport{Scan: 7, State: connectors.ScanFinished, Started: moment.Add(-time.Hour), Finished: moment, Checks: []connectors.ScanCheck{
		{Key: "1", Class: "xss", Title: "Cross-Site <Scripting>", Finding: finding()}, {Key: "2", Class: "ssl", Title: "Transport \"Layer\" & more"}}}
	for _, verb := range []connectors.TriggerVerb{"", connectors.TriggerStart, connectors.TriggerStatus, connectors.TriggerReport} {
		call := connectors.TriggerCall{Verb: verb, Scan: 7}
		for _, state := range []connectors.ScanState{connectors.ScanQueued, connectors.ScanRunning, connectors.ScanFinished, connectors.ScanBroken, connectors.ScanStopped} {
			r := connectors.TriggerResult{Report: report}
			r.Report.State = state
			if reply := testAnswer(t, x, call, r); verb != "" && (reply.Status < 200 || reply.Status > 299) {
				t.Errorf("%s of a scan that is %s is answered with %d", verb, state, reply.Status)
			}
		}
		for _, reason := range []connectors.TriggerReason{connectors.TriggerOther, connectors.TriggerRunning, connectors.TriggerNotReady, connectors.TriggerUnknown} {
			r := connectors.TriggerResult{Reason: reason, Refused: &connectors.RefuseError{Status: http.StatusConflict, Message: "as told"}}
			if reply := testAnswer(t, x, call, r); reply.Status < 400 || reply.Status > 599 {
				t.Errorf("a refused call (%s %s) is answered with %d", verb, reason, reply.Status)
			}
		}
	}
	const url = "https://hub.example.com/webhook/0123456789"
	for _, s := range x.Snippets(url) {
		if s.Name == "" || !strings.Contains(s.Text, "0123456789") {
			t.Errorf("snippet %q has no name or does not call the address", s.Name)
		}
	}
}

func testCall(t *testing.T, x connectors.Trigger, in connectors.Inbound, target connectors.TargetKind) {
	t.Helper()
	got, err := x.Call(in, target)
	var refused *connectors.RefuseError
	switch {
	case err == nil && in.Method != http.MethodPost && got.Verb == connectors.TriggerStart:
		t.Errorf("%s starts a scan", in.Method)
	case err == nil && got.Verb == "":
		t.Errorf("%s %s %.40q: neither a call nor a refusal", in.Method, in.Path, in.Body)
	case err == nil:
	case !errors.As(err, &refused):
		t.Errorf("%s %s %.40q: %v is not a *RefuseError", in.Method, in.Path, in.Body, err)
	case refused.Status < 400 || refused.Status > 499 || refused.Message == "":
		t.Errorf("%s %s %.40q: %+v wants a status of 4xx and a message", in.Method, in.Path, in.Body, refused)
	}
	again, err2 := x.Call(in, target)
	if !reflect.DeepEqual(got, again) || fmt.Sprint(err) != fmt.Sprint(err2) {
		t.Errorf("%s %s %.40q: the same request was read in two ways", in.Method, in.Path, in.Body)
	}
}

func testAnswer(t *testing.T, x connectors.Trigger, c connectors.TriggerCall, r connectors.TriggerResult) connectors.Reply {
	t.Helper()
	reply := x.Answer(c, r)
	if !reflect.DeepEqual(reply, x.Answer(c, r)) {
		t.Errorf("%s: the same answer was written in two ways", c.Verb)
	}
	if len(reply.Body) > 0 && reply.Header.Get("Content-Type") == "" {
		t.Errorf("%s: the answer has no Content-Type", c.Verb)
	}
	return reply
}
