package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema"
)

// Ticket is a work item at the vendor's side.
type Ticket struct{ ent.Schema }

func (Ticket) Mixin() []ent.Mixin { return catalogue() }

func (Ticket) Fields() []ent.Field {
	return []ent.Field{
		number("number", "The source's number of it."),
		text("title", "The title."),
		text("status", "The status: \"open\", \"closed\", or as the source says it."),
		text("severity", "The severity: info, low, medium, high, critical; empty: not known."),
		text("asset", "The asset that it is about."),
		text("asset_link", "Address of the asset at the source."),
		text("due_date", "When it is due, YYYY-MM-DD."),
		text("owner", "Whose it is; as a rule an e-mail address."),
		text("link", "Address of the ticket at the source."),
	}
}

func (Ticket) Annotations() []schema.Annotation {
	return catalogueNoun("A work item at the vendor's side, as its source last told of it.")
}

func (Ticket) Policy() ent.Policy { return catalogueRule("ticket") }
