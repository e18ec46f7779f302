// Package rule decides who may see and change what. It is the wall: the GraphQL
// resolvers in front of it only give better messages.
//
// Guarantees: without a viewer there is no data and no change; nothing crosses from
// one organization to another; what a viewer may not see does not exist for it (not
// found, rather than forbidden); whatever is not allowed here is denied.
//
// The rules know nothing of the generated code, so that it can always be made anew.
package rule

import (
	"context"
	"fmt"
	"slices"

	"entgo.io/ent"
	"entgo.io/ent/dialect/sql"
	"entgo.io/ent/privacy"

	"github.com/hookyard/hookyard/ent/viewer"
)

// Level says which rows of an organization a viewer sees.
type Level int

// The levels.
const (
	Nobody        Level = iota // only the hub itself
	Everyone                   // everyone in the organization
	InGroup                    // access to the asset group in Noun.Group; a null there needs access to all
	SelfOrManager              // oneself, what is one's own, and whoever may manage access
	Managers                   // whoever may change it: the organization's own, so it takes access to all groups
)

// Noun is the policy of one noun: who sees its rows and who may change them.
type Noun struct {
	Name              string            // for people: "asset group"
	Tenant            string            // column with the organization's ID
	Level             Level             //
	Group             string            // column with the asset group's ID
	Write             viewer.Permission // to create, update and delete; "" is the hub only
	HubOnly           ent.Op            // kinds of change that only the hub itself makes
	AdministratorOnly []string          // fields that only an Administrator changes
	Owner             string            // column with the ID of the user that the row belongs to, "" none; only who may manage access gives it to others
	OwnWrite          bool              // whether users need no permission for what is their own
	Grants            bool              // the mutation is a Granter
	Whole             bool              // changes concern every asset group, and need access to all
	Shared            *Share            // which rows others may refer to, without seeing them
}

// Share is a table that names asset groups which may refer to a row.
type Share struct{ Table, Row, Group string }

// Granter is a mutation of a row that gives rights.
type Granter interface {
	// Grants returns the rights that the mutation touches: those that the row gives
	// before it, and those of a new owner; and the rights that the row would give after
	// it, nil when they stay or end. A row that the viewer does not see is an error.
	Grants(ctx context.Context) (touched []*viewer.Viewer, after *viewer.Viewer, err error)
}

// Denied is a change that the viewer may not make. It is a privacy.Deny.
type Denied struct {
	Noun   string
	Reason string // a sentence's end for people
}

func (e *Denied) Error() string { return "not allowed: " + e.Noun + ": " + e.Reason }

// Is makes a Denied equal to privacy.Deny.
func (e *Denied) Is(target error) bool { return target == privacy.Deny }

// Conflict is a change that does not fit to what there is, whoever makes it.
type Conflict struct {
	Noun   string
	Reason string // a sentence's end for people
}

func (e *Conflict) Error() string { return "not possible: " + e.Noun + ": " + e.Reason }

// filterable is every generated query and mutation.
type filterable interface {
	WhereP(...func(*sql.Selector))
}

// EvalQuery narrows a query down to what the viewer may see.
func (n Noun) EvalQuery(ctx context.Context, q ent.Query) error {
	v := viewer.FromContext(ctx)
	switch {
	case v == nil:
		return ErrNoViewer
	case v.System():
		return nil
	}
	return n.narrow(v, q, n.shares(ctx))
}

// EvalMutation allows a change or denies it, and narrows updates and deletions down
// to rows that the viewer sees.
func (n Noun) EvalMutation(ctx context.Context, m ent.Mutation) error {
	v := viewer.FromContext(ctx)
	switch {
	case v == nil:
		return ErrNoViewer
	case v.System():
		return nil
	case v.Agent(), n.Level == Nobody, n.Write == "", m.Op().Is(n.HubOnly):
		return &Denied{n.Name, "only the hub itself does this"}
	case m.Op().Is(ent.OpUpdate | ent.OpDelete):
		return &Denied{n.Name, "rows are changed one by one"} // a condition may be a tautology
	case !v.Can(n.Write) && !n.own(v, m):
		return &Denied{n.Name, fmt.Sprintf("it needs the permission %s", n.Write)}
	}
	for _, f := range n.AdministratorOnly {
		if touches(m, f) && v.Role != viewer.Administrator {
			return &Denied{n.Name, "only an Administrator changes " + f}
		}
	}
	for _, check := range []func(*viewer.Viewer, ent.Mutation) error{n.straight, n.placed, n.owned} {
		if err := check(v, m); err != nil {
			return err
		}
	}
	if err := n.granted(ctx, v, m); err != nil {
		return err
	}
	if m.Op().Is(ent.OpCreate) {
		return nil
	}
	return n.narrow(v, m, false)
}

