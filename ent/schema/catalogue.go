package schema

import (
	"entgo.io/contrib/entgql"
	"entgo.io/ent"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"
	"entgo.io/ent/schema/mixin"

	"github.com/hookyard/hookyard/ent/rule"
)

// catalogued is what scans, findings, tickets and reports have in common: rows that
// the ledger writes in the transaction of their event and that ent only reads. The
// ID is derived from the source and its key, so the primary key is also what makes
// them unique, but says nothing of their order. Every event pays for the indexes:
// there are two more, by time, so that they grow at the end, and no foreign keys.
type catalogued struct{ mixin.Schema }

func (catalogued) Fields() []ent.Field {
	return []ent.Field{
		field.String("source_id").Immutable().Comment("ID of the source that told of it."),
		field.String("key").Immutable().Comment("The source's own ID; unique within the source."),
		field.String("application_id").Optional().Nillable().Annotations(filterOnly()).Comment("The application."),
		field.String("asset_group_id").Optional().Nillable().Annotations(filterOnly()).Comment("The asset group of the application."),
	}
}

func (catalogued) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("application", Application.Type).Unique().Field("application_id").Annotations(unfiltered()).Comment("The application. Null: the source's mapping found none."),
		edge.To("asset_group", AssetGroup.Type).Unique().Field("asset_group_id").Annotations(unfiltered()).Comment("The asset group of the application."),
	}
}

func (catalogued) Indexes() []ent.Index {
	return []ent.Index{
		index.Fields("organization_id", "created_at"),
		index.Fields("organization_id", "application_id", "created_at"),
	}
}

func catalogue() []ent.Mixin { return []ent.Mixin{id{}, times{order: true}, tenant{}, catalogued{}} }

// catalogueNoun is a noun whose lists have one order at a time: with that, a page
// begins in the index where the cursor is, however deep in the list.
func catalogueNoun(comment string) []schema.Annotation {
	return []schema.Annotation{schema.Comment(comment), entgql.RelayConnection()}
}

func catalogueRule(name string) ent.Policy {
	return rule.Noun{Name: name, Tenant: "organization_id", Level: rule.InGroup, Group: "asset_group_id"}
}

// text is a column that is empty when the source did not say. Only some are in the
// filters: the others would be most of the schema.
func text(name, comment string) ent.Field {
	f := field.String(name).Default("").Comment(comment)
	switch name {
	case "name", "title", "type", "status", "severity", "scan_key", "target", "asset", "cwe", "cve", "branch":
		return f
	}
	return f.Annotations(unfiltered())
}

// number is a column that is null when it is not known, which is not zero.
func number(name, comment string) ent.Field {
	return field.Int(name).Optional().Nillable().Comment(comment)
}

func moment(name, comment string) ent.Field {
	return field.Time(name).Optional().Nillable().Comment(comment)
}
