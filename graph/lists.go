package graph

import (
	"context"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/rule"
	graphgen "github.com/hookyard/hookyard/graph/gen"
	"github.com/hookyard/hookyard/server/flow"
)

// deliveries is one page of deliveries.
func (r *Resolver) deliveries(ctx context.Context, f *flow.DeliveryFilter, a listArgs) (*graphgen.DeliveryConnection, error) {
	scope, p, err := start(ctx, a)
	if err != nil {
		return nil, err
	}
	rows, err := r.Deliveries.Deliveries(ctx, scope, or(f), p)
	if err != nil {
		return nil, err
	}
	rows, info := cut(a, p, rows, func(d *flow.DeliveryView) string { return d.ID })
	out := &graphgen.DeliveryConnection{PageInfo: info, Edges: make([]*graphgen.DeliveryEdge, len(rows))}
	l := loadersOf(ctx)
	for i := range rows {
		d := &rows[i]
		l.events.hint(d.Event)
		l.webhooks.hint(d.Webhook)
		l.endpoints.hint(d.Endpoint)
		out.Edges[i] = &graphgen.DeliveryEdge{Node: d, Cursor: gen.Cursor{ID: d.ID}}
	}
	return out, nil
}

// events is one page of events.
func (r *Resolver) events(ctx context.Context, f *flow.EventFilter, a listArgs) (*graphgen.EventConnection, error) {
	scope, p, err := start(ctx, a)
	if err != nil {
		return nil, err
	}
	rows, err := r.Events.Events(ctx, scope, or(f), p)
	if err != nil {
		return nil, err
	}
	rows, info := cut(a, p, rows, func(e *flow.EventView) string { return e.ID })
	out := &graphgen.EventConnection{PageInfo: info, Edges: make([]*graphgen.EventEdge, len(rows))}
	l := loadersOf(ctx)
	for i := range rows {
		e := &rows[i]
		l.sources.hint(e.Source)
		l.erasures.hint(e.ID)
		l.applications.hint(e.App)
		l.hintSubject(e.Subject)
		l.receipts.hint(e.Receipt)
		out.Edges[i] = &graphgen.EventEdge{Node: e, Cursor: gen.Cursor{ID: e.ID}}
	}
	return out, nil
}

// receipts is one page of receipts.
func (r *Resolver) receipts(ctx context.Context, f *flow.ReceiptFilter, a listArgs) (*graphgen.ReceiptConnection, error) {
	scope, p, err := start(ctx, a)
	if err != nil {
		return nil, err
	}
	rows, err := r.Receipts.Receipts(ctx, scope, or(f), p)
	if err != nil {
		return nil, err
	}
	rows, info := cut(a, p, rows, func(x *flow.ReceiptView) string { return x.ID })
	out := &graphgen.ReceiptConnection{PageInfo: info, Edges: make([]*graphgen.ReceiptEdge, len(rows))}
	l := loadersOf(ctx)
	for i := range rows {
		x := &rows[i]
		l.sources.hint(x.Source)
		out.Edges[i] = &graphgen.ReceiptEdge{Node: x, Cursor: gen.Cursor{ID: x.ID}}
	}
	return out, nil
}

func start(ctx context.Context, a listArgs) (rule.Scope, flow.Page, error) {
	scope, err := rule.LedgerScope(ctx)
	if err != nil {
		return scope, flow.Page{}, err
	}
	p, err := a.page()
	return scope, p, err
}

// or is what p points to, or the zero value.
func or[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
