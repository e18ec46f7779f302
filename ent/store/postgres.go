package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

// connections is the size of the PostgreSQL pool when the URL does not say
// pool_max_conns; ent and the ledger share it.
const connections = 16

// schemaLock is the advisory lock under which the schema is changed.
const schemaLock = 0x686f6f6b79617264 // "hookyard"

func (db *DB) openPostgres(ctx context.Context, cfg Config) (_ *driver, err error) {
	pc, err := pgxpool.ParseConfig(cfg.DatabaseURL)
	if err != nil {
		return nil, err // pgx leaves the password out
	}
	if !strings.Contains(cfg.DatabaseURL, "pool_max_conns") {
		pc.MaxConns = connections
	}
	params := pc.ConnConfig.RuntimeParams
	params["timezone"] = "UTC"
	if _, set := params["synchronous_commit"]; !set {
		params["synchronous_commit"] = "on" // accepted means durable, whatever the server's default
	}
	if params["application_name"] == "" {
		params["application_name"] = "hookyard"
	}
	pc.AfterConnect = func(_ context.Context, c *pgx.Conn) error {
		c.TypeMap().RegisterType(&pgtype.Type{Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC}})
		return nil
	}
	db.Dialect = Postgres
	if db.Pool, err = pgxpool.NewWithConfig(ctx, pc); err != nil {
		return nil, err
	}
	std := stdlib.OpenDBFromPool(db.Pool)
	db.close = func() error {
		err := std.Close()
		db.Pool.Close()
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.close())
		}
	}()

	lock, err := db.Pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	if _, err := lock.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(schemaLock)); err != nil {
		return nil, fmt.Errorf("wait for the schema's lock: %w", err)
	}
	defer func() {
		if _, e := lock.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", int64(schemaLock)); e != nil {
			err = errors.Join(err, fmt.Errorf("release the schema's lock: %w", e))
		}
	}()
	if err := cfg.migrate(ctx, Postgres, std); err != nil {
		return nil, err
	}
	drv := entsql.OpenDB(dialect.Postgres, std)
	return &driver{write: drv, read: drv}, nil
}
