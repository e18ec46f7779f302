package graph

import (
	"context"
	"strconv"

	"github.com/99designs/gqlgen/graphql"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/store"
)

// audit writes what is about to be done, and is no change of a row, into the audit log:
// what cannot be audited is not done.
func (r *Resolver) audit(ctx context.Context, action, noun, id, name, group string) error {
	return r.DB.Audit(ctx, store.Action{Action: action, Noun: noun, ID: id, Name: name, Group: group})
}

// auditMany is audit for what is done by filter, which is told as it was sent. Who has
// access to one asset group only acts in that group.
func (r *Resolver) auditMany(ctx context.Context, scope rule.Scope, action, noun string) error {
	a := store.Action{Action: action, Noun: noun}
	if groups := scope.Groups(); !scope.All() && len(groups) == 1 {
		a.Group = groups[0]
	}
	field := graphql.GetFieldContext(ctx)
	if input, ok := field.Field.ArgumentMap(graphql.GetOperationContext(ctx).Variables)["input"].(map[string]any); ok {
		a.Details = map[string]any{"filter": input["filter"]}
	}
	return r.DB.Audit(ctx, a)
}

// auditLog is one page of the audit log. Its cursors are numbers: they are in the order
// of the commits on all nodes, which IDs are not.
func (r *Resolver) auditLog(ctx context.Context, f store.AuditFilter, a listArgs) (*gen.AuditEntryConnection, error) {
	p, err := a.page()
	if err != nil {
		return nil, err
	}
	var after int64
	if p.After != "" {
		if after, err = strconv.ParseInt(p.After, 10, 64); err != nil || after < 1 {
			return nil, badInput("after", "This is not a cursor of this list. Start without one.")
		}
	}
	rows, err := r.DB.AuditLog(ctx, f, after, p.Oldest, p.Limit)
	if err != nil {
		return nil, err
	}
	place := func(e **gen.AuditEntry) string { return strconv.FormatInt((*e).Number, 10) }
	rows, info := cut(a, p, rows, place)
	out := &gen.AuditEntryConnection{PageInfo: *info, Edges: make([]*gen.AuditEntryEdge, len(rows))}
	for i, e := range rows {
		out.Edges[i] = &gen.AuditEntryEdge{Node: e, Cursor: gen.Cursor{ID: place(&rows[i])}}
	}
	return out, nil
}
