package ledger

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/server/flow"
)

// erasedReason is why the deliveries of an erased event are cancelled.
const erasedReason = "The payload of its event was erased."

// erasedText takes the place of texts that may quote a payload.
const erasedText = "erased"

// Erase removes the payload of an event for good: its document and renderings, its
// receipt, what its attempts sent and got, and the personal columns of what it speaks of.
// Open deliveries are cancelled; the answer is how many. The row of the event stays, with
// a tombstone (see Erasures). Erasing again does it again, and keeps the first tombstone.
//
// It is ErrNotFound for an event that the scope does not see, and ErrShared when the
// receipt gave events that it does not see.
func (l *Ledger) Erase(ctx context.Context, scope rule.Scope, event string, e flow.Erasure) (cancelled int, err error) {
	found, err := l.Event(ctx, scope, event)
	if err != nil {
		return 0, err
	}
	if found.Receipt != "" {
		s := &selection{}
		s.and("org = ? AND receipt = ?", found.Org, found.Receipt)
		hidden := false
		if err := l.read(ctx, "read the receipt's events", "SELECT grp FROM events WHERE "+s.sql(), s.args, func(scan func(...any) error) error {
			var group string
			err := scan(&group)
			hidden = hidden || !scope.Sees(found.Org, group)
			return err
		}); err != nil {
			return 0, err
		}
		if hidden {
			return 0, flow.ErrShared
		}
	}
	return l.erase(ctx, found, e)
}

func (l *Ledger) erase(ctx context.Context, ev *flow.EventView, e flow.Erasure) (cancelled int, err error) {
	// First what could be sent or delivered again: nothing new can come of it after this.
	err = l.thoroughly(ctx, "erase a payload", func(t tx) error {
		if err := l.quiet(ctx, t); err != nil {
			return err
		}
		for _, step := range []struct {
			sql  string
			args []any
		}{
			{"INSERT INTO erasures (org, event, at, by_id, by_name, reason) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (org, event) DO NOTHING",
				[]any{ev.Org, ev.ID, micros(e.At), e.ByID, e.By, e.Reason}},
			{"UPDATE events SET document = NULL WHERE org = ? AND id = ?", []any{ev.Org, ev.ID}},
			{"DELETE FROM renderings WHERE org = ? AND event = ?", []any{ev.Org, ev.ID}},
			{eraseReceipt, []any{ev.Org, ev.Receipt}},
			// Every node has it in its World, and gives up what it has read before.
			{"UPDATE revisions SET n = n + 1 WHERE organization_id = ?", []any{ev.Org}},
		} {
			if err := exec(ctx, t, step.sql, step.args...); err != nil {
				return err
			}
		}
		return eraseSubject(ctx, t, ev.Org, ev.Subject)
	})
	if err != nil {
		return 0, err
	}
	// An index of open deliveries by event would cost every event; they are few.
	var open []string
	if err := l.read(ctx, "read open deliveries", "SELECT id FROM open_deliveries WHERE org = ? AND event = ?", []any{ev.Org, ev.ID}, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		open = append(open, id)
		return err
	}); err != nil {
		return 0, err
	}
	if len(open) > 0 {
		s := &selection{}
		s.and("org = ?", ev.Org)
		s.in("id", open)
		gone, err := l.cancel(ctx, s, erasedReason, len(open))
		if err != nil {
			return 0, err
		}
		cancelled = len(gone)
	}
	err = l.thoroughly(ctx, "erase attempts", func(t tx) error {
		const of = "(SELECT id FROM deliveries WHERE org = ? AND event = ?)"
		if err := exec(ctx, t, eraseEntry+" WHERE delivery IN "+of, ev.Org, ev.ID); err != nil {
			return err
		}
		// What became of it stays; why may be in the words of the receiver.
		return exec(ctx, t, "UPDATE deliveries SET reason = '"+erasedText+"' WHERE id IN "+of+" AND org = ? AND (state = ? OR state = ? AND attempts > 0)",
			ev.Org, ev.ID, ev.Org, string(flow.Failed), string(flow.SkippedState))
	})
	return cancelled, err
}

const (
	eraseReceipt = "UPDATE receipts SET body = NULL, header = NULL, path = '', query = '', remote = '', note = CASE note WHEN '' THEN '' ELSE '" + erasedText + "' END WHERE org = ? AND id = ?"
	eraseEntry   = "UPDATE entries SET request_header = '', response_header = '', response_body = NULL, error = CASE error WHEN '' THEN '' WHEN '" + erasedReason + "' THEN error ELSE '" + erasedText + "' END"
)

// eraseSubject empties the columns that name people.
func eraseSubject(ctx context.Context, t tx, org, subject string) error {
	switch ids.Prefix(subject) {
	case ids.Scan:
		return exec(ctx, t, "UPDATE scans SET actor_id = '', actor_name = '', actor_email = '' WHERE organization_id = ? AND id = ?", org, subject)
	case ids.Ticket:
		return exec(ctx, t, "UPDATE tickets SET owner = '' WHERE organization_id = ? AND id = ?", org, subject)
	}
	return nil
}

