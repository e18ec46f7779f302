// Package trigger has projects scanned: it answers CI's calls at triggers, carries scans
// out and tells of them.
//
//	CI --HTTP--> trigger --> a run, durable --> 2xx
//	                             |
//	                             v
//	             plugin process of the scanner --> news --> events (ingest) --> the rest of the hub
//
// Place: at the edge, beside ingest, to which it hands what scans tell. What callers speak
// is the business of a connector's Trigger (pure), how scanning is done that of its Scanner.
//
// Guarantees:
//   - A scan is answered with success once its run is committed, and the setup that came with
//     it in the same transaction. What is refused changes nothing. A third party's connector
//     that reads calls has written its answer before that, so that one that does not answer
//     starts nothing.
//   - A project has one running scan: the database sees to it.
//   - Every run ends: by its scanner, by somebody's wish, at its time limit, or within a minute
//     of the death of the node that has it in hand. It ends once, and its end becomes one event.
//   - Credentials are kept sealed, leave the hub only to the scanner, and are never kept or
//     used for a host that is not among the project's origins.
package trigger

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/server/flow"
)

// Scanner runs a scan in a connector's process, to its end; see connectors.Scanner.
type Scanner interface {
	// Ready says why an organization's connector could not begin now: a third party's whose
	// process does not answer on this node.
	Ready(ctx context.Context, org, connector string) error
	Scan(ctx context.Context, connector string, job connectors.ScanJob, tell func(connectors.ScanNews) error) error
}

// Events accepts events, all or none; see package server/ingest.
type Events interface {
	Send(ctx context.Context, org, sender, source string, events []flow.Sent) ([]flow.Accepted, error)
}

// Ledger numbers scans and says under which lease this node works.
type Ledger interface {
	Numbers(ctx context.Context, org string, keys []connectors.NumberKey) (map[connectors.NumberKey]int32, error)
	Lease() flow.Lease
}

// Sealer encrypts a value, as JSON, for one field of one row.
type Sealer interface {
	SealJSON(id, field string, v any) ([]byte, error)
	UnsealJSON(id, field string, sealed []byte, v any) error
}

// Config is what Triggers are made of.
type Config struct {
	DB         *store.DB
	Secrets    Sealer
	Connectors *connectors.Set
	Scanner    Scanner
	Events     Events
	Ledger     Ledger
	Worlds     func(org string) *flow.World // nil for an unknown organization
	Retentions func() map[string]flow.Retention
	Open       []string // networks that scanners may reach beside public ones
	IDs        *ids.Maker
	Clock      clockwork.Clock
	Log        *slog.Logger
	MaxBody    int64 // bytes of one call; 0 is 1 MiB
	// Called counts calls by kind of trigger and HTTP status; Ended counts runs by their
	// last state. nil counts nothing.
	Called func(kind string, status int)
	Ended  func(state string)
}

// Triggers answers triggers and runs scans. It is safe for concurrent use.
type Triggers struct {
	c       Config
	working sync.WaitGroup
	told    string // Run's: the ID after which the sweep of untold ends goes on

	mu       sync.Mutex
	active   map[string]*running // by run: those that this node carries out
	draining bool
}

// New returns Triggers. Run must be called for anything to end by itself.
func New(c Config) *Triggers {
	if c.MaxBody == 0 {
		c.MaxBody = 1 << 20
	}
	if c.Called == nil {
		c.Called = func(string, int) {}
	}
	if c.Ended == nil {
		c.Ended = func(string) {}
	}
	return &Triggers{c: c, active: map[string]*running{}}
}

// Running is how many scans this node carries out.
func (t *Triggers) Running() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.active)
}

// now is in UTC at the precision that every database keeps.
func (t *Triggers) now() time.Time {
	return t.c.Clock.Now().UTC().Truncate(time.Microsecond)
}

// Drain ends this node's runs as failed and waits for their scanners, or until ctx ends.
// New ones are refused from then on.
func (t *Triggers) Drain(ctx context.Context) error {
	t.mu.Lock()
	t.draining = true
	list := make([]*running, 0, len(t.active))
	for _, r := range t.active {
		list = append(list, r)
	}
	t.mu.Unlock()
	for _, r := range list {
		t.fail(ctx, r, "the hub was shut down while it ran")
	}
	over := make(chan struct{})
	go func() { defer close(over); t.working.Wait() }()
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
