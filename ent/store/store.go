// Package store opens the database: SQLite in a folder, or PostgreSQL by its URL.
//
// Place: below everything that keeps anything. The nouns of ent/schema are read and
// changed through DB.Client and DB.WithTx; the ledger uses the same connections for
// its own tables (DB.Write and DB.Read, or DB.Pool).
//
// Guarantees: when Open returns, the schema is the one that this binary knows, and
// durability is what it has to be (SQLite: WAL with synchronous=FULL, asserted).
// On SQLite there is one writer, whose turns ent and the ledger take alike, and a
// pool of readers that never wait for it. Every change of configuration raises the
// revision of its organization, and is in its audit log, in the same transaction.
package store

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hookyard/hookyard/ent/gen"
	_ "github.com/hookyard/hookyard/ent/gen/runtime" // policies, hooks and defaults
	"github.com/hookyard/hookyard/ent/ids"
)

// Config says which database to open.
type Config struct {
	DataDir     string // folder of the SQLite file; it is created when missing
	DatabaseURL string // "postgres://…"; "" is SQLite
	// IDs makes the IDs of new rows; nil is a maker by the real clock.
	IDs *ids.Maker
	// Changed is told, after the commit, which organization's configuration this
	// process has changed. The change is answered when it returns. May be nil.
	Changed func(organization string)
	// Audited is told, after the commit, which organization's audit log has grown. May be nil.
	Audited func(organization string)
	// Existing opens only what is there, at exactly this binary's schema: for tools that
	// look at the data of a running hub, which must not upgrade it.
	Existing bool
	// Schema, when not 0, stops the migrations at that version.
	Schema int64
}

// Dialect names the kind of database.
type Dialect string

// The dialects.
const (
	SQLite   Dialect = "sqlite"
	Postgres Dialect = "postgres"
)

// DB is an open database. Safe for concurrent use.
type DB struct {
	Dialect Dialect
	Client  *gen.Client   // reads, under the policies; changes of configuration need WithTx
	Write   *sql.DB       // SQLite: the one writer, at most one connection; else nil
	Read    *sql.DB       // SQLite: the readers, which cannot write; else nil
	Pool    *pgxpool.Pool // PostgreSQL; else nil

	ids     *ids.Maker
	changed func(string)
	audited func(string)
	close   func() error
}

// Open opens the database and brings its schema up to date. A schema newer than this
// binary gives a *NewerSchemaError.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	db := &DB{ids: cfg.IDs, changed: cfg.Changed, audited: cfg.Audited}
	if db.ids == nil {
		db.ids = ids.NewMaker(time.Now)
	}
	if db.changed == nil {
		db.changed = func(string) {}
	}
	if db.audited == nil {
		db.audited = func(string) {}
	}
	open := db.openSQLite
	if cfg.DatabaseURL != "" {
		open = db.openPostgres
	}
	drv, err := open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	db.Client = gen.NewClient(gen.Driver(drv))
	db.hook()
	return db, nil
}

// Close closes all connections.
func (db *DB) Close() error { return db.close() }

// WithTx runs fn in a transaction and commits it when fn returns nil. The client to
// use inside is tx.Client(); writing with any other, or calling WithTx again, is
// refused, because on SQLite it would wait for itself. What fn returns is returned.
func (db *DB) WithTx(ctx context.Context, fn func(ctx context.Context, tx *gen.Tx) error) error {
	return db.within(ctx, nil, fn)
}

// Snapshot runs fn in a read-only transaction in which the database stands still.
func (db *DB) Snapshot(ctx context.Context, fn func(ctx context.Context, tx *gen.Tx) error) error {
	return db.within(ctx, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead}, fn)
}

