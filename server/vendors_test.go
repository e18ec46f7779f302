package server_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookyard/hookyard/server/servertest/program"
)

// inbound is a request that came to a receiver.
type inbound struct {
	method, target string
	header         http.Header
	body           []byte
}

// receiver is somebody's server: it keeps what it is sent and answers as told.
type receiver struct {
	url   string
	calls chan inbound

	mu     sync.Mutex
	answer func(w http.ResponseWriter, r *http.Request)
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	x := &receiver{calls: make(chan inbound, 1024)}
	x.url = listen(t, "127.0.0.1:0", x)
	return x
}

// listen serves on an address until the test ends, and returns it.
func listen(t *testing.T, address string, h http.Handler) string {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(ln) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return "http://" + ln.Addr().String()
}

func (x *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	x.calls <- inbound{r.Method, r.RequestURI, r.Header, b}
	x.mu.Lock()
	answer := x.answer
	x.mu.Unlock()
	if answer != nil {
		answer(w, r)
	}
}

func (x *receiver) answers(f func(http.ResponseWriter, *http.Request)) {
	x.mu.Lock()
	x.answer = f
	x.mu.Unlock()
}

func withStatus(n int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(n) }
}

// next is the next call, which must come.
func (x *receiver) next(t *testing.T) inbound {
	t.Helper()
	select {
	case c := <-x.calls:
		return c
	case <-time.After(30 * time.Second):
		t.Fatal("no request came")
	}
	return inbound{}
}

// silent says that no call has come that was not looked at.
func (x *receiver) silent(t *testing.T) {
	t.Helper()
	select {
	case c := <-x.calls:
		t.Errorf("%s %s %s came, and should not have", c.method, c.target, c.body)
	default:
	}
}

type hookState struct {
	ID, State, StateReason string
	VerifiedAt             *string
}

func hookOf(t *testing.T, h *program.Hub, id string) hookState {
	t.Helper()
	var got struct{ Node hookState }
	if err := h.Do(t.Context(), `query ($id: ID!) { node(id: $id) { id ... on Webhook { state stateReason verifiedAt } } }`, program.Input{"id": id}, &got); err != nil {
		t.Fatal(err)
	}
	return got.Node
}

func (s hookState) check(t *testing.T, state, reason string) {
	t.Helper()
	if s.State != state || !strings.Contains(s.StateReason, reason) || reason == "" && s.StateReason != "" || (s.VerifiedAt != nil) != (state == "ACTIVE") {
		t.Errorf("the webhook is %+v, want %s because of %q", s, state, reason)
	}
}

func hookAt(t *testing.T, h *program.Hub, name, url string, in program.Input) (hook, endpoint string) {
	t.Helper()
	endpoint, err := h.CreateEndpoint(t.Context(), program.Input{"name": name, "connector": "webhook", "url": url})
	if err != nil {
		t.Fatal(err)
	}
	in["name"], in["endpointId"], in["global"] = name, endpoint, true
	if hook, _, err = h.CreateWebhook(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	return hook, endpoint
}

const vendorSecret = "whsec_test_0123456789abcdef"

func signed(t *testing.T, c inbound) {
	t.Helper()
	mac := hmac.New(sha256.New, []byte(vendorSecret))
	mac.Write(c.body)
	if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); c.header.Get("X-APVISO-Signature") != want {
		t.Errorf("the signature is %q, want %q", c.header.Get("X-APVISO-Signature"), want)
	}
}