func touches(m ent.Mutation, field string) bool {
	_, set := m.Field(field)
	return set || m.FieldCleared(field)
}

// own says whether the viewer is a user and the row is theirs, or is narrowed down to
// those: a key makes no other keys in its owner's name.
func (n Noun) own(v *viewer.Viewer, m ent.Mutation) bool {
	if !n.OwnWrite || v.User() != v.ID {
		return false
	}
	if m.Op().Is(ent.OpCreate) {
		owner, _ := m.Field(n.Owner)
		return owner == v.ID
	}
	f, ok := m.(filterable)
	if ok {
		f.WhereP(func(s *sql.Selector) { s.Where(sql.EQ(s.C(n.Owner), v.ID)) })
	}
	return ok
}

// straight refuses to change an edge from its other side, past the policy of the rows
// that it belongs to.
func (n Noun) straight(_ *viewer.Viewer, m ent.Mutation) error {
	r, ok := m.(interface{ InverseEdges() []string })
	if !ok {
		return nil
	}
	for _, e := range slices.Concat(m.AddedEdges(), m.RemovedEdges(), m.ClearedEdges()) {
		if slices.Contains(r.InverseEdges(), e) {
			return &Denied{n.Name, "its " + e + " are changed from their side"}
		}
	}
	return nil
}

// owned checks whom a change gives the row to.
func (n Noun) owned(v *viewer.Viewer, m ent.Mutation) error {
	if n.Owner == "" || !touches(m, n.Owner) || v.Can(viewer.ManageAccess) {
		return nil
	}
	if owner, _ := m.Field(n.Owner); m.Op().Is(ent.OpCreate) && owner == v.User() {
		return nil
	}
	return &Denied{n.Name, fmt.Sprintf("to give it to others needs the permission %s", viewer.ManageAccess)}
}

