package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/server/servertest/program"
)

// Third parties' connectors: see their packages.
var (
	faultyPlugin  = built("faulty", ".", "./servertest/faulty")
	hostilePlugin = built("hostile", ".", "./servertest/hostile")
	acmePlugin    = built("acme-plugin", filepath.Join("..", "examples", "acme"), "./acme-plugin")
)

// built builds a program once.
func built(name, dir, pkg string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		path := filepath.Join(scratch, name)
		build := exec.Command("go", "build", "-o", path, pkg)
		build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build the connector: %w: %s", err, out)
		}
		return path, nil
	})
}

// packed makes a package of the faulty one.
func packed(t *testing.T, version, fault string) string {
	t.Helper()
	run := []string{"faulty", version}
	if fault != "" {
		run = append(run, fault)
	}
	return packageOf(t, faultyPlugin, run...)
}

// folderOf is what a package is made of: a program that is run with the arguments.
func folderOf(t *testing.T, program func() (string, error), args ...string) string {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Link(path, filepath.Join(dir, "program")); err != nil {
		t.Fatal(err)
	}
	draft, err := json.Marshal(map[string]any{"run": append([]string{"program"}, args...)})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "connector.json"), draft, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// packageOf makes a package of it.
func packageOf(t *testing.T, program func() (string, error), args ...string) string {
	t.Helper()
	dir := folderOf(t, program, args...)
	out := filepath.Join(t.TempDir(), "package.tar.gz")
	if said, err := tool(t, "connector", "pack", dir, "--out", out); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return out
}

// installed packs and installs it.
func installed(t *testing.T, dir, url, version, fault string) {
	t.Helper()
	if said, err := tool(t, at(dir, url, "connector", "install", packed(t, version, fault), "--unsigned")...); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
}

type enabledConnector struct{ ID, Version string }

// enable waits until a node has the version of the faulty one and enables it.
func enable(t *testing.T, h *program.Hub, version string) enabledConnector {
	t.Helper()
	return enableThe(t, h, "faulty", version)
}

// enableThe enables a version of a connector, or the newest.
func enableThe(t *testing.T, h *program.Hub, connector, version string) (e enabledConnector) {
	t.Helper()
	in := program.Input{"connector": connector}
	if version != "" {
		in["version"] = version
	}
	until(t, 20*time.Second, "the version can be enabled", func() bool {
		var got struct {
			R struct{ EnabledConnector enabledConnector }
		}
		err := h.Do(t.Context(), `mutation ($in: EnableConnectorInput!) { r: enableConnector(input: $in) { enabledConnector { id version } } }`, program.Input{"in": in}, &got)
		e = got.R.EnabledConnector
		return err == nil
	})
	return e
}

// switchTo waits until a node has the version and switches to it.
func switchTo(t *testing.T, h *program.Hub, id, version string) (err error) {
	t.Helper()
	until(t, 20*time.Second, "the version is there", func() bool {
		err = h.Do(t.Context(), `mutation ($id: ID!, $v: String!) { switchConnector(input: {id: $id, version: $v}) { enabledConnector { version } } }`,
			program.Input{"id": id, "v": version}, nil)
		return err == nil || !strings.Contains(err.Error(), "No running node")
	})
	return err
}

