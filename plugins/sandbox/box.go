package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// Mode is what the operator wants of the sandbox.
type Mode string

// The modes.
const (
	// Demand runs third parties' connectors only where all that keeps them from the hub's
	// data and from the network is there.
	Demand Mode = "demand"
	// Prefer applies what there is, and runs them in any case.
	Prefer Mode = "prefer"
	// Off applies nothing, and needs no Main: for tests of connectors.
	Off Mode = "off"
)

// word is the argument by which this program knows that it was started as the launcher.
const word = "sandbox"

// Says begins the line on standard error in which the launcher says why it did not become
// the program.
const Says = "hookyard sandbox: "

// Main becomes the connector when this process was started as the launcher; otherwise it
// does nothing. Programs that have a Box call it first of all.
func Main() {
	if len(os.Args) == 3 && os.Args[1] == word {
		fmt.Fprintf(os.Stderr, "%s%v\n", Says, become(os.Args[2]))
		os.Exit(1)
	}
}

// Box starts processes in the sandbox.
type Box struct {
	self   *os.File // this program, as it was when the hub started
	parts  Parts
	groups *cgroups // nil: none are delegated
	mode   Mode
	starts chan start
	once   sync.Once
	quit   chan struct{} // closed by Close
	done   chan struct{} // closed when the thread has ended
}

type start struct {
	cmd *exec.Cmd
	err chan error
}

// Cmd is a process in the sandbox. Call Start instead of that of the exec.Cmd, and
// Release when it has ended or was not started.
type Cmd struct {
	*exec.Cmd
	box   *Box
	group *group
}

// Open finds out what the system offers.
func Open(mode Mode) (*Box, error) {
	parts := offered()
	groups, _ := delegated() // the report says that there are none
	parts.Group = groups != nil
	return open(mode, parts, groups)
}

func open(mode Mode, parts Parts, groups *cgroups) (*Box, error) {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, fmt.Errorf("open this program to start connectors with it: %w", err)
	}
	b := &Box{self: self, parts: parts, groups: groups, mode: mode, starts: make(chan start), quit: make(chan struct{}), done: make(chan struct{})}
	go b.run()
	return b, nil
}

// run starts all processes from one thread, which lives as long as the Box does: the
// kernel ends a process with the thread that started it.
func (b *Box) run() {
	runtime.LockOSThread() // never unlocked: the thread ends with this function
	defer close(b.done)
	for {
		select {
		case s := <-b.starts:
			s.err <- s.cmd.Start()
		case <-b.quit:
			return
		}
	}
}

// Close ends what is still running, at once.
func (b *Box) Close() {
	b.once.Do(func() {
		close(b.quit)
		<-b.done
		_ = b.self.Close()
	})
}

// Command prepares the start of program under the plan, with more handed to it as its
// files from MoreFD on. Host and Parts of the plan are filled in here.
func (b *Box) Command(p Plan, program *os.File, more ...*os.File) (*Cmd, error) {
	if b.mode == Off {
		return &Cmd{box: b, Cmd: &exec.Cmd{
			Path: fmt.Sprintf("/proc/self/fd/%d", programFD), Args: p.Args, Dir: p.Own,
			ExtraFiles: append([]*os.File{b.self, program}, more...), SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
		}}, nil
	}
	if !p.Shipped {
		if missing := b.Report().Missing(); len(missing) > 0 && b.mode != Prefer {
			return nil, fmt.Errorf("third parties' connectors are not run on this system, which cannot keep them apart: %s; an operator can run them nevertheless with --sandbox=%s",
				strings.Join(missing, "; "), Prefer)
		}
	}
	p.Host, p.Parts, p.More = os.Getpid(), b.parts, len(more)
	text, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("write the sandbox's plan: %w", err)
	}
	c := &Cmd{box: b, Cmd: &exec.Cmd{
		Path:        fmt.Sprintf("/proc/self/fd/%d", selfFD),
		Args:        []string{p.Args[0], word, string(text)},
		Dir:         p.Own,
		ExtraFiles:  append([]*os.File{b.self, program}, more...),
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}}
	if b.groups != nil && !p.Shipped {
		if c.group, err = b.groups.make(p.Limits); err != nil {
			return nil, err
		}
		c.group.enter(c.SysProcAttr)
	}
	return c, nil
}

// Start starts the process. It ends when the Box is closed, or the hub dies.
func (c *Cmd) Start() error {
	s := start{c.Cmd, make(chan error, 1)}
	select {
	case c.box.starts <- s:
		return <-s.err
	case <-c.box.done:
		return errors.New("the sandbox is closed")
	}
}

// Release gives back what was made for the process.
func (c *Cmd) Release() {
	if c.group != nil {
		c.group.remove()
	}
}
