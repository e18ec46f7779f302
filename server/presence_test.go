package server_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/server/servertest/program"
)

// agent is a process of hookyard presence.
type agent struct {
	t    *testing.T
	args []string
	dir  string
	log  *lockedBuffer
	cmd  *exec.Cmd
	wrap []string // a command to run it with
}

// newAgent is an agent that is not started yet.
func newAgent(t *testing.T, hub, key string, args ...string) *agent {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "key")
	if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &agent{t: t, dir: dir, log: &lockedBuffer{}, args: append([]string{"presence", "--hub", hub, "--key-file", file, "--data-dir", filepath.Join(dir, "data")}, args...)}
	t.Cleanup(func() {
		a.end(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("the agent said:\n%s", a.log)
		}
	})
	return a
}

func (a *agent) start() {
	a.t.Helper()
	path, err := binary()
	if err != nil {
		a.t.Fatal(err)
	}
	line := append(append(append([]string{}, a.wrap...), path), a.args...)
	a.cmd = exec.Command(line[0], line[1:]...)
	a.cmd.Stdout, a.cmd.Stderr = a.log, a.log
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := a.cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
}

// end ends the agent and waits until it is gone.
func (a *agent) end(how syscall.Signal) {
	if a.cmd == nil {
		return
	}
	_ = syscall.Kill(a.cmd.Process.Pid, how)
	_ = a.cmd.Wait()
	a.cmd = nil
}

// createPresence returns the ID and the key of a new Presence.
func createPresence(t *testing.T, h *program.Hub, in program.Input) (id, key string) {
	t.Helper()
	var got struct {
		R struct {
			Presence struct{ ID string }
			Key      string
		}
	}
	if err := h.Do(t.Context(), `mutation ($in: CreatePresenceInput!) { r: createPresence(input: $in) { presence { id } key } }`, program.Input{"in": in}, &got); err != nil {
		t.Fatal(err)
	}
	return got.R.Presence.ID, got.R.Key
}

type agentState struct {
	Name, Version, Node string
	Linked              bool
}

func agents(t *testing.T, h *program.Hub, id string) (list []agentState) {
	t.Helper()
	var got struct {
		Node struct {
			Linked bool
			Agents []agentState
		}
	}
	if err := h.Do(t.Context(), `query ($id: ID!) { node(id: $id) { ... on Presence { linked agents { name version node linked } } } }`, program.Input{"id": id}, &got); err != nil {
		t.Fatal(err)
	}
	return got.Node.Agents
}

// awaitLinks waits until so many agents of a Presence are linked.
func awaitLinks(t *testing.T, h *program.Hub, id string, n int, limit time.Duration) {
	t.Helper()
	until(t, limit, fmt.Sprintf("%d agents are linked", n), func() bool {
		linked := 0
		for _, a := range agents(t, h, id) {
			if a.Linked {
				linked++
			}
		}
		return linked == n
	})
}

// behind makes an endpoint at the sink that a Presence calls, with a webhook for everything.
func behind(t *testing.T, h *program.Hub, presence, name, url string, more program.Input) (endpoint, webhook string) {
	t.Helper()
	in := program.Input{"name": name, "connector": "webhook", "url": url + "/" + name, "presenceId": presence}
	for k, v := range more {
		in[k] = v
	}
	endpoint, err := h.CreateEndpoint(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	webhook, _, err = h.CreateWebhook(t.Context(), program.Input{"name": name, "endpointId": endpoint, "global": true, "format": "hookyard", "retryOffsetsSeconds": []int{1, 2, 4, 8}})
	if err != nil {
		t.Fatal(err)
	}
	return endpoint, webhook
}

type deliveryState struct {
	ID, State string
	Attempts  []struct {
		Number, HTTPStatus int
		Outcome, Fault     string
		Error              string
		Request            struct {
			Method, URL string
			Headers     []struct{ Name, Value string }
		}
		Response struct{ Status int }
		Timing   struct{ Total float64 }
	}
}

func deliveriesOf(t *testing.T, h *program.Hub, webhook string) []deliveryState {
	t.Helper()
	var got struct {
		Deliveries struct {
			Edges []struct{ Node deliveryState }
		}
	}
	err := h.Do(t.Context(), `query ($w: [ID!]) { deliveries(filter: {webhookIds: $w}) { edges { node { id state attempts { number httpStatus outcome fault error
		request { method url headers { name value } } response { status } timing { total } } } } } }`, program.Input{"w": []string{webhook}}, &got)
	if err != nil {
		t.Fatal(err)
	}
	var out []deliveryState
	for _, e := range got.Deliveries.Edges {
		out = append(out, e.Node)
	}
	return out
}

// relay stands between agents and the hub, and can be cut.
type relay struct {
	url string
	ln  net.Listener

	mu     sync.Mutex
	to     string
	conns  map[net.Conn]bool
	silent bool // nothing gets through, and nobody is told
	seen   bytes.Buffer
	done   sync.WaitGroup
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newRelayAt(t, ln, to)
}

func newRelayAt(t *testing.T, ln net.Listener, to string) *relay {
	r := &relay{ln: ln, url: "http://" + ln.Addr().String(), to: strings.TrimPrefix(to, "http://"), conns: map[net.Conn]bool{}}
	r.done.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			r.done.Go(func() { r.serve(c) })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); r.cut(); r.done.Wait() })
	return r
}