// through makes a webhook, with whatever is different, and an endpoint of the connector.
func through(t *testing.T, h *program.Hub, s *sink, name string, different ...program.Input) (endpoint string) {
	t.Helper()
	endpoint, err := h.CreateEndpoint(t.Context(), program.Input{"name": name, "connector": "faulty", "url": s.url + "/" + name,
		"secrets": []program.Input{{"name": "token", "value": "hush-hush"}}})
	if err != nil {
		t.Fatal(err)
	}
	in := program.Input{"name": name, "endpointId": endpoint, "global": true, "format": "hookyard", "retryOffsetsSeconds": []int{1, 2, 4, 8}}
	for _, d := range different {
		maps.Copy(in, d)
	}
	if _, _, err := h.CreateWebhook(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	return endpoint
}

type catalogueEntry struct {
	Name, Problem string
	Shipped       bool
	Versions      []struct {
		Version, Digest, Publisher string
		Nodes                      []string
	}
	Enabled   *enabledConnector
	Processes []struct {
		Node, Version, State, LastError string
		Restarts                        int
		Log                             []struct{ Level, Text string }
		Sandbox                         []struct{ Name string }
	}
}

// catalogue is what the API tells of the faulty one.
func catalogue(t *testing.T, h *program.Hub) catalogueEntry {
	t.Helper()
	return catalogueOf(t, h, "faulty")
}

// catalogueOf is what the API tells of a connector.
func catalogueOf(t *testing.T, h *program.Hub, name string) (c catalogueEntry) {
	t.Helper()
	var got struct{ ConnectorCatalogue []catalogueEntry }
	if err := h.Do(t.Context(), `query ($name: String) { connectorCatalogue(name: $name) { name problem shipped versions { version digest publisher nodes } enabled { id version }
		processes { node version state lastError restarts log { level text } sandbox { name } } } }`, program.Input{"name": name}, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.ConnectorCatalogue) == 1 {
		c = got.ConnectorCatalogue[0]
	}
	return c
}

// TestConnectorsAreUpgraded installs, enables, upgrades and rolls back a connector while
// events come in: every one of them arrives.
func TestConnectorsAreUpgraded(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := newSink(t)
		dir := t.TempDir()
		h := startIn(t, dir, url, "--allow-private-targets", "--sandbox=prefer")
		installed(t, dir, url, "1.0.0", "")
		e := enable(t, h, "1.0.0")
		endpoint := through(t, h, s, "a")
		address, _ := world(t, h, s)
		if err := h.Do(t.Context(), `mutation ($id: ID!) { testEndpoint(input: {id: $id}) { ok message } }`, program.Input{"id": endpoint}, nil); err != nil {
			t.Error(err)
		}
		l := startLoad(200, 8, address)
		l.until(t, 200)
		installed(t, dir, url, "2.0.0", "")
		if err := switchTo(t, h, e.ID, "2.0.0"); err != nil {
			t.Fatal(err)
		}
		by := func(version string) {
			until(t, 20*time.Second, "version "+version+" delivers", func() bool {
				s.mu.Lock()
				defer s.mu.Unlock()
				return s.head["a"].Get("X-Version") == version
			})
		}
		by("2.0.0")
		l.until(t, l.count()+200)
		// What does not fit to the endpoints' settings is not switched to.
		installed(t, dir, url, "3.0.0", "strict")
		if err := switchTo(t, h, e.ID, "3.0.0"); err == nil || !strings.Contains(err.Error(), "CONFLICT") || !strings.Contains(err.Error(), "a: ") {
			t.Errorf("a version that an endpoint does not fit to: %v", err)
		}
		if err := switchTo(t, h, e.ID, "1.0.0"); err != nil {
			t.Fatal(err)
		}
		by("1.0.0")
		l.until(t, l.count()+200)
		// One endpoint is pinned to another version than the organization's.
		if err := h.Do(t.Context(), `mutation ($id: ID!) { pinConnector(input: {endpointId: $id, version: "2.0.0"}) { endpoint { connectorVersion } } }`, program.Input{"id": endpoint}, nil); err != nil {
			t.Fatal(err)
		}
		by("2.0.0")
		// While it is disabled, deliveries wait.
		if err := h.Do(t.Context(), `mutation ($id: ID!) { disableConnector(input: {id: $id}) { enabledConnector { enabled } } }`, program.Input{"id": e.ID}, nil); err != nil {
			t.Fatal(err)
		}
		until(t, 20*time.Second, "nothing arrives any more", func() bool {
			before := s.count()
			l.until(t, l.count()+100)
			return s.count() == before
		})
		enable(t, h, "1.0.0")
		accepted := l.end()
		s.await(t, "a", accepted, time.Minute)
		if twice := s.twice("a"); len(twice) > 0 {
			t.Errorf("%d events came twice", len(twice))
		}
		if n := metric(t, h, `hookyard_deliveries_total{outcome="retried"}`); n > 0 {
			t.Errorf("%v deliveries were tried again", n)
		}
		if n := metric(t, h, `hookyard_deliveries_total{outcome="failed"}`); n > 0 {
			t.Errorf("%v deliveries failed", n)
		}
		t.Logf("%d events arrived through five changes of version", len(accepted))

		// Its log is there to be read, without the endpoint's secret.
		until(t, 20*time.Second, "the connector is reported with its log", func() bool {
			c := catalogue(t, h)
			return len(c.Versions) == 3 && c.Versions[0].Version == "3.0.0" && len(c.Processes) == 1 && len(c.Processes[0].Log) > 2
		})
		said, err := json.Marshal(catalogue(t, h))
		if err != nil || !strings.Contains(string(said), "a careless line with [secret]") || strings.Contains(string(said), "hush-hush") {
			t.Errorf("the log is %s (%v)", said, err)
		}
		if _, err := tool(t, at(dir, url, "connector", "remove", "faulty@2.0.0")...); err == nil || !strings.Contains(err.Error(), "1 endpoints, sources, webhooks, triggers and projects use") {
			t.Errorf("a version in use was removed: %v", err)
		}
		if said, err := tool(t, at(dir, url, "connector", "remove", "faulty@3.0.0")...); err != nil {
			t.Errorf("%v %s", err, said)
		}
		if said, err := tool(t, at(dir, url, "connector", "verify")...); err != nil || strings.Count(said, ": ok") != 2 {
			t.Errorf("%v %s", err, said)
		}
	})
}

