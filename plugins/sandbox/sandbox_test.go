//go:build linux

package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is also the launcher, and the program that tries what it must not do.
func TestMain(m *testing.M) {
	Main()
	if len(os.Args) > 2 && os.Args[1] == "attempt" {
		attempts(os.Args[2:])
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "wait" {
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "host" {
		doomedHost()
		return
	}
	os.Exit(m.Run())
}

// place is what a hub has around it.
type place struct {
	box    *Box
	dir    string // the hub's
	own    string // the program's
	key    string // a file of the hub's
	victim int    // a process of the same user
	self   *os.File
}

func newPlace(t *testing.T, mode Mode, parts Parts) *place {
	t.Helper()
	box, err := open(mode, parts, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(box.Close)
	p := &place{box: box, self: box.self}
	if p.dir, err = os.MkdirTemp("", "hys"); err != nil { // short, for sockets
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(p.dir) })
	p.own, p.key = filepath.Join(p.dir, "own"), filepath.Join(p.dir, "hookyard.key")
	if err := os.Mkdir(p.own, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.key, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	victim := exec.Command("/proc/self/exe", "wait")
	victim.Dir = p.own
	in, err := victim.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	p.victim = victim.Process.Pid
	t.Cleanup(func() { _ = in.Close(); _ = victim.Wait() })
	return p
}

// free tries without the sandbox, confined within it. Both return what came of the
// attempts: nil when one succeeded.
func (p *place) free(t *testing.T, what ...string) []error {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{"attempt"}, what...)...)
	cmd.Dir, cmd.Env = p.own, quickly()
	return outcomes(t, cmd, what, cmd.Start)
}

func (p *place) confined(t *testing.T, plan Plan, more []*os.File, what ...string) []error {
	t.Helper()
	plan.Args, plan.Own = append([]string{"program", "attempt"}, what...), p.own
	cmd, err := p.box.Command(plan, p.self, more...)
	if err != nil {
		t.Fatal(err)
	}
	defer cmd.Release()
	cmd.Env = quickly()
	return outcomes(t, cmd.Cmd, what, cmd.Start)
}

// quickly is the environment: the race detector would keep an ending process for a second.
func quickly() []string { return []string{"GORACE=atexit_sleep_ms=0"} }

func outcomes(t *testing.T, cmd *exec.Cmd, what []string, start func() error) (came []error) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := start(); err != nil {
		t.Fatal(err)
	}
	ended := cmd.Wait()
	for line := range strings.Lines(out.String()) {
		if line = strings.TrimSpace(line); line == "done" {
			came = append(came, nil)
		} else {
			came = append(came, errors.New(line))
		}
	}
	for missing := 1 + count(what, "--") - len(came); missing > 0; missing-- {
		came = append(came, fmt.Errorf("ended: %w: %.300s", ended, errs.String()))
	}
	return came
}

func count(list []string, what string) (n int) {
	for _, s := range list {
		if s == what {
			n++
		}
	}
	return n
}

// third is the plan of a third party's program that was granted nothing.
// The race detector itself takes hundreds of MiB.
func third() Plan {
	l := DefaultLimits()
	l.Memory = 2 << 30
	return Plan{Limits: l}
}

