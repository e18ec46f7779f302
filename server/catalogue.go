package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/plugins"
	"github.com/hookyard/hookyard/plugins/host"
	"github.com/hookyard/hookyard/server/dispatch"
	"github.com/hookyard/hookyard/server/flow"
)

// catalogue is third parties' connectors on this node: which packages are installed,
// which of them each organization's endpoints, sources, webhooks, triggers and projects use, and how
// their processes are. What it knows it tells the other nodes through the database.
type catalogue struct {
	store   *host.Store
	db      *store.DB
	plugins *host.Supervisor
	shipped *connectors.Set
	world   func(org string) *flow.World
	orgs    func() []string
	node    func() string    // this node's ID
	renew   func(org string) // of the dispatcher
	foreign func() []located // sources that third parties' connectors read
	opened  []string         // networks, by the operator
	log     *slog.Logger
	clock   clockwork.Clock

	installed atomic.Pointer[map[string]*host.Package] // by digest
	wanting   sync.Mutex
	seen      string // of the store, when it was last read
	strays    string // that were last complained of
	told      map[process]told
	untold    atomic.Bool // the database did not take what there was to tell
	manifests sync.Map    // digest -> *host.Manifest, as nodes have told

	looking    sync.Mutex // for what is stranded
	looked     time.Time
	missing    map[string]int
	missingErr error
}

// process names one of this node's processes.
type process struct{ org, connector, digest string }

const (
	lookEvery = time.Second // at the store
	tellEvery = 2           // looks: how processes are
	againEach = 30          // looks: which packages there are, in case somebody forgot
)

// What is told to other nodes of a process's log, the last lines: so many, so many bytes of
// them, and so rarely, because every report is written to the database. The same goes for
// numbers that change with each delivery.
const (
	keptLines  = 100
	keptBytes  = 32 << 10
	logsEvery  = 10 * time.Second
	lineWeight = 64 // bytes of a line beside its text
)

// secretLeast is the shortest secret that is taken out of a connector's log: shorter
// ones would take half of the words along.
const secretLeast = 4

// open reads the store and has every organization's processes started, without waiting
// for them. Nothing that is wrong with a package keeps the hub from starting.
func (c *catalogue) open(ctx context.Context) {
	c.told = map[process]told{}
	if err := c.db.ForgetReports(ctx, c.node()); err != nil {
		c.log.Warn("connectors", "err", err)
	}
	c.read(ctx)
}

// read takes over what is installed.
func (c *catalogue) read(ctx context.Context) {
	c.seen = c.store.Print()
	list, strays, err := c.store.List()
	if err != nil {
		c.log.Error("the installed connectors cannot be read", "err", err)
		return
	}
	keys := c.store.BadKeys()
	if complaint := fmt.Sprint(strays, keys); complaint != c.strays {
		for _, s := range strays {
			c.log.Error("a folder among the installed connectors is none of them", "folder", s.Path, "err", s.Err)
		}
		for _, k := range keys {
			c.log.Error("a publisher's key cannot be read; what it has signed counts as unsigned", "file", k.Path, "err", k.Err)
		}
		c.strays = complaint
	}
	next := map[string]*host.Package{}
	for _, p := range list {
		if _, taken := c.shipped.Connector(p.Name); taken {
			c.log.Error("an installed connector has the name of a shipped one and is left out", "connector", p.Name)
			continue
		}
		next[p.Digest] = p
	}
	c.installed.Store(&next)
	c.tell(ctx)
	for _, org := range c.orgs() {
		c.want(org)
		c.renew(org)
	}
}

// tell writes down what is installed here.
func (c *catalogue) tell(ctx context.Context) {
	var list []store.ConnectorPackage
	for _, digest := range slices.Sorted(maps.Keys(*c.installed.Load())) {
		p := (*c.installed.Load())[digest]
		list = append(list, store.ConnectorPackage{Digest: digest, Name: p.Name, Version: p.Version, Publisher: p.Publisher, Manifest: p.Bytes})
	}
	err := c.db.TellPackages(ctx, c.node(), list)
	c.untold.Store(err != nil)
	if err != nil && ctx.Err() == nil {
		c.log.Warn("connectors", "err", err)
	}
}

