package server_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/simulated"
	"github.com/hookyard/hookyard/server/servertest/program"
)

func appscanExample(t *testing.T, w *acme) {
	const execution = "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b"
	service := listen(t, "127.0.0.1:0", appScan{t})
	_, address := w.source(t, "appscan", "", program.Input{"assetGroupId": w.group["A"], "mapping": program.Input{"create": true},
		"settings": program.Input{"service_url": service, "key_id": "id"}, "settingSecrets": []program.Input{{"name": "key_secret", "value": "secret"}}})
	r := newTarget(t)
	hook, _ := w.hook(t, "appscan", r.url+"/ScanEnded/{SubjectId}", nil)
	defer w.remove(hook)
	resp, err := w.HTTP.Get(address + "/ScanExecutionCompleted/" + execution)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Fatalf("the source answered %s", resp.Status)
	}
	got := r.await(t, 1, 20*time.Second)[0]
	if line := got.Method + " " + got.Target + " " + got.Version; line != "GET /ScanEnded/"+execution+" HTTP/1.1" {
		t.Errorf("the request line is %s", line)
	}
	if "http://"+got.Host != r.url || len(got.Body) > 0 || got.Header["Content-Type"] != nil {
		t.Errorf("called at %s with %v and %d bytes", got.Host, got.Header, len(got.Body))
	}
	// What the service says of the scan: names, a duration, counts.
	for name, values := range got.Header {
		all := strings.Join(values, " ")
		for _, told := range []string{"Storefront", "Nightly DAST", "3420"} {
			if strings.Contains(all, told) {
				t.Errorf("the header %s tells %s", name, told)
			}
		}
		for _, word := range strings.FieldsFunc(all, func(r rune) bool { return strings.ContainsRune(" ,;=:", r) }) {
			if slices.Contains([]string{"7", "1", "2", "3"}, word) {
				t.Errorf("the header %s tells a count: %s", name, all)
			}
		}
	}
	w.become(t, hook, "SUCCEEDED")
}

func placeholderTwice(t *testing.T, w *acme) {
	r := newTarget(t)
	both, _ := w.hook(t, "appscan", r.url+"/apps?app={SubjectId}&again={SubjectId}", program.Input{"eventTypes": []string{"application.changed"}})
	none, _ := w.hook(t, "appscan", r.url+"/plain?x=1", program.Input{"eventTypes": []string{"application.changed"}})
	defer w.remove(both, none)
	w.happen(t, "application.changed", "a1", program.Input{"application": program.Input{"status": "changed"}})
	var targets []string
	for _, c := range r.await(t, 2, 10*time.Second) {
		targets = append(targets, c.Target)
	}
	slices.Sort(targets)
	if want := []string{"/apps?app=" + w.app["a1"] + "&again=" + w.app["a1"], "/plain?x=1"}; !slices.Equal(targets, want) {
		t.Errorf("called %v, want %v", targets, want)
	}
	w.become(t, both, "SUCCEEDED")
	w.become(t, none, "SUCCEEDED")
}

// cage is a network with nothing in it but its own loopback: who is in it reaches what
// listens there, and nobody else does. Its name is "" where this machine makes none.
func cage(t *testing.T) (name string) {
	t.Helper()
	name = fmt.Sprintf("hookyard-%d-%d", os.Getpid(), time.Now().UnixNano())
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Logf("this machine makes no network namespaces, so the hub could call the target, and that it does not is not shown: %v %s", err, out)
		return ""
	}
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	if out, err := exec.Command("ip", "-n", name, "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return name
}

