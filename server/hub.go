// Package server is the program: read Hub and you have read the system.
//
//	source --HTTP/GraphQL--> ingest --> route --> ledger.Accept --> 2xx
//	                                      |  handed over in memory
//	                                      v
//	                         dispatch --> plugin process --> the outside world
//	                                      |
//	                                      v
//	                         ledger.Record --> watch --> live subscribers
//
// Place: on top of all parts. It opens them, wires them and runs them; the parts know
// each other only through the interfaces that they declare and the structs of flow.
//
// Guarantees: a hub that says it is ready can take and deliver events; a clean shutdown
// refuses new work first, finishes or hands back what is in flight, and leaves the rest
// in the ledger; an unclean one loses nothing that was accepted.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/builtin"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/secret"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/graph"
	"github.com/hookyard/hookyard/plugins"
	"github.com/hookyard/hookyard/plugins/host"
	"github.com/hookyard/hookyard/server/auth"
	"github.com/hookyard/hookyard/server/dispatch"
	"github.com/hookyard/hookyard/server/flow"
	"github.com/hookyard/hookyard/server/ingest"
	"github.com/hookyard/hookyard/server/ledger"
	"github.com/hookyard/hookyard/server/presence"
	"github.com/hookyard/hookyard/server/trigger"
	"github.com/hookyard/hookyard/server/watch"
)

// Options are what a program that embeds a hub, or a test, may replace.
type Options struct {
	Log   *slog.Logger    // nil: slog.Default()
	Clock clockwork.Clock // nil: the real one
	// Connectors that run in processes of this very program; nil: all that are shipped.
	Connectors []connectors.Connector
}

// Hub is one node. Open makes it, Run runs it until its context ends.
type Hub struct {
	cfg   Config
	log   *slog.Logger
	clock clockwork.Clock

	lock      *os.File // of the data folder
	db        *store.DB
	secrets   *secret.Box
	atlas     *atlas
	ledger    *ledger.Ledger
	plugins   *host.Supervisor
	presences *presence.Links
	program   *os.File // this program, as it was at the start
	shelf     *catalogue
	dispatch  *dispatch.Dispatcher
	ingest    *ingest.Ingest
	triggers  *trigger.Triggers
	watch     *watch.Watch
	audit     *watch.Audit
	auth      *auth.Authenticator
	keys      *auth.Keyring
	signIn    *auth.SignIn
	doors     *auth.Doors
	sso       *auth.SingleSignOn
	outbound  *plugins.Outbound // to issuers of sign-ins and tokens
	// Rates of the API: of each viewer, and of each address without a valid credential.
	rates, strangers *auth.Throttle
	api              *graph.Handler
	metrics          *metrics
	registry         *prometheus.Registry

	live      context.Context // of subscriptions; ends before the parts that they read
	endLive   context.CancelFunc
	links     context.Context // of agents' sockets; ends when what is in flight has ended
	endLinks  context.CancelFunc
	listening chan struct{} // closed once the address is open
	address   string
	draining  atomic.Bool
	closing   sync.Once
	closed    error
}

