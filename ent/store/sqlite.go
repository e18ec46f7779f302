package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// File is the name of the SQLite database in the data folder.
const File = "hookyard.db"

// readers is how many connections read at the same time on SQLite.
const readers = 8

// pragmas is how every SQLite connection has to be. Times are written as integers,
// microseconds since 1970, and read back as times by the column's declared type.
func pragmas() []pragma {
	return []pragma{
		{"busy_timeout", "10000", "10000"},
		{"journal_mode", "WAL", "wal"},
		{"synchronous", "FULL", "2"},
		// Fewer, larger checkpoints: a sixth less of a commit's time than with 1000 pages, for
		// a log of at most about 16 MB.
		{"wal_autocheckpoint", "4000", "4000"},
		{"foreign_keys", "1", "1"},
	}
}

type pragma struct{ name, set, is string }

func dsn(path string, more ...string) string {
	q := url.Values{"_time_integer_format": {"unix_micro"}, "_inttotime": {"1"}}
	for _, p := range pragmas() {
		q.Add("_pragma", p.name+"("+p.set+")")
	}
	for _, m := range more {
		k, v, _ := strings.Cut(m, "=")
		q.Add(k, v)
	}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
}

func (db *DB) openSQLite(ctx context.Context, cfg Config) (_ *driver, err error) {
	if cfg.DataDir == "" {
		return nil, errors.New("neither a data folder nor a database URL is given")
	}
	path, err := filepath.Abs(filepath.Join(cfg.DataDir, File))
	if err != nil {
		return nil, err
	}
	if cfg.Existing {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("there is no hub's data in %s", cfg.DataDir)
		}
	} else if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, err
	}
	db.Dialect = SQLite
	if db.Write, err = sql.Open("sqlite", dsn(path, "_txlock=immediate")); err != nil {
		return nil, err
	}
	db.Write.SetMaxOpenConns(1)
	if db.Read, err = sql.Open("sqlite", dsn(path, "_pragma=query_only(1)")); err != nil {
		return nil, errors.Join(err, db.Write.Close())
	}
	db.Read.SetMaxOpenConns(readers)
	db.Read.SetMaxIdleConns(readers)
	db.close = func() error { return errors.Join(db.Read.Close(), db.Write.Close()) }
	defer func() {
		if err != nil {
			err = errors.Join(err, db.close())
		}
	}()

	unlock, err := lockFile(filepath.Join(cfg.DataDir, ".schema.lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) // SQLite would make it readable for all
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	if err := cfg.migrate(ctx, SQLite, db.Write); err != nil {
		return nil, err
	}
	for _, pool := range []*sql.DB{db.Write, db.Read} {
		if err := assertPragmas(ctx, pool); err != nil {
			return nil, err
		}
	}
	return &driver{write: entsql.OpenDB(dialect.SQLite, db.Write), read: entsql.OpenDB(dialect.SQLite, db.Read)}, nil
}

// assertPragmas exists because a driver drops settings it does not know in silence.
func assertPragmas(ctx context.Context, pool *sql.DB) error {
	for _, p := range pragmas() {
		var is string
		if err := pool.QueryRowContext(ctx, "PRAGMA "+p.name).Scan(&is); err != nil {
			return fmt.Errorf("read PRAGMA %s: %w", p.name, err)
		}
		if is != p.is {
			return fmt.Errorf("PRAGMA %s is %s and should be %s: the data folder's file system may not support it", p.name, is, p.is)
		}
	}
	return nil
}

// lockFile waits until this process alone holds the file's lock.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}
