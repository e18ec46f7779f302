package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"

	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/viewer"
)

// Trigger is an inbound address with which CI has a project scanned.
type Trigger struct{ ent.Schema }

func (Trigger) Mixin() []ent.Mixin { return configured() }

func (Trigger) Fields() []ent.Field {
	return []ent.Field{
		nameField("The name."),
		field.String("kind").NotEmpty().Immutable().Comment("What its callers speak: \"crashtest\", …"),
		field.String("project_id").Immutable().Annotations(filterOnly()).Comment("What it has scanned."),
		applicationsGroup(),
		field.String("owner_id").Optional().Nillable().Annotations(filterOnly()).Comment("The user that looks after it."),
		field.String("token_hash").NotEmpty().Unique().Sensitive().Annotations(hidden()).Comment("Hex SHA-256 of the unguessable part of its address."),
		field.Bool("enabled").Default(true).Comment("Whether calls are answered."),
	}
}

func (Trigger) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("project", Project.Type).Unique().Required().Immutable().Field("project_id").Annotations(unfiltered(), cascade()).Comment("What it has scanned."),
		edge.To("asset_group", AssetGroup.Type).Unique().Required().Field("asset_group_id").Annotations(unfiltered(), restrict()).Comment("The asset group of the project's application."),
		edge.To("owner", User.Type).Unique().Field("owner_id").Annotations(unfiltered(), entsql.OnDelete(entsql.SetNull)).Comment("The user that looks after it: who made it, at first. Null: nobody, or nobody you may see."),
	}
}

func (Trigger) Indexes() []ent.Index {
	return []ent.Index{index.Fields("organization_id", "name"), index.Fields("project_id"), index.Fields("asset_group_id"), index.Fields("owner_id")}
}

func (Trigger) Annotations() []schema.Annotation {
	return noun("An inbound address with which CI starts a scan, follows it and fetches a JUnit report. The address itself is shown once, when it is made.")
}

func (Trigger) Policy() ent.Policy {
	return rule.Noun{Name: "trigger", Tenant: "organization_id", Level: rule.InGroup, Group: "asset_group_id", Write: viewer.ManageTriggers, Owner: "owner_id"}
}
