package store

import (
	"context"
	"fmt"
)

// Ping asks the database for a sign of life.
func (db *DB) Ping(ctx context.Context) error {
	if db.Dialect == SQLite {
		return db.Read.PingContext(ctx)
	}
	return db.Pool.Ping(ctx)
}

// SchemaVersion is the number of the last migration that was applied.
func (db *DB) SchemaVersion(ctx context.Context) (n int64, err error) {
	const query = "SELECT max(version_id) FROM goose_db_version"
	if db.Dialect == SQLite {
		err = db.Read.QueryRowContext(ctx, query).Scan(&n)
	} else {
		err = db.Pool.QueryRow(ctx, query).Scan(&n)
	}
	if err != nil {
		return 0, fmt.Errorf("read the schema's version: %w", err)
	}
	return n, nil
}

// HeldName is the mark, in meta, by which the ledger knows that nothing may be delivered.
const HeldName = "ledger.held"

// PublicURLName is the name, in meta, of how people reach the hub.
const PublicURLName = "public.url"

// SetPublicURL notes how people reach the hub, for tools that make links to it.
func (db *DB) SetPublicURL(ctx context.Context, url string) error {
	return db.setMeta(ctx, PublicURLName, url)
}

// PublicURL is how people reach the hub, "" when it was never started.
func (db *DB) PublicURL(ctx context.Context) (url string, err error) {
	const query = "SELECT coalesce((SELECT value FROM meta WHERE name = $1), '')"
	if db.Dialect == SQLite {
		err = db.Read.QueryRowContext(ctx, query, PublicURLName).Scan(&url)
	} else {
		err = db.Pool.QueryRow(ctx, query, PublicURLName).Scan(&url)
	}
	if err != nil {
		return "", fmt.Errorf("read the public URL: %w", err)
	}
	return url, nil
}

// SetHeld makes every node hold deliveries, or lets them go again. Running nodes follow
// at their next heartbeat.
func (db *DB) SetHeld(ctx context.Context, held bool) error {
	value := ""
	if held {
		value = "1"
	}
	return db.setMeta(ctx, HeldName, value)
}

func (db *DB) setMeta(ctx context.Context, name, value string) error {
	const query = "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
	var err error
	if db.Dialect == SQLite {
		_, err = db.Write.ExecContext(ctx, query, name, value)
	} else {
		_, err = db.Pool.Exec(ctx, query, name, value)
	}
	if err != nil {
		return fmt.Errorf("note %s: %w", name, err)
	}
	return nil
}

// Leased is how many open deliveries of an organization nodes have in hand.
func (db *DB) Leased(ctx context.Context, org string) (n int, err error) {
	const query = "SELECT count(*) FROM open_deliveries WHERE org = $1 AND lease_node <> ''"
	if db.Dialect == SQLite {
		err = db.Read.QueryRowContext(ctx, query, org).Scan(&n)
	} else {
		err = db.Pool.QueryRow(ctx, query, org).Scan(&n)
	}
	if err != nil {
		return 0, fmt.Errorf("count what is in hand: %w", err)
	}
	return n, nil
}

// version is what the migrations should end at: known, unless the configuration asks for
// less (a restore) or for what is there (a look from outside).
func (cfg *Config) version(found, known int64) (int64, error) {
	switch {
	case found > known:
		return 0, &NewerSchemaError{Found: found, Known: known}
	case cfg.Existing && found != known:
		return 0, fmt.Errorf("the database has schema version %d and this binary works with %d: use the version of Hookyard that runs on it", found, known)
	case cfg.Schema > known:
		return 0, &NewerSchemaError{Found: cfg.Schema, Known: known}
	case cfg.Schema > 0:
		return cfg.Schema, nil
	}
	return known, nil
}
