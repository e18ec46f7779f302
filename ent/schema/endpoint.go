package schema

import (
	"entgo.io/contrib/entgql"
	"entgo.io/ent"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"

	"github.com/hookyard/hookyard/ent/parts"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/viewer"
)

// Endpoint is where webhooks deliver.
type Endpoint struct{ ent.Schema }

func (Endpoint) Mixin() []ent.Mixin { return configured() }

func (Endpoint) Fields() []ent.Field {
	return []ent.Field{
		nameField("The name, unique in the organization."),
		levelField("The asset group that it belongs to."),
		field.String("connector").NotEmpty().Immutable().Comment("The connector that delivers there, by name: \"webhook\", …"),
		field.String("connector_version").Default("").MaxLen(200).Comment("The connector's version that it is pinned to. Empty: the one that the organization uses."),
		field.String("connector_digest").Default("").MaxLen(64).Comment("SHA-256 of the package that it is pinned to; empty when it is not."),
		field.String("url").Default("").MaxLen(8192).Comment("The address, for connectors that have one."),
		field.String("presence_id").Optional().Nillable().Annotations(filterOnly()).Comment("The Presence that makes the calls."),
		field.Bool("enabled").Default(true).Comment("Whether anything is delivered there; when not, deliveries are held."),
		field.JSON("headers", []parts.EndpointHeader{}).Optional().Annotations(entgql.Type("[EndpointHeader!]")).Comment("Extra request headers. Values of secret ones are not shown."),
		field.JSON("settings", map[string]any{}).Optional().Annotations(entgql.Type("Map")).Comment("Settings of the connector, valid against its schema; secret ones are not shown."),
		sealed("secrets", "Values by setting name, and of secret headers by \"header:<name>\": a sealed JSON object."),
		field.Float("rate_per_second").Default(0).Min(0).Comment("At most this many deliveries per second by each node of the hub; 0 is unlimited."),
		field.Int("burst").Default(1).Min(1).Comment("How many deliveries may go at once under the rate limit."),
		field.Int("max_in_flight").Default(0).NonNegative().Comment("At most this many deliveries of one webhook at a time; 0 is the hub's default."),
		field.Int64("revision").Default(1).Comment("Goes up by one with each change."),
	}
}

func (Endpoint) Edges() []ent.Edge {
	return []ent.Edge{
		levelEdge("The asset group that it belongs to. Null: the organization."),
		edge.To("presence", Presence.Type).Unique().Field("presence_id").Annotations(unfiltered(), restrict()).Comment("The Presence that makes the calls. Null: the hub itself does, or it is not yours to see: see throughPresence."),
		edge.To("shared_groups", AssetGroup.Type).Annotations(unfiltered(), entgql.MapsTo("sharedGroups")).Comment("Other asset groups whose webhooks may use it, too."),
	}
}

func (Endpoint) Hooks() []ent.Hook {
	return []ent.Hook{revised()}
}

func (Endpoint) Indexes() []ent.Index {
	return []ent.Index{uniqueName(), index.Fields("asset_group_id"), index.Fields("presence_id")}
}

func (Endpoint) Annotations() []schema.Annotation {
	return noun("Where webhooks deliver: an address with its secrets and the settings of its connector.")
}

func (Endpoint) Policy() ent.Policy {
	return rule.Noun{Name: "endpoint", Tenant: "organization_id", Level: rule.InGroup, Group: "asset_group_id", Write: viewer.CreateModifyWebhooks,
		Shared: &rule.Share{Table: "endpoint_shared_groups", Row: "endpoint_id", Group: "asset_group_id"}}
}

// restrict refuses to delete what a row still refers to.
func restrict() schema.Annotation { return entsql.OnDelete(entsql.Restrict) }
