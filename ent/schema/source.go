package schema

import (
	"time"

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

// Source is who sends events in: a vendor system or a program.
type Source struct{ ent.Schema }

func (Source) Mixin() []ent.Mixin { return configured() }

func (Source) Fields() []ent.Field {
	return []ent.Field{
		nameField("The name, unique in the organization."),
		field.String("kind").NotEmpty().Immutable().Comment("The kind of sender, which decides how its requests are read: \"holm\", \"cloudevents\", …"),
		levelField("The asset group that new applications of this source go to."),
		field.String("token_hash").NotEmpty().Unique().Sensitive().Annotations(hidden()).Comment("Hex SHA-256 of the unguessable part of its address."),
		field.Bool("enabled").Default(true).Comment("Whether requests are accepted."),
		field.String("time_zone").Default("UTC").NotEmpty().Validate(zone).Comment("The zone of times that carry none, by its IANA name."),
		field.JSON("mapping", parts.Mapping{}).Default(parts.Mapping{}).Annotations(entgql.Type("Mapping")).Comment("How the application of an event is found."),
		field.JSON("settings", map[string]any{}).Optional().Annotations(entgql.Type("Map")).Comment("How the hub reaches the sender, for kinds whose requests do not tell everything: settings of their connector, valid against its schema; secret ones are not shown."),
		field.Int("poll_every_seconds").Default(0).Min(0).Comment("For how many seconds the hub waits before it asks the sender again. 0: it does not ask."),
		sealed("setting_secrets", "Values of secret settings by name: a sealed JSON object."),
		sealed("secrets", "Signing secrets, the current one first: a sealed JSON array of base64."),
		field.Time("old_secrets_until").Optional().Nillable().Annotations(unfiltered()).Comment("Until when other signing secrets than the current one are accepted. Null: all of them are, for good."),
		sealed("authorization", "The exact Authorization header that it must send, sealed; null: none."),
		field.Int64("revision").Default(1).Comment("Goes up by one with each change."),
	}
}

func zone(name string) error {
	_, err := time.LoadLocation(name)
	return err
}

func (Source) Edges() []ent.Edge {
	return []ent.Edge{
		levelEdge("The asset group that new applications of this source go to. Null: the source belongs to the organization."),
		inverse("webhooks", Webhook.Type, "sources"),
	}
}

func (Source) Hooks() []ent.Hook { return []ent.Hook{revised()} }

func (Source) Indexes() []ent.Index {
	return []ent.Index{uniqueName(), index.Fields("asset_group_id"),
		index.Fields("organization_id", "id").StorageKey("source_polled").Annotations(entsql.IndexWhere("poll_every_seconds > 0"))}
}

func (Source) Annotations() []schema.Annotation {
	return noun("Who sends events in: a vendor system or a program, with its own address and credentials.")
}

func (Source) Policy() ent.Policy {
	return rule.Noun{Name: "source", Tenant: "organization_id", Level: rule.InGroup, Group: "asset_group_id", Write: viewer.ManageSources}
}

// levelField and levelEdge are the asset group that a row belongs to; null is the
// organization's own level.
func levelField(comment string) ent.Field {
	return field.String("asset_group_id").Optional().Nillable().Annotations(filterOnly()).Comment(comment)
}

func levelEdge(comment string) ent.Edge {
	return edge.To("asset_group", AssetGroup.Type).Unique().Field("asset_group_id").Annotations(unfiltered(), restrict()).Comment(comment)
}
