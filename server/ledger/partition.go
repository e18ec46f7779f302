package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hookyard/hookyard/ent/ids"
)

// On PostgreSQL the history is partitioned: by day of the ID, and the entries by their
// numbers, because their readers go by number. Partitions are made ahead of time; what
// falls outside of them is in the default partition, which works as well but has to be
// emptied row by row.

// daily are the tables partitioned by day, with the prefix of the ID that they go by.
func daily() map[string]string {
	return map[string]string{"receipts": ids.Receipt, "events": ids.Event, "renderings": ids.Event, "deliveries": ids.Delivery}
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

// partitions makes those that will be needed soon, and drops those of the entries that
// are not needed any more.
func (l *Ledger) partitions(ctx context.Context, now time.Time) (dropped int, err error) {
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
	return l.dropEntries(ctx, last, standing["entries"])
}

func (l *Ledger) makePartitions(ctx context.Context, now time.Time, last int64, standing map[string][]Partition) error {
	day := now.UTC().Truncate(24 * time.Hour)
	for table, prefix := range daily() {
		for i := range daysAhead + 1 {
			from := day.AddDate(0, 0, i)
			p := Partition{table, table + "_p" + from.Format("20060102"), ids.Floor(prefix, from), ids.Floor(prefix, from.AddDate(0, 0, 1))}
			if err := l.makePartition(ctx, p, standing[table]); err != nil {
				return err
			}
		}
	}
	each := l.c.EntriesEach
	for n := last / each; n <= last/each+entriesAhead; n++ {
		p := Partition{"entries", fmt.Sprint("entries_p", n), fmt.Sprint(n * each), fmt.Sprint((n + 1) * each)}
		if err := l.makePartition(ctx, p, standing["entries"]); err != nil {
			return err
		}
	}
	return nil
}

// makePartition makes one, unless it is there or rows of its range are in the default one.
func (l *Ledger) makePartition(ctx context.Context, p Partition, standing []Partition) error {
	if slices.ContainsFunc(standing, func(is Partition) bool { return is.Name == p.Name }) {
		return nil
	}
	err := l.writeTx(ctx, "make partition "+p.Name, func(t tx) error {
		if err := exec(ctx, t, "SET LOCAL lock_timeout = '2s'"); err != nil {
			return err
		}
		return exec(ctx, t, fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s PARTITION OF %s FOR VALUES FROM ('%s') TO ('%s')", p.Name, p.Table, p.From, p.To))
	})
	var e *pgconn.PgError
	if errors.As(err, &e) && (e.Code == "23514" || e.Code == "42P07" || e.Code == "42P17" || e.Code == "23505") {
		return nil // rows in the default partition, or another node was quicker
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
		if found, err := one(ctx, l.db, "SELECT seq FROM "+p.Name+" ORDER BY seq LIMIT 1", nil, new(int64)); err != nil {
			return dropped, publicError("look into partition "+p.Name, err)
		} else if found {
			continue
		}
		if err := l.writeTx(ctx, "drop partition "+p.Name, func(t tx) error {
			if err := exec(ctx, t, "SET LOCAL lock_timeout = '2s'"); err != nil {
				return err
			}
			return exec(ctx, t, "DROP TABLE IF EXISTS "+p.Name)
		}); err != nil {
			return dropped, err
		}
		dropped++
	}
	return dropped, nil
}

// dropDays drops the partitions of which everything was made before the time.
func (l *Ledger) dropDays(ctx context.Context, before time.Time) (dropped int, err error) {
	for table, prefix := range daily() {
		var names []string
		if err := l.read(ctx, "list partitions", "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent "+
			"WHERE p.relname = ? AND c.relname <> ? ORDER BY 1", []any{table, table + "_default"}, func(scan func(...any) error) error {
			var name string
			err := scan(&name)
			names = append(names, name)
			return err
		}); err != nil {
			return dropped, err
		}
		for _, name := range names {
			day, err := time.Parse("20060102", strings.TrimPrefix(name, table+"_p"))
			if err != nil {
				continue // not one of ours
			}
			end := day.AddDate(0, 0, 1)
			if end.After(before) {
				break
			}
			ok, err := l.dropDay(ctx, table, name, ids.Floor(prefix, day), ids.Floor(prefix, end))
			if err != nil {
				return dropped, err
			}
			if ok {
				dropped++
			}
		}
	}
	return dropped, nil
}

// dropDay drops a partition, unless an open delivery needs something of it.
func (l *Ledger) dropDay(ctx context.Context, table, name, from, to string) (ok bool, err error) {
	needed := map[string]string{
		"events":     "SELECT 1 FROM open_deliveries WHERE event >= ? AND event < ? LIMIT 1",
		"renderings": "SELECT 1 FROM open_deliveries WHERE event >= ? AND event < ? LIMIT 1",
		"receipts":   "SELECT 1 FROM open_deliveries o JOIN events e ON e.org = o.org AND e.id = o.event WHERE e.receipt >= ? AND e.receipt < ? LIMIT 1",
	}[table]
	err = l.writeTx(ctx, "drop partition "+name, func(t tx) error {
		ok = true
		if err := exec(ctx, t, "SET LOCAL lock_timeout = '2s'"); err != nil {
			return err
		}
		if needed != "" {
			if err := l.quiet(ctx, t); err != nil {
				return err
			}
			found, err := one(ctx, t, needed, []any{from, to}, new(int64))
			if err != nil || found {
				ok = false
				return err
			}
		}
		return exec(ctx, t, "DROP TABLE "+name)
	})
	return ok, err
}
