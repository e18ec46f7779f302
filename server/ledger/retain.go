package ledger

import (
	"context"
	"time"

	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/server/flow"
)

// The kinds of marks.
const (
	markEntries     = "entries"     // n: the highest number that was removed
	markReplies     = "replies"     // n: the highest number whose response was removed
	markPayloads    = "payloads."   // and a table; pos: the ID up to which payloads were removed
	markRows        = "rows."       // and a table; pos: the ID up to which rows were removed, n: since when
	markKeys        = "keys"        // pos: where the last look at the keys ended
	markRedelivered = "redelivered" // n: how often old events were opened again
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

const (
	retainBatch = 500              // rows that one transaction of Retain touches
	retainLook  = 20 * retainBatch // rows of a kind that one call of Retain looks at
)

// Retain makes one bounded step in removing what is older than each organization
// keeps. The event, renderings and receipt of an open delivery stay, and so do receipts that
// wait; they go within a day of the end of that. An organization that is not named keeps
// everything. Call it every minute or so, again at once while the answer says More.
func (l *Ledger) Retain(ctx context.Context, keep map[string]flow.Retention) (Removed, error) {
	var out Removed
	now := l.clock.Now()
	longest := longestEvents(keep)
	whole := false
	if l.pg {
		// Whole days are everybody's.
		if err := l.read(ctx, "read who there is", "SELECT id FROM organizations", nil, func(scan func(...any) error) error {
			var org string
			err := scan(&org)
			if _, named := keep[org]; !named {
				longest = 0
			}
			return err
		}); err != nil {
			return out, err
		}
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
			// Once a minute: to know what is open, all that is open is read.
			before := now.Add(-s.age).Truncate(time.Minute)
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

// batches repeats a step until it finds less than a batch.
func batches(more *bool, step func() (n int, err error)) error {
	for range retainLook / retainBatch {
		if n, err := step(); err != nil || n < retainBatch {
			return err
		}
	}
	*more = true
	return nil
}

func (l *Ledger) removeEvents(ctx context.Context, org string, before time.Time, out *Removed) error {
	for _, a := range removedByAge() {
		n, err := l.byAge(ctx, org, a, before, &out.More)
		switch a.table {
		case "events":
			out.Events += n
		case "receipts":
			out.Receipts += n
		}
		if err != nil {
			return err
		}
	}
	return batches(&out.More, func() (n int, err error) {
		err = l.writeTx(ctx, "remove old deliveries", func(t tx) error {
			n = 0
			return t.query(ctx, "DELETE FROM deliveries WHERE org = ? AND id IN (SELECT id FROM deliveries WHERE org = ? AND id < ? ORDER BY id LIMIT ?) RETURNING 1",
				[]any{org, org, ids.Floor(ids.Delivery, before), int64(retainBatch)}, func(func(...any) error) error {
					n++
					return nil
				})
		})
		out.Deliveries += n
		return n, err
	})
}

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
	return batches(&out.More, func() (int, error) {
		n, err := l.changeEntries(ctx, org, markEntries, before, "DELETE FROM entries WHERE ")
		out.Entries += n
		return n, err
	})
}

// removePayloads empties the bodies of receipts, events, renderings and responses.
func (l *Ledger) removePayloads(ctx context.Context, org string, before time.Time, out *Removed) error {
	for _, a := range emptiedByAge() {
		n, err := l.byAge(ctx, org, a, before, &out.More)
		out.Payloads += n
		if err != nil {
			return err
		}
	}
	return batches(&out.More, func() (int, error) {
		n, err := l.changeEntries(ctx, org, markReplies, before, "UPDATE entries SET response_body = NULL WHERE response_body IS NOT NULL AND ")
		out.Payloads += n
		return n, err
	})
}

// changeEntries changes the next batch of old entries, and says how many it looked at.
func (l *Ledger) changeEntries(ctx context.Context, org, mark string, before time.Time, change string) (n int, err error) {
	err = l.writeTx(ctx, "remove old entries", func(t tx) error {
		n = 0
		_, last, err := l.mark(ctx, t, org, mark)
		if err != nil {
			return err
		}
		var upto int64
		if upto, n, err = l.oldEntries(ctx, t, org, last, before); err != nil || n == 0 {
			return err
		}
		if err := exec(ctx, t, change+"org = ? AND seq > ? AND seq <= ?", org, last, upto); err != nil {
			return err
		}
		return l.setMark(ctx, t, org, mark, "", upto)
	})
	return n, err
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
