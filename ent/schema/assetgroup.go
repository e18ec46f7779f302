package schema

import (
	"entgo.io/contrib/entgql"
	"entgo.io/ent"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/field"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/viewer"
)

// AssetGroup gathers applications; access is given by asset group.
type AssetGroup struct{ ent.Schema }

func (AssetGroup) Mixin() []ent.Mixin { return configured() }

func (AssetGroup) Fields() []ent.Field {
	return []ent.Field{
		nameField("The name, unique in the organization."),
		descriptionField(),
		field.JSON("allow_targets", []connectors.AllowRule{}).Optional().Annotations(entgql.Type("[AllowRule!]")).
			Comment("Hosts and ports that endpoints of the group may reach; none: what the organization allows. Only Administrators change it."),
	}
}

func (AssetGroup) Edges() []ent.Edge {
	return []ent.Edge{
		inverse("applications", Application.Type, "asset_group"), // a long list: applications(where: {assetGroupID: …})
		inverse("users", User.Type, "groups"),
		inverse("api_keys", APIKey.Type, "groups"),
		inverse("webhooks", Webhook.Type, "scope_groups"),
		inverse("endpoints", Endpoint.Type, "shared_groups"),
		inverse("presences", Presence.Type, "shared_groups"),
	}
}

func (AssetGroup) Indexes() []ent.Index { return []ent.Index{uniqueName()} }

func (AssetGroup) Annotations() []schema.Annotation {
	return noun("A group of applications. Access is given by asset group.")
}

func (AssetGroup) Policy() ent.Policy {
	return rule.Noun{Name: "asset group", Tenant: "organization_id", Level: rule.InGroup, Group: "id", Write: viewer.ManageCatalogue, AdministratorOnly: []string{"allow_targets"}}
}
