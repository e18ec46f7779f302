package appscan_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/appscan"
	"github.com/hookyard/hookyard/connectors/connectortest"
)

const (
	executionID   = "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b"
	scanID        = "7c6a4f3b-6f2f-4a63-9b0d-51f0f3f7c3aa"
	applicationID = "5b1c2f6e-0d4a-4b0f-9a53-4d8d5e0f7a11"
)

func sample(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func ptr[T any](v T) *T { return &v }

func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// get is a request of AppScan's, or what was fetched because of it.
func get(path, query string, body []byte) connectors.Inbound {
	values, err := url.ParseQuery(query)
	if err != nil {
		panic(err)
	}
	in := connectors.Inbound{Method: http.MethodGet, Path: path, Query: values, Body: body, ReceivedAt: connectortest.Moment(), Location: time.UTC}
	if body != nil {
		in.Via = connectors.ViaEnrich
	}
	return in
}

func TestRequestsAskForEnrichment(t *testing.T) {
	for _, c := range []struct {
		path, query string
		status      int // 0: enrichment
	}{
		{"/" + executionID, "", 0},
		{"/scan/" + executionID, "", 0},
		{"/ScanEnded/" + executionID, "", 0},
		{"/ScanExecutionCompleted/" + executionID + "/", "", 0},
		{"/application/" + applicationID, "", 0},
		{"/ApplicationUpdated/" + applicationID, "", 0},
		{"", "ScanExecutionId=" + executionID, 0},
		{"/", "ApplicationId=" + applicationID, 0},
		{"", "", 422},
		{"/weather/" + executionID, "", 422},
		{"/scan/a/b", "", 422},
		{"", "ScanExecutionId=", 422},
		{"/scan/{SubjectId}", "", 400},
		{"/scan/a b", "", 400},
		{"/scan/..", "", 400},
		{"/scan/é", "", 400},
		{"/scan/" + strings.Repeat("a", 129), "", 400},
	} {
		got, err := appscan.Receiver{}.Receive(get(c.path, c.query, nil))
		var refused *connectors.RefuseError
		switch {
		case c.status == 0 && (err != nil || !got.Enrich || len(got.Items) > 0):
			t.Errorf("%s?%s: got %+v, %v", c.path, c.query, got, err)
		case c.status != 0 && (!errors.As(err, &refused) || refused.Status != c.status):
			t.Errorf("%s?%s: got %v, want %d", c.path, c.query, err, c.status)
		}
	}
	in := get("/scan/"+executionID, "", nil)
	in.Method = http.MethodPost
	var refused *connectors.RefuseError
	if _, err := (appscan.Receiver{}).Receive(in); !errors.As(err, &refused) || refused.Status != http.StatusMethodNotAllowed {
		t.Errorf("a POST: %v", err)
	}
}

func receiveOne(t *testing.T, path string, body []byte) connectors.Incoming {
	t.Helper()
	got, err := appscan.Receiver{}.Receive(get(path, "", body))
	if err != nil || len(got.Items) != 1 {
		t.Fatalf("got %+v, %v", got, err)
	}
	return got.Items[0]
}

func TestReceiveExecution(t *testing.T) {
	got := receiveOne(t, "/scan/"+executionID, sample(t, "enriched_execution"))
	end := time.Date(2026, time.March, 2, 10, 57, 0, 123456000, time.UTC)
	want := connectors.Incoming{
		Type: connectors.ScanCompleted,
		Time: end,
		Data: connectors.Data{
			Scan: &connectors.Scan{Key: executionID, Name: "Nightly DAST", Type: "web application", Status: "Ready", FinishedAt: &end, Duration: ptr(3420),
				Counts: &connectors.Counts{Critical: ptr(1), High: ptr(2), Medium: ptr(3), Low: ptr(1), Info: ptr(0), Total: ptr(7)},
				Actor:  &connectors.Actor{Name: "Ada Byron", Email: "ada@corp.example"}},
			Attributes: json.RawMessage(`{"appscan":{"executionId":"` + executionID + `","scanId":"` + scanID + `","applicationId":"` + applicationID + `"}}`),
		},
		Key: "execution " + executionID,
		Fields: map[string]string{"AppId": applicationID, "AppName": "Storefront", "ScanId": scanID, "Name": "Nightly DAST", "Technology": "DynamicAnalyzer",
			"AssetGroupId": "a3c0f0de-51ab-4f55-8a3e-2d9d3c5f0001", "AssetGroupName": "Retail"},
		DefaultField: "AppId", NameField: "AppName",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %s\nwant %s", show(got), show(want))
	}
	failed := strings.Replace(string(sample(t, "enriched_execution")), `"Ready"`, `"Failed"`, 1)
	if got := receiveOne(t, "/scan/"+executionID, []byte(failed)); got.Type != connectors.ScanFailed {
		t.Errorf("got %s", got.Type)
	}
}

func TestReceiveApplication(t *testing.T) {
	got := receiveOne(t, "/application/"+applicationID, sample(t, "enriched_application"))
	if a := got.Data.Application; got.Type != connectors.ApplicationChanged || a.Key != applicationID || a.Name != "Storefront" || a.Counts != nil ||
		got.Fields["AppId"] != applicationID || got.Key != "application "+applicationID+" 2026-04-10T14:30:00Z" {
		t.Errorf("got %s", show(got))
	}
}

func TestFormat(t *testing.T) {
	for _, c := range []struct{ address, id, want string }{
		{"http://myservice.com/ScanEnded/{SubjectId}", executionID, "http://myservice.com/ScanEnded/" + executionID},
		{"http://risk.corp.example:8080/apps?app={SubjectId}&again={SubjectId}", "a1", "http://risk.corp.example:8080/apps?app=a1&again=a1"},
		{"https://a.example:443?id={SubjectId}", "a", "https://a.example/?id=a"},
		{"http://a.example:80", "a", "http://a.example/"},
		{"http://a.example:443/x", "a", "http://a.example:443/x"},
		{"http://a.example/{subjectid}/{Other}?{x}", "a", "http://a.example/%7Bsubjectid%7D/%7BOther%7D?%7Bx%7D"},
		{"http://a.example/{SubjectId}", "a/b?c=d&e#f é~", "http://a.example/a%2Fb%3Fc%3Dd%26e%23f%20%C3%A9~"},
		{"http://a.example/plain", "a", "http://a.example/plain"},
	} {
		if got, err := (appscan.Format{}).Address(c.address, c.id); err != nil || got != c.want {
			t.Errorf("%s with %s: got %s, %v, want %s", c.address, c.id, got, err, c.want)
		}
	}
	e := connectortest.Event(connectors.ScanCompleted)
	got, err := appscan.Format{}.Render(e, connectors.RenderOptions{})
	if want := (connectors.Rendered{Method: http.MethodGet, TargetSuffix: e.Data.Scan.ID}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	in := receiveOne(t, "/scan/"+executionID, sample(t, "enriched_execution"))
	in.Data.Scan.ID = "scn_1"
	if got, err = (appscan.Format{}).Render(&connectors.Event{Type: in.Type, Data: in.Data}, connectors.RenderOptions{}); err != nil || got.TargetSuffix != executionID {
		t.Errorf("what came from AppScan has AppScan's ID: %+v, %v", got, err)
	}
	e = connectortest.Event(connectors.ApplicationChanged)
	for _, id := range []string{".", "..", ""} {
		e.Application.ID = id
		var skipped *connectors.SkipError
		if _, err := (appscan.Format{}).Render(e, connectors.RenderOptions{}); !errors.As(err, &skipped) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// service is AppScan's API as far as Enrich asks it.
type service struct {
	mu      sync.Mutex
	asked   []string
	open    int            // logins that did not log out
	answers map[string]int // status by path, instead of the answer
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.Method+" "+r.URL.Path)
	if status := s.answers[r.URL.Path]; status != 0 {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(status)
		return
	}
	reply := func(name string) {
		b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(b)
	}
	if r.URL.Path == "/api/v4/Account/ApiKeyLogin" {
		var key struct{ KeyID, KeySecret string }
		if json.NewDecoder(r.Body).Decode(&key) != nil || r.Method != http.MethodPost || key.KeyID != "id" || key.KeySecret != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		s.open++
		reply("upstream_api_key_login.response")
		return
	}
	if r.Header.Get("Authorization") != "Bearer example-bearer-token" || r.Method != http.MethodGet {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	switch r.URL.Path + " " + r.URL.Query().Get("$filter") {
	case "/api/v4/Scans/Execution/" + executionID + " ":
		reply("upstream_scan_execution.response")
	case "/api/v4/Scans Id eq " + scanID:
		reply("upstream_scan.response")
	case "/api/v4/Apps Id eq " + applicationID:
		reply("upstream_application.response")
	case "/api/v4/Apps Id eq other": // a service that does not heed the filter
		reply("upstream_application.response")
	case "/api/v4/Scans Id eq unknown", "/api/v4/Apps Id eq unknown":
		_, _ = w.Write([]byte(`{"Items":[]}`))
	case "/api/v4/Account/Logout ":
		s.open--
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func source(t *testing.T, s *service, secret string) (*connectortest.Host, connectors.Endpoint) {
	t.Helper()
	e := connectors.Endpoint{Ref: "src_1@1", ID: "src_1", Role: connectors.RoleSource, Settings: json.RawMessage(fmt.Sprintf(`{"service_url":%q,"key_id":"id"}`, connectortest.NewServer(t, s.ServeHTTP))),
		Secrets: map[string]string{"key_secret": secret}}
	return connectortest.NewHost(t, e), e
}

func TestEnrich(t *testing.T) {
	s := &service{}
	h, e := source(t, s, "secret")
	for path, want := range map[string]string{"/scan/" + executionID: "enriched_execution", "/application/" + applicationID: "enriched_application"} {
		d, err := appscan.Connector{}.Enrich(t.Context(), h, connectors.Enrichment{Source: e, Kind: "appscan", Receipt: "rcp_1", Attempt: 1, Request: get(path, "", nil)})
		var is, was any
		if err != nil || json.Unmarshal(d.Body, &is) != nil || json.Unmarshal(sample(t, want), &was) != nil || !reflect.DeepEqual(is, was) {
			t.Errorf("%s: got %s, %v", path, d.Body, err)
		}
	}
	if s.open != 0 {
		t.Errorf("%d logins were left open", s.open)
	}
	if err := (appscan.Connector{}).Check(t.Context(), h, e); err != nil {
		t.Error(err)
	}
}

func TestEnrichSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name, secret, path string
		answers            map[string]int
		outcome            connectors.Outcome
		fault              connectors.Fault
		message            string
		after              time.Duration
	}{
		{"key", "wrong", "/scan/" + executionID, nil, connectors.Retry, connectors.FaultSettings, "key_id and key_secret", 0},
		{"no key", "", "/scan/" + executionID, nil, connectors.Retry, connectors.FaultSettings, "has no API key", 0},
		{"unknown execution", "secret", "/scan/unknown", nil, connectors.Permanent, connectors.FaultTarget, "no scan execution unknown", 0},
		{"unknown application", "secret", "/application/unknown", nil, connectors.Permanent, connectors.FaultTarget, "no application unknown", 0},
		{"another application", "secret", "/application/other", nil, connectors.Retry, connectors.FaultTarget, "another application than", 0},
		{"maintenance", "secret", "/scan/" + executionID, map[string]int{"/api/v4/Account/ApiKeyLogin": 503}, connectors.Retry, connectors.FaultTarget, "503", 7 * time.Second},
		{"half an answer", "secret", "/scan/" + executionID, map[string]int{"/api/v4/Apps": 500}, connectors.Retry, connectors.FaultTarget, "500 to Apps", 7 * time.Second},
	} {
		h, e := source(t, &service{answers: c.answers}, c.secret)
		_, err := appscan.Connector{}.Enrich(t.Context(), h, connectors.Enrichment{Source: e, Request: get(c.path, "", nil)})
		var f *connectors.Failure
		if !errors.As(err, &f) || f.Outcome != c.outcome || f.Fault != c.fault || !strings.Contains(f.Message, c.message) || f.RetryAfter != c.after || strings.Contains(f.Message, "secret\"") {
			t.Errorf("%s: %+v", c.name, err)
		}
	}
	down := connectors.Endpoint{Ref: "src_2@1", Settings: json.RawMessage(`{"service_url":"http://127.0.0.1:1","key_id":"id"}`), Secrets: map[string]string{"key_secret": "s"}}
	_, err := appscan.Connector{}.Enrich(t.Context(), connectortest.NewHost(t, down), connectors.Enrichment{Source: down, Request: get("/scan/x", "", nil)})
	var f *connectors.Failure
	if !errors.As(err, &f) || f.Outcome != connectors.Retry || f.Fault != connectors.FaultTarget || !strings.Contains(f.Message, "could not be reached") {
		t.Errorf("a service that is down: %v", err)
	}
}

// FuzzReceive: no request and no answer of AppScan's makes the receiver panic, and what it
// accepts can be kept and written down.
func FuzzReceive(f *testing.F) {
	f.Add("/scan/"+executionID, "", []byte(nil))
	f.Add("", "ApplicationId="+applicationID, []byte(nil))
	f.Add("/scan/"+executionID, "", sample(f, "enriched_execution"))
	f.Add("/application/"+applicationID, "", sample(f, "enriched_application"))
	f.Fuzz(func(t *testing.T, path, query string, body []byte) {
		values, _ := url.ParseQuery(query)
		in := connectors.Inbound{Method: http.MethodGet, Path: path, Query: values, Body: body, ReceivedAt: connectortest.Moment(), Location: time.UTC}
		for _, in.Via = range []connectors.Via{connectors.ViaRequest, connectors.ViaEnrich} {
			got, err := appscan.Receiver{}.Receive(in)
			var refused *connectors.RefuseError
			switch {
			case err != nil && (!errors.As(err, &refused) || refused.Status < 400 || refused.Status > 499 || refused.Message == ""):
				t.Fatalf("got %v", err)
			case err == nil && in.Via == connectors.ViaRequest && !got.Enrich:
				t.Fatal("neither refused nor to be enriched")
			case err == nil && in.Via == connectors.ViaEnrich && len(got.Items) != 1:
				t.Fatal("no event")
			}
			for _, item := range got.Items {
				e := &connectors.Event{ID: "evt_1", Type: item.Type, Source: "s", Time: item.Time, Data: item.Data}
				if _, err := connectors.AppendEvent(nil, e); err != nil {
					t.Fatal(err)
				}
				if r, err := (appscan.Format{}).Render(e, connectors.RenderOptions{}); err != nil {
					t.Fatal(err)
				} else if a, err := (appscan.Format{}).Address("https://a.example/{SubjectId}", r.TargetSuffix); err != nil {
					t.Fatal(err)
				} else if _, err := url.Parse(a); err != nil {
					t.Fatal(err)
				}
				if item.Key == "" || len(item.Key) > 512 {
					t.Fatalf("key %q", item.Key)
				}
			}
		}
	})
}
