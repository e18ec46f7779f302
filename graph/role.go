package graph

import (
	"context"
	"slices"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/viewer"
	graphgen "github.com/hookyard/hookyard/graph/gen"
)

func (r *Resolver) createRole(ctx context.Context, in graphgen.CreateRoleInput) (*gen.CustomRole, error) {
	return change(ctx, r, r.DB.Client.CustomRole.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		role, err := tx.CustomRole.Create().SetName(in.Name).SetNillableDescription(in.Description).SetPermissions(in.Permissions).Save(ctx)
		if err != nil {
			return "", err
		}
		return role.ID, nil
	})
}

func (r *Resolver) updateRole(ctx context.Context, in graphgen.UpdateRoleInput) (*gen.CustomRole, error) {
	return change(ctx, r, r.DB.Client.CustomRole.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		u := tx.CustomRole.UpdateOneID(in.ID).SetNillableName(in.Name).SetNillableDescription(in.Description)
		if in.Permissions != nil {
			u.SetPermissions(in.Permissions)
		}
		return in.ID, u.Exec(ctx)
	})
}

// predefinedRoles tells of the roles in the words of the schema.
func predefinedRoles() []*graphgen.PredefinedRole {
	words := described("Role")
	var out []*graphgen.PredefinedRole
	for _, role := range viewer.Predefined() {
		out = append(out, &graphgen.PredefinedRole{Role: role, Description: words[string(role)], Permissions: role.Permissions(), AllGroups: role == viewer.Administrator})
	}
	return out
}

// permissions tells of the permissions in the words of the schema, and of the fields
// that ask for them there.
func permissions() []*graphgen.PermissionInfo {
	words := described("Permission")
	var out []*graphgen.PermissionInfo
	for _, p := range viewer.AllPermissions() {
		info := &graphgen.PermissionInfo{Permission: p, Description: words[string(p)], Fields: fieldsThatRequire(p), Roles: []viewer.Role{}}
		for _, role := range viewer.Predefined() {
			if slices.Contains(role.Permissions(), p) {
				info.Roles = append(info.Roles, role)
			}
		}
		out = append(out, info)
	}
	return out
}

func ownSchema() *ast.Schema { return graphgen.NewExecutableSchema(graphgen.Config{}).Schema() }

// described are the descriptions of an enum's values.
func described(enum string) map[string]string {
	out := map[string]string{}
	for _, v := range ownSchema().Types[enum].EnumValues {
		out[v.Name] = v.Description
	}
	return out
}

// fieldsThatRequire lists fields with the directive @requires, "Mutation.createRole".
func fieldsThatRequire(p viewer.Permission) []string {
	out := []string{}
	for name, t := range ownSchema().Types {
		for _, f := range t.Fields {
			if d := f.Directives.ForName("requires"); d != nil && d.Arguments.ForName("permission").Value.Raw == string(p) {
				out = append(out, name+"."+f.Name)
			}
		}
	}
	slices.Sort(out)
	return out
}
