package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/hashicorp/go-plugin/runner"

	"github.com/hookyard/hookyard/plugins/sandbox"
)

// groupRunner runs a plugin for go-plugin: by descriptor, in a process group of its
// own, with a pipe as standard input whose other end only this process holds. When
// that end closes, for whatever reason, the plugin ends.
type groupRunner struct {
	runner.AddrTranslator
	cmd    *sandbox.Cmd
	stdout io.ReadCloser
	stderr *throttled
	leash  *os.File
	exited chan struct{} // closed when the process has been waited for
	name   string
	handed []*os.File // the process's, once it has started
}

// newGroupRunner makes a runner of cmd, with what go-plugin has prepared for it (env). It
// takes over cmd and what is handed to the process.
func newGroupRunner(name string, cmd *sandbox.Cmd, env []string, handed []*os.File) (_ *groupRunner, err error) {
	read, leash, err := os.Pipe()
	if err != nil {
		cmd.Release()
		closeAll(handed)
		return nil, err
	}
	cmd.Env, cmd.Stdin = env, read
	r := &groupRunner{AddrTranslator: inFolder(cmd.Dir), cmd: cmd, leash: leash, exited: make(chan struct{}), name: name, handed: append(handed, read)}
	var stderr io.ReadCloser
	if r.stdout, err = cmd.StdoutPipe(); err == nil {
		stderr, err = cmd.StderrPipe()
	}
	if err != nil {
		r.notStarted()
		return nil, err
	}
	r.stderr = throttle(stderr)
	return r, nil
}

// Start implements runner.Runner.
func (r *groupRunner) Start(context.Context) error {
	err := r.cmd.Start()
	closeAll(r.handed) // the child has its own
	r.handed = nil
	if err != nil {
		r.notStarted()
	}
	return err
}

func (r *groupRunner) notStarted() {
	closeAll(r.handed)
	_ = r.leash.Close()
	if r.stdout != nil {
		_ = r.stdout.Close()
	}
	if r.stderr != nil {
		_ = r.stderr.Close()
	}
	r.cmd.Release()
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// Wait implements runner.Runner.
func (r *groupRunner) Wait(context.Context) error {
	err := r.cmd.Wait()
	r.cmd.Release()
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
	r.stderr.release()
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

// inFolder says that plugin and host see the same files. The host connects to nothing but
// a socket in the process's folder, whatever the process says that its address is.
type inFolder string

func (f inFolder) PluginToHost(network, addr string) (string, string, error) {
	if network != "unix" || filepath.Dir(addr) != string(f) {
		return "", "", fmt.Errorf("it wants to be talked to at %s %s, which is no socket in its folder", network, addr)
	}
	return network, addr, isSocket(addr)
}

func (inFolder) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}
