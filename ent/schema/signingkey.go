package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/field"

	"github.com/hookyard/hookyard/ent/rule"
)

// SigningKey is a key that the hub signs its tokens with. It belongs to the hub and
// is no noun of the API.
type SigningKey struct{ ent.Schema }

func (SigningKey) Mixin() []ent.Mixin { return []ent.Mixin{id{}, times{}} }

func (SigningKey) Fields() []ent.Field {
	return []ent.Field{
		field.String("organization_id").Default("").Immutable().Comment("Empty: the hub's own key."),
		field.String("algorithm").NotEmpty().Immutable().Comment("The only algorithm that the key may be used with."),
		field.Bytes("material").Sensitive().Immutable().Annotations(isSealed{Yes: true}).Comment("The key, encrypted by ent/secret."),
		field.Time("retired_at").Optional().Nillable().Comment("Since when it signs no more."),
	}
}

func (SigningKey) Annotations() []schema.Annotation {
	return []schema.Annotation{schema.Comment("A key that the hub signs its tokens with."), hidden()}
}

func (SigningKey) Policy() ent.Policy { return rule.Noun{Name: "signing key", Level: rule.Nobody} }
