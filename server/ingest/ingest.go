// Package ingest turns what sources send into events that are durable and on their
// way: bytes -> receipt -> events -> deliveries -> one commit.
//
// Place: the first part on the path of an event. It calls forward only: a connector's
// Receiver (pure), the router (pure), the ledger, the dispatcher.
//
// Guarantees:
//   - Nothing is answered with 2xx before the receipt, its events and everything that
//     they are due to are committed. When the ledger cannot commit, the sender is told
//     to send again, and the event's key makes the repeat one event.
//   - A sender that cannot prove who it is leaves no trace but a count.
//   - What is malformed is answered with a 4xx that names the field, and kept as a
//     rejected receipt.
//   - What a third party's connector reads is kept whatever becomes of its process: when
//     that is down, slow or talks nonsense, the receipt is durable before the 2xx, waits,
//     and is read when the process answers again, on whichever node. Who sent it has been
//     checked by then, by the hub.
//   - A delivery is handed to the dispatcher only after the commit that made it.
//   - Where the sender is asked instead (polled), what it answers is committed as receipts
//     with the cursor behind it, and nothing in between is lost or told twice; one node asks
//     a source at a time, and one that hangs holds up its own.
package ingest

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/server/flow"
)

// Ledger is where events become durable.
type Ledger interface {
	Accept(ctx context.Context, r *flow.Receipt, events []flow.NewEvent) ([]flow.Accepted, error)
	Numbers(ctx context.Context, org string, keys []connectors.NumberKey) (map[connectors.NumberKey]int32, error)
	FindingKnown(ctx context.Context, org, source, key string) (bool, error)
	// Given are the events that name a receipt, in the order in which they were made.
	Given(ctx context.Context, r *flow.Receipt) ([]flow.Given, error)
}

// Waiting is the ledger's list of receipts that wait for enrichment.
type Waiting interface {
	// ClaimWaiting gives the longest due one to this node, for as long as keep; none of the
	// sources in except, only one that came before a time unless that is zero, and nil when
	// there is none.
	ClaimWaiting(ctx context.Context, now time.Time, keep time.Duration, before time.Time, except []string) (*flow.Waiting, error)
	PutOff(ctx context.Context, org, receipt string, until time.Time, note string) error
	Settle(ctx context.Context, org, receipt string, state flow.ReceiptState, group, note string) error
	// Await has a receipt that is in the ledger already enriched again.
	Await(ctx context.Context, org, receipt string) error
}

// Enricher has a connector fetch what a receipt only names, in the connector's process. A
// third party's is that of the source's organization.
type Enricher interface {
	Enrich(ctx context.Context, connector string, e connectors.Enrichment) (connectors.Document, error)
}

// Dispatcher takes deliveries over once they are durable.
type Dispatcher interface {
	// Reserve asks for credit for one delivery; true means that it may be born leased.
	Reserve(w *flow.Webhook) bool
	// Unreserve gives credit back for deliveries that were not made after all.
	Unreserve(w *flow.Webhook, n int)
	Hand(dues ...*flow.Due)
	// Disown is told of deliveries that may be in the ledger, leased to this node, although
	// nobody has them in hand.
	Disown(deliveries ...string)
}

// Router finds the webhooks that an event is due to.
type Router interface {
	Match(f flow.Facts, into []*flow.Webhook) []*flow.Webhook
}

// Place is one organization at one revision: its world, compiled.
type Place struct {
	World  *flow.World
	Router Router
	byName map[string]string // application name -> ID
	byKey  map[string]string // application key -> ID
}

// NewPlace compiles what ingest looks up for each event.
func NewPlace(w *flow.World, r Router) *Place {
	p := &Place{World: w, Router: r, byName: make(map[string]string, len(w.Applications)), byKey: map[string]string{}}
	for id, a := range w.Applications {
		p.byName[a.Name] = id
		if a.Key != "" {
			p.byKey[a.Key] = id
		}
	}
	return p
}

// Atlas finds places.
type Atlas interface {
	// Source finds an enabled or disabled source by the hex SHA-256 of its token; the
	// source is nil when there is none.
	Source(token string) (*Place, *flow.Source)
	// Place returns nil for an unknown organization.
	Place(org string) *Place
	// Unread says whether some organizations, and so perhaps sources, are not known as they are.
	Unread() bool
	// Grown is told that events have made new applications in the organization.
	Grown(org string)
}

// Config is what an Ingest is made of.
type Config struct {
	Ledger     Ledger
	Dispatcher Dispatcher
	Atlas      Atlas
	Connectors *connectors.Set
	IDs        *ids.Maker
	Clock      clockwork.Clock
	Log        *slog.Logger
	PublicURL  string
	MaxBody    int64 // bytes of one request; 0 is 1 MiB
	Waiting    Waiting
	Enricher   Enricher
	Polls      Polls
	Poller     Poller
	// Silent are the sources whose connector, a third party's, does not answer on this node
	// at present: what they sent waits, as long as any other receipt does, and they are not
	// asked. nil: none.
	Silent func() []string
	Open   []string // CIDRs that the operator opened to connectors
	// Count is told of each request's end: the source's kind, one word of outcome and
	// how many new events it gave. nil counts nothing.
	Count func(kind, outcome string, events int)
	// Polled is told of each poll's end: the source's kind and one word of outcome. nil
	// counts nothing.
	Polled func(kind, outcome string)
}

// Ingest is the door for events. It is safe for concurrent use.
type Ingest struct {
	c       Config
	awake   chan struct{} // a receipt has come that waits
	polling atomic.Int64  // polls under way
}

// New returns an Ingest.
func New(c Config) *Ingest {
	if c.MaxBody == 0 {
		c.MaxBody = 1 << 20
	}
	if c.Silent == nil {
		c.Silent = func() []string { return nil }
	}
	if c.Count == nil {
		c.Count = func(string, string, int) {}
	}
	if c.Polled == nil {
		c.Polled = func(string, string) {}
	}
	return &Ingest{c: c, awake: make(chan struct{}, 1)}
}

// reader finds who reads what a source sends. installed says that it is a third party's:
// its process may not answer.
func (in *Ingest) reader(p *Place, kind string) (r connectors.Receiver, of connectors.Connector, installed, ok bool) {
	set := in.c.Connectors
	if installed = flow.Provider(kind) != ""; installed {
		if set = p.World.Installed; set == nil {
			return nil, nil, true, false
		}
	}
	r, ok = set.Receiver(kind)
	of, _ = set.Reader(kind)
	return r, of, installed, ok
}

// unread says that a third party's connector has not decided about a request: nobody has
// read it yet.
func unread(installed bool, err error) bool {
	var refused *connectors.RefuseError
	return installed && err != nil && !errors.As(err, &refused)
}

// maxItems is how many events one request may give: they become durable in one transaction.
const maxItems = 2000

// receive has a request read, and refuses one that gives too many events.
func receive(r connectors.Receiver, in connectors.Inbound) (connectors.Received, error) {
	got, err := r.Receive(in)
	if err == nil && len(got.Items) > maxItems {
		return connectors.Received{}, connectors.Refuse(http.StatusRequestEntityTooLarge, "", "the request holds %d events, and %d are taken at once", len(got.Items), maxItems)
	}
	return got, err
}

// at is now in UTC at the precision that every database keeps.
func (in *Ingest) at() time.Time {
	return in.c.Clock.Now().UTC().Truncate(time.Microsecond)
}