// TestHandshakes asks addresses before anything is sent there, again on request, and
// again when they change; what was skipped meanwhile is sent on request.
func TestHandshakes(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		ctx := t.Context()
		h := start(t, url, "--allow-private-targets", "--allow-plain-http")
		x := newReceiver(t)
		publish := func(key string) {
			t.Helper()
			in := program.Input{"type": "finding.discovered", "finding": program.Input{"key": key, "title": "SQL Injection", "severity": "critical"}}
			if err := h.Do(ctx, `mutation ($in: SendEventInput!) { sendEvent(input: $in) { result { eventId } } }`, program.Input{"in": in}, nil); err != nil {
				t.Fatal(err)
			}
		}
		verify := func(id string) (ok bool, message string, skipped int) {
			t.Helper()
			var got struct {
				R struct {
					OK      bool
					Message string
					Skipped int
				}
			}
			if err := h.Do(ctx, `mutation ($id: ID!) { r: verifyWebhook(input: {id: $id}) { ok message skipped } }`, program.Input{"id": id}, &got); err != nil {
				t.Fatal(err)
			}
			return got.R.OK, got.R.Message, got.R.Skipped
		}
		var e struct{ Event string }

		good, _ := hookAt(t, h, "good", x.url+"/good", program.Input{"format": "apviso", "signingSecret": vendorSecret})
		c := x.next(t)
		if signed(t, c); c.method != http.MethodPost || json.Unmarshal(c.body, &e) != nil || e.Event != "webhook.verification" {
			t.Errorf("asked with %s %s", c.method, c.body)
		}
		hookOf(t, h, good).check(t, "ACTIVE", "")
		x.silent(t)
		publish("one")
		c = x.next(t)
		if signed(t, c); json.Unmarshal(c.body, &e) != nil || e.Event != "finding.created" {
			t.Errorf("got %s", c.body)
		}
		if err := h.Do(ctx, `mutation ($id: ID!) { disableWebhook(input: {id: $id}) { webhook { id } } }`, program.Input{"id": good}, nil); err != nil {
			t.Fatal(err)
		}

		x.answers(withStatus(http.StatusInternalServerError))
		bad, endpoint := hookAt(t, h, "bad", x.url+"/bad", program.Input{"format": "apviso", "signingSecret": vendorSecret})
		x.next(t)
		hookOf(t, h, bad).check(t, "UNVERIFIED", "500")
		publish("two")
		if ok, message, _ := verify(bad); ok || !strings.Contains(message, "500") {
			t.Errorf("verified: %v %s", ok, message)
		}
		x.next(t)
		x.silent(t)
		x.answers(nil)
		if ok, message, skipped := verify(bad); !ok || skipped != 1 {
			t.Errorf("verified: %v %s, %d skipped", ok, message, skipped)
		}
		x.next(t)
		hookOf(t, h, bad).check(t, "ACTIVE", "")
		x.silent(t)
		if err := h.Do(ctx, `mutation ($f: DeliveryFilter!) { redeliverDeliveries(input: {filter: $f}) { matched } }`,
			program.Input{"f": program.Input{"webhookIds": []string{bad}, "states": []string{"SKIPPED"}}}, nil); err != nil {
			t.Fatal(err)
		}
		if c = x.next(t); json.Unmarshal(c.body, &e) != nil || e.Event != "finding.created" {
			t.Errorf("redelivered: %s", c.body)
		}

		move := func(to string) {
			t.Helper()
			if err := h.Do(ctx, `mutation ($id: ID!, $url: String) { updateEndpoint(input: {id: $id, url: $url}) { endpoint { id } } }`, program.Input{"id": endpoint, "url": to}, nil); err != nil {
				t.Fatal(err)
			}
		}
		move("http://127.0.0.1:1/")
		hookOf(t, h, bad).check(t, "UNVERIFIED", "refused the connection")
		move(x.url + "/moved")
		if c = x.next(t); c.target != "/moved" {
			t.Errorf("asked at %s", c.target)
		}
		hookOf(t, h, bad).check(t, "ACTIVE", "")

		x.answers(withStatus(http.StatusMethodNotAllowed))
		head, _ := hookAt(t, h, "head", x.url+"/head", program.Input{"format": "veracode-sca"})
		if c = x.next(t); c.method != http.MethodHead {
			t.Errorf("asked with %s", c.method)
		}
		hookOf(t, h, head).check(t, "UNVERIFIED", "405")

		allow := func(suffix string) func(http.ResponseWriter, *http.Request) {
			return func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("WebHook-Allowed-Origin", r.Header.Get("WebHook-Request-Origin")+suffix)
			}
		}
		x.answers(allow(".evil.example"))
		events, _ := hookAt(t, h, "events", x.url+"/events", program.Input{"format": "cloudevents"})
		if c = x.next(t); c.method != http.MethodOptions || c.header.Get("WebHook-Request-Origin") != "127.0.0.1" {
			t.Errorf("asked with %s %v", c.method, c.header)
		}
		hookOf(t, h, events).check(t, "UNVERIFIED", "evil.example")
		x.answers(allow(""))
		if ok, message, _ := verify(events); !ok {
			t.Error(message)
		}
		x.next(t)
		hookOf(t, h, events).check(t, "ACTIVE", "")
		x.silent(t)
		plain, _ := hookAt(t, h, "plain", x.url+"/plain", program.Input{"format": "cloudevents", "handshake": false})
		x.silent(t)
		if s := hookOf(t, h, plain); s.State != "ACTIVE" {
			t.Errorf("a handshake that was declined: %+v", s)
		}
	})
}

