package schema

import (
	"entgo.io/contrib/entgql"
	"entgo.io/ent"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"

	"github.com/hookyard/hookyard/ent/parts"
	"github.com/hookyard/hookyard/ent/rule"
)

// AuditEntry is one line of the audit log: who did what, when and from where. The store
// writes it, in the transaction of what it tells of; see store.DB.Audit.
type AuditEntry struct{ ent.Schema }

func (AuditEntry) Mixin() []ent.Mixin { return []ent.Mixin{id{}, tenant{}} }

func (AuditEntry) Fields() []ent.Field {
	fixed := func(name, comment string) ent.Field {
		return field.String(name).Default("").Immutable().Comment(comment)
	}
	return []ent.Field{
		field.Int64("number").Immutable().Annotations(entgql.Type("Int")).Comment("Its place in the organization's log: the numbers have no gaps."),
		field.Time("at").Immutable().Comment("When it was done."),
		field.Enum("actor_kind").Values("USER", "KEY", "OUTSIDER", "OPERATOR", "HUB", "TRIGGER", "NOBODY").Immutable().Comment("What kind of actor did it."),
		fixed("actor_id", "ID of the user, the key or the outsider; empty: it was none of these."),
		fixed("actor_name", "Name of the actor at the time."),
		fixed("origin", "Where it was done from: an address, or \"command line\"; empty: not known."),
		fixed("action", "What was done: \"CREATE\", \"UPDATE\", \"DELETE\", \"REDELIVER\", \"SIGN_IN\", …"),
		fixed("noun", "What it was done to: \"Webhook\", \"User\", …"),
		fixed("object_id", "ID of what it was done to; empty: to nothing with an ID."),
		fixed("object_name", "Name, at the time, of what it was done to."),
		field.String("asset_group_id").Optional().Nillable().Immutable().Comment("The asset group that it was done in. Null: it concerns the organization."),
		field.JSON("changes", []parts.AuditChange{}).Optional().Annotations(entgql.Type("[AuditChange!]")).Comment("What has changed, field by field, or the details of an action."),
		field.Time("erased_at").Optional().Nillable().Comment("Since when a person is no longer named in it. Null: nothing was erased."),
	}
}

func (AuditEntry) Indexes() []ent.Index {
	return []ent.Index{
		index.Fields("organization_id", "number").Unique(),
		index.Fields("organization_id", "object_id", "number"),
		index.Fields("organization_id", "actor_id", "number"),
		index.Fields("organization_id", "at"),
	}
}

func (AuditEntry) Annotations() []schema.Annotation {
	return []schema.Annotation{schema.Comment("One line of the audit log: who did what, when and from where."), entgql.Skip(entgql.SkipWhereInput | entgql.SkipOrderField)}
}

func (AuditEntry) Policy() ent.Policy {
	return rule.Audit{Noun: rule.Noun{Name: "audit log", Tenant: "organization_id", Level: rule.InGroup, Group: "asset_group_id"}}
}
