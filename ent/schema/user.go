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
		field.Time("last_sign_in_at").Optional().Nillable().Comment("When the user last signed in. Null: never."),
		field.Time("second_factor_at").Optional().Nillable().Comment("Since when signing in takes a second factor. Null: it does not."),
		sealed("totp_secret", "Secret of the second factor, encrypted by ent/secret."),
		field.Int64("totp_step").Default(0).Annotations(hidden()).Comment("Time step of the last code of the second factor that was taken."),
		field.String("recovery_hashes").Optional().Sensitive().Annotations(hidden()).Comment("Hex SHA-256 of the recovery codes that are left, joined by commas."),
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
	return rule.Noun{Name: "user", Tenant: "organization_id", Level: rule.SelfOrManager, Write: viewer.ManageAccess, Grants: true}
}

func allGroupsField() ent.Field {
	return field.Bool("all_groups").Default(false).Comment("Whether access is complete: all asset groups and the organization's own level.")
}

func groupsEdge() ent.Edge {
	return edge.To("groups", AssetGroup.Type).Annotations(unfiltered()).Comment("The asset groups that access is given to.")
}