// claims are what docs/security.md says of a third party's process, each with what it
// tries. What needs is how much must be there for it to be refused.
func claims(t *testing.T, p *place) map[string][]string {
	t.Helper()
	victim := strconv.Itoa(p.victim)
	proc := "/proc/" + victim + "/"
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() })
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = udp.Close() })
	stream, err := net.Listen("unix", filepath.Join(p.dir, "stream"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stream.Close() })
	abstract, err := net.Listen("unix", "@hookyard-test-"+victim)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = abstract.Close() })
	dgram, err := net.ListenPacket("unixgram", filepath.Join(p.dir, "dgram"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dgram.Close() })
	for _, name := range []string{"a", "b", "c", "d", "own/own"} {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := func(name string) string { return filepath.Join(p.dir, name) }
	return map[string][]string{
		"read the key file":                      {"read", p.key},
		"read the key file by a way round":       {"read", "/proc/self/root" + p.key},
		"read the hub's folder":                  {"list", p.dir},
		"read a file by its process":             {"read", proc + "cwd/../hookyard.key"},
		"write to the database":                  {"write", in("a")},
		"make a file elsewhere":                  {"create", in("new")},
		"remove a file":                          {"remove", in("b")},
		"move a file into its folder":            {"rename", in("c"), filepath.Join(p.own, "c")},
		"link a file into its folder":            {"link", p.key, filepath.Join(p.own, "l")},
		"make a link that leads elsewhere":       {"symlink", p.key, filepath.Join(p.own, "s")},
		"make a pipe":                            {"mkfifo", filepath.Join(p.own, "f")},
		"cut a file by its name":                 {"truncate", in("d")},
		"cut a file while opening it":            {"cut", in("d")},
		"change a file's mode":                   {"chmod", in("a")},
		"change the mode of what it may read":    {"fchmod", filepath.Join(p.own, "own")},
		"change a file's owner":                  {"chown", in("a")},
		"change a file's time":                   {"chtimes", in("a")},
		"change a file's attributes":             {"xattr", in("a")},
		"watch what happens in the hub's folder": {"watch", p.dir},
		"read another's environment":             {"read", proc + "environ"},
		"read another's memory":                  {"read", proc + "maps"},
		"read another's command line":            {"read", proc + "cmdline"},
		"list processes":                         {"list", "/proc"},
		"trace another":                          {"ptrace", victim},
		"peek into another":                      {"peek", victim},
		"take another's open file":               {"steal", victim},
		"signal another":                         {"signal", victim},
		"signal another's thread":                {"threadsignal", victim},
		"signal another by descriptor":           {"pidfdsignal", victim},
		"signal another by a file":               {"filesignal", victim},
		"limit another":                          {"throttle", victim},
		"slow another down":                      {"demote", victim},
		"pin another to a processor":             {"pin", victim},
		"outlive the hub":                        {"outlive"},
		"leave the group that the hub ends":      {"leave"},
		"run a program beside itself":            {"fork", "/bin/true"},
		"become a program of the system":         {"run", "/bin/echo", "done"},
		"have privileges":                        {"privileges"},
		"dial TCP":                               {"dial", "tcp", tcp.Addr().String()},
		"dial UDP":                               {"dial", "udp", udp.LocalAddr().String()},
		"send a datagram":                        {"send", "udp", udp.LocalAddr().String()},
		"listen on TCP":                          {"listen", "tcp", "127.0.0.1:0"},
		"dial another's socket":                  {"dial", "unix", in("stream")},
		"dial a socket without a file":           {"dial", "unix", "@hookyard-test-" + victim},
		"send to another's socket":               {"send", "unixgram", in("dgram")},
		"ask the kernel for routes":              {"netlink"},
		"call the kernel by a ring":              {"ring"},
		"fill memory":                            {"memory", "3000"},
		"fill shared memory":                     {"shared", "16"},
		"fill memory as a stack":                 {"stack", "16"},
		"keep memory in a file without a name":   {"memfd"},
		"keep memory in a segment":               {"segment"},
		"fill the disk with a file":              {"file", filepath.Join(p.own, "big"), "80"},
		"open files without end":                 {"files", "800"},
	}
}

// alone are attempts after which others could not be judged.
func alone(how string) bool {
	switch how {
	case "run", "files", "memory", "shared", "stack", "leave":
		return true
	}
	return false
}

func TestClaims(t *testing.T) {
	real := offered()
	if why := real.report().Missing(); len(why) > 0 {
		t.Skipf("this system has no sandbox: %q", why)
	}
	t.Logf("as user %d: %+v", os.Getuid(), real)
	for _, abi := range []int{1, 2, 5, real.Files} { // before moving, cutting and signals were seen, and this kernel's
		if abi > real.Files {
			continue
		}
		t.Run(fmt.Sprintf("Landlock %d", abi), func(t *testing.T) {
			parts := real
			parts.Files = abi
			p := newPlace(t, Demand, parts)
			all := claims(t, p)
			var names, together []string
			for name, how := range all {
				if alone(how[0]) {
					judge(t, name, p.confined(t, third(), nil, how...)[0], p.free(t, how...)[0])
					continue
				}
				if names = append(names, name); len(together) > 0 {
					together = append(together, "--")
				}
				together = append(together, how...)
			}
			inside := p.confined(t, third(), nil, together...)
			outside := p.free(t, together...)
			for i, name := range names {
				judge(t, name, inside[i], outside[i])
			}
		})
	}
}

