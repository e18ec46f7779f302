package ledger

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/hookyard/hookyard/ent/ids"
)

// aged are rows that go by their age, or lose their payload by it, unless an open delivery
// needs them.
type aged struct {
	table, id, prefix string
	change            string // what becomes of them
	mark              string
	// Rows that were needed are looked at again; payloads are not, they go with their rows.
	again bool
}

func removedByAge() []aged {
	return []aged{
		{"renderings", "event", ids.Event, "DELETE FROM renderings", markRows + "renderings", true},
		{"events", "id", ids.Event, "DELETE FROM events", markRows + "events", true},
		{"receipts", "id", ids.Receipt, "DELETE FROM receipts", markRows + "receipts", true},
	}
}

func emptiedByAge() []aged {
	return []aged{
		{"events", "id", ids.Event, "UPDATE events SET document = NULL", markPayloads + "events", false},
		{"renderings", "event", ids.Event, "UPDATE renderings SET body = NULL", markPayloads + "renderings", false},
		{"receipts", "id", ids.Receipt, "UPDATE receipts SET body = NULL", markPayloads + "receipts", false},
	}
}

// agedAgain is how long it may take until it is noticed that nobody needs a row any more.
const agedAgain = 24 * time.Hour

// byAge changes the next of them that were made before a time.
//
// Which of them are needed is found out before anything is locked, because to know that
// all open deliveries are read. Only a redelivery can have an old event needed that was
// not: if there was one meanwhile, the rows stay for now.
func (l *Ledger) byAge(ctx context.Context, org string, a aged, before time.Time, more *bool) (n int, err error) {
	redelivered, err := l.redelivered(ctx, l.db)
	if err != nil {
		return 0, publicError("look for what is old", err)
	}
	pos, since, err := l.mark(ctx, l.db, org, a.mark)
	if err != nil {
		return 0, publicError("look for what is old", err)
	}
	if now := l.clock.Now(); a.again && micros(now.Add(-agedAgain)) >= since {
		pos, since = "", micros(now)
	}
	var old []string
	if err := l.read(ctx, "look for what is old", "SELECT DISTINCT "+a.id+" FROM "+a.table+" WHERE org = ? AND "+a.id+" > ? AND "+a.id+" < ? ORDER BY 1 LIMIT ?",
		[]any{org, pos, ids.Floor(a.prefix, before), int64(retainLook)}, func(scan func(...any) error) error {
			var id string
			err := scan(&id)
			old = append(old, id)
			return err
		}); err != nil || len(old) == 0 {
		return 0, err
	}
	needed, err := l.needed(ctx, org, a.table, old[0], old[len(old)-1])
	if err != nil {
		return 0, err
	}
	for batch := range slices.Chunk(old, retainBatch) {
		last := batch[len(batch)-1]
		var s selection
		s.and("org = ?", org)
		s.in(a.id, slices.DeleteFunc(batch, func(id string) bool { return needed[id] }))
		if a.table == "receipts" {
			s.and(stillSilent, ids.Floor(ids.Event, l.clock.Now().Add(-idSlack)))
		}
		changed, stale := 0, false
		if err := l.writeTx(ctx, "remove what is old", func(t tx) error {
			changed = 0
			if err := l.quiet(ctx, t); err != nil {
				return err
			}
			now, err := l.redelivered(ctx, t)
			if stale = now != redelivered; err != nil || stale {
				return err
			}
			if err := t.query(ctx, a.change+" WHERE "+s.sql()+" RETURNING 1", s.args, func(func(...any) error) error {
				changed++
				return nil
			}); err != nil {
				return err
			}
			return l.setMark(ctx, t, org, a.mark, last, since)
		}); err != nil || stale {
			return n, err
		}
		n += changed
	}
	*more = *more || len(old) == retainLook
	return n, nil
}

// The events of receipts are found by the index for that: with a plain org SQLite would take
// the primary key, and read all that the organization has.
const eventsOfReceipts = "SELECT id FROM events WHERE org || '' = ? AND receipt >= ? AND receipt <= ?"

// stillSilent keeps old receipts that wait, and those that were read only now and so gave
// events of today.
const stillSilent = "NOT EXISTS (SELECT 1 FROM enrichments w WHERE w.org = receipts.org AND w.receipt = receipts.id) " +
	"AND NOT EXISTS (SELECT 1 FROM events e WHERE e.receipt = receipts.id AND e.org || '' = receipts.org AND e.id >= ?)"

// needed are those of a range of events or receipts that open deliveries need.
func (l *Ledger) needed(ctx context.Context, org, table, from, to string) (map[string]bool, error) {
	if table != "receipts" {
		return l.openEvents(ctx, org, from, to)
	}
	var first, last string // of their events
	if err := l.read(ctx, "read the events of old receipts", eventsOfReceipts, []any{org, from, to}, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		if first == "" || id < first {
			first = id
		}
		last = max(last, id)
		return err
	}); err != nil || first == "" {
		return nil, err
	}
	open, err := l.openEvents(ctx, org, first, last)
	if err != nil {
		return nil, err
	}
	needed := map[string]bool{}
	for batch := range slices.Chunk(slices.Sorted(maps.Keys(open)), retainBatch) {
		var s selection
		s.and("org = ?", org)
		s.in("id", batch)
		if err := l.read(ctx, "read the receipts of open deliveries", "SELECT receipt FROM events WHERE "+s.sql(), s.args, func(scan func(...any) error) error {
			var id string
			err := scan(&id)
			needed[id] = true
			return err
		}); err != nil {
			return nil, err
		}
	}
	return needed, nil
}

// openEvents are the events of a range with open deliveries. It reads all of these: an
// index of them by event would cost every event.
func (l *Ledger) openEvents(ctx context.Context, org, from, to string) (map[string]bool, error) {
	open := map[string]bool{}
	err := l.read(ctx, "read what is open", "SELECT DISTINCT event FROM open_deliveries WHERE org = ? AND event >= ? AND event <= ?", []any{org, from, to}, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		open[id] = true
		return err
	})
	return open, err
}

// redelivered is another number after old events were opened again. Whoever holds quiet
// can rely on it.
func (l *Ledger) redelivered(ctx context.Context, q querier) (int64, error) {
	_, n, err := l.mark(ctx, q, "", markRedelivered)
	return n, err
}

// opensAgain notes that old events are opened again; the caller holds quiet.
func (l *Ledger) opensAgain(ctx context.Context, t tx) error {
	return exec(ctx, t, "INSERT INTO marks (org, kind, pos, n) VALUES ('', ?, '', 1) ON CONFLICT (org, kind) DO UPDATE SET n = marks.n + 1", markRedelivered)
}