// want has those processes run that the organization needs.
func (c *catalogue) want(org string) {
	c.wanting.Lock()
	defer c.wanting.Unlock()
	w := c.world(org)
	entries := map[string]host.Entry{}
	if w != nil && !w.Organization.Suspended {
		secrets := map[string][]string{}
		need := func(name, digest string, has map[string]flow.Secret) {
			p := (*c.installed.Load())[digest]
			if p == nil || p.Name != name {
				return
			}
			entry := p.Entry(org)
			entry.Released = w.Connectors[name].Released
			entry.Dial = c.egress(org, w.Organization.Allow)
			entries[digest] = entry
			for _, s := range has {
				if v := string(s.Reveal()); len(v) >= secretLeast {
					secrets[digest] = append(secrets[digest], v, "[secret]")
				}
			}
		}
		for _, e := range w.Endpoints {
			if digest, enabled := w.Package(e); enabled {
				need(e.Connector, digest, e.Secrets)
			}
		}
		for _, s := range w.Sources {
			if k := w.Connectors[flow.Provider(s.Kind)]; k != nil && k.Enabled {
				need(k.Name, k.Digest, s.Connection)
			}
		}
		for _, h := range w.Webhooks {
			if k := w.Connectors[flow.Provider(h.Format)]; k != nil && k.Enabled {
				need(k.Name, k.Digest, nil)
			}
		}
		for _, kind := range w.Triggers {
			if k := w.Connectors[flow.Provider(kind)]; k != nil && k.Enabled {
				need(k.Name, k.Digest, nil)
			}
		}
		for _, p := range w.Projects {
			if k := w.Connectors[p.Scanner]; k.Enabled {
				need(k.Name, k.Digest, p.Secrets)
			}
		}
		for digest, pairs := range secrets {
			entry := entries[digest]
			entry.Redact = strings.NewReplacer(pairs...)
			entries[digest] = entry
		}
	}
	c.plugins.Want(org, slices.Collect(maps.Values(entries)))
}

// egress is the address policy of an organization's processes for what their manifests ask
// for: its list as it is at the time, or the last one that it had.
func (c *catalogue) egress(org string, last []connectors.AllowRule) func() connectors.DialPolicy {
	return func() connectors.DialPolicy {
		if w := c.world(org); w != nil {
			return connectors.DialPolicy{Open: c.opened, Allow: w.Organization.Allow}
		}
		return connectors.DialPolicy{Open: c.opened, Allow: last}
	}
}

// provides is what an organization's connectors read and write without I/O. That does
// not depend on what this node has: their manifests are in the database.
func (c *catalogue) provides(ctx context.Context, w *flow.World) (*connectors.Set, error) {
	var list []connectors.Connector
	for _, name := range slices.Sorted(maps.Keys(w.Connectors)) {
		k := w.Connectors[name]
		m, err := c.manifest(ctx, k.Digest)
		if err != nil {
			return nil, err
		}
		if m == nil || m.Name != k.Name { // sources of its kinds are told to send again
			c.log.Error("the manifest of a connector is not known", "organization", w.Organization.ID, "connector", name, "version", k.Version)
			continue
		}
		if k.Enabled {
			list = append(list, c.plugins.Installed(host.Key(name, k.Digest, w.Organization.ID), m.About()))
		} else {
			list = append(list, plugins.Installed(m.About(), plugins.Away(fmt.Errorf("the connector %s is disabled", name))))
		}
	}
	return connectors.NewSet(list)
}

// manifest is that of a package, wherever it is installed; nil: nobody has told.
func (c *catalogue) manifest(ctx context.Context, digest string) (*host.Manifest, error) {
	if m, ok := c.manifests.Load(digest); ok {
		return m.(*host.Manifest), nil
	}
	b, err := c.db.Manifest(ctx, digest)
	if err != nil || b == nil {
		return nil, err
	}
	m, err := host.ReadManifest(b)
	if err != nil { // of a newer hub, perhaps
		c.log.Warn("a connector's manifest cannot be read", "digest", digest, "err", err)
		return nil, nil
	}
	c.manifests.Store(digest, m)
	return m, nil
}

// silent are the sources whose connector does not answer on this node as things stand.
func (c *catalogue) silent() (sources []string) {
	for _, l := range c.foreign() {
		w := l.place.World
		k := w.Connectors[flow.Provider(l.source.Kind)]
		if k == nil || !k.Enabled || !c.plugins.Up(host.Key(k.Name, k.Digest, w.Organization.ID)) {
			sources = append(sources, l.source.ID)
		}
	}
	return sources
}

// answers says whether a connector of an organization is asked on this node: it is up, or will
// be as soon as it has started again.
func (c *catalogue) answers(w *flow.World, connector string) bool {
	k := w.Connectors[connector]
	return k != nil && k.Enabled && c.plugins.Ready(host.Key(k.Name, k.Digest, w.Organization.ID))
}

// Enrich has a connector fetch what a receipt only names, in its process.
func (c *catalogue) Enrich(ctx context.Context, connector string, e connectors.Enrichment) (connectors.Document, error) {
	e.Kind = asItCalls(e.Kind)
	return c.plugins.Enrich(ctx, c.process(e.Source.Organization, connector), e)
}

