package schema

import (
	"entgo.io/contrib/entgql"
	"entgo.io/ent"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"

	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/viewer"
)

// CustomRole is a role that the organization has made: a named list of permissions.
type CustomRole struct{ ent.Schema }

func (CustomRole) Mixin() []ent.Mixin { return configured() }

func (CustomRole) Fields() []ent.Field {
	return []ent.Field{
		nameField("The name, unique in the organization."),
		descriptionField(),
		field.JSON("permissions", []viewer.Permission{}).Default([]viewer.Permission{}).Annotations(entgql.Type("[Permission!]")).
			Comment("What whoever has the role may do."),
	}
}

func (CustomRole) Edges() []ent.Edge {
	return []ent.Edge{inverse("users", User.Type, "custom_role"), inverse("api_keys", APIKey.Type, "custom_role")}
}

func (CustomRole) Indexes() []ent.Index { return []ent.Index{uniqueName()} }

func (CustomRole) Annotations() []schema.Annotation {
	return noun("A role that the organization has made: a named list of permissions. Users and API keys have it by the role CUSTOM.")
}

func (CustomRole) Policy() ent.Policy {
	return rule.Noun{Name: "role", Tenant: "organization_id", Level: rule.Everyone, Write: viewer.ManageAccess, Grants: true}
}

// roleField, customRoleField and customRoleEdge are the role of a user or key.
func roleField() ent.Field {
	return field.Enum("role").GoType(viewer.Role("")).Annotations(entgql.Type("Role")).Comment("The role, a named set of permissions. CUSTOM: that of customRole.")
}

func customRoleField() ent.Field {
	return field.String("custom_role_id").Optional().Nillable().Annotations(filterOnly()).Comment("The role that the organization has made.")
}

func customRoleEdge() ent.Edge {
	return edge.To("custom_role", CustomRole.Type).Unique().Field("custom_role_id").Annotations(unfiltered(), entgql.MapsTo("customRole"), restrict()).
		Comment("The role that the organization has made; null for the predefined ones.")
}
