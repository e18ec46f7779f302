package ledger

import (
	"context"
	"time"

	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/server/flow"
)

// What is known of receipts that wait for enrichment is in a small table of its own, as
// open deliveries are: the receipts themselves are history.

// ClaimWaiting returns the receipt whose enrichment is due the longest at now, with its body,
// and counts an attempt; nil when none is due but those of the sources in except, or those
// that have come at before or later (zero: no matter when). Nobody else is given it before
// the time that it is kept for is over: a node that dies costs no more than that.
func (l *Ledger) ClaimWaiting(ctx context.Context, now time.Time, keep time.Duration, before time.Time, except []string) (*flow.Waiting, error) {
	if l.held.Load() {
		return nil, nil
	}
	var s selection
	s.and("due <= ?", micros(now))
	if !before.IsZero() {
		s.and("receipt < ?", ids.Floor(ids.Receipt, before))
	}
	if len(except) > 0 {
		args := make([]any, len(except))
		for i := range except {
			args[i] = except[i]
		}
		s.and("source NOT IN ("+marks(len(except))+")", args...)
	}
	due := "SELECT org, receipt FROM enrichments WHERE " + s.sql() + " ORDER BY due, receipt LIMIT 1"
	// Mostly there is none, which is no reason to hold up the writer.
	found := false
	if err := l.read(ctx, "look for receipts that wait", due, s.args, func(func(...any) error) error { found = true; return nil }); err != nil || !found {
		return nil, err
	}
	if l.pg {
		due += " FOR UPDATE SKIP LOCKED"
	}
	due = "UPDATE enrichments SET due = ?, attempts = attempts + 1 WHERE (org, receipt) IN (" + due + ") RETURNING org, receipt, attempts"
	var out *flow.Waiting
	err := l.writeTx(ctx, "claim a receipt that waits", func(t tx) error {
		for {
			out = nil
			var w flow.Waiting
			err := t.query(ctx, due, append([]any{micros(now.Add(keep))}, s.args...), func(scan func(...any) error) error {
				out = &w
				return scan(&w.Org, &w.ID, &w.Attempt)
			})
			if err != nil || out == nil {
				return err
			}
			var at int64
			found, err := one(ctx, t, "SELECT source, at, method, header, path, query, content_type, body, remote, state, note FROM receipts WHERE org = ? AND id = ?", []any{w.Org, w.ID},
				&w.Source, &at, &w.Method, &w.Header, &w.Path, &w.Query, &w.ContentType, &w.Body, &w.Remote, &w.State, &w.Note)
			w.At = instant(at)
			if err != nil || found {
				return err
			}
			// It is past its retention.
			if err := exec(ctx, t, "DELETE FROM enrichments WHERE org = ? AND receipt = ?", w.Org, w.ID); err != nil {
				return err
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// PutOff has a receipt wait until a time; note says why, for people.
func (l *Ledger) PutOff(ctx context.Context, org, receipt string, until time.Time, note string) error {
	return l.writeTx(ctx, "put an enrichment off", func(t tx) error {
		if err := exec(ctx, t, "UPDATE enrichments SET due = ? WHERE org = ? AND receipt = ?", micros(until), org, receipt); err != nil {
			return err
		}
		return exec(ctx, t, "UPDATE receipts SET note = ? WHERE org = ? AND id = ? AND state = ?", note, org, receipt, string(flow.ReceiptWaiting))
	})
}

// Settle ends a receipt's waiting; group is the asset group of its events, "" for none
// or several.
func (l *Ledger) Settle(ctx context.Context, org, receipt string, state flow.ReceiptState, group, note string) error {
	return l.writeTx(ctx, "end an enrichment", func(t tx) error {
		if err := exec(ctx, t, "DELETE FROM enrichments WHERE org = ? AND receipt = ?", org, receipt); err != nil {
			return err
		}
		return exec(ctx, t, "UPDATE receipts SET state = ?, grp = ?, note = ? WHERE org = ? AND id = ?", string(state), group, note, org, receipt)
	})
}

// Await has a receipt enriched again, from now on; one that waits already is due at once.
func (l *Ledger) Await(ctx context.Context, org, receipt string) error {
	now := micros(l.clock.Now())
	return l.writeTx(ctx, "have a receipt enriched", func(t tx) error {
		if err := exec(ctx, t, "INSERT INTO enrichments (org, receipt, due, attempts, source) SELECT org, id, CAST(? AS BIGINT), 0, source FROM receipts WHERE org = ? AND id = ? "+
			"ON CONFLICT (org, receipt) DO UPDATE SET due = excluded.due", now, org, receipt); err != nil {
			return err
		}
		return exec(ctx, t, "UPDATE receipts SET state = ?, note = '' WHERE org = ? AND id = ? AND state <> ?", string(flow.ReceiptWaiting), org, receipt, string(flow.ReceiptWaiting))
	})
}

// WaitingReceipts counts the receipts that wait; oldest is when the first of them came, zero
// when there is none.
func (l *Ledger) WaitingReceipts(ctx context.Context) (n int, oldest time.Time, err error) {
	first := ""
	_, err = one(ctx, l.db, "SELECT count(*), coalesce(min(receipt), '') FROM enrichments", nil, &n, &first)
	if err != nil {
		return 0, oldest, publicError("count what waits", err)
	}
	oldest, _ = ids.Time(first)
	return n, oldest, nil
}

// readWaiting adds what is known of those receipts that wait.
func (l *Ledger) readWaiting(ctx context.Context, org string, receipts map[string]*flow.ReceiptView) error {
	var waiting []string
	for id, r := range receipts {
		if r.State == flow.ReceiptWaiting {
			waiting = append(waiting, id)
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	var s selection
	s.and("org = ?", org)
	s.in("receipt", waiting)
	return l.read(ctx, "read what waits", "SELECT receipt, attempts, due FROM enrichments WHERE "+s.sql(), s.args, func(scan func(...any) error) error {
		var id string
		var attempts, due int64
		if err := scan(&id, &attempts, &due); err != nil {
			return err
		}
		receipts[id].Attempts, receipts[id].NextAt = int(attempts), instant(due)
		return nil
	})
}
