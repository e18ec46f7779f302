package schema

import (
	"errors"

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

// Project is something that the hub has scanned again and again: one target of an
// application, with the scanner and all that it needs.
type Project struct{ ent.Schema }

func (Project) Mixin() []ent.Mixin { return configured() }

func (Project) Fields() []ent.Field {
	return []ent.Field{
		nameField("The name, unique in the organization."),
		descriptionField(),
		field.String("application_id").Immutable().Annotations(filterOnly()).Comment("The application that its scans belong to."),
		applicationsGroup(),
		field.Enum("target_kind").Values("WEB", "API").Immutable().Comment("What sort of thing is scanned."),
		field.String("target_url").NotEmpty().MaxLen(2048).Validate(httpAddress).Comment("Where the scans begin."),
		field.JSON("origins", []string{}).Default([]string{}).Annotations(entgql.Type("[String!]")).Comment("The origins that scans may touch besides the target's own: \"https://api.example.com\"."),
		field.String("scanner").NotEmpty().Comment("The connector that scans, by name."),
		field.JSON("settings", map[string]any{}).Optional().Annotations(entgql.Type("Map")).Comment("Settings of the scanner, valid against its schema; secret ones are not shown."),
		sealed("secrets", "Secret settings of the scanner by name: a sealed JSON object."),
		sealed("setup", "How the scanner gets into the target: a sealed connectors.ScanSetup."),
		field.Time("setup_at").Optional().Nillable().Annotations(unfiltered()).Comment("When the credentials or the API specification that are kept for its scans were last replaced. Null: none are kept."),
		field.Int("time_limit_minutes").Default(480).Range(1, 10080).Comment("How long a scan may take, in minutes; then it ends as failed."),
		field.Int64("revision").Default(1).Annotations(unfiltered()).Comment("Goes up by one with each change."),
	}
}

func (Project) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("application", Application.Type).Unique().Required().Immutable().Field("application_id").Annotations(unfiltered(), restrict()).Comment("The application that its scans belong to."),
		edge.To("asset_group", AssetGroup.Type).Unique().Required().Field("asset_group_id").Annotations(unfiltered(), restrict()).Comment("The asset group of its application."),
	}
}

// applicationsGroup is the group of the application that a row belongs to, which the store
// keeps the same.
func applicationsGroup() ent.Field {
	return field.String("asset_group_id").Annotations(filterOnly()).Comment("The asset group of its application.")
}

func (Project) Hooks() []ent.Hook {
	return []ent.Hook{onEach(ent.OpUpdate|ent.OpUpdateOne, func(m ent.Mutation) error { return m.AddField("revision", int64(1)) })}
}

func (Project) Indexes() []ent.Index {
	return []ent.Index{uniqueName(), index.Fields("application_id"), index.Fields("asset_group_id")}
}

func (Project) Annotations() []schema.Annotation {
	return noun("Something that the hub itself has scanned, again and again: one target of an application, with its scanner.")
}

func (Project) Policy() ent.Policy {
	return rule.Noun{Name: "project", Tenant: "organization_id", Level: rule.InGroup, Group: "asset_group_id", Write: viewer.ManageTriggers}
}

func httpAddress(s string) error {
	if _, ok := parts.Origin(s); !ok {
		return errors.New("it must be an address such as https://app.example.com, without user and fragment")
	}
	return nil
}

// cascade deletes a row with what it belongs to.
func cascade() schema.Annotation { return entsql.OnDelete(entsql.Cascade) }
