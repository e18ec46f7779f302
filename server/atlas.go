package server

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/server/flow"
	"github.com/hookyard/hookyard/server/ingest"
	"github.com/hookyard/hookyard/server/route"
)

// atlas holds the world of every organization, compiled, and replaces it when its
// revision changes: at once for a change made through this node, within a second for
// one made through another. An organization whose rows cannot be read stays as it was when
// they last could, and is unknown until they can; the others do not notice.
type atlas struct {
	worlds  worldReader
	log     *slog.Logger
	changed func(org string) // after a swap; set before run

	woken      chan struct{}
	refreshing sync.Mutex
	current    atomic.Pointer[chart]
}

// worldReader reads configuration from the database.
type worldReader interface {
	Revisions(ctx context.Context) (map[string]int64, error)
	World(ctx context.Context, org string) (*flow.World, error)
}

// chart is immutable.
type chart struct {
	places  map[string]*ingest.Place // by organization
	tables  map[string]*route.Table
	sources map[string]located // by token
	foreign []located          // those that a third party's connector reads
	unread  map[string]string  // why organizations could not be read as they are now
}

type located struct {
	place  *ingest.Place
	source *flow.Source
}

func newAtlas(worlds worldReader, log *slog.Logger) *atlas {
	a := &atlas{worlds: worlds, log: log, changed: func(string) {}, woken: make(chan struct{}, 1)}
	a.current.Store(&chart{})
	return a
}

// Source finds a source by the hex SHA-256 of its token.
func (a *atlas) Source(token string) (*ingest.Place, *flow.Source) {
	l := a.current.Load().sources[token]
	return l.place, l.source
}

// Place returns nil for an unknown organization.
func (a *atlas) Place(org string) *ingest.Place { return a.current.Load().places[org] }

// World returns nil for an unknown organization.
func (a *atlas) World(org string) *flow.World {
	if p := a.Place(org); p != nil {
		return p.World
	}
	return nil
}

// Unread says whether there are organizations that are not known as they are now.
func (a *atlas) Unread() bool { return len(a.current.Load().unread) > 0 }

// Table returns nil for an unknown organization.
func (a *atlas) Table(org string) *route.Table { return a.current.Load().tables[org] }

// Grown has the world read again because events have made applications in it. Events
// that come before that is done make the same applications again, which changes nothing.
func (a *atlas) Grown(string) { a.Wake() }

// Wake has the worlds looked at soon; it does not wait.
func (a *atlas) Wake() {
	select {
	case a.woken <- struct{}{}:
	default:
	}
}

// apply brings a change of an organization that this node has just committed into force. When
// it cannot be read, or the database fails in between, it says no, and run does it later.
func (a *atlas) apply(ctx context.Context, org string) bool {
	if a.worlds == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := a.refresh(ctx); err != nil {
		a.log.Warn("read the configuration again", "err", err)
		a.Wake()
		return false
	}
	_, unread := a.current.Load().unread[org]
	return !unread
}

// refresh reads what has changed. When it returns without an error, every change that was
// committed before the call is in force, but for those of unread organizations.
func (a *atlas) refresh(ctx context.Context) error {
	a.refreshing.Lock()
	defer a.refreshing.Unlock()
	revisions, err := a.worlds.Revisions(ctx)
	if err != nil {
		return fmt.Errorf("read the revisions: %w", err)
	}
	old := a.current.Load()
	var swapped []string
	next := &chart{places: maps.Clone(old.places), tables: maps.Clone(old.tables), unread: map[string]string{}}
	if next.places == nil {
		next.places, next.tables = map[string]*ingest.Place{}, map[string]*route.Table{}
	}
	for org, revision := range revisions {
		if p := next.places[org]; p != nil && p.World.Revision == revision {
			continue
		}
		w, err := a.worlds.World(ctx, org)
		if ctx.Err() != nil {
			return fmt.Errorf("read the configuration of %s: %w", org, ctx.Err())
		}
		if err != nil {
			if next.unread[org] = err.Error(); old.unread[org] != err.Error() {
				a.log.Error("the configuration of an organization cannot be read; nothing that is changed there takes effect until it can", "organization", org, "known", next.places[org] != nil, "err", err)
			}
			continue
		}
		if old.unread[org] != "" {
			a.log.Info("the configuration of an organization can be read again", "organization", org)
		}
		w.Revision = revision // as read before the rows: a change in between is read again
		table := route.Compile(w)
		next.places[org], next.tables[org] = ingest.NewPlace(w, table), table
		swapped = append(swapped, org)
	}
	for org := range next.places {
		if _, exists := revisions[org]; !exists {
			delete(next.places, org)
			delete(next.tables, org)
			swapped = append(swapped, org)
		}
	}
	if len(swapped) == 0 && maps.Equal(next.unread, old.unread) {
		return nil
	}
	next.sources = map[string]located{}
	for _, p := range next.places {
		for _, s := range p.World.Sources {
			next.sources[s.Token] = located{p, s}
			if flow.Provider(s.Kind) != "" {
				next.foreign = append(next.foreign, located{p, s})
			}
		}
	}
	a.current.Store(next)
	for _, org := range swapped {
		a.changed(org)
	}
	return nil
}

// run keeps the worlds fresh until ctx ends.
func (a *atlas) run(ctx context.Context, clock clockwork.Clock) {
	every := clock.NewTicker(time.Second)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.Chan():
		case <-a.woken:
		}
		if err := a.refresh(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("read the configuration again", "err", err)
		}
	}
}
