package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"

	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/viewer"
)

// Application is what gets scanned. It is in one asset group.
type Application struct{ ent.Schema }

func (Application) Mixin() []ent.Mixin { return configured() }

func (Application) Fields() []ent.Field {
	return []ent.Field{
		nameField("The name, unique in the organization; sources find applications by it."),
		descriptionField(),
		field.String("key").MaxLen(512).Default("").Comment("The ID by which the system that scans it knows it; sources find applications by it, too. Empty: none."),
		field.String("asset_group_id").Annotations(filterOnly()).Comment("The asset group that it is in."),
	}
}

func (Application) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("asset_group", AssetGroup.Type).Unique().Required().Field("asset_group_id").Annotations(unfiltered()).
			Comment("The asset group that it is in."),
		inverse("webhooks", Webhook.Type, "applications"),
	}
}

func (Application) Indexes() []ent.Index {
	return []ent.Index{uniqueName(), index.Fields("asset_group_id"), index.Fields("organization_id", "key")}
}

func (Application) Annotations() []schema.Annotation {
	return noun("What gets scanned (in other systems: project, asset). An application is in one asset group.")
}

func (Application) Policy() ent.Policy {
	return rule.Noun{Name: "application", Tenant: "organization_id", Level: rule.InGroup, Group: "asset_group_id", Write: viewer.ManageCatalogue}
}
