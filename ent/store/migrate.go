package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/pressly/goose/v3"

	"github.com/hookyard/hookyard/ent/migrations"
)

// NewerSchemaError says that the database belongs to a newer version of Hookyard.
type NewerSchemaError struct {
	Found, Known int64 // versions of the schema
}

func (e *NewerSchemaError) Error() string {
	return fmt.Sprintf("the database has schema version %d and this binary knows versions up to %d: "+
		"it was upgraded by a newer Hookyard; start that version again, or restore a backup made before the upgrade", e.Found, e.Known)
}

// migrate applies what is missing. The caller holds the schema's lock.
func (cfg *Config) migrate(ctx context.Context, d Dialect, db *sql.DB) error {
	files, err := migrations.Files(string(d))
	if err != nil {
		return err
	}
	kind := goose.DialectSQLite3
	if d == Postgres {
		kind = goose.DialectPostgres
	}
	p, err := goose.NewProvider(kind, db, files, goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	found, known, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	to, err := cfg.version(found, known)
	if err != nil || found == to {
		return err
	}
	if _, err := p.UpTo(ctx, to); err != nil {
		return fmt.Errorf("bring the schema from version %d to %d: %w", found, to, err)
	}
	return nil
}
