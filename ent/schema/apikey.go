package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"

	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/viewer"
)

// APIKey lets a program ask. It has a role and asset groups of its own.
type APIKey struct{ ent.Schema }

func (APIKey) Mixin() []ent.Mixin { return configured() }

func (APIKey) Fields() []ent.Field {
	return []ent.Field{
		nameField("What the key is for."),
		roleField(),
		customRoleField(),
		allGroupsField(),
		field.String("prefix").NotEmpty().Immutable().Comment("The first characters of the key, to recognise it by."),
		field.String("hash").NotEmpty().Immutable().Unique().Sensitive().Annotations(hidden()).Comment("Hex SHA-256 of the key."),
		field.Time("expires_at").Optional().Nillable().Comment("When it stops working. Null: never."),
		field.Time("last_used_at").Optional().Nillable().Comment("When it was last used, to the minute or so. Null: never."),
		field.String("owner_id").Optional().Nillable().Annotations(filterOnly()).Comment("The user that the key belongs to."),
	}
}

func (APIKey) Edges() []ent.Edge {
	return []ent.Edge{
		customRoleEdge(),
		groupsEdge(),
		edge.To("owner", User.Type).Unique().Field("owner_id").Annotations(unfiltered(), entsql.OnDelete(entsql.Cascade)).Comment("The user that the key belongs to. Null: the organization."),
	}
}

func (APIKey) Indexes() []ent.Index { return []ent.Index{index.Fields("organization_id")} }

func (APIKey) Annotations() []schema.Annotation {
	return noun("A key with which a program asks. The key itself is shown once, when it is made.")
}

func (APIKey) Policy() ent.Policy {
	return rule.Noun{Name: "API key", Tenant: "organization_id", Level: rule.SelfOrManager, Write: viewer.ManageAccess, Owner: "owner_id", OwnWrite: true, Grants: true}
}
