package host

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/plugins"
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
	box         *sandbox.Box // once started
	// Changed is told, if it is set, when a connector of an organization goes into
	// quarantine or comes out of it: see Ready. It must not block for long.
	Changed func(organization string)

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

// Supervisor runs the connectors of a catalog, and those of third parties that are
// wanted at the time.
type Supervisor struct {
	cfg   Config
	table atomic.Pointer[table]
	dir   string
	wg    sync.WaitGroup

	mu     sync.Mutex // of what changes the table
	run    context.Context
	cancel context.CancelFunc
	lock   *os.File // of dir
	closed bool
}

// table is immutable.
type table struct {
	list  []*connector // the catalog's order, then as they came; those that are on their way out, too
	byKey map[string]*connector
}

// New checks the catalog; nothing runs yet.
func New(cfg Config) (*Supervisor, error) {
	cfg.defaults()
	if cfg.Changed == nil {
		cfg.Changed = func(string) {}
	}
	s := &Supervisor{cfg: cfg}
	t := &table{byKey: map[string]*connector{}}
	for _, e := range cfg.Catalog {
		key := e.Key()
		if e.Name == "" || t.byKey[key] != nil {
			return nil, fmt.Errorf("the catalog has two connectors called %q, or one without a name", e.Name)
		}
		t.add(key, newConnector(&s.cfg, e))
	}
	s.table.Store(t)
	return s, nil
}

func (t *table) add(key string, c *connector) {
	t.list = append(t.list, c)
	t.byKey[key] = c
}

func (t *table) clone() *table {
	return &table{slices.Clone(t.list), maps.Clone(t.byKey)}
}

// Start starts all processes but those on demand, and returns when each is up or has failed
// once, or when ctx ends. A connector that fails is no error: see Stats. Items may be handed over
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
	s.mu.Lock()
	s.dir = dir
	if s.lock, err = lockFolder(dir); err == nil {
		s.cfg.box, err = sandbox.Open(s.cfg.Sandbox)
	}
	if err != nil {
		s.mu.Unlock()
		_ = os.RemoveAll(dir)
		return err
	}
	s.tellSandbox()
	s.run, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	list := s.table.Load().list
	for _, c := range list {
		s.start(c)
	}
	s.mu.Unlock()
	for _, c := range list {
		if c.entry.OnDemand {
			continue
		}
		select {
		case <-c.tried:
		case <-ctx.Done():
			return fmt.Errorf("wait for the connectors: %w", ctx.Err())
		}
	}
	return nil
}

// start is called with the mutex held.
func (s *Supervisor) start(c *connector) {
	var run context.Context
	run, c.cancel = context.WithCancel(s.run)
	s.wg.Go(func() {
		defer close(c.ended)
		c.run(run, s.dir)
	})
}

// Want replaces the third parties' connectors of an organization: what is new is
// started, what is there already goes on, and the rest finishes what is in flight and
// ends. It does not wait.
func (s *Supervisor) Want(organization string, entries []Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil || s.closed {
		return
	}
	next := s.table.Load().clone()
	wanted := map[string]bool{}
	for _, e := range entries {
		key := e.Key()
		wanted[key] = true
		if c := next.byKey[key]; c != nil {
			c.update(e)
			continue
		}
		c := newConnector(&s.cfg, e)
		next.add(key, c)
		s.start(c)
	}
	for key, c := range next.byKey {
		if c.entry.Package != nil && c.entry.Organization == organization && !wanted[key] {
			delete(next.byKey, key)
			s.wg.Go(func() { s.retire(c) })
		}
	}
	s.table.Store(next)
}

// handOver is how long a connector that is no longer wanted still takes what was meant
// for it when that was decided.
const handOver = 2 * time.Second

// retire lets a connector finish and ends it.
func (s *Supervisor) retire(c *connector) {
	lag := s.cfg.Clock.NewTimer(handOver)
	defer lag.Stop()
	select {
	case <-lag.Chan():
	case <-s.run.Done():
	}
	c.drain(errReplaced)
	_ = c.idle(s.run) // every item has a time limit, so that this ends
	c.cancel()
	<-c.ended
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.table.Load().clone()
	next.list = slices.DeleteFunc(next.list, func(o *connector) bool { return o == c })
	s.table.Store(next)
}

// Ready says whether a connector's process takes deliveries, now or as soon as it has
// started again; in quarantine it does not.
func (s *Supervisor) Ready(key string) bool {
	c := s.table.Load().byKey[key]
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state != Quarantined
}

// Close takes nothing new, waits until what is in flight is answered or ctx ends,
// and then ends the processes; what is left is answered as if they had died.
func (s *Supervisor) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	if s.cancel == nil {
		return nil
	}
	var err error
	list := s.table.Load().list
	for _, c := range list {
		c.drain(errStopping)
	}
	for _, c := range list {
		if e := c.idle(ctx); e != nil {
			err = fmt.Errorf("wait for deliveries in flight: %w", e)
		}
	}
	s.cancel()
	s.wg.Wait()
	s.cfg.box.Close()
	_ = os.RemoveAll(s.dir)
	_ = s.lock.Close()
	return err
}

// Sandbox says what holds on this system for third parties' connectors, once started.
func (s *Supervisor) Sandbox() sandbox.Report { return s.cfg.box.Report() }

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

// Deliver hands one item to a connector, named by its Key; ep is what d.Endpoint names.
// It never waits. done is called exactly once, from another goroutine; it must not block.
func (s *Supervisor) Deliver(key string, ep connectors.Endpoint, d connectors.Delivery, done func(connectors.Result)) {
	c := s.table.Load().byKey[key]
	if c == nil {
		go done(s.missing(key, d.ID))
		return
	}
	c.deliver(ep, d, done)
}

// missing answers for a connector that is not there: a shipped one is missing for good,
// a third party's was taken away while the item was on its way.
func (s *Supervisor) missing(key, id string) connectors.Result {
	if strings.Contains(key, "@") {
		return plugins.Broken(id, s.cfg.Clock.Now(), 0, errReplaced.Error())
	}
	return connectors.Result{DeliveryID: id, Outcome: connectors.Retry, Fault: connectors.FaultSettings, Started: s.cfg.Clock.Now(), Error: unknown(key).Error()}
}

// Forget tells a connector's process that an endpoint is gone.
func (s *Supervisor) Forget(key, endpointID string) {
	c := s.table.Load().byKey[key]
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

func unknown(key string) error {
	name, _, _ := strings.Cut(key, "@")
	return fmt.Errorf("this hub has no connector called %q; an operator can add it to the catalog", name)
}