func judge(t *testing.T, name string, inside, outside error) {
	t.Helper()
	if inside == nil {
		t.Errorf("in the sandbox it can %s", name)
	} else if !strings.HasPrefix(inside.Error(), "refused:") {
		t.Errorf("%s: %v", name, inside)
	}
	if outside != nil && (name != "have privileges" || os.Getuid() == 0) {
		t.Errorf("the control of %q: outside it cannot either: %v", name, outside)
	}
}

// The same as another user than root, as a hub is run.
func TestClaimsAsAServiceUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user; TestClaims has just been run by one")
	}
	dir, err := os.MkdirTemp("", "hyu")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	const nobody = 65534
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^(TestClaims|TestGrants|TestThreads|TestHandedOver|TestItDiesWithTheHub)$", "-test.v")
	cmd.Dir, cmd.Env = dir, []string{"TMPDIR=" + dir, "PATH=/usr/bin:/bin", "GORACE=atexit_sleep_ms=0"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "as user 65534") {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

func TestGrants(t *testing.T) {
	p := newPlace(t, Demand, needed(t))
	granted := filepath.Join(p.dir, "granted")
	if err := os.Mkdir(granted, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(granted, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	plan := third()
	plan.Read, plan.Execute = []string{granted, filepath.Join(p.dir, "missing")}, []string{"/bin/true"}
	for _, works := range [][]string{{"read", file}, {"list", granted}, {"fork", "/bin/true"}, {"create", filepath.Join(p.own, "x")},
		{"rename", filepath.Join(p.own, "x"), filepath.Join(p.own, "y")}, {"truncate", filepath.Join(p.own, "y")}, {"remove", filepath.Join(p.own, "y")},
		{"listen", "unix", filepath.Join(p.own, "socket")}, {"memory", "128"}, {"file", filepath.Join(p.own, "z"), "32"}} {
		if err := p.confined(t, plan, nil, works...)[0]; err != nil && (works[0] != "truncate" || p.box.parts.Files >= 3) {
			t.Errorf("%v: %v", works, err)
		}
	}
	for _, fails := range [][]string{{"write", file}, {"read", p.key}, {"fork", "/bin/echo"}, {"list", p.dir}} {
		if err := p.confined(t, plan, nil, fails...)[0]; err == nil {
			t.Errorf("%v: allowed with what was granted", fails)
		}
	}
}

// needed are the kernel's parts, if they are enough.
func needed(t *testing.T) Parts {
	t.Helper()
	parts := offered()
	if why := parts.report().Missing(); len(why) > 0 {
		t.Skipf("this system has no sandbox: %q", why)
	}
	return parts
}

func TestThreads(t *testing.T) {
	parts := needed(t)
	p := newPlace(t, Demand, parts)
	if !parts.Count {
		t.Skipf("threads are not counted for user %d in this world of processes", os.Getuid())
	}
	if err := p.confined(t, third(), nil, "threads", "600")[0]; err == nil {
		t.Error("600 threads were made")
	}
	if err := p.confined(t, third(), nil, "threads", "50")[0]; err != nil {
		t.Error(err)
	}
	if err := p.free(t, "threads", "600")[0]; err != nil {
		t.Error(err)
	}
}

func TestHandedOver(t *testing.T) {
	p := newPlace(t, Demand, needed(t))
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	connection := func() *os.File {
		c, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		f, err := c.(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	if err := p.confined(t, third(), []*os.File{connection()}, "use")[0]; err != nil {
		t.Error(err)
	}
	if err := p.confined(t, third(), []*os.File{connection()}, "again", l.Addr().String())[0]; err == nil {
		t.Error("a connection was taken elsewhere")
	}
	cmd := exec.Command("/proc/self/exe", "attempt", "again", l.Addr().String())
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	cmd.ExtraFiles = []*os.File{null, null, connection()}
	if err := outcomes(t, cmd, nil, cmd.Start)[0]; err != nil {
		t.Errorf("the control: %v", err)
	}
	// What else the hub has open without knowing is not there.
	stray, err := unix.FcntlInt(null.Fd(), unix.F_DUPFD, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(stray) }()
	if err := p.confined(t, third(), nil, "stray", strconv.Itoa(stray))[0]; err == nil {
		t.Error("an open file of the hub's came along")
	}
	if err := p.free(t, "stray", strconv.Itoa(stray))[0]; err != nil {
		t.Errorf("the control: %v", err)
	}
}

// A shipped connector keeps its way out.
func TestShipped(t *testing.T) {
	p := newPlace(t, Demand, needed(t))
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	plan := Plan{Shipped: true}
	for _, works := range [][]string{{"nothing"}, {"dial", "tcp", l.Addr().String()}, {"dial", "udp", "127.0.0.1:9"}, {"read", p.key}, {"create", filepath.Join(p.own, "x")}, {"memory", "3000"}, {"threads", "50"}} {
		if err := p.confined(t, plan, nil, works...)[0]; err != nil {
			t.Errorf("%v: %v", works, err)
		}
	}
	victim := strconv.Itoa(p.victim)
	for _, fails := range [][]string{{"write", p.key}, {"create", filepath.Join(p.dir, "x")}, {"fork", "/bin/true"}, {"run", "/bin/true"}, {"ptrace", victim},
		{"peek", victim}, {"read", "/proc/" + victim + "/environ"}, {"privileges"}, {"world"}, {"ring"}} {
		if err := p.confined(t, plan, nil, fails...)[0]; err == nil {
			t.Errorf("%v: allowed", fails)
		}
	}
}

func TestNotEnough(t *testing.T) {
	for _, parts := range []Parts{{}, {Calls: true}, {Files: 4}} {
		p := newPlace(t, Demand, parts)
		plan := third()
		plan.Args = []string{"program"}
		_, err := p.box.Command(plan, p.self)
		if err == nil || !strings.Contains(err.Error(), "--sandbox=prefer") || !strings.Contains(err.Error(), "cannot be kept from it") {
			t.Errorf("%+v: %v", parts, err)
		}
		plan.Shipped = true
		if _, err := p.box.Command(plan, p.self); err != nil {
			t.Errorf("a shipped one: %v", err)
		}
		p = newPlace(t, Prefer, parts)
		if err := p.confined(t, third(), nil, "nothing")[0]; err != nil {
			t.Errorf("%+v: %v", parts, err)
		}
		if err := p.confined(t, third(), nil, "memory", "3000")[0]; err == nil {
			t.Error("it fills the memory")
		}
	}
}

// A part that the kernel was thought to have and does not give keeps the program from starting.
func TestWhatCannotBeAppliedStartsNothing(t *testing.T) {
	p := newPlace(t, Demand, needed(t))
	plan := third()
	plan.Files = filepath.Join(p.dir, "nowhere")
	if err := p.confined(t, plan, nil, "nothing")[0]; err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("got %v", err)
	}
}

// doomedHost starts a program that waits for ever, says its process and is killed.
func doomedHost() {
	box, err := Open(Prefer)
	if err != nil {
		panic(err)
	}
	plan := third()
	plan.Args, plan.Own = []string{"program", "wait"}, os.Args[2]
	read, write, err := os.Pipe() // whose other end the program has, too: it does not end by itself
	if err != nil {
		panic(err)
	}
	cmd, err := box.Command(plan, box.self, write)
	if err != nil {
		panic(err)
	}
	cmd.Stdin = read
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	fmt.Println(cmd.Process.Pid)
	select {}
}

func TestItDiesWithTheHub(t *testing.T) {
	host := exec.Command("/proc/self/exe", "host", t.TempDir())
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	host.Stderr = os.Stderr
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(pidfd) }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	began := time.Now()
	_ = host.Process.Kill()
	_ = host.Wait()
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 1000)
	if n != 1 || ctx.Err() != nil {
		t.Errorf("it lived on: %v", err)
	}
	t.Logf("it ended %s after the hub", time.Since(began))
}
