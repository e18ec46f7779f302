package host

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/plugins"
	wirev1 "github.com/hookyard/hookyard/plugins/wire/v1"
)

// leaveTime is how long a process that was let go of may take to end.
const leaveTime = time.Second

// process is one start of one connector. It is never started again.
type process struct {
	session *plugins.Session
	about   plugins.Description
	spec    connectors.Spec
	client  *goplugin.Client
	runner  *groupRunner
	dir     string
}

// startProcess returns when the connector has described itself and its session is
// open, or has failed to within the limit.
func startProcess(ctx context.Context, cfg *Config, e *Entry, dir string, log *slog.Logger) (_ *process, err error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.StartTimeout)
	defer cancel()
	program, done, err := e.open()
	if err != nil {
		return nil, err
	}
	defer done()
	p := &process{}
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
			r, err := newGroupRunner(e, program, template, environment(cfg.Env), socketDir)
			p.runner, p.dir = r, socketDir
			return r, err
		},
	})
	defer func() {
		if err != nil {
			p.stop(false)
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
	if p.spec.Name != e.Name || e.Version != "" && p.spec.Version != e.Version {
		return nil, fmt.Errorf("it is %q version %q, the catalog says %q version %q", p.spec.Name, p.spec.Version, e.Name, e.Version)
	}
	p.session, err = plugins.NewSession(service, plugins.SessionConfig{
		HostVersion: cfg.HostVersion, Log: log, Clock: cfg.Clock, DefaultTimeout: defaultTimeout, Grace: grace,
		Memory: cfg.Memory, Spec: p.spec})
	return p, err
}

// stop ends the process, what it leaves unanswered is answered, and nothing remains.
// A healthy one is given a moment to end by itself.
func (p *process) stop(healthy bool) {
	defer func() { _ = os.RemoveAll(p.dir) }()
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

// environment is all that a process sees of the hub's.
func environment(more []string) []string {
	env := []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	for _, name := range []string{"TZ", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "GOMEMLIMIT", "GOGC"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return append(env, more...)
}
