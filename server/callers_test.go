package server_test

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hookyard/hookyard/server/servertest/program"
)

// scannedSite is what the faulty connector scans: its scans wait until they are told what to find.
type scannedSite struct {
	url   string
	asked chan struct{}
	say   chan string
}

func newSite(t *testing.T) *scannedSite {
	s := &scannedSite{asked: make(chan struct{}), say: make(chan string)}
	s.url = listen(t, "127.0.0.1:0", s)
	return s
}

func (s *scannedSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case s.asked <- struct{}{}:
	case <-r.Context().Done():
		return
	}
	select {
	case found := <-s.say:
		_, _ = w.Write([]byte(found))
	case <-r.Context().Done():
	}
}

// begun waits until a scan looks at the target.
func (s *scannedSite) begun(t *testing.T) {
	t.Helper()
	select {
	case <-s.asked:
	case <-time.After(30 * time.Second):
		t.Fatal("no scan looks at the target")
	}
}

// finds lets the scan find something.
func (s *scannedSite) finds(t *testing.T, what string) {
	t.Helper()
	select {
	case s.say <- what:
	case <-time.After(30 * time.Second):
		t.Fatal("the scan does not wait any more")
	}
}

// ci calls a trigger of the faulty connector.
type ci struct {
	t       *testing.T
	address string
}

type ciAnswer struct {
	Scan       int64
	State      string
	No, Reason string
	Message    string // the hub's own
}

func (c ci) call(method, path, body string) (code int, a ciAnswer, took time.Duration) {
	c.t.Helper()
	began := time.Now()
	code, b := call(c.t, method, c.address+path, "application/json", []byte(body))
	if err := json.Unmarshal(b, &a); err != nil {
		c.t.Fatalf("%s %s: %d %s", method, path, code, b)
	}
	return code, a, time.Since(began)
}

// start starts a scan; a process that has just come up may take its time.
func (c ci) start() (scan int64) {
	c.t.Helper()
	until(c.t, 30*time.Second, "a scan is started", func() bool {
		code, a, _ := c.call(http.MethodPost, "", "")
		scan = a.Scan
		return code == http.StatusOK
	})
	return scan
}

// ends waits until a scan is over, and says how.
func (c ci) ends(scan int64) (state string) {
	c.t.Helper()
	until(c.t, 30*time.Second, "the scan ends", func() bool {
		code, a, _ := c.call(http.MethodGet, fmt.Sprintf("/%d", scan), "")
		state = a.State
		return code == http.StatusOK && state != "QUEUED" && state != "RUNNING"
	})
	return state
}

// away expects a refusal because nobody answers, soon, and in the hub's words.
func (c ci) away(method, path string) {
	c.t.Helper()
	code, a, took := c.call(method, path, "")
	if code != http.StatusServiceUnavailable || !strings.Contains(a.Message, "the connector faulty, which answers this trigger, does not do so now; nothing was started") {
		c.t.Errorf("%s %s: %d %+v", method, path, code, a)
	}
	if took > 15*time.Second {
		c.t.Errorf("%s %s: the answer took %v", method, path, took)
	}
}

type scanned struct {
	Number        int64
	State, Reason string
}

func runs(t *testing.T, h *program.Hub) (list []scanned) {
	t.Helper()
	var got struct {
		Runs struct{ Edges []struct{ Node scanned } }
	}
	if err := h.Do(t.Context(), `{ runs { edges { node { number state reason } } } }`, nil, &got); err != nil {
		t.Fatal(err)
	}
	for _, e := range got.Runs.Edges {
		list = append(list, e.Node)
	}
	return list
}

