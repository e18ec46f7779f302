package graph

import (
	"context"
	"slices"
	"sync"

	"github.com/99designs/gqlgen/graphql"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/application"
	"github.com/hookyard/hookyard/ent/gen/endpoint"
	"github.com/hookyard/hookyard/ent/gen/finding"
	"github.com/hookyard/hookyard/ent/gen/report"
	"github.com/hookyard/hookyard/ent/gen/scan"
	"github.com/hookyard/hookyard/ent/gen/source"
	"github.com/hookyard/hookyard/ent/gen/ticket"
	"github.com/hookyard/hookyard/ent/gen/webhook"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/server/flow"
)

// batch reads objects of one kind for one operation, each once, and those of a page
// together: a list tells of the IDs on it, and the first that is asked for fetches all.
type batch[V any] struct {
	fetch func(ctx context.Context, list []string) (map[string]*V, error)

	mu   sync.Mutex
	want map[string]bool
	got  map[string]*V
}

func newBatch[V any](fetch func(context.Context, []string) (map[string]*V, error)) *batch[V] {
	return &batch[V]{fetch: fetch, want: map[string]bool{}, got: map[string]*V{}}
}

// hint says that the ID will probably be asked for.
func (b *batch[V]) hint(id string) {
	if id == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.got[id]; !known {
		b.want[id] = true
	}
}