// Open opens the data, brings its schema up to date, takes back what an earlier start
// of this node left and starts the connectors' processes. Nothing is delivered or
// answered before Run.
func Open(ctx context.Context, cfg Config, o Options) (_ *Hub, err error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	h := &Hub{cfg: cfg, log: o.Log, clock: o.Clock, listening: make(chan struct{}), registry: prometheus.NewRegistry()}
	h.live, h.endLive = context.WithCancel(context.WithoutCancel(ctx))
	h.links, h.endLinks = context.WithCancel(context.WithoutCancel(ctx))
	if h.log == nil {
		h.log = slog.Default()
	}
	if h.clock == nil {
		h.clock = clockwork.NewRealClock()
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close(context.WithoutCancel(ctx)))
		}
	}()
	if h.lock, err = lockFolder(cfg.DataDir); err != nil {
		return nil, err
	}
	shipped := o.Connectors
	if shipped == nil {
		shipped = builtin.Connectors()
	}
	set, err := connectors.NewSet(shipped)
	if err != nil {
		return nil, err
	}
	maker := ids.NewMaker(h.clock.Now)

	if err := h.openData(ctx, maker); err != nil {
		return nil, err
	}
	h.metrics = newMetrics(h, set.Triggers())
	if h.ledger, err = h.openLedger(ctx, maker); err != nil {
		return nil, err
	}
	if err := h.startPlugins(ctx, set); err != nil {
		return nil, err
	}
	h.openPresences()
	h.shelf = h.newCatalogue(set)
	h.atlas.worlds = worlds{h.db, h.secrets, h.shelf.provides}
	if err := h.atlas.refresh(ctx); err != nil {
		return nil, err
	}
	h.dispatch = dispatch.New(dispatch.Config{
		Ledger: h.ledger, Sender: h.plugins, Presences: h.presences, Worlds: h.atlas.World, Clock: h.clock, IDs: maker, Log: h.log,
		Formats: func(w *flow.World, name string) connectors.Format { return formatOf(set, w, name) },
		Via:     h.shelf.via, Answers: h.shelf.answers, Writer: writer{h.ledger, cfg.PublicURL},
		Version: cfg.Version, Open: cfg.open(), PlainHTTP: cfg.AllowPlainHTTP, Lease: h.ledger.Term, Leased: h.ledger.Leased,
	})
	h.dispatch.Hold(h.ledger.Held())
	h.ingest = ingest.New(ingest.Config{
		Ledger: h.ledger, Dispatcher: h.dispatch, Atlas: h.atlas, Connectors: set, IDs: maker, Clock: h.clock, Log: h.log,
		PublicURL: cfg.PublicURL, MaxBody: cfg.MaxBody, Count: h.metrics.received, Waiting: h.ledger, Enricher: h.shelf, Silent: h.shelf.silent, Open: cfg.open(),
		Polls: h.ledger, Poller: h.shelf, Polled: h.metrics.polled,
	})
	h.triggers = trigger.New(trigger.Config{
		DB: h.db, Secrets: h.secrets, Connectors: set, Scanner: h.shelf, Events: h.ingest, Ledger: h.ledger, Worlds: h.atlas.World, Retentions: h.retentions,
		Open: cfg.open(), IDs: maker, Clock: h.clock, Log: h.log, MaxBody: cfg.MaxBody, Called: h.metrics.triggered, Ended: h.metrics.scanned,
	})
	h.watch = watch.New(h.ledger, watch.Options{Clock: h.clock, Log: h.log})
	h.audit = watch.NewAudit(store.AuditTail{DB: h.db}, watch.Options{Clock: h.clock, Log: h.log})
	if err := h.openAuth(ctx); err != nil {
		return nil, err
	}
	h.rates, h.strangers = auth.NewThrottle(cfg.APIRate, h.clock), auth.NewThrottle(cfg.StrangerRate, h.clock)
	h.api = h.newAPI(set, maker)
	h.atlas.changed = func(org string) {
		h.shelf.want(org)
		h.dispatch.Changed(org)
		h.recheck(org)
	}
	h.shelf.open(ctx)
	return h, nil
}

// formatOf is a shipped format, or one of a World's connectors; nil: there is none.
func formatOf(shipped *connectors.Set, w *flow.World, name string) connectors.Format {
	f, ok := shipped.Format(name)
	if !ok && w != nil && w.Installed != nil {
		f, _ = w.Installed.Format(name)
	}
	return f
}

// newCatalogue is made before the dispatcher, which asks it where to deliver.
func (h *Hub) newCatalogue(set *connectors.Set) *catalogue {
	c := &catalogue{store: host.NewStore(h.cfg.DataDir), db: h.db, plugins: h.plugins, shipped: set, world: h.atlas.World, log: h.log, clock: h.clock,
		orgs:    func() []string { return slices.Sorted(maps.Keys(h.atlas.current.Load().places)) },
		node:    func() string { return h.ledger.Lease().Node },
		renew:   func(org string) { h.dispatch.Renew(org) },
		foreign: func() []located { return h.atlas.current.Load().foreign }, opened: h.cfg.open(),
	}
	c.installed.Store(&map[string]*host.Package{})
	return c
}

// recheck looks at the open streams of an organization whose access may have changed.
func (h *Hub) recheck(org string) {
	if h.api == nil { // not open yet
		return
	}
	ctx, cancel := context.WithTimeout(h.live, 5*time.Second)
	defer cancel()
	h.api.Recheck(ctx, org)
}

