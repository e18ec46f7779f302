package ledger

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/hookyard/hookyard/server/flow"
)

// database is what differs between SQLite and PostgreSQL.
type database interface {
	querier
	// write runs fn in one transaction and commits it. Its errors are *failure.
	write(ctx context.Context, fn func(tx) error) error
	// close ends what the database holds of its own, not what it was given.
	close()
}

// querier runs a statement and calls each for every row that it returns. Parameters
// are "?" on both databases.
type querier interface {
	query(ctx context.Context, sql string, args []any, each func(scan func(...any) error) error) error
}

// tx is one write transaction.
type tx interface {
	querier
	// run carries a bulk out, at once or with the next flush, query or the commit.
	run(r *rows) *hits
	flush(ctx context.Context) error
}

// hits are the rows that a bulk touched, named by its hit column; known after a flush.
type hits struct{ names map[string]struct{} }

func (h *hits) has(name string) bool {
	_, ok := h.names[name]
	return ok
}

func (h *hits) add(name string) {
	if h.names == nil {
		h.names = map[string]struct{}{}
	}
	h.names[name] = struct{}{}
}

// cause says what a failed transaction calls for.
type cause uint8

const (
	again   cause = iota // a deadlock or the like: the same transaction may do better
	lost                 // the database is away, full or broken: nothing can be done now
	invalid              // something in the transaction itself
)

// failure is why a transaction did not commit. When doubt is true it may have, for all
// we know.
type failure struct {
	cause cause
	doubt bool
	err   error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// public is the failure as a caller of the ledger sees it.
func (f *failure) public(doing string) error {
	if f.cause == invalid {
		return fmt.Errorf("ledger: %s: %w", doing, f.err)
	}
	return fmt.Errorf("ledger: %s: %w: %w", doing, flow.ErrUnavailable, f.err)
}

// writeTx is write with a few tries and a public error, for everything outside of the
// group commit.
func (l *Ledger) writeTx(ctx context.Context, doing string, fn func(tx) error) error {
	for try := 1; ; try++ {
		err := l.db.write(ctx, fn)
		if err == nil {
			return nil
		}
		var f *failure
		if !errors.As(err, &f) {
			return fmt.Errorf("ledger: %s: %w", doing, err)
		}
		if f.cause == again && try < maxTries {
			continue
		}
		return f.public(doing)
	}
}

// read runs a query outside of transactions, with a public error.
func (l *Ledger) read(ctx context.Context, doing, sql string, args []any, each func(scan func(...any) error) error) error {
	if err := l.db.query(ctx, sql, args, each); err != nil {
		return publicError(doing, err)
	}
	return nil
}

func publicError(doing string, err error) error {
	var f *failure
	if errors.As(err, &f) {
		return f.public(doing)
	}
	return fmt.Errorf("ledger: %s: %w", doing, err)
}

// one scans the only row that is expected; found is false for none.
func one(ctx context.Context, q querier, sql string, args []any, dest ...any) (found bool, err error) {
	err = q.query(ctx, sql, args, func(scan func(...any) error) error {
		found = true
		return scan(dest...)
	})
	return found, err
}

// exec runs a statement whose rows nobody wants.
func exec(ctx context.Context, q querier, sql string, args ...any) error {
	return q.query(ctx, sql, args, func(func(...any) error) error { return nil })
}

// numbered turns "?" into "$1", "$2", …
func numbered(sql string) string {
	var b strings.Builder
	b.Grow(len(sql) + 16)
	n := 0
	for {
		i := strings.IndexByte(sql, '?')
		if i < 0 {
			b.WriteString(sql)
			return b.String()
		}
		n++
		b.WriteString(sql[:i])
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(n))
		sql = sql[i+1:]
	}
}

// selection builds a SELECT whose conditions are not known beforehand.
type selection struct {
	where []string
	args  []any
}

func (s *selection) and(cond string, args ...any) {
	s.where = append(s.where, cond)
	s.args = append(s.args, args...)
}

func (s *selection) in(col string, values []string) {
	if len(values) == 0 {
		s.and("1 = 0")
		return
	}
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = v
	}
	s.and(col+" IN ("+marks(len(values))+")", args...)
}

func (s *selection) sql() string { return strings.Join(s.where, " AND ") }