// get returns nil for what does not exist, as far as the viewer may know.
func (b *batch[V]) get(ctx context.Context, id string) (*V, error) {
	if id == "" {
		return nil, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if v, known := b.got[id]; known {
		return v, nil
	}
	b.want[id] = true
	ids := make([]string, 0, len(b.want))
	for w := range b.want {
		ids = append(ids, w)
	}
	found, err := b.fetch(ctx, ids)
	if err != nil {
		return nil, err
	}
	for _, w := range ids {
		b.got[w] = found[w]
	}
	clear(b.want)
	return b.got[id], nil
}

// loaders are the batches of one operation.
type loaders struct {
	events       *batch[flow.EventView]
	receipts     *batch[flow.ReceiptView]
	webhooks     *batch[gen.Webhook]
	endpoints    *batch[gen.Endpoint]
	choices      *batch[gen.Endpoint] // as much of them as rule.Choosing shows
	sources      *batch[gen.Source]
	applications *batch[gen.Application]
	attempts     *batch[flow.AttemptView]
	erasures     *batch[flow.Erasure]
	polls        *batch[flow.PollView]
	scans        *batch[gen.Scan]
	findings     *batch[gen.Finding]
	tickets      *batch[gen.Ticket]
	reports      *batch[gen.Report]
}

// hintSubject is hint for what an event speaks of.
func (l *loaders) hintSubject(id string) {
	switch ids.Prefix(id) {
	case ids.Scan:
		l.scans.hint(id)
	case ids.Finding:
		l.findings.hint(id)
	case ids.Ticket:
		l.tickets.hint(id)
	case ids.Report:
		l.reports.hint(id)
	case ids.Application:
		l.applications.hint(id)
	}
}

// subject is what an event speaks of, nil when it is not there to be seen.
func (l *loaders) subject(ctx context.Context, id string) (gen.Noder, error) {
	switch ids.Prefix(id) {
	case ids.Scan:
		return noder(l.scans.get(ctx, id))
	case ids.Finding:
		return noder(l.findings.get(ctx, id))
	case ids.Ticket:
		return noder(l.tickets.get(ctx, id))
	case ids.Report:
		return noder(l.reports.get(ctx, id))
	case ids.Application:
		return noder(l.applications.get(ctx, id))
	}
	return nil, nil
}

// noder makes a nil pointer a nil interface.
func noder[V any, P interface {
	*V
	gen.Noder
}](v P, err error) (gen.Noder, error) {
	if v == nil || err != nil {
		return nil, err
	}
	return v, nil
}

type loadersKey struct{}

func loadersOf(ctx context.Context) *loaders { return ctx.Value(loadersKey{}).(*loaders) }

func (r *Resolver) withLoaders(ctx context.Context) context.Context {
	c := r.DB.Client
	l := new(loaders)
	*l = loaders{
		events: newBatch(func(ctx context.Context, list []string) (map[string]*flow.EventView, error) {
			scope, err := rule.LedgerScope(ctx)
			if err != nil {
				return nil, err
			}
			rows, err := r.Events.Events(ctx, scope, flow.EventFilter{IDs: list}, flow.Page{Limit: len(list)})
			return byID(pointers(rows), func(e *flow.EventView) string { return e.ID }), err
		}),
		receipts: newBatch(func(ctx context.Context, list []string) (map[string]*flow.ReceiptView, error) {
			scope, err := rule.LedgerScope(ctx)
			if err != nil {
				return nil, err
			}
			rows, err := r.Receipts.Receipts(ctx, scope, flow.ReceiptFilter{IDs: list}, flow.Page{Limit: len(list)})
			return byID(pointers(rows), func(x *flow.ReceiptView) string { return x.ID }), err
		}),
		attempts: newBatch(r.attemptsInFull),
		erasures: newBatch(func(ctx context.Context, list []string) (map[string]*flow.Erasure, error) {
			scope, err := rule.LedgerScope(ctx)
			if err != nil {
				return nil, err
			}
			return r.Eraser.Erasures(ctx, scope, list)
		}),
		polls: newBatch(func(ctx context.Context, list []string) (map[string]*flow.PollView, error) {
			scope, err := rule.LedgerScope(ctx)
			if err != nil {
				return nil, err
			}
			return r.Polls.Polls(ctx, scope, list)
		}),
		webhooks: newBatch(func(ctx context.Context, list []string) (map[string]*gen.Webhook, error) {
			rows, err := c.Webhook.Query().Where(webhook.IDIn(list...)).All(ctx)
			for _, w := range rows {
				l.endpoints.hint(w.EndpointID)
				l.choices.hint(w.EndpointID)
			}
			return byID(rows, func(w *gen.Webhook) string { return w.ID }), err
		}),
		endpoints: newBatch(func(ctx context.Context, list []string) (map[string]*gen.Endpoint, error) {
			rows, err := c.Endpoint.Query().Where(endpoint.IDIn(list...)).All(ctx)
			return byID(rows, func(e *gen.Endpoint) string { return e.ID }), err
		}),
		choices: newBatch(func(ctx context.Context, list []string) (map[string]*gen.Endpoint, error) {
			rows, err := c.Endpoint.Query().Where(endpoint.IDIn(list...)).Select(endpoint.FieldID, endpoint.FieldName, endpoint.FieldConnector).All(rule.Choosing(ctx))
			return byID(rows, func(e *gen.Endpoint) string { return e.ID }), err
		}),
		sources: newBatch(func(ctx context.Context, list []string) (map[string]*gen.Source, error) {
			rows, err := c.Source.Query().Where(source.IDIn(list...)).All(ctx)
			return byID(rows, func(s *gen.Source) string { return s.ID }), err
		}),
		applications: newBatch(func(ctx context.Context, list []string) (map[string]*gen.Application, error) {
			rows, err := c.Application.Query().Where(application.IDIn(list...)).All(ctx)
			return byID(rows, func(a *gen.Application) string { return a.ID }), err
		}),
		scans: newBatch(func(ctx context.Context, list []string) (map[string]*gen.Scan, error) {
			q := c.Scan.Query().Where(scan.IDIn(list...))
			if asksFor(ctx, "application") {
				q.WithApplication()
			}
			if asksFor(ctx, "assetGroup") {
				q.WithAssetGroup()
			}
			rows, err := q.All(ctx)
			return byID(rows, func(x *gen.Scan) string { return x.ID }), err
		}),
		findings: newBatch(func(ctx context.Context, list []string) (map[string]*gen.Finding, error) {
			q := c.Finding.Query().Where(finding.IDIn(list...))
			if asksFor(ctx, "application") {
				q.WithApplication()
			}
			if asksFor(ctx, "assetGroup") {
				q.WithAssetGroup()
			}
			rows, err := q.All(ctx)
			return byID(rows, func(x *gen.Finding) string { return x.ID }), err
		}),
		tickets: newBatch(func(ctx context.Context, list []string) (map[string]*gen.Ticket, error) {
			q := c.Ticket.Query().Where(ticket.IDIn(list...))
			if asksFor(ctx, "application") {
				q.WithApplication()
			}
			if asksFor(ctx, "assetGroup") {
				q.WithAssetGroup()
			}
			rows, err := q.All(ctx)
			return byID(rows, func(x *gen.Ticket) string { return x.ID }), err
		}),
		reports: newBatch(func(ctx context.Context, list []string) (map[string]*gen.Report, error) {
			q := c.Report.Query().Where(report.IDIn(list...))
			if asksFor(ctx, "application") {
				q.WithApplication()
			}
			if asksFor(ctx, "assetGroup") {
				q.WithAssetGroup()
			}
			rows, err := q.All(ctx)
			return byID(rows, func(x *gen.Report) string { return x.ID }), err
		}),
	}
	return context.WithValue(ctx, loadersKey{}, l)
}

// asksFor says whether the field that is being answered is asked for another one below it.
func asksFor(ctx context.Context, field string) bool {
	return slices.Contains(graphql.CollectAllFields(ctx), field)
}

func byID[V any](rows []*V, id func(*V) string) map[string]*V {
	m := make(map[string]*V, len(rows))
	for _, v := range rows {
		m[id(v)] = v
	}
	return m
}

func pointers[V any](rows []V) []*V {
	out := make([]*V, len(rows))
	for i := range rows {
		out[i] = &rows[i]
	}
	return out
}