// openData opens the database and the secrets, and makes the first organization at the very
// first start.
func (h *Hub) openData(ctx context.Context, maker *ids.Maker) (err error) {
	cfg := h.cfg.store()
	cfg.IDs = maker
	h.atlas = newAtlas(nil, h.log)
	// A change is in force before it is answered: its transaction is over when this is called.
	cfg.Changed = func(org string) {
		if !h.atlas.apply(ctx, org) {
			h.recheck(org)
		}
	}
	cfg.Audited = func(org string) {
		if h.audit != nil { // else the hub is still opening
			h.audit.Wake(org)
		}
	}
	if h.db, err = store.Open(ctx, cfg); err != nil {
		return err
	}
	if err := h.db.AuditRestore(ctx); err != nil {
		return err
	}
	if h.secrets, err = secret.Open(ctx, h.cfg.secrets()); err != nil {
		return err
	}
	if err := h.db.CheckKey(ctx, h.secrets); err != nil {
		return err
	}
	if err := h.db.SetPublicURL(ctx, h.cfg.PublicURL); err != nil {
		return err
	}
	file, err := firstStart(ctx, &Operator{db: h.db, now: h.clock.Now, by: viewer.SystemContext, publicURL: h.cfg.PublicURL}, &h.cfg)
	if err != nil {
		return fmt.Errorf("make the first organization: %w", err)
	}
	if file != "" {
		h.log.Info("made the first organization and its Administrator", "organization", h.cfg.Organization, "credentials", file)
	}
	return nil
}

func (h *Hub) openLedger(ctx context.Context, maker *ids.Maker) (*ledger.Ledger, error) {
	c := ledger.Config{Clock: h.clock, IDs: maker, NodeName: h.cfg.NodeName, Version: h.cfg.Version, Log: h.log, OnCommit: h.metrics.committed}
	if h.db.Dialect == store.SQLite {
		c.SQLite = &ledger.SQLite{Write: h.db.Write, Read: h.db.Read}
	} else {
		c.Postgres = h.db.Pool
	}
	return ledger.Open(ctx, c)
}

// startPlugins runs the connectors that do I/O. One that cannot start holds up its own
// deliveries and nothing else.
func (h *Hub) startPlugins(ctx context.Context, set *connectors.Set) (err error) {
	var names []string
	for _, c := range set.Connectors() {
		if c.Spec().NeedsProcess() {
			names = append(names, c.Spec().Name)
		}
	}
	entries, self, err := host.Shipped(names...)
	if err != nil {
		return err
	}
	h.program = self
	for i := range entries { // what delivers is needed by every hub, the others by few
		c, _ := set.Connector(entries[i].Name)
		entries[i].OnDemand = !slices.Contains(c.Spec().Abilities, connectors.AbilityDeliver)
	}
	if h.plugins, err = host.New(host.Config{Catalog: entries, Logger: h.log, Clock: h.clock, HostVersion: h.cfg.Version, Memory: h.db.Memory(h.secrets), Sandbox: h.cfg.Sandbox,
		Changed: func(org string) { h.dispatch.Renew(org) }}); err != nil {
		return err
	}
	return h.plugins.Start(context.WithoutCancel(ctx))
}

