// Package plugintest runs the conformance suite of connectors over a real process, as the
// hub runs it: started by the host, spoken to with mutual TLS, supervised.
//
// A connector in Go has its test binary be the process, too:
//
//	func TestMain(m *testing.M) {
//		if plugintest.IsPlugin() {
//			plugins.Serve(acme.Connector{})
//			return
//		}
//		os.Exit(m.Run())
//	}
//
//	func TestConformanceOfTheProcess(t *testing.T) {
//		plugintest.Run(t, plugintest.Self("acme"))
//	}
//
// One in another language gives its program, or its interpreter's script.
package plugintest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/connectortest"
	"github.com/hookyard/hookyard/plugins"
	"github.com/hookyard/hookyard/plugins/host"
	"github.com/hookyard/hookyard/plugins/sandbox"
)

// Command is how a connector's process is started.
type Command struct {
	Name string // the connector's, as its Spec says
	Path string // of the program, or of a script that begins with "#!"
	Args []string
}

// selfArgument tells a test binary that it is a plugin.
const selfArgument = "plugintest-is-plugin"

// Self is the running test binary, started once more; see IsPlugin.
func Self(name string) Command {
	return Command{Name: name, Path: "/proc/self/exe", Args: []string{selfArgument}}
}

// IsPlugin says whether this process is one that Self has started.
func IsPlugin() bool { return slices.Contains(os.Args, selfArgument) }

// Run starts the connector and runs connectortest's suite through its process.
func Run(t *testing.T, c Command, options ...connectortest.Option) {
	connectortest.Run(t, Start(t, c), append(options, connectortest.Remote())...)
}

// Start starts the connector for the time of the test, and returns it as the hub would see
// it: all abilities are there, and those that its Spec states work.
func Start(t testing.TB, c Command) *Connector {
	t.Helper()
	memory := connectortest.NewMemory()
	log := slog.New(slog.NewTextHandler(writer{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := host.New(host.Config{Catalog: []host.Entry{entry(t, c)}, Logger: log, Clock: clockwork.NewRealClock(), HostVersion: "0.0.0-test",
		Memory: memory, StartTimeout: 30 * time.Second, Sandbox: sandbox.Off})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		given, cancel := context.WithCancel(context.Background())
		cancel() // what a test has left is not waited for
		_ = s.Close(given)
	})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	about, ok := s.Description(c.Name)
	if !ok {
		t.Fatalf("the connector did not start: %s", s.Stats()[0].LastError)
	}
	return &Connector{Connector: s.Remote(c.Name, about), Memory: memory, s: s, key: c.Name}
}

func entry(t testing.TB, c Command) host.Entry {
	t.Helper()
	b, err := os.ReadFile(c.Path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return host.Entry{Name: c.Name, Path: c.Path, Args: c.Args, SHA256: hex.EncodeToString(sum[:])}
}

// writer writes the connector's log into the test's.
type writer struct{ t testing.TB }

func (w writer) Write(p []byte) (int, error) {
	w.t.Logf("%s", p)
	return len(p), nil
}

// Connector is a connector in a process of its own.
type Connector struct {
	connectors.Connector                       // its pure abilities
	Memory               *connectortest.Memory // what it keeps
	s                    *host.Supervisor
	key                  string
}

// Formats implements connectors.FormatProvider.
func (c *Connector) Formats() []connectors.Format {
	return c.Connector.(connectors.FormatProvider).Formats()
}

// Receivers implements connectors.ReceiverProvider.
func (c *Connector) Receivers() []connectors.Receiver {
	return c.Connector.(connectors.ReceiverProvider).Receivers()
}

// Triggers implements connectors.TriggerProvider.
func (c *Connector) Triggers() []connectors.Trigger {
	return c.Connector.(connectors.TriggerProvider).Triggers()
}

// opened lets an endpoint of a test be on this machine.
func opened(e connectors.Endpoint) connectors.Endpoint {
	if len(e.Dial.Open) == 0 {
		e.Dial.Open = []string{"127.0.0.0/8", "::1/128"}
	}
	return e
}

// Deliver implements connectors.Deliverer. It gives up when ctx ends, as the hub does.
func (c *Connector) Deliver(ctx context.Context, h connectors.Host, items []connectors.Delivery, done func(connectors.Result)) error {
	answers := make(chan connectors.Result, len(items))
	open := map[string]bool{}
	for _, d := range items {
		e, known := h.Endpoint(d.Endpoint)
		if !known {
			e = connectors.Endpoint{Ref: d.Endpoint, ID: d.Endpoint}
		}
		open[d.ID] = true
		c.s.Deliver(c.key, opened(e), d, func(r connectors.Result) { answers <- r })
	}
	for len(open) > 0 {
		select {
		case r := <-answers:
			delete(open, r.DeliveryID)
			done(r)
		case <-ctx.Done():
			for id := range open {
				done(plugins.Broken(id, time.Now(), 0, "given up"))
			}
			return nil
		}
	}
	return nil
}

// Check implements connectors.Checker.
func (c *Connector) Check(ctx context.Context, _ connectors.Host, e connectors.Endpoint) error {
	return c.s.Check(ctx, c.key, opened(e))
}

// Poll implements connectors.Poller.
func (c *Connector) Poll(ctx context.Context, _ connectors.Host, p connectors.Poll) (connectors.Polled, error) {
	p.Source = opened(p.Source)
	return c.s.Poll(ctx, c.key, p)
}

// Enrich implements connectors.Enricher.
func (c *Connector) Enrich(ctx context.Context, _ connectors.Host, e connectors.Enrichment) (connectors.Document, error) {
	e.Source = opened(e.Source)
	return c.s.Enrich(ctx, c.key, e)
}

// Scan implements connectors.Scanner.
func (c *Connector) Scan(ctx context.Context, _ connectors.Host, job connectors.ScanJob, tell func(connectors.ScanNews) error) error {
	job.Scanner = opened(job.Scanner)
	return c.s.Scan(ctx, c.key, job, tell)
}
