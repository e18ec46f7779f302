package rule

import (
	"context"
	"slices"

	"entgo.io/ent"
	"entgo.io/ent/dialect/sql"

	"github.com/hookyard/hookyard/ent/viewer"
)

// Own is the policy of a noun that the hub makes for a person: the person sees the rows
// and may end them. So may whoever manages access, but not those of a person who has
// rights that they do not have. Nobody else knows of them, and only the hub itself makes
// or changes them. Its mutations are Granters: they touch the rights of the person.
type Own struct {
	Name   string // for people: "session"
	Tenant string // column with the organization's ID
	Owner  string // column with the person's ID
}

// EvalQuery narrows a query down to what the viewer may see.
func (o Own) EvalQuery(ctx context.Context, q ent.Query) error {
	v := viewer.FromContext(ctx)
	switch {
	case v == nil:
		return ErrNoViewer
	case v.System():
		return nil
	}
	return o.narrow(v, q)
}

// EvalMutation lets rows be deleted one by one, by those who see them.
func (o Own) EvalMutation(ctx context.Context, m ent.Mutation) error {
	v := viewer.FromContext(ctx)
	switch {
	case v == nil:
		return ErrNoViewer
	case v.System():
		return nil
	case !m.Op().Is(ent.OpDeleteOne):
		return &Denied{o.Name, "only the hub itself does this"}
	}
	g, ok := m.(Granter)
	if !ok {
		return &Denied{o.Name, "nobody knows whose it is"}
	}
	touched, _, err := g.Grants(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(touched, func(t *viewer.Viewer) bool { return t.ID != v.ID && !v.Covers(t) }) {
		return &Denied{o.Name, "it is of somebody who has rights that you do not have"}
	}
	return o.narrow(v, m)
}

func (o Own) narrow(v *viewer.Viewer, to any) error {
	f, ok := to.(filterable)
	if !ok || v.Organization == "" || v.ID == "" || v.Agent() {
		return &Denied{o.Name, "you may not see it"}
	}
	f.WhereP(func(s *sql.Selector) { s.Where(sql.EQ(s.C(o.Tenant), v.Organization)) })
	if !v.Can(viewer.ManageAccess) {
		f.WhereP(func(s *sql.Selector) { s.Where(sql.EQ(s.C(o.Owner), v.ID)) })
	}
	return nil
}