// Run answers and delivers until ctx ends, then shuts down cleanly.
func (h *Hub) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, h.Close(context.WithoutCancel(ctx))) }()
	ln, err := h.listen(ctx)
	if err != nil {
		return err
	}
	h.address = ln.Addr().String()
	server := &http.Server{
		Handler: h.routes(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
	}
	// The parts outlive ctx: a clean shutdown still needs them.
	parts, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, running := errgroup.WithContext(parts)
	g.Go(func() error { h.atlas.run(running, h.clock); return nil })
	g.Go(func() error { return h.dispatch.Run(running) })
	g.Go(func() error { h.ingest.Run(running); return nil })
	g.Go(func() error { h.ingest.RunPolls(running); return nil })
	g.Go(func() error { h.triggers.Run(running); return nil })
	g.Go(func() error { h.beat(running); return nil })
	g.Go(func() error { h.takeOver(running); return nil })
	g.Go(func() error { h.presences.Run(running); return nil })
	g.Go(func() error { h.retain(running); return nil })
	g.Go(func() error { h.keepAccess(running); return nil })
	g.Go(func() error { h.keepSecrets(running); return nil })
	g.Go(func() error { h.wakeWatchers(running); return nil })
	g.Go(func() error { h.listenConfiguration(running); return nil })
	g.Go(func() error { h.shelf.run(running); return nil })
	if h.cfg.DebugListen != "" {
		g.Go(func() error { return serveDebug(running, h.cfg.DebugListen) })
	}
	g.Go(func() error {
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	close(h.listening)
	h.log.Info("the hub is ready", "url", h.cfg.PublicURL, "listen", h.address, "version", h.cfg.Version, "database", h.db.Dialect,
		"organizations", len(h.atlas.current.Load().places), "held", h.ledger.Held())

	select {
	case <-ctx.Done():
	case <-running.Done():
	}
	h.shutdown(server)
	stop()
	return g.Wait()
}

// Listening is closed once the hub answers; Address is then where.
func (h *Hub) Listening() <-chan struct{} { return h.listening }

// Address is the address that the hub listens on, once it does.
func (h *Hub) Address() string { return h.address }

// shutdown refuses new work, then finishes or hands back what is in flight.
func (h *Hub) shutdown(server *http.Server) {
	h.draining.Store(true)
	h.log.Info("shutting down", "at most", h.cfg.ShutdownTimeout)
	ctx, cancel := context.WithTimeout(context.Background(), h.cfg.ShutdownTimeout)
	defer cancel()
	h.endLive()
	if err := server.Shutdown(ctx); err != nil {
		_ = server.Close()
	}
	if err := h.triggers.Drain(ctx); err != nil {
		h.log.Warn("not every scan could be ended; another start will", "err", err)
	}
	h.presences.Drain()
	if err := h.dispatch.Drain(ctx); err != nil {
		h.log.Warn("not everything in flight could be finished; another start will", "err", err)
	}
	h.presences.Close() // what agents still have in hand they tell the next start, or another node
	h.endLinks()
}

// Close ends everything that Open has opened, in the opposite order. It may be called
// more than once.
func (h *Hub) Close(ctx context.Context) error {
	h.closing.Do(func() { h.closed = h.close(ctx) })
	return h.closed
}

func (h *Hub) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var errs []error
	h.endLive()
	h.endLinks()
	if h.plugins != nil {
		// The dispatcher has waited as long as it may: what is in flight now is given up.
		given, giveUp := context.WithCancel(ctx)
		giveUp()
		if err := h.plugins.Close(given); !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
	}
	if h.outbound != nil {
		h.outbound.Close()
	}
	if h.program != nil {
		errs = append(errs, h.program.Close())
	}
	if h.ledger != nil {
		errs = append(errs, h.ledger.Close(ctx))
	}
	if h.db != nil {
		errs = append(errs, h.db.Close())
	}
	if h.lock != nil {
		errs = append(errs, h.lock.Close())
	}
	return errors.Join(errs...)
}

const (
	beatEvery    = 3 * time.Second
	beatMost     = 5 * time.Second  // a connection that hangs must not cost the node its life
	takeOverMost = 30 * time.Second // from one dead node after the other
)

// beat keeps this node alive in the eyes of the others.
func (h *Hub) beat(ctx context.Context) {
	every := h.clock.NewTicker(beatEvery)
	defer every.Stop()
	for {
		beat, cancel := context.WithTimeout(ctx, beatMost)
		err := h.ledger.Beat(beat)
		cancel()
		switch {
		case err == nil:
			h.dispatch.Hold(h.ledger.Held())
		case ctx.Err() == nil:
			h.log.Warn("heartbeat", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-every.Chan():
		}
	}
}

// takeOver takes over from the dead. It may take longer than from one heartbeat to the next.
func (h *Hub) takeOver(ctx context.Context) {
	every := h.clock.NewTicker(beatEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.Chan():
		}
		limited, cancel := context.WithTimeout(ctx, takeOverMost)
		n, err := h.ledger.Reclaim(limited)
		cancel()
		if err != nil && ctx.Err() == nil {
			h.log.Warn("take over from dead nodes", "err", err)
		}
		if n > 0 {
			h.log.Info("took over deliveries of a node that is gone", "deliveries", n)
		}
	}
}

// retain removes what is older than its organization wants to keep, a little at a time.
func (h *Hub) retain(ctx context.Context) {
	every := h.clock.NewTicker(10 * time.Second)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.Chan():
		}
		for more := true; more && ctx.Err() == nil; {
			done, err := h.ledger.Retain(ctx, h.retentions())
			if err != nil && ctx.Err() == nil {
				h.log.Warn("retention", "err", err)
			}
			more = done.More && err == nil
		}
		for org, keep := range h.retentions() {
			for more := keep.Audit > 0; more && ctx.Err() == nil; {
				var err error
				if _, more, err = h.db.RetainAudit(ctx, org, h.clock.Now().Add(-keep.Audit)); err != nil && ctx.Err() == nil {
					h.log.Warn("retention", "err", err)
				}
			}
		}
	}
}

// retentions is how long each organization keeps its history.
func (h *Hub) retentions() map[string]flow.Retention {
	out := map[string]flow.Retention{}
	c := h.atlas.current.Load()
	for org, p := range c.places {
		out[org] = p.World.Organization.Retention
	}
	for org := range c.unread {
		if c.places[org] == nil { // nobody knows, so everything stays
			out[org] = flow.Retention{}
		}
	}
	return out
}

// lockFolder makes the data folder and keeps a second hub out of it.
func lockFolder(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "hookyard.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	if err := flock(f); err != nil {
		return nil, errors.Join(fmt.Errorf("another hub is running in %s: stop it or choose another --data-dir", dir), f.Close())
	}
	return f, nil
}
