package schema

import (
	"entgo.io/contrib/entgql"
	"entgo.io/ent"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/field"
)

// Finding is one weakness that a scan or a research team found.
type Finding struct{ ent.Schema }

func (Finding) Mixin() []ent.Mixin { return catalogue() }

func (Finding) Fields() []ent.Field {
	list := func(name, comment string) ent.Field {
		return field.JSON(name, []string{}).Optional().Annotations(entgql.Type("[String!]")).Comment(comment)
	}
	score := func(name, comment string) ent.Field {
		return field.Float(name).Optional().Nillable().Comment(comment)
	}
	return []ent.Field{
		text("scan_key", "The source's own ID of the scan that found it."),
		text("title", "The title."),
		text("severity", "The severity: info, low, medium, high, critical; empty: not known."),
		text("status", "The status: \"open\", \"resolved\", or as the source says it."),
		field.Bool("new").Optional().Nillable().Comment("Whether it was not known before; null: not known."),
		score("cvss2", "The CVSS 2 score."),
		score("cvss3", "The CVSS 3 score."),
		text("cvss_vector", "The CVSS vector."),
		text("cwe", "The weakness: \"CWE-79\"."),
		text("cve", "The vulnerability: \"CVE-2026-0001\"."),
		list("vulnerability_types", "Types of vulnerability, as the source says them."),
		text("affected_endpoint", "The address or route that is affected."),
		text("asset", "The asset that is affected."),
		text("asset_link", "Address of the asset at the source."),
		text("description", "What it is."),
		list("reproduction", "How to reproduce it, step by step."),
		text("remediation", "How to mend it."),
		field.Bool("has_exploits").Optional().Nillable().Comment("Whether exploits are known; null: not known."),
		text("link", "Address of the finding at the source."),
	}
}

func (Finding) Annotations() []schema.Annotation {
	return catalogueNoun("One weakness, as its source last told of it.")
}

func (Finding) Policy() ent.Policy { return catalogueRule("finding") }
