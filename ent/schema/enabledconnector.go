package schema

import (
	"entgo.io/contrib/entgql"
	"entgo.io/ent"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/field"

	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/viewer"
)

// EnabledConnector is a connector that the operator has installed and the organization
// has enabled, and which version of it its endpoints use.
type EnabledConnector struct{ ent.Schema }

func (EnabledConnector) Mixin() []ent.Mixin { return configured() }

func (EnabledConnector) Fields() []ent.Field {
	return []ent.Field{
		field.String("name").NotEmpty().MaxLen(64).Immutable().Annotations(entgql.OrderField("NAME")).Comment("The connector's name, as in Endpoint.connector."),
		field.String("version").NotEmpty().MaxLen(200).Comment("The version that endpoints use unless they are pinned to another."),
		field.String("digest").NotEmpty().MaxLen(64).Comment("SHA-256 of that version's package."),
		field.Bool("enabled").Default(true).Comment("Whether anything is delivered through it; when not, deliveries are held."),
		field.Time("released_at").Optional().Nillable().Annotations(unfiltered()).Comment("When somebody last let its processes out of quarantine."),
	}
}

func (EnabledConnector) Indexes() []ent.Index { return []ent.Index{uniqueName()} }

func (EnabledConnector) Annotations() []schema.Annotation {
	return noun("A connector that the hub's operator has installed and the organization has enabled, and which version of it endpoints use.")
}

func (EnabledConnector) Policy() ent.Policy {
	return rule.Noun{Name: "connector", Tenant: "organization_id", Level: rule.Everyone, Write: viewer.ManageConnectors, Whole: true}
}
