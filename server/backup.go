package server

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/server/ledger"
)

// manifest is the first file of a backup.
type manifest struct {
	Format  int           `json:"format"` // 1
	Version string        `json:"version"`
	Dialect store.Dialect `json:"dialect"`
	Schema  int64         `json:"schema"` // version of the last migration
	Made    time.Time     `json:"made"`
	Tables  []string      `json:"tables,omitempty"` // PostgreSQL: in the order of the files
	// Partitions are those of the history, on PostgreSQL. Without them it would be restored
	// to the default ones, and have to be removed row by row.
	Partitions []ledger.Partition `json:"partitions,omitempty"`
}

const (
	manifestFile = "manifest.json"
	databaseFile = "database"
	tableFolder  = "tables/"
)

// KeyFile is the name, in the data folder, of the key that seals secrets.
const KeyFile = "hookyard.key"

// Backup writes a consistent copy of everything to out, as a gzipped tar, while the hub
// runs: the state at one moment, every accepted event of before it included. The key
// file is in it, so that it can be restored anywhere: keep it as safe as the key.
func Backup(ctx context.Context, cfg Config, out io.Writer) (err error) {
	db, err := store.Open(ctx, cfg.existing())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tmp, err := os.MkdirTemp(cfg.DataDir, ".backup-")
	if err != nil {
		return fmt.Errorf("make a temporary folder in the data folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()

	m := manifest{Format: 1, Version: cfg.Version, Dialect: db.Dialect, Made: time.Now().UTC()}
	if m.Schema, err = db.SchemaVersion(ctx); err != nil {
		return err
	}
	if db.Dialect == store.SQLite {
		_, err = db.Write.ExecContext(ctx, "VACUUM INTO ?", filepath.Join(tmp, databaseFile))
	} else {
		err = copyOut(ctx, db, tmp, &m)
	}
	if err != nil {
		return fmt.Errorf("copy the database: %w", err)
	}

	zip := gzip.NewWriter(out)
	archive := tar.NewWriter(zip)
	head, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := addBytes(archive, manifestFile, head); err != nil {
		return err
	}
	if key, err := os.ReadFile(filepath.Join(cfg.DataDir, KeyFile)); err == nil {
		if err := addBytes(archive, KeyFile, key); err != nil {
			return err
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if db.Dialect == store.SQLite {
		err = addFile(archive, databaseFile, filepath.Join(tmp, databaseFile))
	}
	for _, t := range m.Tables {
		err = errors.Join(err, addFile(archive, tableFolder+t, filepath.Join(tmp, t)))
	}
	return errors.Join(err, archive.Close(), zip.Close())
}

// copyOut copies every table as of one moment into files of dir, and says in m which.
func copyOut(ctx context.Context, db *store.DB, dir string, m *manifest) (err error) {
	tx, err := db.Pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if m.Tables, err = tableNames(ctx, tx); err != nil {
		return err
	}
	if m.Partitions, err = ledger.Partitions(ctx, tx); err != nil {
		return err
	}
	for _, t := range m.Tables {
		f, err := os.OpenFile(filepath.Join(dir, t), os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = tx.Conn().PgConn().CopyTo(ctx, f, "COPY (SELECT * FROM "+pgx.Identifier{t}.Sanitize()+") TO STDOUT")
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("table %s: %w", t, err)
		}
	}
	return nil
}

// tableNames are the tables of the schema, each after those that it refers to. Partitions
// stand under their parent's name only; the migrations' own bookkeeping is made by migrating.
func tableNames(ctx context.Context, tx pgx.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, `
		SELECT c.relname::text, coalesce(array_agg(f.relname::text) FILTER (WHERE f.oid <> c.oid), '{}')
		FROM pg_class c
		JOIN pg_namespace n ON n.oid = c.relnamespace
		LEFT JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'f'
		LEFT JOIN pg_class f ON f.oid = k.confrelid
		WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname NOT LIKE 'goose%'
		GROUP BY 1 ORDER BY 1`)
	if err != nil {
		return nil, err
	}
	type table struct {
		Name    string
		Parents []string
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[table])
	if err != nil {
		return nil, err
	}
	var ordered []string
	for len(ordered) < len(all) {
		before := len(ordered)
		for _, t := range all {
			placed := func(name string) bool { return slices.Contains(ordered, name) }
			if !placed(t.Name) && !slices.ContainsFunc(t.Parents, func(p string) bool { return !placed(p) }) {
				ordered = append(ordered, t.Name)
			}
		}
		if len(ordered) == before {
			return nil, errors.New("tables refer to each other in a circle")
		}
	}
	return ordered, nil
}

func addBytes(w *tar.Writer, name string, b []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(b)), ModTime: time.Now()}); err != nil {
		return err
	}
	_, err := w.Write(b)
	return err
}

