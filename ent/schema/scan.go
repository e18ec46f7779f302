package schema

import (
	"entgo.io/contrib/entgql"
	"entgo.io/ent"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/field"
)

// Scan is one execution of something named and repeatable.
type Scan struct{ ent.Schema }

func (Scan) Mixin() []ent.Mixin { return catalogue() }

func (Scan) Fields() []ent.Field {
	return []ent.Field{
		text("name", "The name of what was executed."),
		text("type", "The type, as the source says it: \"network\", \"web application\", …"),
		text("status", "The status, as the source says it."),
		text("target", "What was scanned."),
		moment("starts_at", "When it is scheduled to start."),
		moment("started_at", "When it started."),
		moment("finished_at", "When it ended."),
		number("duration_seconds", "How long it took, in seconds."),
		number("progress_percent", "How far it is, 0 to 100."),
		number("critical", "Critical vulnerabilities; null: not known."),
		number("high", "High vulnerabilities; null: not known."),
		number("medium", "Medium vulnerabilities; null: not known."),
		number("low", "Low vulnerabilities; null: not known."),
		number("info", "Informational findings; null: not known."),
		number("total", "All vulnerabilities, as the source counts them; null: not known."),
		field.JSON("errors", []string{}).Optional().Annotations(entgql.Type("[String!]")).Comment("What went wrong."),
		text("link", "Address of the scan at the source."),
		text("actor_id", "ID of whoever started it, at the source."),
		text("actor_name", "Name of whoever started it."),
		text("actor_email", "E-mail address of whoever started it."),
		text("commit", "The commit that was scanned."),
		text("branch", "The branch that was scanned."),
		text("tag", "The tag that was scanned."),
		number("out_of_date_count", "Libraries that are out of date; null: not known."),
		number("licence_count", "Licences found; null: not known."),
	}
}

func (Scan) Annotations() []schema.Annotation {
	return catalogueNoun("One execution of a scan, as its source last told of it.")
}

func (Scan) Policy() ent.Policy { return catalogueRule("scan") }
