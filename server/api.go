package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/secret"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/graph"
	"github.com/hookyard/hookyard/plugins/host"
	"github.com/hookyard/hookyard/server/auth"
	"github.com/hookyard/hookyard/server/dispatch"
	"github.com/hookyard/hookyard/server/flow"
	"github.com/hookyard/hookyard/server/ingest"
	"github.com/hookyard/hookyard/server/ledger"
	"github.com/hookyard/hookyard/server/presence"
	"github.com/hookyard/hookyard/server/trigger"
)

// newAPI gives the GraphQL API what it works with.
func (h *Hub) newAPI(set *connectors.Set, maker *ids.Maker) *graph.Handler {
	return graph.New(graph.Services{
		DB: h.db, Connectors: set, IDs: maker,
		Events: h.ledger, Deliveries: h.ledger, Receipts: h.ledger, Redeliverer: h.ledger, Eraser: eraser{h.ledger, h.atlas},
		Sender: h.ingest, Scans: h.triggers, Polls: h.ledger, Reprocessor: reprocessor{h.ledger, h.ingest}, Checker: checker{h.dispatch, h.plugins, h.presences}, Catalogue: h.shelf,
		Handshakes: handshakes{ask: func(ctx context.Context, org, webhook string) (connectors.Grant, error) {
			return h.dispatch.Challenge(ctx, org, webhook, h.cfg.PublicURL)
		}, world: h.atlas.World, db: h.db, clock: h.clock, log: h.log},
		Explainer: explainer{h.atlas, h.ledger}, Log: h.watch, Audit: h.audit, Hold: h.ledger, Secrets: h.secrets, Credentials: credentials{h.cfg.PublicURL}, SignIn: h.sso, Self: door{h.signIn}, Links: links{h.cfg.PublicURL, h.clock.Now}, Presences: h.presences,
	}, graph.Options{Auth: h.auth, BadCredential: auth.ErrUnauthenticated, Introspection: h.cfg.Introspection,
		Rate: h.rates, Strangers: h.strangers, Origins: hosts(append([]string{h.cfg.PublicURL}, h.cfg.CORSOrigins...)), Log: h.log, Clock: h.clock, Live: h.live, AgentLive: h.links})
}

// hosts are the hosts of addresses.
func hosts(origins []string) (list []string) {
	for _, o := range origins {
		_, host, _ := strings.Cut(origin(o), "://")
		list = append(list, host)
	}
	return list
}

// credentials makes what is shown once.
type credentials struct{ publicURL string }

// NewKey makes an API key.
func (credentials) NewKey() (key, hint, hash string) { return auth.NewKey() }

// NewPresenceKey makes the key of a Presence.
func (credentials) NewPresenceKey() (key, hint, hash string) { return auth.NewPresenceKey() }

// NewAddress makes the address of a source: 130 random bits below the hub's own.
func (c credentials) NewAddress() (address, hash string) {
	token := strings.ToLower(rand.Text())
	return c.publicURL + ingest.Prefix + token, secret.Hash(token)
}

// NewTrigger makes the address of a trigger, in the same way.
func (c credentials) NewTrigger() (address, hash string) {
	token := strings.ToLower(rand.Text())
	return c.publicURL + trigger.Prefix + token, secret.Hash(token)
}

// eraser has nothing sent of what it has erased: when it answers, this node has given up
// what it had read; the others do within a second.
type eraser struct {
	*ledger.Ledger
	atlas *atlas
}

// Erase removes an event's payload.
func (e eraser) Erase(ctx context.Context, scope rule.Scope, event string, by flow.Erasure) (int, error) {
	defer e.atlas.apply(ctx, "")
	return e.Ledger.Erase(ctx, scope, event, by)
}

// ErasePerson removes what names a person.
func (e eraser) ErasePerson(ctx context.Context, scope rule.Scope, email string, by flow.Erasure, next string, dryRun bool) (flow.PersonErased, error) {
	defer e.atlas.apply(ctx, "")
	return e.Ledger.ErasePerson(ctx, scope, email, by, next, dryRun)
}

