package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hookyard/hookyard/ent/ids"
)

// On PostgreSQL the history is partitioned: by day of the ID, and the entries by their
// numbers, because their readers go by number. Partitions are made ahead of time; what
// falls outside of them is in the default partition, which works as well but has to be
// emptied row by row.
//
// To make one takes the default partition for a moment, to drop one its table. Who reads
// for long, a backup for one, is in the way of that, and while it waits everybody else
// queues up behind it: so it waits for a tenth of a second, and is tried again in a minute.

// daily are the tables partitioned by day, with the prefix of the ID that they go by, and
// what finds out whether an open delivery needs something of a range, or a receipt of it waits.
type daily struct{ table, prefix, needed string }

func dailies() []daily {
	const needed = "SELECT 1 FROM open_deliveries WHERE event >= ? AND event < ? LIMIT 1"
	return []daily{
		{"receipts", ids.Receipt, "SELECT 1 FROM open_deliveries o JOIN events e ON e.org = o.org AND e.id = o.event WHERE e.receipt >= ? AND e.receipt < ? " +
			"UNION ALL SELECT 1 FROM enrichments WHERE receipt >= ? AND receipt < ? LIMIT 1"},
		{"renderings", ids.Event, needed},
		{"events", ids.Event, needed},
		{"deliveries", ids.Delivery, ""},
	}
}

const (
	daysAhead    = 3
	entriesAhead = 8 // partitions of entries beyond the last number
)

// Partition is one of a table's, but for the default one: of the IDs or numbers from one
// up to another.
type Partition struct {
	Table string `json:"table"`
	Name  string `json:"name"`
	From  string `json:"from"`
	To    string `json:"to"`
}

// Partitions lists what the history on PostgreSQL is divided into.
func Partitions(ctx context.Context, db interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}) (all []Partition, err error) {
	rows, err := db.Query(ctx, "SELECT p.relname::text, c.relname::text, coalesce(pg_get_expr(c.relpartbound, c.oid), '') FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "+
		"JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace n ON n.oid = p.relnamespace WHERE p.relkind = 'p' AND n.nspname = current_schema() ORDER BY p.relname, c.relname")
	if err != nil {
		return nil, err
	}
	var p Partition
	var bound string
	_, err = pgx.ForEachRow(rows, []any{&p.Table, &p.Name, &bound}, func() error {
		// FOR VALUES FROM ('1') TO ('2'), or DEFAULT
		if q := strings.Split(bound, "'"); len(q) == 5 {
			p.From, p.To = q[1], q[3]
			all = append(all, p)
		}
		return nil
	})
	return all, err
}

// standing are the partitions that there are, by table.
func (l *Ledger) standing(ctx context.Context) (map[string][]Partition, error) {
	all, err := Partitions(ctx, l.c.Postgres)
	if err != nil {
		return nil, publicError("list partitions", pgFailure(err, nil))
	}
	of := map[string][]Partition{}
	for _, p := range all {
		of[p.Table] = append(of[p.Table], p)
	}
	return of, nil
}

// errInUse says that a table is in use for longer than a change of its partitions waits.
var errInUse = errors.New("in use")

const (
	alterWait   = "100ms"
	alterPause  = time.Minute // after it was in vain
	neededPause = time.Hour   // after an open delivery needed something of a day
)

// patience keeps a node from trying the same change of partitions over and over.
type patience struct {
	mu    sync.Mutex
	after time.Time            // before that none: a table was in use
	until map[string]time.Time // and none of these: there are rows in the way
}

// alter changes partitions in a transaction that waits for nobody.
func (l *Ledger) alter(ctx context.Context, doing string, fn func(tx) error) error {
	err := l.db.write(ctx, func(t tx) error {
		if err := exec(ctx, t, "SET LOCAL lock_timeout = '"+alterWait+"'"); err != nil {
			return err
		}
		return fn(t)
	})
	switch {
	case err == nil:
		return nil
	case isCode(err, "55P03", "40P01"):
		return fmt.Errorf("ledger: %s: %w: %w", doing, errInUse, err)
	}
	return publicError(doing, err)
}

// isCode says that PostgreSQL answered with one of these codes.
func isCode(err error, codes ...string) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && slices.Contains(codes, e.Code)
}

// repartition makes the partitions that will be needed soon, and drops those that are not
// needed any more: of the entries, and of days that ended before a time, which everybody
// is done with. It is not done while a table is in use.
func (l *Ledger) repartition(ctx context.Context, before time.Time) (dropped int, done bool, err error) {
	p, now := &l.patience, l.clock.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Before(p.after) {
		return 0, false, nil
	}
	dropped, err = l.changePartitions(ctx, now, before)
	if errors.Is(err, errInUse) {
		p.after = now.Add(alterPause)
		l.log.Info("the history is in use: its partitions are made and dropped later", "err", err)
		return dropped, false, nil
	}
	return dropped, err == nil, err
}

func (l *Ledger) changePartitions(ctx context.Context, now, before time.Time) (dropped int, err error) {
	standing, err := l.standing(ctx)
	if err != nil {
		return 0, err
	}
	last, err := l.LastSeq(ctx, "")
	if err != nil {
		return 0, err
	}
	if err := l.makePartitions(ctx, now, last, standing); err != nil {
		return 0, err
	}
	if dropped, err = l.dropEntries(ctx, last, standing["entries"]); err != nil || before.IsZero() {
		return dropped, err
	}
	days, err := l.dropDays(ctx, now, before, standing)
	return dropped + days, err
}