func (r *relay) serve(in net.Conn) {
	r.mu.Lock()
	to := r.to
	r.mu.Unlock()
	out, err := net.Dial("tcp", to)
	if err != nil {
		_ = in.Close()
		return
	}
	r.mu.Lock()
	r.conns[in], r.conns[out] = true, true
	r.mu.Unlock()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		both.Go(func() {
			defer func() { _ = in.Close(); _ = out.Close() }()
			b := make([]byte, 32<<10)
			for {
				n, err := way[0].Read(b)
				if err != nil {
					return
				}
				r.mu.Lock()
				silent := r.silent
				if !silent {
					r.seen.Write(b[:n])
				}
				r.mu.Unlock()
				if silent {
					continue
				}
				if _, err := way[1].Write(b[:n]); err != nil {
					return
				}
			}
		})
	}
	both.Wait()
	r.mu.Lock()
	delete(r.conns, in)
	delete(r.conns, out)
	r.mu.Unlock()
}

// cut closes all connections.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		_ = c.Close()
	}
}

func (r *relay) silence(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silent = on
}

func (r *relay) wire() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen.String()
}

// TestPresence is PUB-13 and what belongs to it: deliveries wait for the agent and go out
// once; only what its list names is called; secrets are open nowhere on the way; what the
// log says; and keys that are rotated or revoked.
func TestPresence(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := newSink(t)
		h := start(t, url, "--log-level", "debug")
		id, key := createPresence(t, h, program.Input{"name": "plant"})
		const secret = "Bearer a-very-private-token"
		inside, hook := behind(t, h, id, "inside", s.url, program.Input{"headers": []program.Input{{"name": "Authorization", "value": secret, "secret": true}, {"name": "X-Plain", "value": "yes"}}})
		_, closed := behind(t, h, id, "closed", "http://127.0.0.2:9", nil)
		_, address, err := h.CreateSource(t.Context(), program.Input{"name": "events", "kind": "cloudevents"})
		if err != nil {
			t.Fatal(err)
		}
		if err := send(h.HTTP, address, 1); err != nil {
			t.Fatal(err)
		}
		// Stopped: it waits, and can be seen to.
		quiet := time.After(2 * time.Second)
		for waiting := true; waiting; {
			select {
			case <-quiet:
				waiting = false
			case <-time.After(100 * time.Millisecond):
			}
			if got := deliveriesOf(t, h, hook); len(got) != 1 || got[0].State != "PENDING" || len(got[0].Attempts) > 0 {
				t.Fatalf("while no agent is there: %+v", got)
			}
		}
		if s.count() > 0 {
			t.Fatal("something arrived although no agent is there")
		}
		wire := newRelay(t, h.URL)
		a := newAgent(t, wire.url, key, "--allow", strings.TrimPrefix(s.url, "http://"), "--name", "gate-1")
		a.start()
		s.await(t, "inside", []int{1}, 10*time.Second)
		until(t, 10*time.Second, "both deliveries have ended", func() bool {
			return deliveriesOf(t, h, hook)[0].State == "SUCCEEDED" && deliveriesOf(t, h, closed)[0].State == "FAILED"
		})
		if s.head["inside"].Get("Authorization") != secret || s.head["inside"].Get("X-Plain") != "yes" {
			t.Errorf("the target got the headers %v", s.head["inside"])
		}
		got := deliveriesOf(t, h, hook)[0]
		if len(got.Attempts) != 1 || got.Attempts[0].HTTPStatus != 200 || got.Attempts[0].Number != 1 || got.Attempts[0].Request.URL != s.url+"/inside" ||
			got.Attempts[0].Request.Method != "POST" || got.Attempts[0].Timing.Total == 0 || !strings.Contains(fmt.Sprint(got.Attempts[0].Request.Headers), "[secret:header:Authorization]") {
			t.Errorf("the log says %+v", got)
		}
		if got := deliveriesOf(t, h, closed)[0].Attempts; len(got) != 1 || got[0].Fault != "POLICY" || !strings.Contains(got[0].Error, "HOOKYARD_ALLOW") {
			t.Errorf("a target that is not in the list: %+v", got)
		}
		if list := agents(t, h, id); len(list) != 1 || list[0].Name != "gate-1" || !list[0].Linked || list[0].Version == "" || list[0].Node == "" {
			t.Errorf("agents: %+v", list)
		}
		var tested struct {
			TestEndpoint struct {
				Ok      bool
				Message string
			}
		}
		if err := h.Do(t.Context(), `mutation ($id: ID!) { testEndpoint(input: {id: $id}) { ok message } }`, program.Input{"id": inside}, &tested); err != nil || !tested.TestEndpoint.Ok {
			t.Errorf("testEndpoint: %+v, %v", tested, err)
		}
		for what, text := range map[string]string{"the wire": wire.wire(), "the agent's log": a.log.String()} {
			if strings.Contains(text, "a-very-private-token") {
				t.Errorf("the secret is in %s", what)
			}
		}
		if !strings.Contains(wire.wire(), "sealedSecrets") {
			t.Error("the relay has not seen the wire")
		}
		journal, err := os.ReadFile(filepath.Join(a.dir, "data", "outcomes.jsonl"))
		if err != nil || bytes.Contains(journal, []byte("a-very-private-token")) {
			t.Errorf("the journal: %v, %s", err, journal)
		}

		// The key of a Presence opens nothing else.
		stranger := program.Client{URL: h.URL, Key: key, HTTP: h.HTTP}
		for _, q := range []string{`{ organization { id } }`, `{ presences { edges { node { id } } } }`, `mutation { releaseHold { held } }`} {
			if err := stranger.Do(t.Context(), q, nil, nil); verdict(err) != "FORBIDDEN" {
				t.Errorf("an agent asks %s: %v", q, err)
			}
		}
		if err := h.Do(t.Context(), `mutation { reportPresenceWork(input: {results: []}) { forget } }`, nil, nil); verdict(err) != "FORBIDDEN" {
			t.Errorf("an Administrator reports work: %v", err)
		}

		// Rotated with an overlap nothing is cut; without one the link ends at once.
		rotate := func(overlap int) string {
			var got struct{ RotatePresenceKey struct{ Key string } }
			if err := h.Do(t.Context(), `mutation ($id: ID!, $s: Int!) { rotatePresenceKey(input: {id: $id, overlapSeconds: $s}) { key } }`, program.Input{"id": id, "s": overlap}, &got); err != nil {
				t.Fatal(err)
			}
			return got.RotatePresenceKey.Key
		}
		fresh := rotate(3600)
		awaitLinks(t, h, id, 1, time.Second)
		if err := os.WriteFile(filepath.Join(a.dir, "key"), []byte(fresh), 0o600); err != nil {
			t.Fatal(err)
		}
		wire.cut()
		awaitLinks(t, h, id, 1, 15*time.Second)
		revoked := rotate(0)
		awaitLinks(t, h, id, 0, 5*time.Second)
		if err := send(h.HTTP, address, 2); err != nil {
			t.Fatal(err)
		}
		until(t, 30*time.Second, "the agent says that its key is refused", func() bool { return strings.Contains(a.log.String(), "refuses the key") })
		if len(s.missing("inside", []int{2})) == 0 {
			t.Error("a Presence whose key was revoked still delivers")
		}
		if err := os.WriteFile(filepath.Join(a.dir, "key"), []byte(revoked), 0o600); err != nil {
			t.Fatal(err)
		}
		s.await(t, "inside", []int{2}, 30*time.Second)
		if n := len(s.twice("inside")); n > 0 {
			t.Errorf("%d events came twice", n)
		}
		a.end(syscall.SIGTERM)
		awaitLinks(t, h, id, 0, 5*time.Second)
	})
}

