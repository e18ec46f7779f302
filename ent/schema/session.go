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

// Session is one sign-in of a user, for as long as its refresh token is renewed. The row
// is gone once it has ended.
type Session struct{ ent.Schema }

func (Session) Mixin() []ent.Mixin { return configured() }

func (Session) Fields() []ent.Field {
	return []ent.Field{
		field.String("user_id").Immutable().Annotations(filterOnly()).Comment("The user who signed in."),
		field.String("method").NotEmpty().Immutable().Comment("How the user signed in: \"password\", or who vouched."),
		field.String("origin").Immutable().Default("").Comment("The address that the user signed in from."),
		field.String("user_agent").Immutable().Default("").Annotations(unfiltered()).Comment("What the program that signed in calls itself."),
		field.Time("last_used_at").Comment("When it was last renewed."),
		field.Time("expires_at").Comment("When it ends unless it is renewed before."),
		field.Time("ends_at").Immutable().Comment("When it ends in any case."),
		field.String("family_hash").NotEmpty().Immutable().Unique().Sensitive().Annotations(hidden()).Comment("Hex SHA-256 of what all its refresh tokens have in common."),
		field.String("refresh_hash").NotEmpty().Sensitive().Annotations(hidden()).Comment("Hex SHA-256 of the refresh token in force."),
		field.String("previous_hash").Default("").Sensitive().Annotations(hidden()).Comment("Hex SHA-256 of the one before; empty: none."),
		sealed("chain", "Key, encrypted by ent/secret, by which a refresh token leads to the next."),
	}
}

func (Session) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("user", User.Type).Unique().Required().Immutable().Field("user_id").Annotations(unfiltered(), entsql.OnDelete(entsql.Cascade)).Comment("The user who signed in."),
	}
}

func (Session) Indexes() []ent.Index {
	return []ent.Index{index.Fields("organization_id"), index.Fields("user_id"), index.Fields("expires_at")}
}

func (Session) Annotations() []schema.Annotation {
	return noun("One sign-in of a user. It goes on until it is ended, or not renewed in time.")
}

func (Session) Policy() ent.Policy {
	return rule.Own{Name: "session", Tenant: "organization_id", Owner: "user_id"}
}
