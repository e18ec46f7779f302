package ledger

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

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
	entriesEach  = 1 << 20 // numbers in a partition of entries
	entriesAhead = 8       // partitions of entries beyond the last number
)

// partitions makes those that will be needed soon.
func (l *Ledger) partitions(ctx context.Context, now time.Time) error {
	day := now.UTC().Truncate(24 * time.Hour)
	for table, prefix := range daily() {
		for i := range daysAhead + 1 {
			from := day.AddDate(0, 0, i)
			if err := l.partition(ctx, table, from.Format("20060102"), "'"+ids.Floor(prefix, from)+"'", "'"+ids.Floor(prefix, from.AddDate(0, 0, 1))+"'"); err != nil {
				return err
			}
		}
	}
	last, err := l.LastSeq(ctx, "")
	if err != nil {
		return err
	}
	for p := last / entriesEach; p <= last/entriesEach+entriesAhead; p++ {
		if err := l.partition(ctx, "entries", strconv.FormatInt(p, 10), strconv.FormatInt(p*entriesEach, 10), strconv.FormatInt((p+1)*entriesEach, 10)); err != nil {
			return err
		}
	}
	return nil
}

// partition makes one, unless it is there or rows of its range are in the default one.
func (l *Ledger) partition(ctx context.Context, table, name, from, to string) error {
	name = table + "_p" + name
	found := false
	if err := l.read(ctx, "look for partitions", "SELECT 1 FROM pg_class WHERE relname = ? AND relkind = 'r'", []any{name}, func(func(...any) error) error {
		found = true
		return nil
	}); err != nil || found {
		return err
	}
	err := l.writeTx(ctx, "make partition "+name, func(t tx) error {
		if err := exec(ctx, t, "SET LOCAL lock_timeout = '2s'"); err != nil {
			return err
		}
		return exec(ctx, t, fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s PARTITION OF %s FOR VALUES FROM (%s) TO (%s)", name, table, from, to))
	})
	var e *pgconn.PgError
	if errors.As(err, &e) && (e.Code == "23514" || e.Code == "42P07" || e.Code == "42P17" || e.Code == "23505") {
		return nil // rows in the default partition, or another node was quicker
	}
	return err
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
