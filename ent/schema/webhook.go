package schema

import (
	"fmt"

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

// Webhook is the stored wish "these events go there in this shape".
type Webhook struct{ ent.Schema }

func (Webhook) Mixin() []ent.Mixin { return configured() }

func (Webhook) Fields() []ent.Field {
	return []ent.Field{
		nameField("The name."),
		descriptionField(),
		levelField("The asset group that it belongs to."),
		field.String("owner_id").Optional().Nillable().Annotations(filterOnly()).Comment("The user that looks after it."),
		field.String("endpoint_id").Annotations(filterOnly()).Comment("Where it delivers."),
		field.Bool("global").Default(false).Comment("Whether it takes the events of its whole level, rather than those of its scopes."),
		field.JSON("event_types", []string{}).Default([]string{}).Annotations(entgql.Type("[String!]")).Comment("The kinds of events that it takes: \"scan.completed\", …"),
		field.String("min_severity").Default("").Validate(severity).Comment("The mildest severity that it takes (info, low, medium, high, critical); empty: any."),
		field.Bool("only_new").Default(false).Comment("Whether it takes only findings that were not known before."),
		field.String("format").NotEmpty().Comment("The shape in which events are written down: \"hookyard\", \"holm\", …"),
		field.Enum("unknown_counts").Values("SKIP", "ZERO").Default("SKIP").Comment("What to do when the format demands counts that are not known."),
		field.Enum("state").Values("ACTIVE", "PAUSED", "DISABLED", "UNVERIFIED").Default("ACTIVE").Comment("Whether it fires."),
		field.String("state_reason").Default("").Comment("Why it is in this state, when the hub put it there."),
		field.Bool("handshake").Default(true).Comment("Whether its address is asked, in the way of the format, before anything is sent there. Formats that know no handshake do without."),
		field.Time("verified_at").Optional().Nillable().Annotations(unfiltered()).Comment("When its address last agreed to get events. Null: it has not been asked, or has not agreed since it changed."),
		sealed("signing_secrets", "Signing secrets, the current one first: a sealed JSON array of base64."),
		field.Time("old_secret_until").Optional().Nillable().Annotations(unfiltered()).Comment("Until when the previous signing secret counts beside the new one. Null: there is no other."),
		field.JSON("retry_offsets_seconds", []int{}).Default([]int{60, 300, 1800, 7200}).Annotations(entgql.Type("[Int!]")).Comment("When a failed delivery is tried again, in seconds after its first failure."),
		field.Int("timeout_seconds").Default(10).Range(1, 300).Comment("How long one attempt may take, in seconds."),
	}
}

func (Webhook) Edges() []ent.Edge {
	return []ent.Edge{
		levelEdge("The asset group that it belongs to. Null: the organization."),
		edge.To("owner", User.Type).Unique().Field("owner_id").Annotations(unfiltered(), entsql.OnDelete(entsql.SetNull)).Comment("The user that looks after it: who created it, at first. Null: nobody, or nobody you may see."),
		edge.To("endpoint", Endpoint.Type).Unique().Required().Field("endpoint_id").Annotations(unfiltered(), restrict()).Comment("Where it delivers. Null: it is not yours to see; deliversTo says which one it is."),
		edge.To("applications", Application.Type).Annotations(unfiltered()).Comment("Its scopes: applications."),
		edge.To("scope_groups", AssetGroup.Type).Annotations(unfiltered(), entgql.MapsTo("scopeGroups")).Comment("Its scopes: asset groups, at the organization's level only."),
		edge.To("sources", Source.Type).Annotations(unfiltered()).Comment("The sources whose events it takes; none: any."),
	}
}

func severity(s string) error {
	if connectors.Severity(s).Rank() < 0 {
		return fmt.Errorf("%q is no severity: info, low, medium, high or critical", s)
	}
	return nil
}

func (Webhook) Indexes() []ent.Index {
	return []ent.Index{index.Fields("organization_id", "name"), index.Fields("asset_group_id"), index.Fields("endpoint_id"), index.Fields("owner_id")}
}

func (Webhook) Annotations() []schema.Annotation {
	return noun("The stored wish that events of some kinds, in some scope, go to an endpoint in some shape.")
}

func (Webhook) Policy() ent.Policy {
	return rule.Noun{Name: "webhook", Tenant: "organization_id", Level: rule.InGroup, Group: "asset_group_id", Write: viewer.CreateModifyWebhooks, Owner: "owner_id"}
}
