package graph

import (
	"context"
	"strconv"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/store"
)

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
