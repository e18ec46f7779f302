package ledger

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

type postgres struct{ pool *pgxpool.Pool }

func (d *postgres) close() {}

func (d *postgres) query(ctx context.Context, q string, args []any, each func(func(...any) error) error) error {
	rs, err := d.pool.Query(ctx, numbered(q), args...)
	if err != nil {
		return pgFailure(err, nil)
	}
	if err := pgRows(rs, each); err != nil {
		return pgFailure(err, nil)
	}
	return nil
}

func pgRows(rs pgx.Rows, each func(func(...any) error) error) error {
	defer rs.Close()
	for rs.Next() {
		if err := each(rs.Scan); err != nil {
			return err
		}
	}
	return rs.Err()
}

func (d *postgres) write(ctx context.Context, fn func(tx) error) error {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return &failure{cause: lost, err: err}
	}
	defer conn.Release()
	t := &pgTx{conn: conn.Conn(), batch: &pgx.Batch{}}
	t.batch.Queue("begin")
	// The rows of a group are found by their keys, whatever the statistics say of a
	// table that is empty now and full in a minute; and compiling a plan that runs for
	// a millisecond would take seconds.
	t.batch.Queue("select set_config('jit', 'off', true), set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)")
	err = fn(t)
	committing := err == nil
	if committing {
		t.batch.Queue("commit")
		if err = t.flush(ctx); err == nil {
			return nil
		}
	}
	f := t.rollback(ctx, err)
	f.doubt = committing && f.cause == lost
	if conn.Conn().IsClosed() {
		// As a rule the others are gone, too: do not stumble over each of them.
		d.pool.Reset()
	}
	return f
}

func (t *pgTx) rollback(ctx context.Context, err error) *failure {
	f := pgFailure(err, t.conn)
	if !t.conn.IsClosed() && t.conn.PgConn().TxStatus() != 'I' {
		_, _ = t.conn.Exec(context.WithoutCancel(ctx), "rollback")
	}
	return f
}

func pgFailure(err error, conn *pgx.Conn) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	f = &failure{err: err, cause: invalid}
	var e *pgconn.PgError
	var c *pgconn.ConnectError
	switch {
	case errors.As(err, &e):
		switch {
		case e.Code == "40001", e.Code == "40P01", e.Code == "55P03":
			f.cause = again
		case e.Code == "53200": // too many locks, or too much memory, for this one: a smaller one may do
		case strings.HasPrefix(e.Code, "08"), strings.HasPrefix(e.Code, "53"), strings.HasPrefix(e.Code, "57"),
			strings.HasPrefix(e.Code, "58"), e.Code == "25006":
			f.cause = lost // connection, resources (disk full), shutdown, I/O, read-only
		}
	case errors.As(err, &c), conn != nil && conn.IsClosed(), pgconn.Timeout(err), pgconn.SafeToRetry(err):
		f.cause = lost
	case conn == nil && !errors.Is(err, context.Canceled):
		// Whatever is not the server's word about a statement is about the connection.
		f.cause = lost
	}
	return f
}

// pgTx sends its statements in as few round trips as there are questions asked.
type pgTx struct {
	conn  *pgx.Conn
	batch *pgx.Batch
}

func (t *pgTx) run(r *rows) *hits {
	h := &hits{}
	if r.n == 0 {
		return h
	}
	q := t.batch.Queue(r.of.pg, r.arrays()...)
	if r.of.hit >= 0 {
		q.Query(func(rs pgx.Rows) error {
			for rs.Next() {
				var name string
				if err := rs.Scan(&name); err != nil {
					return err
				}
				h.add(name)
			}
			return rs.Err()
		})
	}
	return h
}

func (t *pgTx) flush(ctx context.Context) error {
	if t.batch.Len() == 0 {
		return nil
	}
	b := t.batch
	t.batch = &pgx.Batch{}
	if err := t.conn.SendBatch(ctx, b).Close(); err != nil {
		return pgFailure(err, t.conn)
	}
	return nil
}

func (t *pgTx) query(ctx context.Context, q string, args []any, each func(func(...any) error) error) error {
	t.batch.Queue(numbered(q), args...).Query(func(rs pgx.Rows) error { return pgRows(rs, each) })
	return t.flush(ctx)
}