// Poll has a connector ask a source for what is new, in its process.
func (c *catalogue) Poll(ctx context.Context, connector string, p connectors.Poll) (connectors.Polled, error) {
	p.Kind = asItCalls(p.Kind)
	return c.plugins.Poll(ctx, c.process(p.Source.Organization, connector), p)
}

// asItCalls is a kind of sources as its connector calls it.
func asItCalls(kind string) string { return kind[strings.IndexByte(kind, '/')+1:] }

// process is the key of an organization's process of a connector, that of all for a shipped one.
func (c *catalogue) process(org, connector string) string {
	if w := c.world(org); w != nil && w.Connectors[connector] != nil {
		return host.Key(connector, w.Connectors[connector].Digest, org)
	}
	return connector
}

// via says through which process this node delivers to an endpoint.
func (c *catalogue) via(w *flow.World, e *flow.Endpoint) (dispatch.Via, bool) {
	if s, ok := c.shipped.Connector(e.Connector); ok {
		return dispatch.Via{Process: e.Connector, TakesRequest: s.Spec().TakesRequest}, true
	}
	digest, enabled := w.Package(e)
	if digest == "" {
		return dispatch.Via{Process: e.Connector, TakesRequest: true}, true
	}
	p := (*c.installed.Load())[digest]
	if p == nil || !enabled {
		return dispatch.Via{}, false
	}
	key := host.Key(p.Name, digest, w.Organization.ID)
	return dispatch.Via{Process: key, TakesRequest: p.TakesRequest}, c.plugins.Ready(key)
}

// run notices what the operator installs and removes, and tells how processes are.
func (c *catalogue) run(ctx context.Context) {
	every := c.clock.NewTicker(lookEvery)
	defer every.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			c.leave(ctx)
			return
		case <-every.Chan():
		}
		switch {
		case c.store.Print() != c.seen:
			c.read(ctx)
		case n%againEach == 0 || c.untold.Load():
			c.tell(ctx)
		}
		if n%tellEvery == 0 {
			c.report(ctx)
		}
	}
}

// leave tells the other nodes that this one runs nothing any more.
func (c *catalogue) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := errors.Join(c.db.ForgetReports(ctx, c.node()), c.db.TellPackages(ctx, c.node(), nil)); err != nil {
		c.log.Warn("connectors", "err", err)
	}
}

// reported is a process as it is told to other nodes.
type reported struct {
	Version   string             `json:"version"`
	State     string             `json:"state"`
	Restarts  int                `json:"restarts"`
	Expired   int                `json:"expired"`
	InFlight  int                `json:"inFlight"`
	Held      int                `json:"held"`
	LastError string             `json:"lastError,omitempty"`
	NextStart *time.Time         `json:"nextStart,omitempty"`
	Log       []host.Line        `json:"log"`
	Sandbox   []flow.SandboxPart `json:"sandbox"`
}

// health is what is told at once when it changes.
type health struct {
	version, state, lastError string
	restarts                  int
	nextStart                 time.Time
}

func healthOf(s *host.Stats) health {
	return health{s.Version, string(s.State), s.LastError, s.Restarts, s.NextStart}
}

// told is what other nodes know of a process.
type told struct {
	health health
	report []byte
	at     time.Time
}

// due says whether there may be something to tell.
func (t *told) due(h health, now time.Time) bool { return t.health != h || now.Sub(t.at) >= logsEvery }

// lastLines are those that are told.
func lastLines(list []host.Line) []host.Line {
	list = list[max(0, len(list)-keptLines):]
	room := keptBytes
	for i := len(list) - 1; i >= 0; i-- {
		if room -= len(list[i].Text) + lineWeight; room < 0 {
			return list[i+1:]
		}
	}
	return list
}

