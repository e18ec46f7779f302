package schema

import (
	"errors"

	"entgo.io/contrib/entgql"
	"entgo.io/ent"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/field"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/viewer"
)

// Organization is the customer: the tenant that everything else belongs to.
type Organization struct{ ent.Schema }

func (Organization) Mixin() []ent.Mixin { return []ent.Mixin{id{}, times{}} }

func (Organization) Fields() []ent.Field {
	days := func(name, what string, n int) ent.Field {
		return field.Int(name).Default(n).NonNegative().Comment("For how many days " + what + " are kept; 0 keeps them for ever.")
	}
	return []ent.Field{
		field.String("name").Unique().NotEmpty().MaxLen(200).Annotations(entgql.OrderField("NAME")).Comment("The name, unique on this hub."),
		field.Time("suspended_at").Optional().Nillable().Comment("Since when it is suspended: nothing is accepted or delivered. Null: it is not."),
		days("retention_events_days", "events and their deliveries", 90),
		days("retention_attempts_days", "attempts, the delivery log,", 30),
		days("retention_payloads_days", "bodies of receipts, events, requests and responses", 30),
		field.Int("retention_audit_days").Default(400).Validate(auditDays).Comment("For how many days the audit log is kept, at least 30; 0 keeps it for ever."),
		field.JSON("allow_targets", []connectors.AllowRule{}).Optional().Annotations(entgql.Type("[AllowRule!]")).
			Comment("Hosts and ports that endpoints of the organization may reach; none: all that the operator's policy opens."),
		field.Bool("require_second_factor").Default(false).
			Comment("Whether users who sign in with a password need a second factor. Only Administrators change it."),
	}
}

// auditDays keeps the log long enough that nobody covers their tracks with it.
func auditDays(n int) error {
	if n != 0 && n < 30 {
		return errors.New("the audit log is kept for at least 30 days, or for ever with 0")
	}
	return nil
}

func (Organization) Annotations() []schema.Annotation {
	return noun("The customer: everything else belongs to one organization.")
}

func (Organization) Policy() ent.Policy {
	return rule.Noun{Name: "organization", Tenant: "id", Level: rule.Everyone, Write: viewer.ManageAccess, HubOnly: ent.OpCreate | ent.OpDeleteOne,
		AdministratorOnly: []string{"require_second_factor"}}
}
