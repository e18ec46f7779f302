package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/plugins/sandbox"
	"github.com/hookyard/hookyard/server/servertest/program"
)

// TestTheExamplesDeliver signs, installs and enables both examples, and delivers through them
// as they run at their users': in the sandbox, the one in Node from a copy of its files.
func TestTheExamplesDeliver(t *testing.T) {
	for name, folder := range map[string]func(t *testing.T) string{
		"acme-radar": func(t *testing.T) string { return folderOf(t, acmePlugin) },
		"radar-node": nodeFolder,
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var calls []string
			theirs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				mu.Lock()
				calls = append(calls, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")+" "+string(body))
				mu.Unlock()
				_, _ = io.WriteString(w, `{"id": "C-1"}`)
			}))
			defer theirs.Close()
			called := func(what string) func() bool {
				return func() bool {
					mu.Lock()
					defer mu.Unlock()
					return slices.ContainsFunc(calls, func(c string) bool { return strings.HasPrefix(c, what) })
				}
			}
			files := folder(t)
			dir := t.TempDir()
			h := startIn(t, dir, "", "--allow-private-targets", "--sandbox=prefer")
			key, file := filepath.Join(t.TempDir(), "key"), filepath.Join(t.TempDir(), "package.tar.gz")
			for _, args := range [][]string{
				{"connector", "keygen", key},
				{"connector", "pack", files, "--key", key + ".key", "--out", file},
				at(dir, "", "connector", "trust", "radar", key+".pub"),
				at(dir, "", "connector", "install", file),
			} {
				if said, err := tool(t, args...); err != nil {
					t.Fatalf("%s: %v\n%s", args[:2], err, said)
				}
			}
			enableThe(t, h, name, "")
			endpoint, err := h.CreateEndpoint(t.Context(), program.Input{"name": name, "connector": name, "url": theirs.URL, "secrets": []program.Input{{"name": "token", "value": "t0ken"}}})
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := h.CreateWebhook(t.Context(), program.Input{"name": name, "endpointId": endpoint, "global": true, "format": "hookyard", "retryOffsetsSeconds": []int{1, 2, 4}}); err != nil {
				t.Fatal(err)
			}
			address, _ := world(t, h, nil)
			until(t, 30*time.Second, "the test of the connection succeeds", func() bool {
				var got struct {
					TestEndpoint struct {
						OK      bool
						Message string
					}
				}
				err := h.Do(t.Context(), `mutation ($id: ID!) { testEndpoint(input: {id: $id}) { ok message } }`, program.Input{"id": endpoint}, &got)
				return err == nil && got.TestEndpoint.OK
			})
			body := `{"specversion":"1.0","id":"1","source":"/test","type":"finding.discovered","data":{"finding":{"key":"F-1","title":"a finding","severity":"high","status":"open"}}}`
			resp, err := h.HTTP.Post(address, "application/cloudevents+json", strings.NewReader(body))
			if err != nil || resp.StatusCode/100 != 2 {
				t.Fatal(resp, err)
			}
			_ = resp.Body.Close()
			until(t, 30*time.Second, "a case is opened", called("POST /cases Bearer t0ken"))
			until(t, 30*time.Second, "the delivery is done", func() bool { return metric(t, h, `hookyard_deliveries_total{outcome="succeeded"}`) == 1 })
			until(t, 30*time.Second, "its process is reported", func() bool {
				c := catalogueOf(t, h, name)
				return len(c.Processes) == 1 && c.Processes[0].State == "RUNNING" && len(c.Processes[0].Sandbox) > 0 && c.Versions[0].Publisher == "radar"
			})
			if n := metric(t, h, fmt.Sprintf(`hookyard_connector_processes{connector=%q,state="RUNNING",version=%q}`, name, catalogueOf(t, h, name).Versions[0].Version)); n != 1 {
				t.Errorf("the metrics have %v processes", n)
			}
		})
	}
}

