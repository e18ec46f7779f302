// Package storetest gives tests a database of their own, of both kinds.
//
// PostgreSQL is the server that HOOKYARD_TEST_POSTGRES names (a superuser's URL), or
// a throw-away one that each test process starts for itself.
package storetest

import (
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hookyard/hookyard/ent/store"
)

// Each runs the test on a fresh SQLite database and on a fresh PostgreSQL one.
func Each(t *testing.T, run func(t *testing.T, db *store.DB)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { run(t, Open(t, store.Config{DataDir: t.TempDir()})) })
	t.Run("postgres", func(t *testing.T) { run(t, Open(t, store.Config{DatabaseURL: Postgres(t)})) })
}

// Open opens a database that is closed when the test ends.
func Open(t testing.TB, cfg store.Config) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close the database: %v", err)
		}
	})
	return db
}

// server is the one PostgreSQL server of a test process. Holding it holds the pipe
// that its keeper reads.
var server = sync.OnceValues(func() (*Server, error) {
	if url := os.Getenv("HOOKYARD_TEST_POSTGRES"); url != "" {
		return &Server{URL: url}, nil
	}
	return Start(context.Background())
})

// Postgres returns the URL of a fresh, empty database, dropped when the test ends.
func Postgres(t testing.TB) string {
	t.Helper()
	admin, err := server()
	if err != nil {
		t.Fatal(err)
	}
	name := "hookyard_test_" + strings.ToLower(rand.Text())
	run := func(ctx context.Context, sql string) {
		c, err := pgx.Connect(ctx, admin.URL)
		if err == nil {
			_, err = c.Exec(ctx, sql)
			_ = c.Close(ctx)
		}
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	run(t.Context(), "CREATE DATABASE "+name)
	t.Cleanup(func() { run(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)") })
	u, err := url.Parse(admin.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}
