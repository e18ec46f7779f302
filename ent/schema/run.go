package schema

import (
	"entgo.io/contrib/entgql"
	"entgo.io/ent"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/viewer"
)

// Run is the hub's own carrying out of one scan. What it tells becomes events, and
// through these a Scan and Findings of the catalogue.
type Run struct{ ent.Schema }

func (Run) Mixin() []ent.Mixin { return []ent.Mixin{id{}, times{order: true}, tenant{}} }

func (Run) Fields() []ent.Field {
	return []ent.Field{
		field.String("project_id").Immutable().Annotations(filterOnly()).Comment("What was scanned."),
		field.String("trigger_id").Optional().Nillable().Immutable().Comment("ID of the trigger that started it. Null: a person or a program did, through the API."),
		field.String("started_by").Default("").Immutable().Annotations(unfiltered()).Comment("ID of who started it: a trigger, user or key."),
		applicationsGroup(),
		field.Int("number").Positive().Immutable().Comment("The number by which callers of triggers know it; unique in the organization."),
		field.String("scan_id").Immutable().Annotations(hidden()).Comment("ID of the scan in the catalogue."),
		field.Enum("state").Values("QUEUED", "RUNNING", "FINISHED", "FAILED", "STOPPED").Default("QUEUED").Comment("How far it is; the last three are ends."),
		field.String("reason").Default("").Annotations(unfiltered()).Comment("Why it failed or was stopped."),
		field.Int("progress").Default(0).Range(0, 100).Annotations(unfiltered()).Comment("How far it is, in percent."),
		field.Time("started_at").Optional().Nillable().Comment("When the scanner began. Null: not yet."),
		field.Time("finished_at").Optional().Nillable().Comment("When it ended. Null: not yet."),
		field.Time("deadline").Immutable().Annotations(unfiltered()).Comment("When it ends as failed if it has not ended before."),
		field.JSON("checks", []connectors.ScanCheck{}).Optional().Annotations(hidden()).Comment("What was looked for, and what came of it."),
		field.Bool("untold").Default(false).Annotations(hidden()).Comment("Whether its end has yet to become an event."),
		field.String("lease_node").Default("").Annotations(hidden()).Comment("The node that has it in hand."),
		field.Int64("lease_epoch").Default(0).Annotations(hidden()).Comment("The start of that node."),
	}
}

func (Run) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("project", Project.Type).Unique().Required().Immutable().Field("project_id").Annotations(unfiltered(), cascade()).Comment("What was scanned."),
		edge.To("asset_group", AssetGroup.Type).Unique().Required().Field("asset_group_id").Annotations(unfiltered(), restrict()).Comment("The asset group of the project's application."),
	}
}

func (Run) Indexes() []ent.Index {
	return []ent.Index{
		index.Fields("organization_id", "created_at"),
		index.Fields("organization_id", "number").Unique(),
		index.Fields("project_id", "created_at"),
		index.Fields("asset_group_id"),
		index.Fields("project_id").Unique().StorageKey("run_running").Annotations(entsql.IndexWhere("finished_at IS NULL")),
		index.Fields("untold").StorageKey("run_untold").Annotations(entsql.IndexWhere("untold")),
	}
}

func (Run) Annotations() []schema.Annotation {
	return []schema.Annotation{schema.Comment("The hub's own carrying out of one scan of a project. A project has one at a time."), entgql.RelayConnection()}
}

// Policy lets whoever may run scans start and stop them; what happens in between is the hub's.
func (Run) Policy() ent.Policy {
	return rule.Noun{Name: "run", Tenant: "organization_id", Level: rule.InGroup, Group: "asset_group_id", Write: viewer.RunScans, HubOnly: ent.OpDelete | ent.OpDeleteOne}
}