// nodeFolder is the example in Node, with its packages but for npm's links.
func nodeFolder(t *testing.T) string {
	const example = "../examples/radar-node"
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("there is no node on this machine, which runs the example in Node")
	}
	if _, err := os.Stat(filepath.Join(example, "node_modules")); err != nil {
		t.Skip("the packages of the example in Node are not installed: make test-connectors does it")
	}
	dir := filepath.Join(t.TempDir(), "node")
	if err := os.CopyFS(dir, os.DirFS(example)); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "node_modules", ".bin")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "connector.json"), []byte(`{"run": ["node", "plugin.js"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestAHostileConnectorGetsNothing runs a connector that tries, from within a hub that is
// busy, what it must not do. What it tries is what this test itself can do.
func TestAHostileConnectorGetsNothing(t *testing.T) {
	if why := sandbox.Look().Missing(); len(why) > 0 {
		t.Skipf("this system has no sandbox: %q", why)
	}
	s := newSink(t)
	var closed atomic.Bool // the endpoint of a shipped connector
	closed.Store(true)
	s.answer = func(endpoint string, _ int) int {
		if endpoint == "b" && closed.Load() {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	}
	dir := t.TempDir()
	h := startIn(t, dir, "", "--allow-private-targets")
	if said, err := tool(t, at(dir, "", "connector", "install", packageOf(t, hostilePlugin), "--unsigned")...); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	e := enableThe(t, h, "hostile", "")

	key, database, hub := filepath.Join(dir, "hookyard.key"), filepath.Join(dir, "hookyard.db"), strings.TrimPrefix(h.URL, "http://")
	process := "/proc/" + strconv.Itoa(h.Pid())
	plan := [][2]string{
		{"read", key}, {"read", "/proc/self/root" + key}, {"read", database}, {"write", database}, {"list", dir}, {"read", filepath.Join(dir, "admin.json")},
		{"list", filepath.Join(dir, "connectors")}, {"make", filepath.Join(dir, "connectors", "mine")}, {"read", "/etc/passwd"},
		{"read", process + "/environ"}, {"read", process + "/cmdline"}, {"list", process + "/fd"}, {"list", "/proc"}, {"list", os.TempDir()},
		{"tcp", hub}, {"tcp", strings.TrimPrefix(s.url, "http://")}, {"run", "/bin/true"}, {"memory", "1024"},
	}
	for _, socket := range socketsOf(t, h) {
		plan = append(plan, [2]string{"unix", socket}, [2]string{"list", filepath.Dir(socket)})
	}
	theirs := []string{"PATH", "HOME", "TMPDIR", "TZ", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "GOMEMLIMIT", "GOGC"}
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); !slices.Contains(theirs, name) {
			plan = append(plan, [2]string{"environment", name})
		}
	}
	control := tried(t, outside(t, plan))
	for _, a := range plan {
		if !slices.Contains(control.Got, a) {
			t.Errorf("the control of %s %s: this test cannot either", a[0], a[1])
		}
	}
	_ = os.Remove(filepath.Join(dir, "connectors", "mine"))
	// And what the hub would have to do for it.
	for _, address := range []string{hub, "127.0.0.1:22", "169.254.169.254:80", "[fd00:ec2::254]:80", "10.0.0.1:80", "example.com:443"} {
		plan = append(plan, [2]string{"ask", address}, [2]string{"tcp", address})
	}
	text, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	endpoint, err := h.CreateEndpoint(t.Context(), program.Input{"name": "a", "connector": "hostile", "url": s.url + "/a", "settings": program.Input{"plan": string(text)}})
	if err != nil {
		t.Fatal(err)
	}
	hook, _, err := h.CreateWebhook(t.Context(), program.Input{"name": "a", "endpointId": endpoint, "global": true, "format": "hookyard"})
	if err != nil {
		t.Fatal(err)
	}
	address, _ := world(t, h, s, "b")
	if err := send(h.HTTP, address, 1); err != nil {
		t.Fatal(err)
	}
	said := says(t, h, hook, 1)[0]
	inside := tried(t, said)
	if inside.Tried != len(plan) {
		t.Errorf("it has tried %d of %d: %s", inside.Tried, len(plan), said)
	}
	for _, a := range inside.Got {
		t.Errorf("in the sandbox it can %s %s", a[0], a[1])
	}
	t.Logf("%d attempts, of which %d are of what this test can do", inside.Tried, len(control.Got))
	// It answered for what the shipped connector was given, and for much more.
	if n := metric(t, h, `hookyard_deliveries_total{outcome="succeeded"}`); n != 0 {
		t.Errorf("%v deliveries are done that nobody has delivered", n)
	}
	closed.Store(false)
	s.await(t, "b", []int{1}, time.Minute)

	// It floods, and the others go on.
	before := resident(t, h.Pid())
	for n := 2; n <= 20; n++ {
		if err := send(h.HTTP, address, n); err != nil {
			t.Fatal(err)
		}
	}
	until(t, time.Minute, "it is in quarantine", func() bool {
		c := catalogueOf(t, h, "hostile")
		return len(c.Processes) == 1 && c.Processes[0].State == "QUARANTINED" && strings.Contains(c.Processes[0].LastError, "floods the stream") && strings.Contains(c.Problem, "quarantine")
	})
	var rest []int
	for n := 2; n <= 20; n++ {
		rest = append(rest, n)
	}
	s.await(t, "b", rest, time.Minute)
	if lines := len(catalogueOf(t, h, "hostile").Processes[0].Log); lines > 200 {
		t.Errorf("%d of its lines are kept", lines)
	}
	if after := resident(t, h.Pid()); after > before+256 {
		t.Errorf("the hub has %d MiB after the flood, %d before", after, before)
	}
	// Let out it does it again, once.
	if err := h.Do(t.Context(), `mutation ($id: ID!) { releaseConnector(input: {id: $id}) { enabledConnector { id } } }`, program.Input{"id": e.ID}, nil); err != nil {
		t.Error(err)
	}
	if said, err := tool(t, at(dir, "", "connector", "list")...); err != nil || !strings.Contains(said, "hostile") || !strings.Contains(said, "Landlock") {
		t.Errorf("%v %s", err, said)
	}
}

// socketsOf are the sockets of the hub's own connectors: its folder for them is open.
func socketsOf(t *testing.T, h *program.Hub) []string {
	t.Helper()
	open, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", h.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range open {
		dir, err := os.Readlink(fd)
		if ours, _ := filepath.Match("hookyard-[0-9]*", filepath.Base(dir)); err != nil || !ours {
			continue
		}
		if sockets, _ := filepath.Glob(filepath.Join(dir, "plugin-dir*", "plugin*")); len(sockets) > 0 {
			return sockets
		}
	}
	t.Fatal("no connector of the hub has a socket")
	return nil
}

// TestARunningHubEndsWhoFillsItsFolder has a connector write more than it may.
func TestARunningHubEndsWhoFillsItsFolder(t *testing.T) {
	s := newSink(t)
	dir := t.TempDir()
	h := startIn(t, dir, "", "--allow-private-targets", "--sandbox=prefer")
	plotting(t, h, dir, nil, [2]string{"disk", "80"})
	address, _ := world(t, h, s, "b")
	if err := send(h.HTTP, address, 1); err != nil {
		t.Fatal(err)
	}
	until(t, 30*time.Second, "its process is ended", func() bool {
		c := catalogueOf(t, h, "hostile")
		return len(c.Processes) == 1 && strings.Contains(c.Processes[0].LastError, "MiB into its folder, and may have 64")
	})
	s.await(t, "b", []int{1}, 20*time.Second)
}

// says waits until so many attempts of a webhook have been made, and is what they ended with.
func says(t *testing.T, h *program.Hub, hook string, n int) (list []string) {
	t.Helper()
	until(t, time.Minute, "it has tried everything", func() bool {
		var got struct {
			Deliveries struct {
				Edges []struct {
					Node struct{ Attempts []struct{ Error string } }
				}
			}
		}
		if err := h.Do(t.Context(), `query ($w: [ID!]) { deliveries(filter: {webhookIds: $w}) { edges { node { attempts { error } } } } }`, program.Input{"w": []string{hook}}, &got); err != nil {
			t.Fatal(err)
		}
		list = nil
		for _, edge := range got.Deliveries.Edges {
			for _, a := range edge.Node.Attempts {
				list = append(list, a.Error)
			}
		}
		return len(list) >= n
	})
	return list
}

// plotting installs and enables the hostile connector with grants, and makes a webhook and an
// endpoint through which it tries the plan.
func plotting(t *testing.T, h *program.Hub, dir string, grants map[string][]string, plan ...[2]string) (endpoint, hook string) {
	t.Helper()
	files := folderOf(t, hostilePlugin)
	draft, err := json.Marshal(map[string]any{"run": []string{"program"}, "grants": grants})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(files, "connector.json"), draft, 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "package.tar.gz")
	for _, args := range [][]string{{"connector", "pack", files, "--out", file}, at(dir, "", "connector", "install", file, "--unsigned")} {
		if said, err := tool(t, args...); err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
	}
	enableThe(t, h, "hostile", "")
	text, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	if endpoint, err = h.CreateEndpoint(t.Context(), program.Input{"name": "plot", "connector": "hostile", "url": "http://192.0.2.1/", "settings": program.Input{"plan": string(text)}}); err != nil {
		t.Fatal(err)
	}
	if hook, _, err = h.CreateWebhook(t.Context(), program.Input{"name": "plot", "endpointId": endpoint, "global": true, "format": "hookyard"}); err != nil {
		t.Fatal(err)
	}
	return endpoint, hook
}

// TestEgressIsUnderTheOrganizationsList has a connector reach what its manifest asks for: only
// what the organization's list names, as it is at the time.
func TestEgressIsUnderTheOrganizationsList(t *testing.T) {
	if why := sandbox.Look().Missing(); len(why) > 0 {
		t.Skipf("this system has no sandbox: %q", why)
	}
	s := newSink(t)
	target := strings.TrimPrefix(s.url, "http://")
	dir := t.TempDir()
	h := startIn(t, dir, "", "--allow-private-targets")
	_, hook := plotting(t, h, dir, map[string][]string{"egress": {target}}, [2]string{"egress", target})
	address, _ := world(t, h, s)
	for n, list := range [][]program.Input{{}, {{"host": "192.0.2.1"}}, {{"host": "127.0.0.1"}, {"host": "192.0.2.1"}}} {
		if err := h.Do(t.Context(), `mutation ($r: [AllowRuleInput!]) { updateOrganization(input: {allowTargets: $r}) { organization { id } } }`, program.Input{"r": list}, nil); err != nil {
			t.Fatal(err)
		}
		if err := send(h.HTTP, address, n+1); err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, said := range says(t, h, hook, n+1) {
			got += len(tried(t, said).Got)
		}
		if want := []int{1, 1, 2}[n]; got != want {
			t.Errorf("with the list %v it has reached its egress %d times, want %d", list, got, want)
		}
	}
}

// TestNobodyFillsTheDatabaseWithLinks has a connector keep one link more than it may.
func TestNobodyFillsTheDatabaseWithLinks(t *testing.T) {
	s := newSink(t)
	dir := t.TempDir()
	h := startIn(t, dir, "", "--allow-private-targets", "--sandbox=prefer")
	endpoint, hook := plotting(t, h, dir, nil, [2]string{"link", "fnd_1"})
	address, _ := world(t, h, s)
	if err := send(h.HTTP, address, 1); err != nil {
		t.Fatal(err)
	}
	if said := says(t, h, hook, 1)[0]; len(tried(t, said).Got) != 1 {
		t.Fatalf("the first link is not kept: %s", said)
	}
	if err := h.Stop(); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Config{DataDir: dir, Existing: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Client.ExecContext(t.Context(), `WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
		INSERT INTO connector_links (org, owner, kind, ours, theirs, url, note, version) SELECT org, owner, kind, 'fnd_' || i, 'fnd_' || i, '', NULL, 1 FROM connector_links, n`, connectors.MaxLinks)
	if err := errors.Join(err, db.Close(), h.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := h.Do(t.Context(), `mutation ($in: UpdateEndpointInput!) { updateEndpoint(input: $in) { endpoint { id } } }`,
		program.Input{"in": program.Input{"id": endpoint, "settings": program.Input{"plan": `[["link", "fnd_new"]]`}}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := send(h.HTTP, address, 2); err != nil {
		t.Fatal(err)
	}
	kept := 0
	for _, said := range says(t, h, hook, 2) {
		kept += len(tried(t, said).Got)
	}
	if kept != 1 {
		t.Error("one link more than the most is kept")
	}
}

type attempted struct {
	Tried int
	Got   [][2]string
}

func tried(t *testing.T, said string) (a attempted) {
	t.Helper()
	if err := json.Unmarshal([]byte(said), &a); err != nil {
		t.Fatalf("it said %q: %v", said, err)
	}
	return a
}

// outside makes the attempts as any program of this user can.
func outside(t *testing.T, plan [][2]string) string {
	t.Helper()
	path, err := hostilePlugin()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "try")
	cmd.Stdin = strings.NewReader(string(text))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// resident is how many MiB of memory a process has.
func resident(t *testing.T, pid int) (mib int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	var size, pages int
	if _, err := fmt.Sscan(string(b), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize() >> 20
}