// TestHandshakeDemandsHTTPS: the format says so, and only the operator may say otherwise.
func TestHandshakeDemandsHTTPS(t *testing.T) {
	h := start(t, "", "--allow-private-targets")
	x := newReceiver(t)
	id, _ := hookAt(t, h, "plain", x.url, program.Input{"format": "apviso"})
	hookOf(t, h, id).check(t, "UNVERIFIED", "--allow-plain-http")
	x.silent(t)
}

// sent has the program send what a vendor sends.
func sent(t *testing.T, ok string, args ...string) {
	t.Helper()
	said, err := tool(t, append([]string{"send"}, args...)...)
	if !strings.HasPrefix(said, ok) || (err == nil) != (ok[0] == '2') {
		t.Errorf("send %q: %s %v, want %s", args, said, err, ok)
	}
}

// TestVendorSources has every vendor's messages sent to their sources, and looks at the
// events.
func TestVendorSources(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		ctx := t.Context()
		h := start(t, url, "--allow-private-targets")
		address, source := map[string]string{}, map[string]string{}
		for kind, in := range map[string]program.Input{"holm": {}, "apviso": {"secrets": []string{vendorSecret}}, "veracode-sca": {}} {
			in["name"], in["kind"] = kind, kind
			id, at, err := h.CreateSource(ctx, in)
			if err != nil {
				t.Fatal(err)
			}
			source[kind], address[kind] = id, at
		}
		for _, e := range []string{"finished_scan", "scheduled_scan", "ticket_opened", "ticket_closed", "finished_scan"} {
			sent(t, "200", "--as", "holm", e, "--to", address["holm"])
		}
		for _, e := range []string{"finding.created", "scan.started", "scan.progress", "scan.completed", "scan.failed", "report.ready", "webhook.verification", "scan.progress"} {
			sent(t, "200", "--as", "apviso", e, "--to", address["apviso"], "--secret", vendorSecret)
		}
		sent(t, "401", "--as", "apviso", "finding.created", "--to", address["apviso"], "--secret", "another")
		sent(t, "401", "--as", "apviso", "finding.created", "--to", address["apviso"])
		for _, e := range []string{"HEAD", "SCAN_SUCCESS", "VULN_ISSUES_DISCOVERED_AFTER_SCAN", "VULN_ISSUES_CHANGED_AFTER_SCAN", "SCAN_SUCCESS"} {
			sent(t, "200", "--as", "veracode-sca", e, "--to", address["veracode-sca"])
		}
		for kind, want := range map[string]string{
			"holm":         "scan.completed scan.scheduled ticket.opened ticket.closed",
			"apviso":       "finding.discovered scan.started scan.progress scan.completed scan.failed report.ready",
			"veracode-sca": "scan.completed finding.discovered finding.changed",
		} {
			var got struct {
				Events struct {
					Edges []struct{ Node struct{ Type string } }
				}
			}
			if err := h.Do(ctx, `query ($s: [ID!]) { events(filter: {sourceIds: $s}, orderBy: OLDEST_FIRST) { edges { node { type } } } }`, program.Input{"s": []string{source[kind]}}, &got); err != nil {
				t.Fatal(err)
			}
			var types []string
			for _, e := range got.Events.Edges {
				types = append(types, e.Node.Type)
			}
			if strings.Join(types, " ") != want {
				t.Errorf("%s: got %q, want %s", kind, types, want)
			}
		}
	})
}

// appScan is AppScan's API as far as the hub asks it.
type appScan struct{ t *testing.T }

func (s appScan) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	file := map[string]string{
		"/api/v4/Account/ApiKeyLogin":                                  "upstream_api_key_login.response.json",
		"/api/v4/Scans/Execution/9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b": "upstream_scan_execution.response.json",
		"/api/v4/Scans": "upstream_scan.response.json",
		"/api/v4/Apps":  "upstream_application.response.json",
	}[r.URL.Path]
	if file == "" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	b, err := os.ReadFile(filepath.Join("..", "connectors", "appscan", "testdata", file))
	if err != nil {
		s.t.Error(err)
	}
	_, _ = w.Write(b)
}

