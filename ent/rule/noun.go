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
	SelfOrManager              // oneself, and whoever may manage access
	Managers                   // whoever may change it
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
}

// Denied is a change that the viewer may not make. It is a privacy.Deny.
type Denied struct {
	Noun   string
	Reason string // a sentence's end for people
}

func (e *Denied) Error() string { return "not allowed: " + e.Noun + ": " + e.Reason }

// Is makes a Denied equal to privacy.Deny.
func (e *Denied) Is(target error) bool { return target == privacy.Deny }

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
	return n.narrow(v, q)
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
	case n.Level == Nobody || n.Write == "" || m.Op().Is(n.HubOnly):
		return &Denied{n.Name, "only the hub itself does this"}
	case m.Op().Is(ent.OpUpdate | ent.OpDelete):
		return &Denied{n.Name, "rows are changed one by one"} // a condition may be a tautology
	case !v.Can(n.Write):
		return &Denied{n.Name, fmt.Sprintf("it needs the permission %s", n.Write)}
	}
	for _, f := range n.AdministratorOnly {
		if _, set := m.Field(f); (set || m.FieldCleared(f)) && v.Role != viewer.Administrator {
			return &Denied{n.Name, "only an Administrator changes " + f}
		}
	}
	if err := n.placed(v, m); err != nil {
		return err
	}
	if m.Op().Is(ent.OpCreate) {
		return nil
	}
	return n.narrow(v, m)
}

// placed checks where a change puts the row: into the viewer's organization, and
// into an asset group that the viewer has access to.
func (n Noun) placed(v *viewer.Viewer, m ent.Mutation) error {
	if org, set := m.Field(n.Tenant); set && org != v.Organization {
		return &Denied{n.Name, "it would be in another organization"}
	}
	if n.Level != InGroup || v.All() {
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

// narrow adds the conditions that only rows visible to v meet.
func (n Noun) narrow(v *viewer.Viewer, to any) error {
	f, ok := to.(filterable)
	if !ok || v.Organization == "" || n.Level == Nobody {
		return &Denied{n.Name, "you may not see it"}
	}
	f.WhereP(func(s *sql.Selector) { s.Where(sql.EQ(s.C(n.Tenant), v.Organization)) })
	switch {
	case n.Level == InGroup && !v.All():
		groups := make([]any, 0, len(v.Groups))
		for _, g := range v.Groups {
			groups = append(groups, g)
		}
		f.WhereP(func(s *sql.Selector) { s.Where(sql.In(s.C(n.Group), groups...)) })
	case n.Level == Managers && !v.Can(n.Write):
		f.WhereP(func(s *sql.Selector) { s.Where(sql.False()) })
	case n.Level == SelfOrManager && !v.Can(viewer.ManageAccess):
		f.WhereP(func(s *sql.Selector) { s.Where(sql.EQ(s.C("id"), v.ID)) })
	}
	return nil
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
