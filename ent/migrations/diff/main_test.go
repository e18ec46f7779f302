package main

import (
	"testing"

	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
)

// The migrations make exactly the tables that ent/schema asks for.
func TestNoDrift(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		statements, err := Diff(t.Context(), db)
		if err != nil {
			t.Fatal(err)
		}
		if statements != "" {
			t.Errorf("ent/schema has changed; run: go run ./ent/migrations/diff NAME\nIt would write:\n%s", statements)
		}
	})
}
