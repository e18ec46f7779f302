package ledger

import (
	"context"

	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/server/flow"
)

// sendable holds of an ended delivery d of event e when what it sent is still kept, or can
// still be written by a third party's format.
const sendable = `CASE d.rendering WHEN 'hookyard' THEN e.document IS NOT NULL
	WHEN 'raw' THEN EXISTS (SELECT 1 FROM receipts r WHERE r.org = d.org AND r.id = e.receipt AND r.body IS NOT NULL)
	ELSE d.rendering LIKE '%/%' AND e.document IS NOT NULL
		OR EXISTS (SELECT 1 FROM renderings r WHERE r.org = d.org AND r.event = d.event AND r.key = d.rendering AND r.body IS NOT NULL) END`

// RedeliverMatching makes new deliveries of the same events and renderings to the same
// webhooks, due now: of everything that fits, the oldest first, up to limit; a dry run
// only counts. Only ended deliveries can be repeated, and only while what they sent is
// kept; others, and those out of sight, are left out of the answer's Matched.
func (l *Ledger) RedeliverMatching(ctx context.Context, scope rule.Scope, f flow.DeliveryFilter, limit int, dryRun bool) (flow.Bulk, error) {
	s, err := deliveryFilter(scope, &f, "state")
	if err != nil {
		return flow.Bulk{}, err
	}
	sql := "SELECT d.id, d.org, d.event, d.webhook, d.endpoint, d.level, d.app, d.type, d.rendering FROM (SELECT * FROM deliveries WHERE " + s.sql() +
		") AS d JOIN events e ON e.org = d.org AND e.id = d.event WHERE " + sendable + " ORDER BY d.id LIMIT ?"
	args := append(s.args, int64(limit)+1)
	var out flow.Bulk
	find := func(q querier) (found []flow.Due, keys []string, err error) {
		out = flow.Bulk{}
		err = q.query(ctx, sql, args, func(scan func(...any) error) error {
			var d flow.Due
			var key string
			err := scan(&d.ID, &d.Org, &d.Event, &d.Webhook, &d.Endpoint, &d.Level, &d.App, &d.Type, &key)
			found, keys = append(found, d), append(keys, key)
			return err
		})
		if len(found) > limit {
			found, out.Capped = found[:limit], true
		}
		out.Matched = len(found)
		return found, keys, err
	}
	err = l.writeOrRead(ctx, dryRun, "redeliver", func(q querier, t tx) error {
		if t != nil {
			if err := l.quiet(ctx, t); err != nil {
				return err
			}
		}
		found, keys, err := find(q)
		if err != nil || t == nil || len(found) == 0 {
			return err
		}
		if err := l.opensAgain(ctx, t); err != nil {
			return err
		}
		now := micros(l.clock.Now())
		open := rows{of: l.st.open}
		for i := range found {
			d := &found[i]
			id := l.c.IDs.New(ids.Delivery)
			open.add(id, d.Org, d.Event, d.Webhook, d.Endpoint, d.Level, d.App, string(d.Type), keys[i],
				string(flow.Pending), int64(0), int64(0), now, now, "", d.ID, "", int64(0))
			out.IDs = append(out.IDs, id)
		}
		t.run(&open)
		return nil
	})
	if err != nil {
		return flow.Bulk{}, err
	}
	return out, nil
}

func (l *Ledger) writeOrRead(ctx context.Context, read bool, doing string, fn func(querier, tx) error) error {
	if !read {
		return l.writeTx(ctx, doing, func(t tx) error { return fn(t, t) })
	}
	if err := fn(l.db, nil); err != nil {
		return publicError(doing, err)
	}
	return nil
}

// CancelDeliveries ends open deliveries that the scope sees, without another attempt;
// the answer's IDs are those that it ended. One that is in flight is cancelled all the
// same; what comes of its attempt is kept as an entry.
func (l *Ledger) CancelDeliveries(ctx context.Context, scope rule.Scope, deliveries []string) (flow.Bulk, error) {
	s, err := scoped(scope, "", "level")
	if err != nil {
		return flow.Bulk{}, err
	}
	s.in("id", deliveries)
	cancelled, err := l.cancel(ctx, s, "cancelled by a person", max(len(deliveries), 1))
	return flow.Bulk{Matched: len(cancelled), IDs: cancelled}, err
}

func (l *Ledger) cancel(ctx context.Context, s *selection, reason string, limit int) (cancelled []string, err error) {
	err = l.writeTx(ctx, "cancel deliveries", func(t tx) error {
		cancelled = nil
		w := newWriting(l, nil)
		now := l.clock.Now()
		q := "SELECT id FROM open_deliveries WHERE " + s.sql() + " ORDER BY id LIMIT ?"
		if l.pg {
			q += " FOR UPDATE"
		}
		err := t.query(ctx, "DELETE FROM open_deliveries WHERE id IN ("+q+") RETURNING id, org, event, webhook, endpoint, level, app, type, rendering, attempts, first_failed, created, redelivers",
			append(s.args, int64(limit)), func(scan func(...any) error) error {
				var d flow.Due
				var key, redelivers string
				var attempts, failed, created int64
				if err := scan(&d.ID, &d.Org, &d.Event, &d.Webhook, &d.Endpoint, &d.Level, &d.App, &d.Type, &key, &attempts, &failed, &created, &redelivers); err != nil {
					return err
				}
				w.ended.add(d.ID, d.Org, d.Event, d.Webhook, d.Endpoint, d.Level, d.App, string(d.Type), key,
					string(flow.Cancelled), attempts, failed, created, reason, redelivers, micros(now))
				w.entry(&flow.Record{Due: &d, State: flow.Cancelled, Reason: reason, At: now}, key)
				cancelled = append(cancelled, d.ID)
				return nil
			})
		if err != nil || len(cancelled) == 0 {
			return err
		}
		t.run(&w.ended)
		if err := w.number(ctx, t); err != nil {
			return err
		}
		t.run(&w.entries)
		return nil
	})
	if err == nil && len(cancelled) > 0 {
		l.wake()
	}
	return cancelled, err
}