func (l *Ledger) makePartitions(ctx context.Context, now time.Time, last int64, standing map[string][]Partition) error {
	day := now.UTC().Truncate(24 * time.Hour)
	for _, d := range dailies() {
		for i := range daysAhead + 1 {
			from := day.AddDate(0, 0, i)
			p := Partition{d.table, d.table + "_p" + from.Format("20060102"), ids.Floor(d.prefix, from), ids.Floor(d.prefix, from.AddDate(0, 0, 1))}
			if err := l.makePartition(ctx, p, standing[d.table], now); err != nil {
				return err
			}
		}
	}
	each := l.c.EntriesEach
	for n := last / each; n <= last/each+entriesAhead; n++ {
		p := Partition{"entries", fmt.Sprint("entries_p", n), fmt.Sprint(n * each), fmt.Sprint((n + 1) * each)}
		if err := l.makePartition(ctx, p, standing["entries"], now); err != nil {
			return err
		}
	}
	return nil
}

// makePartition makes one, unless it is there or rows of its range are in the default one.
// It is made apart and then attached: inserts go on meanwhile.
func (l *Ledger) makePartition(ctx context.Context, p Partition, standing []Partition, now time.Time) error {
	if now.Before(l.patience.until[p.Name]) || slices.ContainsFunc(standing, func(is Partition) bool { return is.Name == p.Name }) {
		return nil
	}
	err := l.alter(ctx, "make partition "+p.Name, func(t tx) error {
		if err := exec(ctx, t, fmt.Sprintf("CREATE TABLE %s (LIKE %s INCLUDING ALL)", p.Name, p.Table)); err != nil {
			return err
		}
		return exec(ctx, t, fmt.Sprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM ('%s') TO ('%s')", p.Table, p.Name, p.From, p.To))
	})
	switch {
	case isCode(err, "23514"): // rows of its range are in the default one, and would be looked for in all of that each time
		l.patience.until[p.Name] = now.Add(24 * time.Hour)
		return nil
	case isCode(err, "42P07", "42P17", "23505"): // another node was quicker
		return nil
	}
	return err
}

// dropEntries drops the partitions of entries that are empty and stay so: every number of
// theirs has been given. Too many would be felt by who looks for an attempt, because that
// looks into each, and takes locks in a table of the server that is not large.
func (l *Ledger) dropEntries(ctx context.Context, last int64, standing []Partition) (dropped int, err error) {
	for _, p := range standing {
		if to, err := strconv.ParseInt(p.To, 10, 64); err != nil || to > last+1 {
			continue
		}
		// By the index: the table itself may be full of rows that were removed just now.
		found, err := one(ctx, l.db, "SELECT seq FROM "+p.Name+" ORDER BY seq LIMIT 1", nil, new(int64))
		switch {
		case found, isCode(err, "42P01"): // or another node was quicker
			continue
		case err != nil:
			return dropped, publicError("look into partition "+p.Name, err)
		}
		if err := l.alter(ctx, "drop partition "+p.Name, func(t tx) error { return exec(ctx, t, "DROP TABLE IF EXISTS "+p.Name) }); err != nil {
			return dropped, err
		}
		dropped++
	}
	return dropped, nil
}

// dropDays drops the partitions of which everything was made before a time.
func (l *Ledger) dropDays(ctx context.Context, now, before time.Time, standing map[string][]Partition) (dropped int, err error) {
	for _, d := range dailies() {
		for _, p := range standing[d.table] {
			if p.To > ids.Floor(d.prefix, before) || now.Before(l.patience.until[p.Name]) {
				continue
			}
			ok, err := l.dropDay(ctx, p, d.needed, now)
			if err != nil {
				return dropped, err
			}
			if ok {
				delete(l.patience.until, p.Name)
				dropped++
			}
		}
	}
	return dropped, nil
}

// dropDay drops a partition, unless an open delivery needs something of it. As with single
// rows, see byAge, that is found out before anything is locked.
func (l *Ledger) dropDay(ctx context.Context, p Partition, needed string, now time.Time) (ok bool, err error) {
	redelivered, err := l.redelivered(ctx, l.db)
	if err != nil {
		return false, publicError("look into partition "+p.Name, err)
	}
	if needed != "" {
		var args []any
		for range strings.Count(needed, "?") / 2 {
			args = append(args, p.From, p.To)
		}
		found, err := one(ctx, l.db, needed, args, new(int64))
		if err != nil {
			return false, publicError("look into partition "+p.Name, err)
		}
		if found {
			l.patience.until[p.Name] = now.Add(neededPause)
			return false, nil
		}
	}
	err = l.alter(ctx, "drop partition "+p.Name, func(t tx) error {
		if err := l.quiet(ctx, t); err != nil {
			return err
		}
		again, err := l.redelivered(ctx, t)
		if ok = again == redelivered; err != nil || !ok {
			return err
		}
		return exec(ctx, t, "DROP TABLE IF EXISTS "+p.Name)
	})
	return ok && err == nil, err
}
