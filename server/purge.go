package server

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/hookyard/hookyard/ent/store"
)

// owners are the columns that say which organization a row belongs to: of the tables of
// ent, and of those of the ledger.
var owners = []string{"organization_id", "org"} //nolint:gochecknoglobals // a constant list

// purge removes every row of an organization, in one transaction. Rows that belong to it
// only by way of another row (renderings, memberships) go with that row.
func purge(ctx context.Context, db *store.DB, org string) error {
	if db.Dialect == store.SQLite {
		return purgeSQLite(ctx, db.Write, org)
	}
	tx, err := db.Pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	tables, err := tableNames(ctx, tx)
	if err != nil {
		return err
	}
	slices.Reverse(tables) // each before those that it refers to
	if _, err := tx.Exec(ctx, store.PermitAudit); err != nil {
		return fmt.Errorf("purge the audit log: %w", err)
	}
	if _, err := tx.Exec(ctx, "DELETE FROM renderings WHERE event IN (SELECT id FROM events WHERE org = $1)", org); err != nil {
		return fmt.Errorf("purge renderings: %w", err)
	}
	for _, t := range tables {
		rows, err := tx.Query(ctx, `SELECT column_name::text FROM information_schema.columns
			WHERE table_schema = current_schema() AND table_name = $1 AND column_name = ANY($2)`, t, owners)
		if err != nil {
			return err
		}
		columns, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, c := range columns {
			if _, err := tx.Exec(ctx, "DELETE FROM "+pgx.Identifier{t}.Sanitize()+" WHERE "+c+" = $1", org); err != nil {
				return fmt.Errorf("purge %s: %w", t, err)
			}
		}
	}
	if _, err := tx.Exec(ctx, "DELETE FROM organizations WHERE id = $1", org); err != nil {
		return fmt.Errorf("purge the organization: %w", err)
	}
	if _, err := tx.Exec(ctx, store.RevokeAudit); err != nil {
		return fmt.Errorf("purge the audit log: %w", err)
	}
	return tx.Commit(ctx)
}

func purgeSQLite(ctx context.Context, db *sql.DB, org string) (err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ended(tx.Rollback())) }()
	// Foreign keys are looked at once, at the commit: no order is needed.
	if _, err := tx.ExecContext(ctx, "PRAGMA defer_foreign_keys = ON"); err != nil {
		return err
	}
	owned, err := ownedTables(ctx, tx)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, store.PermitAudit); err != nil {
		return fmt.Errorf("purge the audit log: %w", err)
	}
	statements := []string{"DELETE FROM renderings WHERE event IN (SELECT id FROM events WHERE org = ?)"}
	for _, t := range owned {
		statements = append(statements, fmt.Sprintf("DELETE FROM %q WHERE %q = ?", t[0], t[1]))
	}
	for _, s := range append(statements, "DELETE FROM organizations WHERE id = ?") {
		if _, err := tx.ExecContext(ctx, s, org); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	if _, err := tx.ExecContext(ctx, store.RevokeAudit); err != nil {
		return fmt.Errorf("purge the audit log: %w", err)
	}
	return tx.Commit()
}

// ownedTables lists tables with the column that names their organization.
func ownedTables(ctx context.Context, tx *sql.Tx) (list [][2]string, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c
		WHERE m.type = 'table' AND c.name IN (?, ?)`, owners[0], owners[1])
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var t [2]string
		if err := rows.Scan(&t[0], &t[1]); err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, rows.Err()
}

// ended is err unless it only says that the transaction is over.
func ended(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}
