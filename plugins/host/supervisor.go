package host

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/plugins/sandbox"
)

const (
	defaultTimeout = 30 * time.Second // of items without one
	grace          = 2 * time.Second  // what an item may take beyond its timeout
)

// longestDir leaves room for go-plugin's names in the 107 bytes of a socket's path.
const longestDir = 107 - len("/plugin-dir0123456789/plugin0123456789")

// Config is what a Supervisor needs. A zero duration is the default named beside it.
type Config struct {
	Catalog     []Entry
	Logger      *slog.Logger
	Clock       clockwork.Clock
	HostVersion string
	TempDir     string       // where sockets live; "" is the system's; keep it short (a socket's path has 108 bytes)
	Env         []string     // what every process sees besides the short list, "NAME=value"
	Sandbox     sandbox.Mode // "" is Demand

	// Memory is where what connectors keep is kept; nil: they can keep nothing.
	Memory connectors.Memory

	StartTimeout time.Duration // 10 s
	PingEvery    time.Duration // 1 s
	PingTimeout  time.Duration // 5 s without a sign of life: the process hangs
	BackoffMin   time.Duration // 100 ms before the second start, then doubling …
	BackoffMax   time.Duration // … to 30 s
}

func (c *Config) defaults() {
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{{&c.StartTimeout, 10 * time.Second}, {&c.PingEvery, time.Second}, {&c.PingTimeout, 5 * time.Second},
		{&c.BackoffMin, 100 * time.Millisecond}, {&c.BackoffMax, 30 * time.Second}} {
		if *d.v <= 0 {
			*d.v = d.d
		}
	}
}

// Supervisor runs the connectors of a catalog.
type Supervisor struct {
	cfg    Config
	list   []*connector
	byName map[string]*connector
	cancel context.CancelFunc
	dir    string
	lock   *os.File // of dir
	box    *sandbox.Box
	wg     sync.WaitGroup
}

// New checks the catalog; nothing runs yet.
func New(cfg Config) (*Supervisor, error) {
	cfg.defaults()
	s := &Supervisor{cfg: cfg, byName: map[string]*connector{}}
	for _, e := range cfg.Catalog {
		if e.Name == "" || s.byName[e.Name] != nil {
			return nil, fmt.Errorf("the catalog has two connectors called %q, or one without a name", e.Name)
		}
		c := &connector{entry: e, cfg: &s.cfg, log: limited(cfg.Logger.With("connector", e.Name), cfg.Clock),
			state: Starting, tried: make(chan struct{})}
		s.list = append(s.list, c)
		s.byName[e.Name] = c
	}
	return s, nil
}

// Start starts all processes and returns when each is up or has failed once, or when
// ctx ends. A connector that fails is no error: see Stats. Items may be handed over
// before Start returns.
func (s *Supervisor) Start(ctx context.Context) error {
	sweep(filepath.Join(cmp.Or(s.cfg.TempDir, os.TempDir()), "hookyard-[0-9]*"), s.cfg.Clock.Now().Add(-time.Minute))
	dir, err := os.MkdirTemp(s.cfg.TempDir, "hookyard-")
	if err != nil {
		return fmt.Errorf("make a folder for the connectors' sockets: %w", err)
	}
	if len(dir) > longestDir {
		_ = os.RemoveAll(dir)
		return fmt.Errorf("the folder %s is too long for a socket's path: set a temporary folder of at most %d bytes", dir, longestDir)
	}
	s.dir = dir
	if s.lock, err = lockFolder(dir); err != nil {
		_ = os.RemoveAll(dir)
		return err
	}
	if s.box, err = sandbox.Open(s.cfg.Sandbox); err != nil {
		_ = os.RemoveAll(dir)
		return err
	}
	s.tellSandbox()
	var run context.Context
	run, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for _, c := range s.list {
		s.wg.Go(func() { c.run(run, s.box, dir) })
	}
	for _, c := range s.list {
		select {
		case <-c.tried:
		case <-ctx.Done():
			return fmt.Errorf("wait for the connectors: %w", ctx.Err())
		}
	}
	return nil
}

// Close takes nothing new, waits until what is in flight is answered or ctx ends,
// and then ends the processes; what is left is answered as if they had died.
func (s *Supervisor) Close(ctx context.Context) error {
	if s.cancel == nil {
		return nil
	}
	var err error
	for _, c := range s.list {
		c.drain()
	}
	for _, c := range s.list {
		if e := c.idle(ctx); e != nil {
			err = fmt.Errorf("wait for deliveries in flight: %w", e)
		}
	}
	s.cancel()
	s.wg.Wait()
	s.box.Close()
	_ = os.RemoveAll(s.dir)
	_ = s.lock.Close()
	return err
}

// Sandbox says what holds on this system for third parties' connectors, once started.
func (s *Supervisor) Sandbox() sandbox.Report { return s.box.Report() }

// tellSandbox logs that once.
func (s *Supervisor) tellSandbox() {
	for _, p := range s.Sandbox().Parts {
		level := slog.LevelInfo
		if !p.Active {
			level = slog.LevelWarn
		}
		s.cfg.Logger.Log(context.Background(), level, "sandbox of third parties' connectors", "part", p.Name, "active", p.Active, "by", p.How)
	}
}

// Deliver hands one item to a connector; ep is what d.Endpoint names. It never waits.
// done is called exactly once, from another goroutine; it must not block.
func (s *Supervisor) Deliver(name string, ep connectors.Endpoint, d connectors.Delivery, done func(connectors.Result)) {
	c := s.byName[name]
	if c == nil {
		go done(connectors.Result{DeliveryID: d.ID, Outcome: connectors.Retry, Fault: connectors.FaultSettings, Started: s.cfg.Clock.Now(), Error: unknown(name).Error()})
		return
	}
	c.deliver(ep, d, done)
}

// Forget tells a connector's process that an endpoint is gone.
func (s *Supervisor) Forget(name, endpointID string) {
	c := s.byName[name]
	if c == nil {
		return
	}
	c.mu.Lock()
	p := c.process
	c.mu.Unlock()
	if p != nil {
		p.session.Forget(endpointID)
	}
}

func unknown(name string) error {
	return fmt.Errorf("this hub has no connector called %q; an operator can add it to the catalog", name)
}