// presenceCalls has the target and the Presence in a network of their own, out of which
// only the way to the hub leads.
func presenceCalls(t *testing.T, w *acme) {
	r := &target{changed: make(chan struct{}, 1)}
	r.answers(func(int) int { return http.StatusAccepted })
	hub := w.URL
	inside := cage(t)
	if inside == "" {
		r.listen(t, "127.0.0.1:0")
	} else {
		r.serve(t, listenIn(t, inside, "127.0.0.1:0"))
		hub = newRelayAt(t, listenIn(t, inside, "127.0.0.1:0"), w.URL).url
	}
	id, key := createPresence(t, w.Hub, program.Input{"name": "private network"})
	endpoint, err := w.CreateEndpoint(t.Context(), program.Input{"name": "inside", "connector": "webhook", "url": r.url, "presenceId": id})
	if err != nil {
		t.Fatal(err)
	}
	hook, _, err := w.CreateWebhook(t.Context(), program.Input{"name": "inside", "endpointId": endpoint, "format": "appscan", "global": true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.remove(hook)
	defer func() {
		if t.Failed() {
			t.Logf("the log says %+v", w.shipments(t, hook))
		}
	}()
	w.happen(t, "scan.completed", "a1", program.Input{"scan": program.Input{"key": "inside", "name": "inside"}})
	select {
	case <-r.changed:
		t.Fatal("a request came while the Presence was stopped")
	case <-time.After(5 * time.Second):
	}
	w.become(t, hook, "PENDING")
	a := newAgent(t, hub, key, "--allow", strings.TrimPrefix(r.url, "http://"))
	if inside != "" {
		a.wrap = []string{"ip", "netns", "exec", inside}
	}
	a.start()
	r.await(t, 1, 10*time.Second)
	if d := w.become(t, hook, "SUCCEEDED")[0]; len(d.Attempts) != 1 || d.Attempts[0].HTTPStatus != http.StatusAccepted {
		t.Errorf("the log says %+v", d)
	}
	if inside != "" { // and the hub could not have called
		direct, _ := w.hook(t, "appscan", r.url, program.Input{"retryOffsetsSeconds": []int{}})
		defer w.remove(direct)
		w.happen(t, "scan.completed", "a1", program.Input{"scan": program.Input{"key": "outside", "name": "outside"}})
		w.become(t, direct, "FAILED")
		w.become(t, hook, "SUCCEEDED", "SUCCEEDED")
	}
	a.end(syscall.SIGTERM)
	if n, want := len(r.all()), len(w.shipments(t, hook)); n != want {
		t.Errorf("%d requests, want %d", n, want)
	}
}

func handshakeGood(t *testing.T, w *acme) {
	r := newTarget(t)
	hook, _ := w.hook(t, "apviso", r.url, program.Input{"signingSecret": apvisoSecret})
	defer w.remove(hook)
	w.verified(t, hook)
	got := r.all()
	var body struct{ Event string }
	if len(got) != 1 || json.Unmarshal(got[0].Body, &body) != nil || got[0].Method != http.MethodPost || body.Event != "webhook.verification" {
		t.Fatalf("the handshake was %+v", got)
	}
	w.happen(t, "finding.discovered", "a1", finding("good handshake"))
	r.await(t, 2, 10*time.Second)
	w.become(t, hook, "SUCCEEDED")
	if w.signed = r.all(); len(w.signed) != 2 {
		t.Errorf("%d requests, want the handshake's one and the event's", len(w.signed))
	}
	w.signatures(t)
}

func handshakeBad(t *testing.T, w *acme) {
	for _, dead := range []bool{false, true} {
		r := newTarget(t)
		r.answers(func(int) int { return http.StatusInternalServerError })
		where := strings.TrimPrefix(r.url, "http://")
		if dead {
			_ = r.server.Close()
		}
		hook, _ := w.hook(t, "apviso", r.url, program.Input{"signingSecret": apvisoSecret})
		s := hookOf(t, w.Hub, hook)
		if s.State != "UNVERIFIED" || s.StateReason == "" {
			t.Errorf("the webhook is %+v", s)
		}
		w.happen(t, "finding.discovered", "a1", finding(fmt.Sprintf("bad handshake %t", dead)))
		w.become(t, hook, "SKIPPED")
		w.ahead(t, 3*time.Hour) // no retry comes
		if dead {
			r.listen(t, where)
		}
		// The answer is awaited, so that by then what should not come would have.
		verify := func() {
			t.Helper()
			if err := w.Do(t.Context(), `mutation ($id: ID!) { verifyWebhook(input: {id: $id}) { ok message } }`, program.Input{"id": hook}, nil); err != nil {
				t.Fatal(err)
			}
		}
		first := 1
		if dead {
			first = 0
		}
		if n := len(r.all()); n != first {
			t.Errorf("%d requests, want the handshake's %d", n, first)
		}
		r.answers(nil)
		verify()
		w.verified(t, hook)
		w.happen(t, "finding.discovered", "a1", finding(fmt.Sprintf("after a bad handshake %t", dead)))
		r.await(t, first+2, 10*time.Second)
		w.become(t, hook, "SKIPPED", "SUCCEEDED")

		move := func(url string) {
			t.Helper()
			var got struct {
				Node struct{ Endpoint struct{ ID string } }
			}
			if err := w.Do(t.Context(), `query ($id: ID!) { node(id: $id) { ... on Webhook { endpoint { id } } } }`, program.Input{"id": hook}, &got); err != nil {
				t.Fatal(err)
			}
			if err := w.Do(t.Context(), `mutation ($id: ID!, $url: String!) { updateEndpoint(input: {id: $id, url: $url}) { endpoint { id } } }`,
				program.Input{"id": got.Node.Endpoint.ID, "url": url}, nil); err != nil {
				t.Fatal(err)
			}
		}
		move(closedAddress(t))
		if s := hookOf(t, w.Hub, hook); s.State != "UNVERIFIED" || s.VerifiedAt != nil {
			t.Errorf("at a new address the webhook is %+v", s)
		}
		w.happen(t, "finding.discovered", "a1", finding(fmt.Sprintf("at a new address %t", dead)))
		w.become(t, hook, "SKIPPED", "SUCCEEDED", "SKIPPED")
		move(r.url + "/moved")
		w.verified(t, hook)
		if got := r.all(); len(got) != first+3 || got[first+2].Target != "/moved" {
			t.Errorf("%d requests, want %d, the last a check of the new address", len(got), first+3)
		}
		w.remove(hook)
	}
}

// idle is a project whose scans are played, with its trigger's address.
func (w *acme) idle(t *testing.T, app string, in program.Input) (s *stage, project, address string) {
	t.Helper()
	w.names++
	all := program.Input{"name": fmt.Sprintf("project %d", w.names)}
	for k, v := range in {
		all[k] = v
	}
	s = newStage(t)
	project, address = s.project(w.Client, w.app[app], all)
	return s, project, address
}

// scans are the numbers of a project's scans.
func (w *acme) scans(t *testing.T, project string) (numbers []int64) {
	t.Helper()
	var got struct {
		Runs struct {
			Edges []struct {
				Node struct {
					Number  int64
					Project struct{ ID string }
				}
			}
		}
	}
	if err := w.Do(t.Context(), `{ runs(first: 200) { edges { node { number project { id } } } } }`, nil, &got); err != nil {
		t.Fatal(err)
	}
	for _, e := range got.Runs.Edges {
		if e.Node.Project.ID == project {
			numbers = append(numbers, e.Node.Number)
		}
	}
	return numbers
}

func triggerEmpty(t *testing.T, w *acme) {
	s, project, address := w.idle(t, "a1", nil)
	if !strings.HasPrefix(address, w.URL+"/webhook/") {
		t.Errorf("the address is %s", address)
	}
	for i, contentType := range []string{formType, ""} { // curl's --data "", and no body at all
		status, answerType, b := callFor(t, http.MethodPost, address, contentType, nil)
		m := started.FindSubmatch(b)
		if status != http.StatusOK || !strings.HasPrefix(answerType, "application/json") || m == nil {
			t.Fatalf("the trigger answered %d %s %s", status, answerType, b)
		}
		scan, err := strconv.ParseInt(string(m[1]), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if scans := w.scans(t, project); len(scans) != i+1 || !slices.Contains(scans, scan) {
			t.Errorf("scan %d was started, and the project's are %v", scan, scans)
		}
		s.begun()
		s.end(address, scan, connectors.ScanFinished)
	}
}

func triggerRunning(t *testing.T, w *acme) {
	s, project, address := w.idle(t, "a1", nil)
	first := trigger(t, address, nil)
	s.begun()
	if status, b := call(t, http.MethodPost, address, formType, nil); status != http.StatusConflict || string(b) != `{"message":"Scan is already running"}` {
		t.Errorf("a second start is answered with %d %s", status, b)
	}
	if scans := w.scans(t, project); len(scans) != 1 {
		t.Errorf("the project has the scans %v", scans)
	}
	s.end(address, first, connectors.ScanFinished)
	second := trigger(t, address, nil)
	if second == first {
		t.Errorf("both scans have the number %d", first)
	}
	s.begun()
	s.end(address, second, connectors.ScanFinished)
}

func triggerStatus(t *testing.T, w *acme) {
	s, _, address := w.idle(t, "a1", nil)
	scan := trigger(t, address, nil)
	s.begun()
	if got := status(t, address, scan); got != 100 {
		t.Errorf("queued: %d", got)
	}
	s.say(simulated.Step{Kind: connectors.ScanBegan})
	if got := status(t, address, scan); got != 101 {
		t.Errorf("running: %d", got)
	}
	s.end(address, scan, connectors.ScanFinished) // which waits for more than 101
}

func triggerReport(t *testing.T, w *acme) {
	s, _, address := w.idle(t, "a1", nil)
	scan := trigger(t, address, nil)
	s.begun()
	s.say(simulated.Step{Kind: connectors.ScanBegan})
	report := fmt.Sprintf("%s/scans/%d/report/junit", address, scan)
	refusedCall(t, http.StatusConflict, http.MethodGet, report, "", nil)
	s.say(simulated.Step{Kind: connectors.ScanFound, Checks: []connectors.ScanCheck{check("xss", "Cross-Site Scripting (XSS) (1)", "high"), check("sqlinjection", "SQL Injection (1)", "critical"),
		check("xxe", "XML External Entity (XXE) (1)", ""), check("ssl", "Transport Layer Security (TLS/SSL) (1)", "")}})
	s.end(address, scan, connectors.ScanFinished)
	status, contentType, b := callFor(t, http.MethodGet, report, "", nil)
	if status != http.StatusOK || !strings.HasPrefix(contentType, "application/xml") && !strings.HasPrefix(contentType, "text/xml") {
		t.Errorf("the report is %d %s", status, contentType)
	}
	for d := xml.NewDecoder(bytes.NewReader(b)); ; { // to the end: well-formed, and no DOCTYPE
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		if directive, is := token.(xml.Directive); is {
			t.Errorf("there is a <!%s>", directive)
		}
	}
	var x junit
	if err := xml.Unmarshal(b, &x); err != nil {
		t.Fatal(err)
	}
	if x.Tests != 4 || x.Failures != 2 || len(x.Suites) != 1 || x.Suites[0].Name != "Crashtest Security Suite" || x.Suites[0].Tests != 4 || x.Suites[0].Failures != 2 || len(x.Suites[0].Cases) != 4 {
		t.Fatalf("the report says %s", b)
	}
	var types []string
	for _, c := range x.Suites[0].Cases {
		if c.Failure != nil {
			types = append(types, c.Failure.Type)
		}
	}
	slices.Sort(types)
	if !slices.Equal(types, []string{"critical", "high"}) || bytes.Count(b, []byte("<failure")) != 2 {
		t.Errorf("the failures are %v: %s", types, b)
	}
}

// setup starts a scan with a payload, ends it and returns what the scanner was given.
func (s *stage) setup(t *testing.T, address string, body []byte) connectors.ScanSetup {
	t.Helper()
	scan := trigger(t, address, body)
	job := s.begun()
	s.end(address, scan, connectors.ScanFinished)
	return job.Setup
}

// carries says whether a setup is that of the samples, with a value of the header.
func carries(x connectors.ScanSetup, header string) bool {
	return x.Basic != nil && x.Basic.Username == "username" && x.Basic.Password == "password" &&
		len(x.Parameters) == 1 && x.Parameters[0].In == "HEADER" && x.Parameters[0].Name == "Authorization" && x.Parameters[0].Value == header
}

func triggerPayload(t *testing.T, w *acme) {
	heard := newCanaries(t)
	heard.know("the first header", "Bearer 12345678")
	heard.know("the second header", "Bearer ABCDEF")
	heard.know("a password", `:"password"`) // the samples have no rarer one; there is no such value elsewhere
	before := w.HTTP.Transport
	w.HTTP.Transport = heard
	defer func() { w.HTTP.Transport = before }()

	s, project, address := w.idle(t, "a1", nil)
	for _, c := range []struct {
		body   []byte
		header string
	}{{sample(t, "crashtest/trigger_payload_web.json"), "Bearer 12345678"}, {sample(t, "crashtest/trigger_payload_jwt.json"), "Bearer ABCDEF"}, {nil, "Bearer ABCDEF"}} {
		x := s.setup(t, address, c.body)
		if !carries(x, c.header) || len(x.Logins) != 1 || x.Logins[0].Username != "username" || x.Logins[0].Password != "password" {
			t.Errorf("after %s the scanner got %+v", c.body, x)
		}
	}
	readEverything(t, w.Hub)
	for _, scan := range w.scans(t, project) {
		for _, of := range []string{"status", "report/junit"} {
			_, b := call(t, http.MethodGet, fmt.Sprintf("%s/scans/%d/%s", address, scan, of), "", nil)
			heard.hear(of, string(b))
		}
	}
	heard.checkSaid()
	heard.check("the hub's log", w.log.String())
}

func triggerSpecification(t *testing.T, w *acme) {
	s, _, address := w.idle(t, "a2", program.Input{"targetKind": "API"})
	x := s.setup(t, address, sample(t, "crashtest/trigger_payload_api.json")) // under curl's own content type
	var spec struct{ BasePath string }
	if err := json.Unmarshal(x.APISpec, &spec); err != nil || spec.BasePath != "/v1" || !carries(x, "Bearer 12345678") {
		t.Errorf("the scanner got %+v, %v", x, err)
	}
}
