package store_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Several processes that start on the same new database at once all come up, and
// each migration is applied once.
func TestConcurrentStart(t *testing.T) {
	for name, cfg := range map[string]store.Config{"sqlite": {DataDir: t.TempDir()}, "postgres": {DatabaseURL: storetest.Postgres(t)}} {
		t.Run(name, func(t *testing.T) {
			var wg sync.WaitGroup
			for range 6 {
				wg.Go(func() {
					db, err := store.Open(t.Context(), cfg)
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := db.Client.Organization.Query().Count(viewer.SystemContext(t.Context())); err != nil {
						t.Error(err)
					}
					if err := db.Close(); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			db := storetest.Open(t, cfg)
			if n, distinct := count(t, db, "SELECT count(*) FROM goose_db_version"), count(t, db, "SELECT count(DISTINCT version_id) FROM goose_db_version"); n != distinct {
				t.Errorf("%d migrations applied %d times", distinct, n)
			}
		})
	}
}

func count(t *testing.T, db *store.DB, query string) (n int) {
	t.Helper()
	rows, err := db.Client.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func TestNewerSchemaIsRefused(t *testing.T) {
	for name, cfg := range map[string]store.Config{"sqlite": {DataDir: t.TempDir()}, "postgres": {DatabaseURL: storetest.Postgres(t)}} {
		t.Run(name, func(t *testing.T) {
			db := storetest.Open(t, cfg)
			if _, err := db.Client.ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)"); err != nil {
				t.Fatal(err)
			}
			_, err := store.Open(t.Context(), cfg)
			newer := new(store.NewerSchemaError)
			if !errors.As(err, &newer) || newer.Found != 9999 || newer.Known < 1 {
				t.Errorf("opened a newer schema: %v", err)
			}
		})
	}
}

func TestSQLiteIsSetUp(t *testing.T) {
	dir := t.TempDir() + "/a folder?with#odd%20signs"
	db := storetest.Open(t, store.Config{DataDir: dir})
	if info, err := os.Stat(filepath.Join(dir, store.File)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the database file: %v, %v", info, err)
	}
	for pool, name := range map[*sql.DB]string{db.Write: "writer", db.Read: "readers"} {
		for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "10000"} {
			var is string
			if err := pool.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&is); err != nil || is != want {
				t.Errorf("%s: %s is %s (%v), want %s", name, pragma, is, err, want)
			}
		}
	}
	if n := db.Write.Stats().MaxOpenConnections; n != 1 {
		t.Errorf("%d writers", n)
	}
	if _, err := db.Read.ExecContext(t.Context(), "DELETE FROM meta"); err == nil {
		t.Error("a reader wrote")
	}
	// Readers do not wait for the writer.
	if err := db.WithTx(viewer.SystemContext(t.Context()), func(ctx context.Context, tx *gen.Tx) error {
		if err := tx.Organization.Create().SetName("Acme").Exec(ctx); err != nil {
			return err
		}
		n, err := db.Client.Organization.Query().Count(ctx)
		if n != 0 {
			t.Errorf("a reader saw %d rows that are not committed", n)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestPostgresIsSetUp(t *testing.T) {
	db := storetest.Open(t, store.Config{DatabaseURL: storetest.Postgres(t)})
	for setting, want := range map[string]string{"synchronous_commit": "on", "timezone": "UTC"} {
		var is string
		if err := db.Pool.QueryRow(t.Context(), "SHOW "+setting).Scan(&is); err != nil || is != want {
			t.Errorf("%s is %s (%v), want %s", setting, is, err, want)
		}
	}
}
