package ledger

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"modernc.org/sqlite"
)

// SQLite's result codes that call for something.
const (
	sqliteBusy    = 5
	sqliteLocked  = 6
	sqliteFull    = 13
	sqliteReadBad = 8
	sqliteIOErr   = 10
	sqliteCorrupt = 11
	sqliteNoOpen  = 14
	sqliteNotADB  = 26
)

// lite is SQLite. There is one writer: whoever holds the only connection of the write
// pool, which ent's own writes take too.
type lite struct {
	writer, reader *sql.DB
	// The statements below belong to conn; only its holder touches them.
	conn  any
	stmts map[string]driver.StmtExecContext
	vals  []driver.NamedValue
}

func openLite(write, read *sql.DB) *lite { return &lite{writer: write, reader: read} }

func (d *lite) close() {
	conn, err := d.writer.Conn(context.Background())
	if err != nil {
		return // the pool is closed, and its statements with it
	}
	defer conn.Close()
	_ = conn.Raw(func(dc any) error {
		if dc == d.conn {
			for _, s := range d.stmts {
				_ = s.(driver.Stmt).Close()
			}
		}
		d.conn, d.stmts = nil, nil
		return nil
	})
}

func (d *lite) query(ctx context.Context, q string, args []any, each func(func(...any) error) error) error {
	return liteQuery(ctx, d.reader, q, args, each)
}

func liteQuery(ctx context.Context, db interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}, q string, args []any, each func(func(...any) error) error) error {
	rs, err := db.QueryContext(ctx, q, args...)
	if err != nil {
		return liteFailure(err)
	}
	defer rs.Close()
	for rs.Next() {
		if err := each(rs.Scan); err != nil {
			return err
		}
	}
	if err := rs.Err(); err != nil {
		return liteFailure(err)
	}
	return nil
}

func (d *lite) write(ctx context.Context, fn func(tx) error) error {
	conn, err := d.writer.Conn(ctx)
	if err != nil {
		return liteFailure(err)
	}
	defer conn.Close()
	// From here on the context no longer counts: a transaction is short, and one that
	// is interrupted half-way would cost its whole group another try.
	ctx = context.WithoutCancel(ctx)
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return liteFailure(err)
	}
	t := &liteTx{d: d, conn: conn}
	if err = fn(t); err == nil {
		err = t.err
	}
	if err == nil {
		if _, err = conn.ExecContext(ctx, "COMMIT"); err == nil {
			return nil
		}
		f := liteFailure(err)
		f.doubt = f.cause == lost
		err = f
	}
	_, _ = conn.ExecContext(ctx, "ROLLBACK") // fails when SQLite has done so itself
	return err
}

func liteFailure(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	f = &failure{err: err, cause: invalid}
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff {
		case sqliteBusy, sqliteLocked:
			f.cause = again
		case sqliteFull, sqliteIOErr, sqliteReadBad, sqliteCorrupt, sqliteNoOpen, sqliteNotADB:
			f.cause = lost
		}
		return f
	}
	if errors.Is(err, sql.ErrConnDone) || errors.Is(err, driver.ErrBadConn) {
		f.cause = lost
	}
	return f
}

type liteTx struct {
	d    *lite
	conn *sql.Conn
	err  error
}

func (t *liteTx) flush(context.Context) error { return t.err }

func (t *liteTx) query(ctx context.Context, q string, args []any, each func(func(...any) error) error) error {
	if t.err != nil {
		return t.err
	}
	return liteQuery(ctx, t.conn, q, args, each)
}

// run goes to the driver itself: the standard library's way costs more than SQLite.
func (t *liteTx) run(r *rows) *hits {
	h := &hits{}
	if t.err != nil || r.n == 0 {
		return h
	}
	if err := t.conn.Raw(func(dc any) error { return t.d.run(dc, r, h) }); err != nil {
		t.err = liteFailure(err)
	}
	return h
}

func (d *lite) run(dc any, r *rows, h *hits) error {
	if d.conn != dc {
		d.conn, d.stmts = dc, map[string]driver.StmtExecContext{}
	}
	ctx := context.Background()
	parts := r.of.lite
	stmts := make([]driver.StmtExecContext, len(parts))
	for p := range parts {
		var err error
		if stmts[p], err = d.prepared(ctx, dc, parts[p].sql); err != nil {
			return err
		}
	}
	for i := range r.n {
		row := r.row(i)
		for p := range parts {
			d.vals = d.vals[:0]
			if parts[p].args == nil {
				for _, v := range row {
					d.vals = append(d.vals, driver.NamedValue{Ordinal: len(d.vals) + 1, Value: v})
				}
			}
			for _, a := range parts[p].args {
				d.vals = append(d.vals, driver.NamedValue{Ordinal: len(d.vals) + 1, Value: row[a]})
			}
			res, err := stmts[p].ExecContext(ctx, d.vals)
			if err != nil {
				return err
			}
			if p == 0 && r.of.hit >= 0 {
				if n, _ := res.RowsAffected(); n > 0 {
					h.add(row[r.of.hit].(string))
				}
			}
		}
	}
	return nil
}

func (d *lite) prepared(ctx context.Context, dc any, q string) (driver.StmtExecContext, error) {
	if s := d.stmts[q]; s != nil {
		return s, nil
	}
	s, err := dc.(driver.ConnPrepareContext).PrepareContext(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", q, err)
	}
	d.stmts[q] = s.(driver.StmtExecContext)
	return d.stmts[q], nil
}
