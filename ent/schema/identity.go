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

// Identity says that somebody whom a provider knows is a user. It is made at the first
// sign-in, and is no noun of the API.
type Identity struct{ ent.Schema }

func (Identity) Mixin() []ent.Mixin { return configured() }

func (Identity) Fields() []ent.Field {
	return []ent.Field{
		field.String("provider_id").Immutable().Comment("The identity provider."),
		field.String("subject").NotEmpty().MaxLen(255).Immutable().Comment("Its name for the user, which it never gives to another."),
		field.String("user_id").Immutable().Comment("The user."),
	}
}

func (Identity) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("provider", IdentityProvider.Type).Unique().Required().Immutable().Field("provider_id").Annotations(entsql.OnDelete(entsql.Cascade)),
		edge.To("user", User.Type).Unique().Required().Immutable().Field("user_id").Annotations(entsql.OnDelete(entsql.Cascade)),
	}
}

func (Identity) Indexes() []ent.Index {
	return []ent.Index{
		index.Fields("provider_id", "subject").Unique(),
		index.Fields("provider_id", "user_id").Unique(), // a user is one person at a provider
		index.Fields("user_id"),
	}
}

func (Identity) Annotations() []schema.Annotation {
	return []schema.Annotation{schema.Comment("A user as an identity provider knows them."), hidden()}
}

func (Identity) Policy() ent.Policy {
	return rule.Own{Name: "identity", Tenant: "organization_id", Owner: "user_id"}
}