func (db *DB) within(ctx context.Context, opts *sql.TxOptions, fn func(context.Context, *gen.Tx) error) (err error) {
	tx, err := db.Client.BeginTx(ctx, opts)
	if err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	done := false
	defer func() {
		if !done { // fn returned an error or panicked
			err = errors.Join(err, tx.Rollback())
		}
	}()
	entries := &pending{}
	if opts == nil {
		ctx = context.WithValue(ctx, inTx{}, entries)
	}
	if err := fn(ctx, tx); err != nil {
		return err
	}
	if err := entries.write(ctx, db, tx); err != nil {
		return err
	}
	done = true
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// Revisions are how often the configuration of each organization was changed; one
// without a change is not in it.
func (db *DB) Revisions(ctx context.Context) (map[string]int64, error) {
	rows, err := db.Client.QueryContext(ctx, "SELECT organization_id, n FROM revisions")
	if err != nil {
		return nil, fmt.Errorf("read revisions: %w", err)
	}
	defer rows.Close()
	all := map[string]int64{}
	for rows.Next() {
		var org string
		var n int64
		if err := rows.Scan(&org, &n); err != nil {
			return nil, fmt.Errorf("read revisions: %w", err)
		}
		all[org] = n
	}
	return all, rows.Err()
}

// NewID makes an ID for a row that is yet to be created; see the prefixes in ent/ids.
// Needed where a secret is sealed for the row before it exists.
func (db *DB) NewID(prefix string) string { return db.ids.New(prefix) }

// sealer is what a key does; see ent/secret.
type sealer interface {
	Seal(id, field string, plain []byte) ([]byte, error)
	Unseal(id, field string, sealed []byte) ([]byte, error)
}

// CheckKey says whether the key is the one that the secrets in this database are
// sealed with: the first key that comes here is taken for it.
func (db *DB) CheckKey(ctx context.Context, key sealer) error {
	const name, field = keyCheck, "value"
	sealed, err := key.Seal(name, field, []byte(name))
	if err != nil {
		return err
	}
	if _, err := db.Client.ExecContext(ctx, "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
		name, base64.StdEncoding.EncodeToString(sealed)); err != nil {
		return fmt.Errorf("note which key seals the secrets: %w", err)
	}
	value, err := db.meta(ctx, name)
	if err != nil {
		return err
	}
	if sealed, err = base64.StdEncoding.DecodeString(value); err == nil {
		_, err = key.Unseal(name, field, sealed)
	}
	if err != nil {
		return fmt.Errorf("the secrets in this database were sealed with another key; start with the key file that belongs to it (all nodes share one): %w", err)
	}
	return nil
}

// driver gives reads to one pool and the rest to another; on PostgreSQL they are the same.
type driver struct {
	write, read *entsql.Driver
}

// inTx marks the context of a function that WithTx runs; its value is the *pending of
// the transaction.
type inTx struct{}

var errNested = errors.New("store: a write beside the transaction in which it happens; use the client of the transaction")

func (d *driver) pool(ctx context.Context, read bool) (*entsql.Driver, error) {
	switch {
	case read:
		return d.read, nil
	case ctx.Value(inTx{}) != nil:
		return nil, errNested
	}
	return d.write, nil
}

func isRead(query string) bool { return len(query) > 6 && query[:6] == "SELECT" }

func (d *driver) Exec(ctx context.Context, query string, args, v any) error {
	p, err := d.pool(ctx, false)
	if err != nil {
		return err
	}
	return p.Exec(ctx, query, args, v)
}

func (d *driver) Query(ctx context.Context, query string, args, v any) error {
	p, err := d.pool(ctx, isRead(query))
	if err != nil {
		return err
	}
	return p.Query(ctx, query, args, v)
}

func (d *driver) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	p, err := d.pool(ctx, false)
	if err != nil {
		return nil, err
	}
	return p.ExecContext(ctx, query, args...)
}

func (d *driver) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	p, err := d.pool(ctx, isRead(query))
	if err != nil {
		return nil, err
	}
	return p.QueryContext(ctx, query, args...)
}

func (d *driver) Tx(ctx context.Context) (dialect.Tx, error) { return d.BeginTx(ctx, nil) }

func (d *driver) BeginTx(ctx context.Context, opts *sql.TxOptions) (dialect.Tx, error) {
	p, err := d.pool(ctx, opts != nil && opts.ReadOnly)
	if err != nil {
		return nil, err
	}
	return p.BeginTx(ctx, opts)
}

func (d *driver) Dialect() string { return d.write.Dialect() }

// Close does nothing: the pools belong to DB.
func (d *driver) Close() error { return nil }