// TestThirdPartiesScan has CI start scans in the words of an installed connector, which scans,
// too. Its process is killed, disabled, hangs, and ends when it should answer: what is refused
// then has started nothing.
func TestThirdPartiesScan(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		dir := t.TempDir()
		h := startIn(t, dir, url, "--allow-private-targets", "--sandbox=prefer")
		site, beside := newSite(t), newSite(t)
		group, err := h.CreateAssetGroup(t.Context(), "shop")
		if err != nil {
			t.Fatal(err)
		}
		app, err := h.CreateApplication(t.Context(), "shop", group)
		if err != nil {
			t.Fatal(err)
		}
		create := func(in program.Input) (id string, err error) {
			var made struct {
				R struct{ Project struct{ ID string } }
			}
			input := program.Input{"name": "shop", "applicationId": app, "targetKind": "WEB", "targetUrl": site.url, "scanner": "faulty",
				"settings": program.Input{"beside": beside.url}, "secrets": []program.Input{{"name": "token", "value": "hush-hush"}}}
			for k, v := range in {
				input[k] = v
			}
			err = h.Do(t.Context(), `mutation ($in: CreateProjectInput!) { r: createProject(input: $in) { project { id } } }`, program.Input{"in": input}, &made)
			return made.R.Project.ID, err
		}
		installed(t, dir, url, "1.0.0", "")
		if _, err := create(nil); err == nil || !strings.Contains(err.Error(), "no connector") {
			t.Errorf("a scanner that is not enabled: %v", err)
		}
		e := enable(t, h, "1.0.0")
		if _, err := create(program.Input{"settings": program.Input{"colour": "red"}}); err == nil || !strings.Contains(err.Error(), "BAD_USER_INPUT") {
			t.Errorf("settings that the scanner does not know: %v", err)
		}
		project, err := create(nil)
		if err != nil {
			t.Fatal(err)
		}
		var made struct {
			R struct {
				Address  string
				Snippets []struct{ Text string }
			}
		}
		if err := h.Do(t.Context(), `mutation ($p: ID!) { r: generateTrigger(input: {projectId: $p, kind: "faulty/calls"}) { address snippets { text } } }`, program.Input{"p": project}, &made); err != nil {
			t.Fatal(err)
		}
		c := ci{t, made.R.Address}
		if want := "curl -X POST " + c.address + " && curl " + c.address + "/1"; len(made.R.Snippets) != 1 || made.R.Snippets[0].Text != want {
			t.Errorf("the snippets are %+v, want %s", made.R.Snippets, want)
		}

		// A scan from its start to its report.
		scan := c.start()
		site.begun(t)
		if code, a, _ := c.call(http.MethodGet, fmt.Sprintf("/%d", scan), ""); code != http.StatusOK || a.State != "RUNNING" {
			t.Errorf("a running scan is %d %+v", code, a)
		}
		if code, a, _ := c.call(http.MethodPost, "", ""); code != http.StatusConflict || a.Reason != "RUNNING" || a.No == "" {
			t.Errorf("a second start gives %d %+v", code, a)
		}
		site.finds(t, "a hole")
		if state := c.ends(scan); state != "FINISHED" {
			t.Errorf("the scan is %s: %+v", state, runs(t, h))
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("%s/%d/junit", c.address, scan), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer agreed") // it does not get to see that
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var x junit
		err = xml.NewDecoder(resp.Body).Decode(&x)
		_ = resp.Body.Close()
		if err != nil || resp.Header.Get("Content-Type") != "application/xml" || resp.Header.Get("Set-Cookie") != "" || x.Tests != 2 || x.Failures != 1 {
			t.Errorf("the report is %+v with %v, %v", x, resp.Header, err)
		}
		var found struct {
			Findings struct {
				Edges []struct {
					Node struct{ Title, Severity string }
				}
			}
		}
		if err := h.Do(t.Context(), `{ findings { edges { node { title severity } } } }`, nil, &found); err != nil || len(found.Findings.Edges) != 1 || found.Findings.Edges[0].Node.Title != "a hole" {
			t.Errorf("the findings are %+v, %v", found, err)
		}
		if code, a, _ := c.call(http.MethodPost, "", `{"logins": [{"url": "https://evil.example.com/login", "username": "u", "password": "p"}]}`); code != http.StatusUnprocessableEntity || !strings.Contains(a.No, "not among the origins") {
			t.Errorf("a login elsewhere, of which the connector says nothing, gives %d %+v", code, a)
		}
		until(t, 20*time.Second, "its log is told, without secrets", func() bool {
			text := fmt.Sprint(catalogue(t, h).Processes)
			if strings.Contains(text, "hush-hush") {
				t.Fatalf("the log is %s", text)
			}
			return strings.Contains(text, "a careless line with [secret]")
		})

		// What is in flight is finished by the old version.
		scan = c.start()
		site.begun(t)
		installed(t, dir, url, "2.0.0", "")
		if err := switchTo(t, h, e.ID, "2.0.0"); err != nil {
			t.Fatal(err)
		}
		until(t, 20*time.Second, "the new version runs", func() bool {
			for _, p := range catalogue(t, h).Processes {
				if p.Version == "2.0.0" && p.State == "RUNNING" {
					return true
				}
			}
			return false
		})
		site.finds(t, "another hole")
		if state := c.ends(scan); state != "FINISHED" {
			t.Errorf("the scan is %s: %+v", state, runs(t, h))
		}

		// The process ends in the middle of a scan.
		scan = c.start()
		site.begun(t)
		if kill(t, h, "faulty") == 0 {
			t.Error("there is no process to kill")
		}
		if state := c.ends(scan); state != "FAILED" {
			t.Errorf("the scan is %s", state)
		}

		// Versions that do not fit are not switched to.
		installed(t, dir, url, "3.0.0", "deaf")
		if err := switchTo(t, h, e.ID, "3.0.0"); err == nil || !strings.Contains(err.Error(), "shop: It has no trigger faulty/calls") || !strings.Contains(err.Error(), "shop: It does not scan") {
			t.Errorf("a version that neither speaks nor scans: %v", err)
		}
		installed(t, dir, url, "4.0.0", "strict")
		if err := switchTo(t, h, e.ID, "4.0.0"); err == nil || !strings.Contains(err.Error(), "CONFLICT") || !strings.Contains(err.Error(), "beside") {
			t.Errorf("a version whose settings do not fit: %v", err)
		}

		// Nothing is begun when nobody answers.
		before := len(runs(t, h))
		installed(t, dir, url, "5.0.0", "mute")
		if err := switchTo(t, h, e.ID, "5.0.0"); err != nil {
			t.Fatal(err)
		}
		until(t, 30*time.Second, "the new version answers", func() bool {
			code, _, _ := c.call(http.MethodGet, fmt.Sprintf("/%d", scan), "")
			return code == http.StatusOK
		})
		c.away(http.MethodPost, "")
		installed(t, dir, url, "6.0.0", "hang")
		if err := switchTo(t, h, e.ID, "6.0.0"); err != nil {
			t.Fatal(err)
		}
		c.away(http.MethodPost, "")
		if err := h.Do(t.Context(), `mutation ($id: ID!) { disableConnector(input: {id: $id}) { enabledConnector { enabled } } }`, program.Input{"id": e.ID}, nil); err != nil {
			t.Fatal(err)
		}
		c.away(http.MethodPost, "")
		c.away(http.MethodGet, fmt.Sprintf("/%d", scan))
		if err := h.Do(t.Context(), `mutation ($id: ID!) { startScan(input: {projectId: $id}) { run { id } } }`, program.Input{"id": project}, nil); err == nil || !strings.Contains(err.Error(), "UNAVAILABLE") || !strings.Contains(err.Error(), "The connector faulty, which scans the project, does not answer now") {
			t.Errorf("starting a scan that nobody can run: %v", err)
		}
		if after := runs(t, h); len(after) != before {
			t.Errorf("scans were begun: %+v", after)
		}
		if said, err := tool(t, at(dir, url, "connector", "remove", "faulty@6.0.0")...); err == nil || !strings.Contains(err.Error(), "2 endpoints, sources, webhooks, triggers and projects use") {
			t.Errorf("a version in use was removed: %v %s", err, said)
		}

		// Enabled again it goes on.
		enable(t, h, "1.0.0")
		scan = c.start()
		site.begun(t)
		site.finds(t, "a hole")
		if state := c.ends(scan); state != "FINISHED" {
			t.Errorf("the scan is %s", state)
		}
	})
}
