package ledger

import (
	"context"
	"time"

	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/server/flow"
)

// The kinds of marks.
const (
	markEntries  = "entries"  // n: the highest number that was removed
	markReplies  = "replies"  // n: the highest number whose response was removed
	markPayloads = "payloads" // pos: the table and the ID up to which payloads were removed
	markKeys     = "keys"     // pos: where the last look at the keys ended
)

// retainLock keeps redeliveries of old events and their removal apart on PostgreSQL.
const retainLock = 0x686f6f6b79617264

// quiet waits until no redelivery is being made and nothing is being removed.
func (l *Ledger) quiet(ctx context.Context, t tx) error {
	if !l.pg {
		return nil
	}
	return exec(ctx, t, "SELECT pg_advisory_xact_lock(?)", int64(retainLock))
}

// Removed is what a step of Retain has removed.
type Removed struct {
	Events, Deliveries, Receipts, Entries, Payloads, Keys int
	Partitions                                            int
	More                                                  bool // call again soon
}

// retainBatch bounds the rows that one transaction of Retain touches.
const retainBatch = 500

// Retain makes one bounded step in removing what is older than each organization
// keeps. The event, renderings and receipt of an open delivery stay. An organization
// that is not named keeps everything. Call it every minute or so, again at once while
// the answer says More.
func (l *Ledger) Retain(ctx context.Context, keep map[string]flow.Retention) (Removed, error) {
	var out Removed
	now := l.clock.Now()
	longest := longestEvents(keep)
	whole := false
	if l.pg {
		var days time.Time
		if longest > 0 {
			days = now.Add(-longest)
		}
		var err error
		if out.Partitions, whole, err = l.repartition(ctx, days); err != nil {
			return out, err
		}
	}
	for org, r := range keep {
		steps := []struct {
			age  time.Duration
			step func(context.Context, string, time.Time, *Removed) error
		}{
			{r.Events, l.removeEvents}, {r.Attempts, l.removeEntries}, {r.Payloads, l.removePayloads},
		}
		for i, s := range steps {
			if s.age <= 0 {
				continue
			}
			before := now.Add(-s.age)
			if i == 0 && l.pg && s.age == longest {
				// Those that keep longest lose whole partitions. What is left of such days is
				// in the default partitions, or beside something that is still open.
				if !whole {
					continue
				}
				before = before.UTC().Truncate(24 * time.Hour)
			}
			if err := s.step(ctx, org, before, &out); err != nil {
				return out, err
			}
		}
	}
	return out, l.removeKeys(ctx, now, &out)
}

// longestEvents is the longest time for which anybody keeps events, 0 for ever.
func longestEvents(keep map[string]flow.Retention) time.Duration {
	var longest time.Duration
	for _, r := range keep {
		if r.Events <= 0 {
			return 0
		}
		longest = max(longest, r.Events)
	}
	return longest
}

// removal deletes a batch and counts it.
func (l *Ledger) removal(ctx context.Context, t tx, n *int, more *bool, sql string, args ...any) error {
	count := 0
	err := t.query(ctx, sql, append(args, int64(retainBatch)), func(scan func(...any) error) error {
		count++
		return nil
	})
	*n += count
	*more = *more || count == retainBatch
	return err
}

