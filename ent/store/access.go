package store

import (
	"context"
	"fmt"
	"slices"

	"entgo.io/ent"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/user"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/viewer"
)

// keepAdministrator refuses to take the last Administrator who may sign in away from an
// organization, whoever is asking: nobody could bring one back.
func (db *DB) keepAdministrator(next ent.Mutator) ent.Mutator {
	return ent.MutateFunc(func(ctx context.Context, m ent.Mutation) (ent.Value, error) {
		u, ok := m.(*gen.UserMutation)
		if !ok || m.Op().Is(ent.OpCreate) {
			return next.Mutate(ctx, m)
		}
		_, role := u.Role()
		if _, disabled := u.DisabledAt(); !role && !disabled && m.Op().Is(ent.OpUpdate|ent.OpUpdateOne) {
			return next.Mutate(ctx, m)
		}
		orgs, err := u.Organizations(ctx)
		if err != nil {
			return nil, err
		}
		before, err := administrators(ctx, u.Client(), orgs)
		if err != nil {
			return nil, err
		}
		v, err := next.Mutate(ctx, m)
		if err != nil {
			return nil, err
		}
		after, err := administrators(ctx, u.Client(), orgs)
		if err != nil {
			return nil, err
		}
		for org := range before {
			if !after[org] {
				return nil, &rule.Conflict{Noun: "user", Reason: "an organization needs an Administrator who is not disabled; make another one first"}
			}
		}
		return v, nil
	})
}

// administrators says which of the organizations have an Administrator who is not disabled.
func administrators(ctx context.Context, c *gen.Client, orgs []string) (map[string]bool, error) {
	var list []string
	err := c.User.Query().Where(user.OrganizationIDIn(orgs...), user.RoleEQ(viewer.Administrator), user.DisabledAtIsNil()).
		Unique(true).Select(user.FieldOrganizationID).Scan(viewer.SystemContext(ctx), &list)
	if err != nil {
		return nil, fmt.Errorf("look up the Administrators: %w", err)
	}
	has := make(map[string]bool, len(list))
	for _, org := range list {
		has[org] = true
	}
	return has, nil
}

// checkRole holds the role of a user or key against the custom role.
func checkRole(role viewer.Role, custom *string) error {
	switch {
	case role == viewer.Custom && custom == nil:
		return invalid("custom_role", "the role %s needs a role that the organization has made", role)
	case role != viewer.Custom && custom != nil:
		return invalid("custom_role", "the role %s is predefined; a role that the organization has made goes with the role %s", role, viewer.Custom)
	}
	return nil
}

func checkPermissions(list []viewer.Permission) error {
	for i, p := range list {
		switch {
		case !slices.Contains(viewer.AllPermissions(), p):
			return invalid("permissions", "%q is no permission", p)
		case slices.Index(list, p) != i:
			return invalid("permissions", "%s is there twice", p)
		}
	}
	return nil
}
