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

// SetHeld makes every node hold deliveries, or lets them go again. Running nodes follow
// at their next heartbeat.
func (db *DB) SetHeld(ctx context.Context, held bool) error {
	value := ""
	if held {
		value = "1"
	}
	const query = "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
	var err error
	if db.Dialect == SQLite {
		_, err = db.Write.ExecContext(ctx, query, HeldName, value)
	} else {
		_, err = db.Pool.Exec(ctx, query, HeldName, value)
	}
	if err != nil {
		return fmt.Errorf("hold deliveries: %w", err)
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