// report tells how this node's processes are, as far as that has changed.
func (c *catalogue) report(ctx context.Context) {
	now := c.clock.Now()
	var box []flow.SandboxPart
	for _, p := range c.plugins.Sandbox().Parts {
		box = append(box, flow.SandboxPart{Name: p.Name, Active: p.Active, How: p.How})
	}
	fresh, are := map[process]told{}, map[process]bool{}
	var list, gone []store.ConnectorReport
	for _, s := range c.plugins.Stats() {
		if s.Organization == "" {
			continue
		}
		key, h := process{s.Organization, s.Name, s.Digest}, healthOf(&s)
		are[key] = true
		known := c.told[key]
		if !known.due(h, now) {
			continue
		}
		r := reported{Version: s.Version, State: string(s.State), Restarts: s.Restarts, Expired: s.Expired, InFlight: s.InFlight, Held: s.Held,
			LastError: s.LastError, Log: lastLines(c.plugins.Log(host.Key(s.Name, s.Digest, s.Organization))), Sandbox: box}
		if !s.NextStart.IsZero() {
			r.NextStart = &s.NextStart
		}
		b, err := json.Marshal(r)
		if err != nil {
			c.log.Error("tell how a connector is", "err", err)
			continue
		}
		if !bytes.Equal(known.report, b) {
			fresh[key] = told{h, b, now}
			list = append(list, store.ConnectorReport{Organization: s.Organization, Connector: s.Name, Digest: s.Digest, At: now, Report: b})
		}
	}
	for key := range c.told {
		if !are[key] {
			gone = append(gone, store.ConnectorReport{Organization: key.org, Connector: key.connector, Digest: key.digest})
		}
	}
	if len(list)+len(gone) == 0 {
		return
	}
	if err := c.db.TellReports(ctx, c.node(), list, gone); err != nil {
		if ctx.Err() == nil {
			c.log.Warn("connectors", "err", err)
		}
		return
	}
	maps.Copy(c.told, fresh)
	for _, g := range gone {
		delete(c.told, process{g.Organization, g.Connector, g.Digest})
	}
}

// Packages returns every package that a node has, or that organizations or endpoints still
// want to use.
func (c *catalogue) Packages(ctx context.Context) ([]flow.Package, error) {
	rows, err := c.db.Packages(ctx)
	if err != nil {
		return nil, err
	}
	var list []flow.Package
	for _, row := range rows {
		m, err := c.manifest(ctx, row.Digest)
		if err != nil {
			return nil, err
		}
		if m == nil {
			continue
		}
		provides, err := connectors.NewSet([]connectors.Connector{plugins.Installed(m.About(), nil)})
		if err != nil {
			return nil, err
		}
		list = append(list, flow.Package{Spec: m.Spec(), Provides: provides, Digest: row.Digest, Publisher: row.Publisher, Grants: flow.Grants(m.Grants), Nodes: row.Nodes})
	}
	slices.SortFunc(list, func(a, b flow.Package) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		if c := host.CompareVersions(b.Version, a.Version); c != 0 { // the newest first
			return c
		}
		return strings.Compare(a.Digest, b.Digest)
	})
	return list, nil
}

// Processes returns how an organization's processes are on all running nodes.
func (c *catalogue) Processes(ctx context.Context, org string) ([]flow.ConnectorProcess, error) {
	rows, err := c.db.Reports(ctx, org)
	if err != nil {
		return nil, err
	}
	list := make([]flow.ConnectorProcess, 0, len(rows))
	for _, row := range rows {
		var r reported
		if err := json.Unmarshal(row.Report, &r); err != nil {
			return nil, fmt.Errorf("read how %s is: %w", row.Connector, err)
		}
		p := flow.ConnectorProcess{Node: row.Node, Connector: row.Connector, Version: r.Version, Digest: row.Digest, State: r.State, Restarts: r.Restarts,
			Expired: r.Expired, InFlight: r.InFlight, Held: r.Held, LastError: r.LastError, NextStart: r.NextStart, At: row.At, Log: []flow.ConnectorLine{}, Sandbox: append([]flow.SandboxPart{}, r.Sandbox...)}
		for _, l := range r.Log {
			p.Log = append(p.Log, flow.ConnectorLine{At: l.At, Level: l.Level.String(), Text: l.Text})
		}
		list = append(list, p)
	}
	return list, nil
}

// strandedFor is how long stranded remembers its answer.
const strandedFor = 5 * time.Second

// stranded are the packages that are used and that no running node has, with how
// many endpoints, sources, webhooks, triggers and projects wait for each. Anybody may
// have it asked, as often as they like.
func (c *catalogue) stranded(ctx context.Context) (map[string]int, error) {
	c.looking.Lock()
	defer c.looking.Unlock()
	if now := c.clock.Now(); now.Sub(c.looked) >= strandedFor {
		c.looked = now
		c.missing, c.missingErr = c.lookForStranded(ctx)
	}
	return c.missing, c.missingErr
}

func (c *catalogue) lookForStranded(ctx context.Context) (map[string]int, error) {
	used, err := c.db.Usage(ctx)
	if err != nil || len(used) == 0 {
		return nil, err
	}
	rows, err := c.db.Packages(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]int{}
	for digest, n := range used {
		switch row := rows[digest]; {
		case row == nil:
			out["package "+digest] += n
		case len(row.Nodes) == 0:
			out[row.Name+" "+row.Version] += n
		}
	}
	return out, nil
}
