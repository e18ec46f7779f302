package schema

import (
	"entgo.io/contrib/entgql"
	"entgo.io/ent"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"

	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/viewer"
)

// User is a person of the organization.
type User struct{ ent.Schema }

func (User) Mixin() []ent.Mixin { return configured() }

func (User) Fields() []ent.Field {
	return []ent.Field{
		field.String("email").NotEmpty().MaxLen(320).Annotations(entgql.OrderField("EMAIL")).Comment("The e-mail address, in lower case; unique in the organization."),
		field.String("name").MaxLen(200).Default("").Comment("The name."),
		roleField(),
		customRoleField(),
		allGroupsField(),
		field.String("password_hash").Optional().Sensitive().Annotations(hidden()).Comment("Hash of the password; empty: none."),
		field.Time("disabled_at").Optional().Nillable().Comment("Since when the user may not sign in. Null: the user may."),
	}
}

func (User) Edges() []ent.Edge { return []ent.Edge{customRoleEdge(), groupsEdge()} }

func (User) Hooks() []ent.Hook { return []ent.Hook{lower("email")} }

func (User) Indexes() []ent.Index {
	return []ent.Index{index.Fields("organization_id", "email").Unique()}
}

func (User) Annotations() []schema.Annotation { return noun("A person of the organization.") }

func (User) Policy() ent.Policy {
	return rule.Noun{Name: "user", Tenant: "organization_id", Level: rule.SelfOrManager, Write: viewer.ManageAccess}
}

func allGroupsField() ent.Field {
	return field.Bool("all_groups").Default(false).Comment("Whether access is complete: all asset groups and the organization's own level.")
}

func groupsEdge() ent.Edge {
	return edge.To("groups", AssetGroup.Type).Annotations(unfiltered()).Comment("The asset groups that access is given to.")
}