// TestPresenceUnderLoad kills and cuts what can be killed and cut: every event arrives,
// and only what was in flight at that moment may come twice.
func TestPresenceUnderLoad(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := newSink(t)
		h := start(t, url)
		id, key := createPresence(t, h, program.Input{"name": "plant"})
		behind(t, h, id, "a", s.url, nil)
		_, address, err := h.CreateSource(t.Context(), program.Input{"name": "events", "kind": "cloudevents"})
		if err != nil {
			t.Fatal(err)
		}
		wire := newRelay(t, h.URL)
		allow := strings.TrimPrefix(s.url, "http://")
		one, two := newAgent(t, wire.url, key, "--allow", allow, "--name", "one"), newAgent(t, wire.url, key, "--allow", allow, "--name", "two")
		from := mark(t, h)
		one.start()
		awaitLinks(t, h, id, 1, 15*time.Second)
		l := startLoad(150, 8, address)
		d := doubts{load: l}
		step := func(n int, what string, do func()) {
			l.until(t, n)
			t.Logf("%s after %d events", what, l.count())
			do()
		}
		// Nothing is in doubt without a kill: the agent knows what it has made.
		step(150, "the link is cut", wire.cut)
		step(300, "the agent is killed", func() { d.kill(t, 1, func() { one.end(syscall.SIGKILL) }, h); one.start() })
		step(450, "the hub is killed", func() {
			d.kill(t, 1, func() {
				if err := h.Kill(); err != nil {
					t.Fatal(err)
				}
			}, h)
			if err := h.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
		step(600, "a second agent comes", two.start)
		awaitLinks(t, h, id, 2, 30*time.Second)
		step(800, "the hub is restarted", func() {
			if err := h.Stop(); err != nil {
				t.Fatal(err)
			}
			if err := h.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
		awaitLinks(t, h, id, 2, 30*time.Second)
		step(950, "the first agent is killed for good", func() { d.kill(t, 1, func() { one.end(syscall.SIGKILL) }, h) })
		step(1100, "the second agent is stopped in good order, and started", func() { two.end(syscall.SIGTERM); two.start() })
		l.until(t, 1250)
		accepted := l.end()
		s.await(t, "a", accepted, 90*time.Second) // the lease of the one that was killed
		d.check(t, s, "a")
		if got := succeeded(t, h, from, len(accepted)); len(got) < len(accepted) {
			t.Errorf("the log shows %d of %d", len(got), len(accepted))
		}
	})
}

// TestPresenceDeadLink lets a link go silent without being closed: both ends notice, and
// work goes on as soon as there is a new one.
func TestPresenceDeadLink(t *testing.T) {
	s := newSink(t)
	h := start(t, "")
	id, key := createPresence(t, h, program.Input{"name": "plant"})
	behind(t, h, id, "a", s.url, nil)
	_, address, err := h.CreateSource(t.Context(), program.Input{"name": "events", "kind": "cloudevents"})
	if err != nil {
		t.Fatal(err)
	}
	wire := newRelay(t, h.URL)
	a := newAgent(t, wire.url, key, "--allow", strings.TrimPrefix(s.url, "http://"))
	a.start()
	awaitLinks(t, h, id, 1, 15*time.Second)
	wire.silence(true)
	awaitLinks(t, h, id, 0, 10*time.Second)
	if err := send(h.HTTP, address, 1); err != nil {
		t.Fatal(err)
	}
	until(t, 15*time.Second, "the agent notices", func() bool { return strings.Contains(a.log.String(), "no link to the hub") })
	wire.cut()
	wire.silence(false)
	s.await(t, "a", []int{1}, 20*time.Second)
	if n := len(s.twice("a")); n > 0 {
		t.Errorf("%d events came twice", n)
	}
}

// TestPresenceOnTwoNodes links the agent to one node while events come in at the other,
// and then has it linked to the other.
func TestPresenceOnTwoNodes(t *testing.T) {
	url := storetest.Postgres(t)
	s := newSink(t)
	dir := t.TempDir()
	one := startIn(t, dir, url, "--node-name", "one")
	two := second(t, one, dir, url)
	id, key := createPresence(t, one, program.Input{"name": "plant"})
	behind(t, one, id, "a", s.url, nil)
	_, address, err := one.CreateSource(t.Context(), program.Input{"name": "events", "kind": "cloudevents"})
	if err != nil {
		t.Fatal(err)
	}
	wire := newRelay(t, two.URL)
	a := newAgent(t, wire.url, key, "--allow", strings.TrimPrefix(s.url, "http://"))
	a.start()
	awaitLinks(t, one, id, 1, 15*time.Second) // seen from the other node
	l := startLoad(100, 8, address)
	l.until(t, 200)
	wire.mu.Lock()
	wire.to = strings.TrimPrefix(one.URL, "http://")
	wire.mu.Unlock()
	d := doubts{load: l}
	d.kill(t, 1, func() {
		if err := two.Kill(); err != nil {
			t.Fatal(err)
		}
	}, two)
	l.until(t, 400)
	accepted := l.end()
	s.await(t, "a", accepted, time.Minute) // what the dead node had in hand is taken over after its grace
	d.check(t, s, "a")
	if list := agents(t, one, id); len(list) != 1 || !list[0].Linked || list[0].Node != "one" {
		t.Errorf("agents: %+v", list)
	}
}

// TestPresenceThroughProxy links through an HTTP proxy to a hub with a certificate.
func TestPresenceThroughProxy(t *testing.T) {
	s := newSink(t)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cert, private := selfSigned(t, 1)
	for file, b := range map[string][]byte{certFile: cert, keyFile: private} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	log := &lockedBuffer{}
	h, err := program.Start(t.Context(), program.Config{Binary: path, Dir: t.TempDir(), Args: []string{"--tls-cert", certFile, "--tls-key", keyFile}, Log: log,
		HTTPS: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	t.Cleanup(func() { _ = h.Stop() })
	var tunnels atomic.Int32
	proxy := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, ok := proxyAuth(r); r.Method != http.MethodConnect || !ok || password != "open" {
			http.Error(w, "no", http.StatusProxyAuthRequired)
			return
		}
		tunnels.Add(1)
		out, err := net.Dial("tcp", r.Host)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		in, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
		_, _ = io.Copy(in, out)
		_ = in.Close()
	})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = proxy.Serve(ln) }()
	t.Cleanup(func() { _ = proxy.Close() })

	id, key := createPresence(t, h, program.Input{"name": "plant"})
	behind(t, h, id, "a", s.url, nil)
	_, address, err := h.CreateSource(t.Context(), program.Input{"name": "events", "kind": "cloudevents"})
	if err != nil {
		t.Fatal(err)
	}
	a := newAgent(t, h.URL, key, "--allow", "127.0.0.1", "--ca-file", certFile, "--proxy", "http://me:open@"+ln.Addr().String())
	a.start()
	if err := send(h.HTTP, address, 1); err != nil {
		t.Fatal(err)
	}
	s.await(t, "a", []int{1}, 20*time.Second)
	if tunnels.Load() == 0 {
		t.Error("the proxy was not asked")
	}
	if strings.Contains(a.log.String(), "me:open") {
		t.Error("the proxy's password is in the log")
	}
}

func proxyAuth(r *http.Request) (user, password string, ok bool) {
	r.Header.Set("Authorization", r.Header.Get("Proxy-Authorization"))
	return r.BasicAuth()
}

// TestPresenceInPrivateNetwork makes a private network out of Linux network namespaces:
// the hub's machine has no way to the target, and the Presence's has.
func TestPresenceInPrivateNetwork(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("skipped: network namespaces take root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("skipped: there is no ip command (package iproute2); .ci/need iproute2 installs it")
	}
	ip := func(args ...string) error {
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
		}
		return nil
	}
	// hub --10.213.1.0/24-- plant --10.213.2.0/24-- target; plant forwards nothing.
	name := fmt.Sprintf("hy%d", os.Getpid()%100000)
	plant, target := name+"p", name+"t"
	for _, ns := range []string{plant, target} {
		if err := ip("netns", "add", ns); err != nil {
			t.Skipf("skipped: this machine makes no network namespaces: %v", err)
		}
		t.Cleanup(func() { _ = ip("netns", "del", ns) })
	}
	for _, line := range []string{
		"link add " + name + "a type veth peer name " + name + "b netns " + plant,
		"addr add 10.213.1.1/24 dev " + name + "a", "link set " + name + "a up",
		"-n " + plant + " addr add 10.213.1.2/24 dev " + name + "b", "-n " + plant + " link set " + name + "b up", "-n " + plant + " link set lo up",
		"link add " + name + "c netns " + plant + " type veth peer name " + name + "d netns " + target,
		"-n " + plant + " addr add 10.213.2.1/24 dev " + name + "c", "-n " + plant + " link set " + name + "c up",
		"-n " + target + " addr add 10.213.2.2/24 dev " + name + "d", "-n " + target + " link set " + name + "d up", "-n " + target + " link set lo up",
	} {
		if err := ip(strings.Fields(line)...); err != nil {
			t.Skipf("skipped: this machine connects no network namespaces: %v", err)
		}
	}
	t.Cleanup(func() { _ = ip("link", "del", name+"a") })

	s := newSinkAt(t, listenIn(t, target, "10.213.2.2:0"))
	h := startAt(t, "10.213.1.1:0", "--allow-private-targets")
	id, key := createPresence(t, h, program.Input{"name": "plant"})
	_, through := behind(t, h, id, "inside", s.url, nil)
	direct, err := h.CreateEndpoint(t.Context(), program.Input{"name": "direct", "connector": "webhook", "url": s.url + "/direct"})
	if err != nil {
		t.Fatal(err)
	}
	hook, _, err := h.CreateWebhook(t.Context(), program.Input{"name": "direct", "endpointId": direct, "global": true, "format": "hookyard", "timeoutSeconds": 3})
	if err != nil {
		t.Fatal(err)
	}
	_, address, err := h.CreateSource(t.Context(), program.Input{"name": "events", "kind": "cloudevents"})
	if err != nil {
		t.Fatal(err)
	}
	a := newAgent(t, h.URL, key, "--allow", "10.213.2.0/24")
	a.wrap = []string{"ip", "netns", "exec", plant}
	a.start()
	awaitLinks(t, h, id, 1, 15*time.Second)
	if err := send(h.HTTP, address, 1); err != nil {
		t.Fatal(err)
	}
	until(t, 20*time.Second, "the Presence reaches the target", func() bool {
		return len(deliveriesOf(t, h, through)) == 1 && deliveriesOf(t, h, through)[0].State == "SUCCEEDED"
	})
	until(t, 20*time.Second, "the hub has tried and failed", func() bool {
		return len(deliveriesOf(t, h, hook)) == 1 && deliveriesOf(t, h, hook)[0].State == "RETRYING"
	})
	if got := deliveriesOf(t, h, hook)[0].Attempts[0]; got.HTTPStatus != 0 || got.Error == "" {
		t.Errorf("the hub reached the target by itself: %+v", got)
	}
	if len(s.missing("direct", []int{1})) == 0 || len(s.missing("inside", []int{1})) > 0 {
		t.Error("the target got something else than what the log says")
	}
}

// listenIn opens a listener inside a network namespace.
func listenIn(t *testing.T, ns, address string) net.Listener {
	t.Helper()
	type opened struct {
		ln  net.Listener
		err error
	}
	done := make(chan opened)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		f, err := os.Open("/var/run/netns/" + ns)
		if err == nil {
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
			_ = f.Close()
		}
		var ln net.Listener
		if err == nil {
			ln, err = net.Listen("tcp", address)
		}
		done <- opened{ln, err}
	}()
	o := <-done
	if o.err != nil {
		t.Skipf("skipped: cannot enter a network namespace: %v", o.err)
	}
	return o.ln
}

// startAt starts a hub that listens at an address; port 0 is any.
func startAt(t *testing.T, listen string, args ...string) *program.Hub {
	t.Helper()
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	listen = ln.Addr().String()
	_ = ln.Close()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	log := &lockedBuffer{}
	h, err := program.Start(t.Context(), program.Config{Binary: path, Dir: t.TempDir(), Listen: listen, Args: args, Log: log})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	t.Cleanup(func() { _ = h.Stop() })
	return h
}
