package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"

	"github.com/hookyard/hookyard/ent/rule"
)

// OneTimeLink lets whoever has it choose a user's password, once. The row is gone once
// it was used. It is no noun of the API, which shows a link only when it is made.
type OneTimeLink struct{ ent.Schema }

func (OneTimeLink) Mixin() []ent.Mixin { return configured() }

func (OneTimeLink) Fields() []ent.Field {
	return []ent.Field{
		field.String("user_id").Immutable().Comment("The user whose password it sets."),
		field.String("hash").NotEmpty().Immutable().Unique().Sensitive().Comment("Hex SHA-256 of the link's secret."),
		field.Time("expires_at").Immutable().Comment("When it stops working."),
	}
}

func (OneTimeLink) Edges() []ent.Edge {
	return []ent.Edge{edge.To("user", User.Type).Unique().Required().Immutable().Field("user_id").Annotations(entsql.OnDelete(entsql.Cascade))}
}

func (OneTimeLink) Indexes() []ent.Index {
	return []ent.Index{index.Fields("organization_id"), index.Fields("user_id"), index.Fields("expires_at")}
}

func (OneTimeLink) Annotations() []schema.Annotation {
	return []schema.Annotation{schema.Comment("A link with which a user chooses a password."), hidden()}
}

func (OneTimeLink) Policy() ent.Policy {
	return rule.Noun{Name: "one-time link", Tenant: "organization_id", Level: rule.Nobody}
}
