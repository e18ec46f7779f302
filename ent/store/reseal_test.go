package store_test

import (
	"slices"
	"testing"

	"entgo.io/ent/schema/field"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/migrate"
)

// Nouns keep bytes for nothing but secrets, so a column of bytes that an exchange of the
// key would miss is one that sealed() has not made.
func TestEverySealedColumnIsListed(t *testing.T) {
	listed := gen.SealedColumns()
	for _, table := range migrate.Tables {
		for _, c := range table.Columns {
			if c.Type == field.TypeBytes && !slices.Contains(listed, gen.SealedColumn{Table: table.Name, Column: c.Name}) {
				t.Errorf("%s.%s: make it with sealed() in ent/schema, or hookyard secrets rotate leaves it behind", table.Name, c.Name)
			}
		}
	}
	if len(listed) < 5 {
		t.Errorf("only %v", listed)
	}
}