// granted refuses to give rights that the viewer does not have, and to change or take
// away a row that gives such.
func (n Noun) granted(ctx context.Context, v *viewer.Viewer, m ent.Mutation) error {
	if !n.Grants {
		return nil
	}
	g, ok := m.(Granter)
	if !ok {
		return &Denied{n.Name, "nobody knows which rights it gives"}
	}
	touched, after, err := g.Grants(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(touched, func(t *viewer.Viewer) bool { return !v.Covers(t) }) {
		return &Denied{n.Name, "it has, or belongs to somebody who has, rights that you do not have"}
	}
	if after != nil {
		if what := v.Lacks(after); what != "" {
			return &Denied{n.Name, "it would have " + what + ", which you do not have"}
		}
	}
	return nil
}

// placed checks where a change puts the row: into the viewer's organization, and
// into an asset group that the viewer has access to.
func (n Noun) placed(v *viewer.Viewer, m ent.Mutation) error {
	if org, set := m.Field(n.Tenant); set && org != v.Organization {
		return &Denied{n.Name, "it would be in another organization"}
	}
	if (n.Whole || n.Tenant == "id") && !v.All() { // what the organization decides is for all its groups
		return &Denied{n.Name, "it needs access to all asset groups"}
	}
	switch {
	case v.All():
		return nil
	case n.Level == Managers && m.Op().Is(ent.OpCreate): // of what there is, it sees nothing
		return &Denied{n.Name, "the organization's level needs access to all asset groups"}
	case n.Level != InGroup:
		return nil
	}
	if n.Group == "id" {
		if m.Op().Is(ent.OpCreate) {
			return &Denied{n.Name, "it needs access to all asset groups"}
		}
		return nil
	}
	group, set := m.Field(n.Group)
	switch id, _ := group.(string); {
	case set && !v.InGroup(id):
		return &Denied{n.Name, "you have no access to the asset group " + id}
	case m.FieldCleared(n.Group), !set && m.Op().Is(ent.OpCreate):
		return &Denied{n.Name, "the organization's level needs access to all asset groups"}
	}
	return nil
}

// narrow adds the conditions that only rows visible to v meet; shared adds those that
// v may only refer to.
func (n Noun) narrow(v *viewer.Viewer, to any, shared bool) error {
	f, ok := to.(filterable)
	if !ok || v.Organization == "" || v.Agent() || n.Level == Nobody {
		return &Denied{n.Name, "you may not see it"}
	}
	f.WhereP(func(s *sql.Selector) { s.Where(sql.EQ(s.C(n.Tenant), v.Organization)) })
	switch {
	case n.Level == InGroup && !v.All():
		groups := make([]any, 0, len(v.Groups))
		for _, g := range v.Groups {
			groups = append(groups, g)
		}
		f.WhereP(func(s *sql.Selector) { s.Where(n.inGroups(s, groups, shared)) })
	case n.Level == Managers && (!v.Can(n.Write) || !v.All()):
		f.WhereP(func(s *sql.Selector) { s.Where(sql.False()) })
	case n.Level == SelfOrManager && !v.Can(viewer.ManageAccess):
		f.WhereP(func(s *sql.Selector) {
			self := sql.In(s.C("id"), v.ID, v.User())
			if n.Owner != "" {
				self = sql.Or(self, sql.EQ(s.C(n.Owner), v.ID))
			}
			s.Where(self)
		})
	}
	return nil
}

// inGroups is the condition that a row belongs to one of the groups or, if that will
// do, is shared with one.
func (n Noun) inGroups(s *sql.Selector, groups []any, shared bool) *sql.Predicate {
	in := sql.In(s.C(n.Group), groups...)
	if !shared {
		return in
	}
	t := sql.Dialect(s.Dialect()).Table(n.Shared.Table)
	return sql.Or(in, sql.In(s.C("id"), sql.Dialect(s.Dialect()).Select(t.C(n.Shared.Row)).From(t).Where(sql.In(t.C(n.Shared.Group), groups...))))
}

type choosing struct{}

// Choosing returns a context whose queries also see what the viewer may refer to
// without seeing it: endpoints that are shared with their asset groups. They can be
// counted, and read by those columns that do not tell more than their names.
func Choosing(ctx context.Context) context.Context { return context.WithValue(ctx, choosing{}, true) }

// shown are the columns that Choosing shows.
func shown() []string { return []string{"id", "name", "connector"} }

// shares says whether the query is one that Choosing allows.
func (n Noun) shares(ctx context.Context) bool {
	if n.Shared == nil || ctx.Value(choosing{}) == nil {
		return false
	}
	q := ent.QueryFromContext(ctx)
	if q == nil {
		return false
	}
	if q.Op == ent.OpQueryCount || q.Op == ent.OpQueryExist || q.Op == ent.OpQueryIDs {
		return true
	}
	return len(q.Fields) > 0 && !slices.ContainsFunc(q.Fields, func(f string) bool { return !slices.Contains(shown(), f) })
}

// Referrer is a mutation that can check what the row refers to.
type Referrer interface {
	// CheckReferences returns an *UnknownReference when something that the mutation
	// refers to is not in the row's organization or not visible to the viewer.
	CheckReferences(ctx context.Context) error
}

// UnknownReference says that a row would refer to something that does not exist, as
// far as the viewer may know.
type UnknownReference struct {
	Field string   // the edge: "applications"
	IDs   []string // what was referred to
}

func (e *UnknownReference) Error() string {
	return fmt.Sprintf("%s: not found in this organization: %v", e.Field, e.IDs)
}

// CheckReference compares how many of the IDs of an edge were found.
func CheckReference(field string, ids []string, found int, err error) error {
	if err != nil {
		return fmt.Errorf("look up %s: %w", field, err)
	}
	if found != len(slices.Compact(slices.Sorted(slices.Values(ids)))) {
		return &UnknownReference{Field: field, IDs: ids}
	}
	return nil
}