func addFile(w *tar.Writer, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: info.Size(), ModTime: info.ModTime()}); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}

// Restore fills an empty data folder, or an empty PostgreSQL database and its data
// folder, from a backup. The hub then starts with deliveries held, because the world may
// have moved on since the backup: hookyard release lets them go.
func Restore(ctx context.Context, cfg Config, in io.Reader) (err error) {
	zip, err := gzip.NewReader(in)
	if err != nil {
		return fmt.Errorf("this is not a backup: %w", err)
	}
	archive := tar.NewReader(zip)
	h, err := archive.Next()
	if err != nil || h.Name != manifestFile {
		return errors.New("this is not a backup of Hookyard: its first file is not " + manifestFile)
	}
	var m manifest
	if err := json.NewDecoder(archive).Decode(&m); err != nil {
		return fmt.Errorf("read the backup's manifest: %w", err)
	}
	want := store.SQLite
	if cfg.DatabaseURL != "" {
		want = store.Postgres
	}
	switch {
	case m.Format != 1:
		return fmt.Errorf("the backup has format %d; this version reads format 1", m.Format)
	case m.Dialect != want:
		return fmt.Errorf("the backup is of %s and the target is %s: a backup is restored to the same kind of database", m.Dialect, want)
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return err
	}
	for _, name := range []string{KeyFile, store.File} {
		f := filepath.Join(cfg.DataDir, name)
		if _, err := os.Stat(f); err == nil {
			return fmt.Errorf("%s exists: a backup is restored to an empty data folder only", f)
		}
	}
	// Files are moved into place when all is there: what fails leaves the target empty.
	tmp, err := os.MkdirTemp(cfg.DataDir, ".restore-")
	if err != nil {
		return fmt.Errorf("make a temporary folder in the data folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	r := restorer{ctx: ctx, cfg: cfg, m: m, dir: tmp}
	defer func() { err = errors.Join(err, r.close(err)) }()
	for {
		h, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF):
			if _, err := io.Copy(io.Discard, zip); err != nil { // its checksum comes last
				return fmt.Errorf("the backup is damaged: %w", err)
			}
			return r.finish()
		case err != nil:
			return fmt.Errorf("read the backup: %w", err)
		case h.Name == KeyFile:
			err = writeFile(filepath.Join(tmp, KeyFile), archive)
		case h.Name == databaseFile && m.Dialect == store.SQLite:
			err = writeFile(filepath.Join(tmp, store.File), archive)
		case slices.ContainsFunc(m.Tables, func(t string) bool { return h.Name == tableFolder+t }):
			err = r.table(h.Name[len(tableFolder):], archive)
		default:
			err = errors.New("a backup has no such file")
		}
		if err != nil {
			return fmt.Errorf("restore %s of the backup: %w", h.Name, err)
		}
	}
}

// restorer fills a temporary folder, and PostgreSQL in one transaction.
type restorer struct {
	ctx    context.Context
	cfg    Config
	m      manifest
	dir    string
	db     *store.DB
	tx     pgx.Tx
	tables int // filled
}

func (r *restorer) table(name string, rows io.Reader) error {
	if r.tx == nil {
		if err := r.begin(); err != nil {
			return err
		}
	}
	r.tables++
	_, err := r.tx.Conn().PgConn().CopyFrom(r.ctx, rows, "COPY "+pgx.Identifier{name}.Sanitize()+" FROM STDIN")
	return err
}

