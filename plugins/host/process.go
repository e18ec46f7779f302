package host

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/plugins"
	"github.com/hookyard/hookyard/plugins/sandbox"
	wirev1 "github.com/hookyard/hookyard/plugins/wire/v1"
)

// leaveTime is how long a process that was let go of may take to end.
const leaveTime = time.Second

// process is one start of one connector. It is never started again.
type process struct {
	launch  *Launch
	session *plugins.Session
	about   plugins.Description
	spec    connectors.Spec
	client  *goplugin.Client
	runner  *groupRunner
	dir     folder
	gate    *plugins.Gate // nil: it makes its connections itself
}

// startProcess returns when the connector has described itself and its session is
// open, or has failed to within the limit. lost is the session's.
func startProcess(ctx context.Context, cfg *Config, e *Entry, dir string, log *slog.Logger, lost func([]string, int) string) (_ *process, err error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.StartTimeout)
	defer cancel()
	launch, err := e.launch(dir)
	if err != nil {
		return nil, err
	}
	defer launch.Started()
	p := &process{launch: launch}
	p.client = goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  plugins.Handshake(),
		VersionedPlugins: plugins.Versions(),
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		StartTimeout:     cfg.StartTimeout,
		Logger:           bridge(log),
		GRPCDialOptions:  plugins.DialOptions(),
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: dir},
		RunnerFunc: func(_ hclog.Logger, template *exec.Cmd, socketDir string) (runner.Runner, error) {
			p.dir = folder(socketDir)
			r, err := p.confine(cfg.box, launch, append(environment(cfg.Env, socketDir), template.Env...))
			if err != nil {
				return nil, err
			}
			p.runner = r
			return r, nil
		},
	})
	defer func() {
		if err != nil {
			p.stop(false)
			if p.runner != nil {
				if why := p.runner.stderr.complaint(); why != "" {
					err = fmt.Errorf("start the program: %s", why)
				}
			}
		}
	}()
	if _, err = p.client.Start(); err != nil {
		return nil, fmt.Errorf("start the program: %w", err)
	}
	// go-plugin knows no deadline from here on: a process that says nothing is killed,
	// which ends whatever waits for it.
	watchdog := context.AfterFunc(ctx, func() { _ = p.runner.Kill(context.Background()) })
	defer watchdog()
	conn, err := p.client.Client()
	if err != nil {
		return nil, fmt.Errorf("connect to the process: %w", err)
	}
	raw, err := conn.Dispense(plugins.ServiceName)
	if err != nil {
		return nil, fmt.Errorf("connect to the process: %w", err)
	}
	service := raw.(wirev1.PluginClient)
	if p.about, err = plugins.Describe(ctx, service); err != nil {
		return nil, err
	}
	p.spec = p.about.Spec
	if launch.Name != "" && p.spec.Name != launch.Name || launch.Version != "" && p.spec.Version != launch.Version {
		return nil, fmt.Errorf("it is %q version %q, the catalog says %q version %q", p.spec.Name, p.spec.Version, launch.Name, launch.Version)
	}
	p.session, err = plugins.NewSession(service, plugins.SessionConfig{
		HostVersion: cfg.HostVersion, Log: log, Clock: cfg.Clock, DefaultTimeout: defaultTimeout, Grace: grace,
		Memory: cfg.Memory, Spec: p.spec, Lost: lost})
	if err == nil && p.gate != nil {
		p.gate.Serve(p.session.Given)
	}
	return p, err
}

// confine prepares the process: a shipped connector makes its own connections, a third
// party's asks for them.
func (p *process) confine(box *sandbox.Box, l *Launch, env []string) (*groupRunner, error) {
	plan := sandbox.Plan{Args: append([]string{l.Path}, l.Args...), Own: string(p.dir), Shipped: l.Shipped, Files: l.Files,
		Read: l.Grants.Paths, Execute: l.Grants.Executables, Limits: sandbox.DefaultLimits()}
	var more []*os.File
	if !plan.Shipped {
		gate, theirs, err := plugins.NewGate(l.Grants.Egress, l.Dial, nil, p.dir.dial)
		if err != nil {
			return nil, err
		}
		p.gate, more = gate, []*os.File{theirs}
		env = append(env, plugins.DialFDEnv+"="+strconv.Itoa(sandbox.MoreFD))
	}
	cmd, err := box.Command(plan, l.Program, more...)
	if err != nil {
		closeAll(more)
		return nil, err
	}
	return newGroupRunner(l.Name, cmd, env, more)
}

// stop ends the process, what it leaves unanswered is answered, and nothing remains.
// A healthy one is given a moment to end by itself.
func (p *process) stop(healthy bool) {
	defer func() {
		_ = os.RemoveAll(string(p.dir))
		p.launch.Close()
	}()
	if p.gate != nil {
		p.gate.Close()
	}
	if p.session != nil {
		p.session.Close()
	}
	if p.runner == nil {
		return
	}
	p.runner.Release()
	if healthy {
		late := time.NewTimer(leaveTime)
		select {
		case <-p.runner.exited:
		case <-late.C:
		}
		late.Stop()
	}
	// The group outlives its leader if the connector started processes of its own.
	_ = p.runner.Kill(context.Background())
	p.client.Kill()
}

// overfull says whether a third party's process has written more than it may.
func (p *process) overfull() error {
	if p.gate == nil {
		return nil
	}
	return p.dir.overfull(p.runner.cmd.Process.Pid, sandbox.DefaultLimits().Disk)
}

// environment is all that a process sees of the hub's; dir is where it works.
func environment(more []string, dir string) []string {
	env := []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + dir, "TMPDIR=" + dir}
	for _, name := range []string{"TZ", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "GOMEMLIMIT", "GOGC"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return append(env, more...)
}
