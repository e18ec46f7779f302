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

// Presence is our agent inside a private network. Which agents there are and how they
// are linked is in presence_agents, a table of the hub's own.
type Presence struct{ ent.Schema }

func (Presence) Mixin() []ent.Mixin { return configured() }

func (Presence) Fields() []ent.Field {
	return []ent.Field{
		nameField("The name, unique in the organization."),
		descriptionField(),
		levelField("The asset group that it belongs to."),
		field.Bool("enabled").Default(true).Comment("Whether its agents may link to the hub; when not, its deliveries wait."),
		field.String("key_prefix").NotEmpty().Comment("The first characters of its key, to recognise it by."),
		field.String("key_hash").NotEmpty().Unique().Sensitive().Annotations(hidden()).Comment("Hex SHA-256 of its key."),
		field.String("previous_key_hash").Optional().Nillable().Unique().Sensitive().Annotations(hidden()).Comment("Hex SHA-256 of the key before."),
		field.Time("previous_key_until").Optional().Nillable().Annotations(unfiltered()).Comment("Until when the previous key counts beside the new one. Null: there is no other."),
	}
}

func (Presence) Edges() []ent.Edge {
	return []ent.Edge{
		levelEdge("The asset group that it belongs to. Null: the organization."),
		edge.To("shared_groups", AssetGroup.Type).Annotations(unfiltered(), entgql.MapsTo("sharedGroups")).Comment("Other asset groups whose endpoints may use it, too."),
	}
}

func (Presence) Indexes() []ent.Index {
	return []ent.Index{uniqueName(), index.Fields("asset_group_id")}
}

func (Presence) Annotations() []schema.Annotation {
	return noun("An agent inside a private network: it links out to the hub and makes the calls that the hub cannot.")
}

func (Presence) Policy() ent.Policy {
	return rule.Noun{Name: "Presence", Tenant: "organization_id", Level: rule.InGroup, Group: "asset_group_id", Write: viewer.ManagePresences,
		Shared: &rule.Share{Table: "presence_shared_groups", Row: "presence_id", Group: "asset_group_id"}}
}
