package host

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"github.com/hashicorp/go-plugin/runner"
)

// groupRunner runs a plugin for go-plugin: by descriptor, in a process group of its
// own, with a pipe as standard input whose other end only this process holds. When
// that end closes, for whatever reason, the plugin ends.
type groupRunner struct {
	runner.AddrTranslator
	cmd            *exec.Cmd
	stdout, stderr io.ReadCloser
	leash          *os.File
	exited         chan struct{} // closed when the process has been waited for
	name           string
}

// programFD is where the program's file is in the child; a script's interpreter
// opens it from there.
const programFD = 3

// newGroupRunner takes what go-plugin has prepared (the environment) from template.
func newGroupRunner(e *Entry, program *os.File, template *exec.Cmd, env []string, dir string) (*groupRunner, error) {
	read, leash, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{
		Path:        "/proc/self/fd/" + strconv.Itoa(programFD),
		Args:        append([]string{e.Path}, e.Args...),
		Env:         append(env, template.Env...),
		Dir:         dir,
		Stdin:       read,
		ExtraFiles:  []*os.File{program},
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	r := &groupRunner{AddrTranslator: sameSystem{}, cmd: cmd, leash: leash, exited: make(chan struct{}), name: e.Name}
	if r.stdout, err = cmd.StdoutPipe(); err == nil {
		r.stderr, err = cmd.StderrPipe()
	}
	if err != nil {
		r.closePipes()
		return nil, err
	}
	return r, nil
}

// Start implements runner.Runner.
func (r *groupRunner) Start(context.Context) error {
	err := r.cmd.Start()
	_ = r.cmd.Stdin.(*os.File).Close() // the child has its own
	if err != nil {
		r.closePipes()
	}
	return err
}

func (r *groupRunner) closePipes() {
	_ = r.cmd.Stdin.(*os.File).Close()
	_ = r.leash.Close()
	if r.stdout != nil {
		_ = r.stdout.Close()
	}
	if r.stderr != nil {
		_ = r.stderr.Close()
	}
}

// Wait implements runner.Runner.
func (r *groupRunner) Wait(context.Context) error {
	err := r.cmd.Wait()
	_ = r.leash.Close()
	close(r.exited)
	return err
}

// Release lets go of the plugin, which ends at once if it is well.
func (r *groupRunner) Release() { _ = r.leash.Close() }

// Kill implements runner.Runner: the whole group ends.
func (r *groupRunner) Kill(context.Context) error {
	if r.cmd.Process == nil {
		return nil
	}
	if err := syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// Stdout implements runner.Runner.
func (r *groupRunner) Stdout() io.ReadCloser { return r.stdout }

// Stderr implements runner.Runner.
func (r *groupRunner) Stderr() io.ReadCloser { return r.stderr }

// Name implements runner.Runner.
func (r *groupRunner) Name() string { return r.name }

// ID implements runner.Runner.
func (r *groupRunner) ID() string {
	if r.cmd.Process == nil {
		return ""
	}
	return strconv.Itoa(r.cmd.Process.Pid)
}

// Diagnose implements runner.Runner.
func (r *groupRunner) Diagnose(context.Context) string {
	return "Is it a Hookyard plugin for this system, executable by this user?"
}

// sameSystem says that plugin and host see the same files.
type sameSystem struct{}

func (sameSystem) PluginToHost(network, addr string) (string, string, error) {
	return network, addr, nil
}

func (sameSystem) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}
