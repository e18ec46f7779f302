package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema"
)

// Report is a document that a source has made ready.
type Report struct{ ent.Schema }

func (Report) Mixin() []ent.Mixin { return catalogue() }

func (Report) Fields() []ent.Field {
	return []ent.Field{
		text("scan_key", "The source's own ID of the scan that it reports on."),
		text("format", "The file format, as the source says it."),
		text("download_url", "Where to fetch it."),
		text("link", "Address of the report at the source."),
	}
}

func (Report) Annotations() []schema.Annotation {
	return catalogueNoun("A document that a source has made ready.")
}

func (Report) Policy() ent.Policy { return catalogueRule("report") }