// reprocessor reads a receipt again.
type reprocessor struct {
	ledger *ledger.Ledger
	ingest *ingest.Ingest
}

// Reprocess reads the receipt as the hub does, payload included: the viewer, who may not
// read payloads, is shown the events only.
func (r reprocessor) Reprocess(ctx context.Context, org, receipt string) ([]flow.Accepted, error) {
	v := viewer.FromContext(ctx)
	if v == nil || v.Organization != org {
		return nil, flow.ErrNotFound
	}
	reader := *v
	reader.Permissions = append([]viewer.Permission{viewer.ReadPayloads}, v.Permissions...)
	scope, err := rule.LedgerScope(viewer.NewContext(ctx, &reader))
	if err != nil {
		return nil, err
	}
	found, err := r.ledger.Receipt(ctx, scope, receipt)
	if err != nil {
		return nil, err
	}
	return r.ingest.Process(ctx, &found.Receipt)
}

// checker tries endpoints in their connector's process.
type checker struct {
	dispatch *dispatch.Dispatcher
	plugins  *host.Supervisor
	presence *presence.Links
}

// Check says in words for people why an endpoint would not work.
func (c checker) Check(ctx context.Context, org, endpoint string) error {
	process, through, target, ok := c.dispatch.Target(org, endpoint)
	check := c.plugins.Check
	switch {
	case !ok:
		return flow.ErrNotFound
	case through != "":
		check = func(ctx context.Context, connector string, target connectors.Endpoint) error {
			return c.presence.Check(ctx, through, connector, target)
		}
	case process == "":
		return errors.New("this node of the hub cannot use the endpoint's connector: it is disabled, in quarantine, or its version is not installed here; connectorCatalogue says more")
	}
	err := check(ctx, process, target)
	if err != nil {
		if text := target.Conceal(err.Error()); text != err.Error() {
			return errors.New(text)
		}
	}
	return err
}

// explainer answers why a webhook got an event, or did not.
type explainer struct {
	atlas  *atlas
	ledger *ledger.Ledger
}

// Explain holds today's webhook against the event as it was.
func (e explainer) Explain(ctx context.Context, org, webhook, event string) ([]flow.Reason, error) {
	scope, err := rule.LedgerScope(ctx)
	if err != nil {
		return nil, err
	}
	ev, err := e.ledger.Event(ctx, scope, event)
	if err != nil {
		return nil, err
	}
	table := e.atlas.Table(org)
	if table == nil {
		return nil, flow.ErrNotFound
	}
	facts := flow.Facts{Type: ev.Type, Group: ev.Group, App: ev.App, Source: ev.Source, Severity: ev.Severity}
	facts.HasSeverity = speaksOfSeverity(ev.Type)
	if ev.Type == connectors.FindingDiscovered {
		if facts.New, err = wasNew(ev.Document); err != nil {
			return nil, err
		}
	}
	reasons := table.Explain(webhook, facts)
	out := make([]flow.Reason, len(reasons))
	for i, r := range reasons {
		out[i] = flow.Reason{Rule: string(r.Rule), Passed: r.Passed, Text: r.Text}
	}
	return out, nil
}

// speaksOfSeverity says whether events of the kind have a severity, known or not.
func speaksOfSeverity(t connectors.EventType) bool {
	noun, _, _ := strings.Cut(string(t), ".")
	return noun == "finding" || noun == "ticket" || t == connectors.ScanCompleted
}

// wasNew reads from an event's document whether its finding was new. A document that is
// not kept any more, or not for the viewer, counts as new.
func wasNew(document []byte) (bool, error) {
	if len(document) == 0 {
		return true, nil
	}
	var e connectors.Event
	if err := json.Unmarshal(document, &e); err != nil {
		return false, fmt.Errorf("read an event's document: %w", err)
	}
	f := e.Data.Finding
	return f == nil || f.New == nil || *f.New, nil
}