// begin migrates the empty database to the backup's schema and makes room for its rows:
// a migration may leave rows of its own. Later migrations run at the hub's next start.
func (r *restorer) begin() (err error) {
	cfg := r.cfg.store()
	cfg.Schema = r.m.Schema
	if r.db, err = store.Open(r.ctx, cfg); err != nil {
		return err
	}
	if r.tx, err = r.db.Pool.Begin(r.ctx); err != nil {
		return err
	}
	var taken bool
	if err := r.tx.QueryRow(r.ctx, "SELECT EXISTS (SELECT 1 FROM organizations)").Scan(&taken); err != nil {
		return err
	}
	if taken {
		return errors.New("the database has an organization already: a backup is restored to an empty database only")
	}
	names := make([]string, len(r.m.Tables))
	for i, t := range r.m.Tables {
		names[i] = pgx.Identifier{t}.Sanitize()
	}
	if _, err = r.tx.Exec(r.ctx, "TRUNCATE "+strings.Join(names, ", ")); err != nil {
		return err
	}
	for _, p := range r.m.Partitions {
		if !plainBound(p.From) || !plainBound(p.To) {
			return fmt.Errorf("partition %s of the backup goes from %q to %q, which are no IDs or numbers", p.Name, p.From, p.To)
		}
		if _, err := r.tx.Exec(r.ctx, fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s PARTITION OF %s FOR VALUES FROM ('%s') TO ('%s')",
			pgx.Identifier{p.Name}.Sanitize(), pgx.Identifier{p.Table}.Sanitize(), p.From, p.To)); err != nil {
			return fmt.Errorf("make partition %s: %w", p.Name, err)
		}
	}
	return nil
}

// plainBound says that a bound is an ID or a number, which can be part of a statement.
func plainBound(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// finish holds deliveries before anybody can see them, and makes the target whole.
func (r *restorer) finish() (err error) {
	if r.m.Dialect == store.SQLite {
		if _, err := os.Stat(filepath.Join(r.dir, store.File)); err != nil {
			return errors.New("the backup is not whole: it has no database")
		}
		cfg := r.cfg.store()
		cfg.DataDir = r.dir
		if r.db, err = store.Open(r.ctx, cfg); err != nil {
			return err
		}
		exec := func(ctx context.Context, query string, args ...any) error {
			_, err := r.db.Write.ExecContext(ctx, query, args...)
			return err
		}
		err = errors.Join(r.db.SetHeld(r.ctx, true), withoutNodes(r.ctx, exec), store.NoteRestore(byOperator(r.ctx), exec))
		err = errors.Join(err, r.db.Close()) // the database is one file again
		r.db = nil
	} else {
		if r.tables == 0 || r.tables != len(r.m.Tables) {
			return fmt.Errorf("the backup is not whole: it has %d of %d tables", r.tables, len(r.m.Tables))
		}
		if _, err = r.tx.Exec(r.ctx, "INSERT INTO meta (name, value) VALUES ($1, '1') ON CONFLICT (name) DO UPDATE SET value = excluded.value", store.HeldName); err == nil {
			exec := func(ctx context.Context, query string, args ...any) error {
				_, err := r.tx.Exec(ctx, query, args...)
				return err
			}
			err = errors.Join(withoutNodes(r.ctx, exec), store.NoteRestore(byOperator(r.ctx), exec))
		}
		if err == nil {
			err = r.tx.Commit(r.ctx)
		}
	}
	if err != nil {
		return err
	}
	for _, name := range []string{KeyFile, store.File} {
		if err := os.Rename(filepath.Join(r.dir, name), filepath.Join(r.cfg.DataDir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// withoutNodes forgets the hubs that ran when the backup was made, with what they had in
// hand: nobody waits for them.
func withoutNodes(ctx context.Context, exec func(ctx context.Context, query string, args ...any) error) error {
	err := exec(ctx, "UPDATE open_deliveries SET lease_node = '', lease_epoch = 0 WHERE lease_node <> ''")
	if err = errors.Join(err, exec(ctx, "DELETE FROM nodes")); err != nil {
		return fmt.Errorf("take back what the hubs of the backup had in hand: %w", err)
	}
	return nil
}

func (r *restorer) close(failed error) error {
	if r.tx != nil && failed != nil {
		_ = r.tx.Rollback(r.ctx)
	}
	if r.db != nil {
		return r.db.Close()
	}
	return nil
}

func writeFile(path string, from io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
