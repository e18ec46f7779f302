package graph

import (
	"slices"

	"entgo.io/contrib/entgql"

	"github.com/hookyard/hookyard/ent/gen"
	graphgen "github.com/hookyard/hookyard/graph/gen"
	"github.com/hookyard/hookyard/server/flow"
)

// listArgs are the arguments of a connection over the ledger.
type listArgs struct {
	after, before *entgql.Cursor[string]
	first, last   *int
	order         graphgen.TimeOrder
}

// page is what to ask the ledger for: one row more than is wanted, to know whether
// there is more. From the end of the list, the ledger is asked in the other direction.
func (a listArgs) page() (flow.Page, error) {
	p := flow.Page{Oldest: a.order == graphgen.TimeOrderOldestFirst, Limit: defaultPage + 1}
	from, name := a.after, "after"
	if a.last != nil {
		p.Oldest, p.Limit, from, name = !p.Oldest, *a.last+1, a.before, "before"
		if a.after != nil {
			return p, badInput("after", "after goes with first, and before with last.")
		}
	} else if a.first != nil {
		p.Limit = *a.first + 1
	}
	if a.last == nil && a.before != nil {
		return p, badInput("before", "after goes with first, and before with last.")
	}
	if from != nil {
		if from.Value != nil {
			return p, badInput(name, "This is not a cursor of this list. Start without one.")
		}
		p.After = from.ID
	}
	return p, nil
}

// cut takes away the row too many, puts the rows in the order asked for, and says
// where they are in the list.
func cut[V any](a listArgs, p flow.Page, rows []V, id func(*V) string) ([]V, *entgql.PageInfo[string]) {
	more := len(rows) >= p.Limit
	if more {
		rows = rows[:p.Limit-1]
	}
	info := &gen.PageInfo{HasNextPage: more, HasPreviousPage: p.After != ""}
	if a.last != nil {
		slices.Reverse(rows)
		info.HasNextPage, info.HasPreviousPage = info.HasPreviousPage, info.HasNextPage
	}
	if n := len(rows); n > 0 {
		info.StartCursor, info.EndCursor = &gen.Cursor{ID: id(&rows[0])}, &gen.Cursor{ID: id(&rows[n-1])}
	}
	return rows, info
}