// TestABrokenStoreHoldsNobodyUp starts a hub whose store has been tampered with.
func TestABrokenStoreHoldsNobodyUp(t *testing.T) {
	s := newSink(t)
	dir := t.TempDir()
	h := startIn(t, dir, "", "--allow-private-targets", "--sandbox=prefer")
	installed(t, dir, "", "1.0.0", "")
	enable(t, h, "1.0.0")
	through(t, h, s, "a")
	address, _ := world(t, h, s, "b")
	if err := send(h.HTTP, address, 1); err != nil {
		t.Fatal(err)
	}
	s.await(t, "a", []int{1}, 20*time.Second)
	if err := h.Stop(); err != nil {
		t.Fatal(err)
	}
	program, err := filepath.Glob(filepath.Join(dir, "connectors", "faulty", "1.0.0-*", "program"))
	if err != nil || len(program) != 1 {
		t.Fatal(program, err)
	}
	b, err := os.ReadFile(program[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	_ = os.Remove(program[0])
	if err := os.WriteFile(program[0], b, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"connectors/garbage": "x", "connectors/faulty/garbage/manifest.json": "{", "connectors/empty/1.0.0-0/x": ""} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := send(h.HTTP, address, 2); err != nil {
		t.Fatal(err)
	}
	s.await(t, "b", []int{2}, 20*time.Second)
	until(t, 20*time.Second, "the tampered connector is in quarantine", func() bool {
		c := catalogue(t, h)
		return len(c.Processes) == 1 && c.Processes[0].State == "QUARANTINED" && strings.Contains(c.Processes[0].LastError, "SHA-256") && strings.Contains(c.Problem, "quarantine")
	})
	if said, err := tool(t, at(dir, "", "connector", "verify")...); err == nil || !strings.Contains(said, "is not what the manifest says") || !strings.Contains(said, "garbage") {
		t.Errorf("%v %s", err, said)
	}
	if said, err := tool(t, at(dir, "", "connector", "remove", "faulty@1.0.0", "--force")...); err != nil {
		t.Fatalf("%v %s", err, said)
	}
	installed(t, dir, "", "1.0.0", "")
	// It is the same package again: its deliveries go on.
	s.await(t, "a", []int{1, 2}, time.Minute)
}

// TestFaultyConnectors delivers through connectors that break the contract.
func TestFaultyConnectors(t *testing.T) {
	for fault, events := range map[string]int{"tenth": 30, "twice": 200, "late": 20, "hang": 5} {
		t.Run(fault, func(t *testing.T) {
			s := newSink(t)
			dir := t.TempDir()
			h := startIn(t, dir, "", "--allow-private-targets", "--sandbox=prefer")
			installed(t, dir, "", "1.0.0", fault)
			e := enable(t, h, "1.0.0")
			different := program.Input{}
			if fault == "late" {
				different["timeoutSeconds"] = 1
			}
			through(t, h, s, "a", different)
			address, _ := world(t, h, s)
			var sent []int
			for n := 1; n <= events; n++ {
				if err := send(h.HTTP, address, n); err != nil {
					t.Fatal(err)
				}
				sent = append(sent, n)
			}
			if fault == "tenth" { // whoever looks after it lets it out of quarantine
				until(t, 3*time.Minute, "all events have arrived", func() bool {
					if len(s.missing("a", sent)) > 0 && strings.Contains(catalogue(t, h).Problem, "quarantine") {
						if err := h.Do(t.Context(), `mutation ($id: ID!) { releaseConnector(input: {id: $id}) { enabledConnector { id } } }`, program.Input{"id": e.ID}, nil); err != nil {
							t.Error(err)
						}
					}
					return len(s.missing("a", sent)) == 0
				})
			}
			if fault == "hang" { // another version delivers what it has in hand, once it is given up
				installed(t, dir, "", "2.0.0", "")
				if err := switchTo(t, h, e.ID, "2.0.0"); err != nil {
					t.Fatal(err)
				}
			}
			s.await(t, "a", sent, time.Minute)
			until(t, 20*time.Second, "every delivery is accounted for", func() bool {
				return metric(t, h, `hookyard_deliveries_total{outcome="succeeded"}`) == float64(events)
			})
			if n := metric(t, h, `hookyard_deliveries_total{outcome="failed"}`); n > 0 {
				t.Errorf("%v deliveries failed", n)
			}
			if fault == "late" { // what it said then was not heard
				if again := s.twice("a"); len(again) > 0 {
					t.Errorf("%d events came twice", len(again))
				}
				var list []triedDelivery
				until(t, 20*time.Second, "every end is recorded", func() bool { // it is counted a moment before
					list = triedDeliveries(t, h)
					return !slices.ContainsFunc(list, func(d triedDelivery) bool { return d.State == "ATTEMPTING" })
				})
				for _, d := range list {
					if d.State != "SUCCEEDED" || len(d.Attempts) != 2 || d.Attempts[0].Outcome != "RETRY" || d.Attempts[0].Fault != "CONNECTOR" ||
						!strings.Contains(d.Attempts[0].Error, "within the time limit") || d.Attempts[1].Outcome != "DONE" {
						t.Errorf("%+v", d)
					}
				}
				if len(list) != events {
					t.Errorf("%d deliveries, not %d", len(list), events)
				}
			}
		})
	}
}

// triedDelivery is a delivery with what was tried.
type triedDelivery struct {
	State    string
	Attempts []struct{ Outcome, Fault, Error string }
}

func triedDeliveries(t *testing.T, h *program.Hub) (list []triedDelivery) {
	t.Helper()
	var got struct {
		Deliveries struct {
			Edges []struct{ Node triedDelivery }
		}
	}
	if err := h.Do(t.Context(), `{ deliveries(first: 200) { edges { node { state attempts { outcome fault error } } } } }`, nil, &got); err != nil {
		t.Fatal(err)
	}
	for _, e := range got.Deliveries.Edges {
		list = append(list, e.Node)
	}
	return list
}

// TestAPoisonedDelivery sends 50 events of which one kills the connector's process each time:
// the others arrive, that one fails, and the process is not in quarantine because of it.
func TestAPoisonedDelivery(t *testing.T) {
	s := newSink(t)
	dir := t.TempDir()
	h := startIn(t, dir, "", "--allow-private-targets", "--sandbox=prefer")
	installed(t, dir, "", "1.0.0", "poison")
	enable(t, h, "1.0.0")
	through(t, h, s, "a", program.Input{"retryOffsetsSeconds": []int{2}})
	address, _ := world(t, h, s)
	var innocent []int
	const events, poison = 50, 13 // as the connector knows it
	for n := 1; n <= events; n++ {
		if err := send(h.HTTP, address, n); err != nil {
			t.Fatal(err)
		}
		if n != poison {
			innocent = append(innocent, n)
		}
	}
	s.await(t, "a", innocent, 30*time.Second)
	until(t, 30*time.Second, "the poisoned one has failed", func() bool {
		return metric(t, h, `hookyard_deliveries_total{outcome="failed"}`) == 1 && metric(t, h, `hookyard_deliveries_total{outcome="succeeded"}`) == events-1
	})
	for _, d := range triedDeliveries(t, h) {
		last := d.Attempts[len(d.Attempts)-1]
		switch d.State {
		case "SUCCEEDED":
			if len(d.Attempts) > 4 {
				t.Errorf("it took %d attempts: %+v", len(d.Attempts), d.Attempts)
			}
		default:
			if last.Fault != "DELIVERY" || last.Outcome != "RETRY" || !strings.Contains(last.Error, "ends whenever") {
				t.Errorf("the poisoned one: %+v", d)
			}
		}
	}
	until(t, 20*time.Second, "the process is well", func() bool {
		c := catalogue(t, h)
		return c.Problem == "" && len(c.Processes) == 1 && c.Processes[0].State == "RUNNING"
	})
}

// TestChattyConnectorsAreToldOfRarely has a connector write lines all the time: the database
// hears of them rarely, but at once when its process has died.
func TestChattyConnectorsAreToldOfRarely(t *testing.T) {
	s := newSink(t)
	dir := t.TempDir()
	h := startIn(t, dir, "", "--allow-private-targets", "--sandbox=prefer")
	installed(t, dir, "", "1.0.0", "")
	enable(t, h, "1.0.0")
	through(t, h, s, "a")
	address, _ := world(t, h, s)
	l := startLoad(50, 4, address)
	defer l.end()
	type told struct {
		At       time.Time
		State    string
		Restarts int
		Log      []struct{ Text string }
	}
	look := func() (p told) {
		var got struct {
			ConnectorCatalogue []struct{ Processes []told }
		}
		if err := h.Do(t.Context(), `{ connectorCatalogue(name: "faulty") { processes { at state restarts log { text } } } }`, nil, &got); err != nil {
			t.Fatal(err)
		}
		if len(got.ConnectorCatalogue) == 1 && len(got.ConnectorCatalogue[0].Processes) == 1 {
			p = got.ConnectorCatalogue[0].Processes[0]
		}
		return p
	}
	var before, after told
	until(t, time.Minute, "its lines are told twice", func() bool {
		now := look()
		if now.At.Equal(after.At) {
			return false
		}
		before, after = after, now
		return before.State == "RUNNING" && after.State == before.State && after.Restarts == before.Restarts
	})
	if between := after.At.Sub(before.At); between < 9*time.Second {
		t.Errorf("its lines were told twice within %v", between)
	}
	if len(after.Log) < 50 {
		t.Errorf("%d lines are told", len(after.Log))
	}
	killed := time.Now()
	kill(t, h, "faulty")
	until(t, 20*time.Second, "its end is told", func() bool { after = look(); return after.Restarts > 0 || after.State != "RUNNING" })
	if late := after.At.Sub(killed); late > 6*time.Second {
		t.Errorf("its end was told %v later", late)
	}
}

// TestSigningKeysHavePasswords makes a key with a password, as publishers do, and packs with it
// and without. By minisign's rules a password takes a GiB of memory and some seconds; the host's own
// tests have a cheap one, and wrong ones.
func TestSigningKeysHavePasswords(t *testing.T) {
	key, files := filepath.Join(t.TempDir(), "key"), folderOf(t, faultyPlugin, "faulty", "1.0.0")
	t.Setenv("HOOKYARD_SIGNING_PASSWORD", "right")
	if said, err := tool(t, "connector", "keygen", key); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	b, err := os.ReadFile(key + ".key")
	if info, e := os.Stat(key + ".key"); err != nil || e != nil || info.Mode().Perm() != 0o600 || !strings.HasPrefix(string(b), "untrusted comment: minisign encrypted secret key\nRWRTY0Iy") {
		t.Errorf("the key is %s (%v, %v)", b, err, e)
	}
	file := filepath.Join(t.TempDir(), "package.tar.gz")
	for _, c := range []struct{ password, said string }{{"", "HOOKYARD_SIGNING_PASSWORD"}, {"right", ""}} {
		t.Setenv("HOOKYARD_SIGNING_PASSWORD", c.password)
		_, err := tool(t, "connector", "pack", files, "--key", key+".key", "--out", file)
		if c.said == "" && err != nil || c.said != "" && (err == nil || !strings.Contains(err.Error(), c.said)) {
			t.Errorf("with the password %q: %v", c.password, err)
		}
		if _, e := os.Stat(file); (e == nil) != (c.said == "") {
			t.Errorf("with the password %q there is a package: %v", c.password, e)
		}
	}
	dir := t.TempDir()
	if said, err := tool(t, at(dir, "", "connector", "trust", "acme", key+".pub")...); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if said, err := tool(t, at(dir, "", "connector", "install", file)...); err != nil || !strings.Contains(said, "signed by acme") {
		t.Errorf("%v\n%s", err, said)
	}
	// A publisher's file that holds no key is named, and is in nobody's way.
	if err := os.WriteFile(filepath.Join(dir, "publishers", "bolt.pub"), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := tool(t, at(dir, "", "connector", "list")...); err != nil || !strings.Contains(said, "bolt.pub") || !strings.Contains(said, "acme") || strings.Contains(said, "acme.pub") {
		t.Errorf("%v\n%s", err, said)
	}
	if said, err := tool(t, at(dir, "", "connector", "verify")...); err == nil || !strings.Contains(err.Error(), "keys cannot be read") || !strings.Contains(said, "bolt.pub: ") || !strings.Contains(said, "faulty 1.0.0: ok") {
		t.Errorf("%v\n%s", err, said)
	}
}

// TestOneNodeHasThePackage runs two nodes of which one has the connector: only that one
// delivers through it, whichever node an event comes in at; and all say so when none has.
func TestOneNodeHasThePackage(t *testing.T) {
	url := storetest.Postgres(t)
	s := newSink(t)
	dir := t.TempDir()
	one := startIn(t, dir, url, "--allow-private-targets", "--sandbox=prefer", "--node-name", "one")
	dir2 := filepath.Join(dir, "two")
	two := secondIn(t, dir2, one, dir, url)
	installed(t, dir2, url, "1.0.0", "")
	enable(t, one, "1.0.0")
	through(t, one, s, "a")
	address, _ := world(t, one, s)
	for n := 1; n <= 20; n++ {
		if err := send(one.HTTP, address, n); err != nil {
			t.Fatal(err)
		}
	}
	events := make([]int, 20)
	for i := range events {
		events[i] = i + 1
	}
	s.await(t, "a", events, time.Minute)
	if n := metric(t, one, `hookyard_attempts_total`); n != 0 {
		t.Errorf("the node without the package made %v attempts", n)
	}
	until(t, 20*time.Second, "both nodes tell of the process", func() bool {
		a, b := catalogue(t, one), catalogue(t, two)
		return len(a.Processes) == 1 && a.Processes[0].Node == "two" && len(b.Processes) == 1 && len(a.Versions) == 1 && fmt.Sprint(a.Versions[0].Nodes) == "[two]"
	})
	if said, err := tool(t, at(dir2, url, "connector", "remove", "faulty", "--force")...); err != nil {
		t.Fatalf("%v %s", err, said)
	}
	says := func(h *program.Hub, path, words string) bool {
		resp, err := h.HTTP.Get(h.URL + path)
		if err != nil {
			return false
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		return err == nil && resp.StatusCode == 200 && strings.Contains(string(b), words)
	}
	until(t, 20*time.Second, "everybody says that nobody has it", func() bool {
		return says(one, "/readyz", `"faulty 1.0.0":1`) && strings.Contains(catalogue(t, one).Problem, "No running node") &&
			says(two, "/metrics", `hookyard_connector_stranded_endpoints{package="faulty 1.0.0"} 1`)
	})
	if err := send(one.HTTP, address, 21); err != nil {
		t.Fatal(err)
	}
	installed(t, dir, url, "1.0.0", "") // now on the other one
	s.await(t, "a", []int{21}, time.Minute)
}