// TestAppScan takes a call that names nothing but an ID while AppScan's API is down, is
// killed, and makes an event of it once the API is back.
func TestAppScan(t *testing.T) {
	const executionID, applicationID = "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b", "5b1c2f6e-0d4a-4b0f-9a53-4d8d5e0f7a11"
	onEach(t, func(t *testing.T, url string) {
		ctx := t.Context()
		ln, err := net.Listen("tcp", "127.0.0.1:0") // a port that nobody answers at, for now
		if err != nil {
			t.Fatal(err)
		}
		service := ln.Addr().String()
		_ = ln.Close()
		h := start(t, url, "--allow-private-targets")
		x := newReceiver(t)
		hookAt(t, h, "calls", x.url+"/ScanEnded/{SubjectId}?app={other}", program.Input{"format": "appscan"})
		group, err := h.CreateAssetGroup(ctx, "group")
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := h.CreateSource(ctx, program.Input{"name": "no key", "kind": "appscan"}); err == nil {
			t.Error("a source of AppScan's was made without an API key")
		}
		source, address, err := h.CreateSource(ctx, program.Input{"name": "AppScan", "kind": "appscan", "assetGroupId": group, "mapping": program.Input{"create": true},
			"settings": program.Input{"service_url": "http://" + service, "key_id": "id"}, "settingSecrets": []program.Input{{"name": "key_secret", "value": "secret"}}})
		if err != nil {
			t.Fatal(err)
		}
		sent(t, "200", "--as", "appscan", "ScanExecutionCompleted", "--to", address)
		sent(t, "400", "--as", "appscan", "ScanExecutionCompleted", "--to", address+"/scan/a%20b{SubjectId}")
		type receipt struct {
			State, Note, Path string
			Attempts          int
			NextAttemptAt     *string
			EventIDs          []string `json:"eventIds"`
		}
		first := func() receipt {
			t.Helper()
			var got struct {
				Receipts struct{ Edges []struct{ Node receipt } }
			}
			if err := h.Do(ctx, `query ($s: [ID!]) { receipts(filter: {sourceIds: $s}, orderBy: OLDEST_FIRST) { edges { node { state note path attempts nextAttemptAt eventIds } } } }`,
				program.Input{"s": []string{source}}, &got); err != nil {
				t.Fatal(err)
			}
			if len(got.Receipts.Edges) == 0 {
				t.Fatal("there is no receipt")
			}
			return got.Receipts.Edges[0].Node
		}
		until(t, 20*time.Second, "the receipt says why it waits", func() bool {
			r := first()
			return r.State == "WAITING" && r.Attempts > 0 && r.NextAttemptAt != nil && strings.Contains(r.Note, "could not be reached")
		})
		if err := h.Kill(); err != nil {
			t.Fatal(err)
		}
		listen(t, service, appScan{t})
		if err := h.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if c := x.next(t); c.method != http.MethodGet || c.target != "/ScanEnded/"+executionID+"?app=%7Bother%7D" || len(c.body) > 0 || c.header.Get("Content-Type") != "" {
			t.Errorf("the receiver was called with %s %s %v %s", c.method, c.target, c.header, c.body)
		}
		until(t, 10*time.Second, "the receipt names its event", func() bool {
			r := first()
			return r.State == "ACCEPTED" && r.Note == "" && len(r.EventIDs) == 1 && r.NextAttemptAt == nil && r.Path == "/ScanExecutionCompleted/"+executionID
		})
		var found struct {
			Scans, Applications struct {
				Edges []struct {
					Node struct{ ID, Name, Key string }
				}
			}
		}
		if err := h.Do(ctx, fmt.Sprintf(`{ scans(where: {key: %q}) { edges { node { id name key } } } applications(where: {key: %q}) { edges { node { id name key } } } }`, executionID, applicationID), nil, &found); err != nil {
			t.Fatal(err)
		}
		if s, a := found.Scans.Edges, found.Applications.Edges; len(s) != 1 || s[0].Node.Name != "Nightly DAST" || len(a) != 1 || a[0].Node.Name != "Storefront" {
			t.Errorf("by AppScan's IDs the API knows %+v", found)
		}
		// The same call again is the same fact.
		sent(t, "200", "--as", "appscan", "ScanExecutionCompleted", "--to", address)
		until(t, 20*time.Second, "the second receipt is enriched", func() bool {
			var got struct {
				Receipts struct{ Edges []struct{} }
			}
			if err := h.Do(ctx, `{ receipts(filter: {states: [ACCEPTED]}) { edges { node { id } } } }`, nil, &got); err != nil {
				t.Fatal(err)
			}
			return len(got.Receipts.Edges) == 2
		})
		x.silent(t)
	})
}