func (l *Ledger) removeEvents(ctx context.Context, org string, before time.Time, out *Removed) error {
	step := Removed{}
	err := l.writeTx(ctx, "remove old events", func(t tx) error {
		step = Removed{}
		if err := l.quiet(ctx, t); err != nil {
			return err
		}
		floor := ids.Floor(ids.Event, before)
		renderings := 0
		for _, r := range []struct {
			n    *int
			sql  string
			args []any
		}{
			{&renderings, "DELETE FROM renderings WHERE org = ? AND event IN (SELECT event FROM renderings WHERE org = ? AND event < ? AND event NOT IN (SELECT event FROM open_deliveries WHERE org = ?) ORDER BY event LIMIT ?) RETURNING 1",
				[]any{org, org, floor, org}},
			{&step.Events, "DELETE FROM events WHERE org = ? AND id IN (SELECT id FROM events WHERE org = ? AND id < ? AND id NOT IN (SELECT event FROM open_deliveries WHERE org = ?) ORDER BY id LIMIT ?) RETURNING 1",
				[]any{org, org, floor, org}},
			{&step.Deliveries, "DELETE FROM deliveries WHERE org = ? AND id IN (SELECT id FROM deliveries WHERE org = ? AND id < ? ORDER BY id LIMIT ?) RETURNING 1",
				[]any{org, org, ids.Floor(ids.Delivery, before)}},
			{&step.Receipts, "DELETE FROM receipts WHERE org = ? AND id IN (SELECT id FROM receipts WHERE org = ? AND id < ? AND id NOT IN (" + neededReceipts + ") ORDER BY id LIMIT ?) RETURNING 1",
				[]any{org, org, ids.Floor(ids.Receipt, before), org, org}},
		} {
			if err := l.removal(ctx, t, r.n, &step.More, r.sql, r.args...); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		out.Events, out.Deliveries, out.Receipts, out.More = out.Events+step.Events, out.Deliveries+step.Deliveries, out.Receipts+step.Receipts, out.More || step.More
	}
	return err
}

// neededReceipts are those that open deliveries may have to send.
const neededReceipts = "SELECT receipt FROM events WHERE org = ? AND id IN (SELECT event FROM open_deliveries WHERE org = ?)"

// mark reads how far a kind of removal has come.
func (l *Ledger) mark(ctx context.Context, q querier, org, kind string) (pos string, n int64, err error) {
	_, err = one(ctx, q, "SELECT pos, n FROM marks WHERE org = ? AND kind = ?", []any{org, kind}, &pos, &n)
	return pos, n, err
}

func (l *Ledger) setMark(ctx context.Context, t tx, org, kind, pos string, n int64) error {
	return exec(ctx, t, "INSERT INTO marks (org, kind, pos, n) VALUES (?, ?, ?, ?) ON CONFLICT (org, kind) DO UPDATE SET pos = excluded.pos, n = excluded.n", org, kind, pos, n)
}

// oldEntries are the numbers of the next batch of an organization's entries, after
// one, that were made before a time. Numbers and times go together well enough: the
// first entry that is younger ends the batch. One of the future says nothing of those
// after it: whoever made that attempt had another clock.
func (l *Ledger) oldEntries(ctx context.Context, q querier, org string, after int64, before time.Time) (upto int64, n int, err error) {
	young := false
	err = q.query(ctx, "SELECT seq, at FROM entries WHERE org = ? AND seq > ? AND at <= ? ORDER BY seq LIMIT ?", []any{org, after, micros(l.clock.Now()), int64(retainBatch)}, func(scan func(...any) error) error {
		var seq, at int64
		if err := scan(&seq, &at); err != nil {
			return err
		}
		if young = young || at >= micros(before); !young {
			upto = seq
			n++
		}
		return nil
	})
	return upto, n, err
}

func (l *Ledger) removeEntries(ctx context.Context, org string, before time.Time, out *Removed) error {
	n := 0
	err := l.writeTx(ctx, "remove old entries", func(t tx) error {
		_, last, err := l.mark(ctx, t, org, markEntries)
		if err != nil {
			return err
		}
		var upto int64
		if upto, n, err = l.oldEntries(ctx, t, org, last, before); err != nil || n == 0 {
			return err
		}
		if err := exec(ctx, t, "DELETE FROM entries WHERE org = ? AND seq > ? AND seq <= ?", org, last, upto); err != nil {
			return err
		}
		return l.setMark(ctx, t, org, markEntries, "", upto)
	})
	out.Entries += n
	out.More = out.More || n == retainBatch
	return err
}

// removePayloads empties the bodies of receipts, events, renderings and responses.
func (l *Ledger) removePayloads(ctx context.Context, org string, before time.Time, out *Removed) error {
	n := 0
	err := l.writeTx(ctx, "remove old responses", func(t tx) error {
		_, last, err := l.mark(ctx, t, org, markReplies)
		if err != nil {
			return err
		}
		var upto int64
		if upto, n, err = l.oldEntries(ctx, t, org, last, before); err != nil || n == 0 {
			return err
		}
		if err := exec(ctx, t, "UPDATE entries SET response_body = NULL WHERE org = ? AND seq > ? AND seq <= ? AND response_body IS NOT NULL", org, last, upto); err != nil {
			return err
		}
		return l.setMark(ctx, t, org, markReplies, "", upto)
	})
	if err != nil {
		return err
	}
	out.Payloads += n
	out.More = out.More || n == retainBatch
	for _, p := range []struct{ table, id, column, prefix, needed string }{
		{"events", "id", "document", ids.Event, "SELECT event FROM open_deliveries WHERE org = ?"},
		{"renderings", "event", "body", ids.Event, "SELECT event FROM open_deliveries WHERE org = ?"},
		{"receipts", "id", "body", ids.Receipt, neededReceipts},
	} {
		needs := []any{org}
		if p.table == "receipts" {
			needs = []any{org, org}
		}
		count, last := 0, ""
		err := l.writeTx(ctx, "remove old payloads", func(t tx) error {
			count = 0
			if err := l.quiet(ctx, t); err != nil {
				return err
			}
			pos, _, err := l.mark(ctx, t, org, markPayloads+"."+p.table)
			if err != nil {
				return err
			}
			// What an open delivery needs is passed over for good: it goes with its event.
			err = t.query(ctx, "SELECT DISTINCT "+p.id+" FROM "+p.table+" WHERE org = ? AND "+p.id+" > ? AND "+p.id+" < ? ORDER BY 1 LIMIT ?",
				[]any{org, pos, ids.Floor(p.prefix, before), int64(retainBatch)}, func(scan func(...any) error) error {
					count++
					return scan(&last)
				})
			if err != nil || count == 0 {
				return err
			}
			args := append([]any{org, pos, last}, needs...)
			if err := exec(ctx, t, "UPDATE "+p.table+" SET "+p.column+" = NULL WHERE org = ? AND "+p.id+" > ? AND "+p.id+" <= ? AND "+p.id+" NOT IN ("+p.needed+")", args...); err != nil {
				return err
			}
			return l.setMark(ctx, t, org, markPayloads+"."+p.table, last, 0)
		})
		if err != nil {
			return err
		}
		out.Payloads += count
		out.More = out.More || count == retainBatch
	}
	return nil
}

// removeKeys looks at the next batch of keys, in their order and round and round: an
// index by age would cost every event.
func (l *Ledger) removeKeys(ctx context.Context, now time.Time, out *Removed) error {
	n := 0
	err := l.writeTx(ctx, "remove old keys", func(t tx) error {
		n = 0
		pos, _, err := l.mark(ctx, t, "", markKeys)
		if err != nil {
			return err
		}
		var from keyPosition
		from.parse(pos)
		type expired struct{ keyPosition }
		var old []expired
		seen := 0
		var last keyPosition
		err = t.query(ctx, "SELECT org, source, key, state, at FROM keys WHERE (org, source, key) > (?, ?, ?) ORDER BY org, source, key LIMIT ?",
			[]any{from.org, from.source, from.key, int64(10 * retainBatch)}, func(scan func(...any) error) error {
				seen++
				var state string
				var at int64
				last = keyPosition{}
				if err := scan(&last.org, &last.source, &last.key, &state, &at); err != nil {
					return err
				}
				window := l.c.KeyWindow
				if state != "" {
					window = l.c.StateWindow
				}
				if at < micros(now.Add(-window)) {
					old = append(old, expired{last})
				}
				return nil
			})
		if err != nil {
			return err
		}
		for _, k := range old {
			if err := exec(ctx, t, "DELETE FROM keys WHERE org = ? AND source = ? AND key = ?", k.org, k.source, k.key); err != nil {
				return err
			}
			n++
		}
		if seen < 10*retainBatch {
			last = keyPosition{} // the end: start anew
		}
		return l.setMark(ctx, t, "", markKeys, last.String(), 0)
	})
	out.Keys += n
	return err
}
