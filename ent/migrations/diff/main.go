// Command diff writes the next migration of both databases: what ent/schema asks for
// and the migrations so far do not make. Run it from the module's root:
//
//	go run ./ent/migrations/diff add_something
//
// Look at what it wrote before committing it: a renamed column, for one, is a
// dropped and an added one here, and what it does between two PRAGMA foreign_keys
// takes effect only in a file that is marked "+goose NO TRANSACTION".
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"entgo.io/ent/dialect/sql/schema"
	"entgo.io/ent/schema/field"

	"github.com/hookyard/hookyard/ent/migrations"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: go run ./ent/migrations/diff NAME")
	}
	if err := run(context.Background(), os.Args[1]); err != nil {
		log.Fatal("write a migration: ", err)
	}
}

func run(ctx context.Context, name string) error {
	dir, err := os.MkdirTemp("", "hookyard-diff-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	postgres, err := storetest.Start(ctx)
	if err != nil {
		return err
	}
	defer postgres.Stop()
	for _, cfg := range []store.Config{{DataDir: dir}, {DatabaseURL: postgres.URL}} {
		if err := write(ctx, cfg, name); err != nil {
			return err
		}
	}
	return nil
}

func write(ctx context.Context, cfg store.Config, name string) (err error) {
	db, err := store.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	statements, err := Diff(ctx, db)
	if err != nil || statements == "" {
		return err
	}
	latest, err := migrations.Latest(string(db.Dialect))
	if err != nil {
		return err
	}
	path := filepath.Join("ent", "migrations", string(db.Dialect), fmt.Sprintf("%04d_%s.sql", latest+1, name))
	fmt.Println(path)
	return os.WriteFile(path, []byte("-- +goose Up\n"+statements), 0o644)
}

// Diff returns the statements that turn the database's schema into that of
// ent/schema; "" when it is the same.
func Diff(ctx context.Context, db *store.DB) (string, error) {
	var b bytes.Buffer
	err := db.Client.Schema.WriteTo(ctx, &b, schema.WithDropColumn(true), schema.WithDropIndex(true), schema.WithHooks(adapt(db.Dialect)))
	var statements strings.Builder
	for line := range strings.Lines(b.String()) {
		if line != "BEGIN;\n" && line != "COMMIT;\n" && strings.TrimSpace(line) != "" {
			statements.WriteString(line)
		}
	}
	return statements.String(), err
}

// adapt is where the tables differ from what ent would make of the schema. Text is
// compared bytewise on PostgreSQL, as SQLite does, so that lists and their cursors
// are in the same order on both and do not change with the server's locale.
func adapt(d store.Dialect) schema.Hook {
	catalogue := []string{"scans", "findings", "tickets", "reports"} // the ledger writes them with every event: no foreign keys
	return func(next schema.Creator) schema.Creator {
		return schema.CreateFunc(func(ctx context.Context, tables ...*schema.Table) error {
			for _, t := range tables {
				if slices.Contains(catalogue, t.Name) {
					t.ForeignKeys = nil
				}
				for _, c := range t.Columns {
					if d == store.Postgres && (c.Type == field.TypeString || c.Type == field.TypeEnum) {
						c.Collation = "C"
					}
				}
			}
			return next.Create(ctx, tables...)
		})
	}
}