// thoroughly is writeTx after which SQLite has overwritten what was removed.
func (l *Ledger) thoroughly(ctx context.Context, doing string, fn func(tx) error) error {
	if l.pg {
		return l.writeTx(ctx, doing, fn)
	}
	return l.writeTx(ctx, doing, func(t tx) error {
		if err := exec(ctx, t, "PRAGMA secure_delete = ON"); err != nil {
			return err
		}
		err := fn(t)
		return cmp.Or(err, exec(context.WithoutCancel(ctx), t, "PRAGMA secure_delete = OFF"))
	})
}

// Erasures are the tombstones of events, by event. The caller has read the events.
func (l *Ledger) Erasures(ctx context.Context, scope rule.Scope, events []string) (map[string]*flow.Erasure, error) {
	if scope.Organization() == "" {
		return nil, rule.ErrNoViewer
	}
	s := &selection{}
	s.and("org = ?", scope.Organization())
	s.in("event", events)
	out := map[string]*flow.Erasure{}
	err := l.read(ctx, "read erasures", "SELECT event, at, by_id, by_name, reason FROM erasures WHERE "+s.sql(), s.args, func(scan func(...any) error) error {
		var event string
		var at int64
		e := &flow.Erasure{}
		err := scan(&event, &at, &e.ByID, &e.By, &e.Reason)
		e.At, out[event] = instant(at), e
		return err
	})
	return out, err
}

// forgotten notes when an event was erased, for a result that comes in late.
func forgotten(ctx context.Context, t tx, d *flow.Due, erased map[string]bool) error {
	found, err := one(ctx, t, "SELECT event FROM erasures WHERE org = ? AND event = ?", []any{d.Org, d.Event}, new(string))
	if found {
		erased[d.Event] = true
	}
	return err
}

// withoutPayload is a record of which only what became of it is told.
func withoutPayload(r *flow.Record) *flow.Record {
	out, result := *r, *r.Result
	if result.Error != "" {
		result.Error = erasedText
	}
	if result.Response != nil {
		result.Response = &connectors.Response{Status: result.Response.Status}
	}
	result.Request = &connectors.Request{URL: r.URL}
	if r.Result.Request != nil {
		result.Request = &connectors.Request{Method: r.Result.Request.Method, URL: r.Result.Request.URL}
	}
	out.Result = &result
	return &out
}

// How much of the history one call of ErasePerson looks at.
const (
	personRows  = 20_000
	personBatch = 500
)

// searched are the tables that may name a person, in the order in which they are looked
// through, each by its key. Renderings and a receipt's events go with the event.
type searched struct {
	table, key, org string
	columns         []string // as text or bytes
}

func personTables() []searched {
	catalogue := func(table string, columns string) searched {
		return searched{table, "id", "organization_id", strings.Fields(columns)}
	}
	return []searched{
		{"events", "id", "org", []string{"document"}},
		{"receipts", "id", "org", []string{"body", "header", "path", "query", "note"}},
		{"entries", "seq", "org", []string{"response_body", "response_header", "request_header", "error", "url"}},
		{"deliveries", "id", "org", []string{"reason"}},
		{"open_deliveries", "id", "org", []string{"reason"}},
		catalogue("scans", "name type status target link actor_id actor_name actor_email commit branch tag errors"),
		catalogue("findings", "title status affected_endpoint asset asset_link description remediation link reproduction"),
		catalogue("tickets", "title status asset asset_link due_date owner link"),
		catalogue("reports", "format download_url link"),
	}
}

// ErasePerson looks through a part of an organization's history for an e-mail address, and
// erases what it finds: events and receipts as Erase does, of objects the columns that it found. It
// reads without holding anything up, and writes row by row. next is where the last call
// ended, "" at first; the scope must see the whole organization.
func (l *Ledger) ErasePerson(ctx context.Context, scope rule.Scope, email string, e flow.Erasure, next string, dryRun bool) (flow.PersonErased, error) {
	var out flow.PersonErased
	if !scope.All() || scope.Organization() == "" {
		return out, rule.ErrNoViewer
	}
	p := &personSearch{l: l, org: scope.Organization(), match: person(email), e: e, dryRun: dryRun, out: &out, ends: l.clock.Now().Add(personTime)}
	table, after, _ := strings.Cut(next, ":")
	found := next == ""
	for _, s := range personTables() {
		if found = found || s.table == table; !found {
			continue
		}
		if s.table != table {
			after = ""
		}
		last, done, err := p.table(ctx, s, after)
		if err != nil {
			return out, err
		}
		if !done {
			out.Next = s.table + ":" + last
			return out, nil
		}
	}
	if !found {
		return out, fmt.Errorf("ledger: go on with a search at %q: %w", next, flow.ErrNotFound)
	}
	return out, nil
}
