package ledger

import (
	"context"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/server/flow"
)

// Everything here and in redeliver.go is what people see, and goes through scoped: the
// organization and the level are part of the SQL.

// scoped starts a selection with what the scope lets through; level is the column.
func scoped(scope rule.Scope, prefix, level string) (*selection, error) {
	if scope.Organization() == "" {
		return nil, rule.ErrNoViewer
	}
	s := &selection{}
	s.and(prefix+"org = ?", scope.Organization())
	if !scope.All() {
		s.and(prefix + level + " <> ''")
		s.in(prefix+level, scope.Groups())
	}
	return s, nil
}

// anyOf adds a condition when there is something to choose from.
func anyOf[T ~string](s *selection, col string, values []T) {
	if len(values) > 0 {
		list := make([]string, len(values))
		for i, v := range values {
			list[i] = string(v)
		}
		s.in(col, list)
	}
}

func (s *selection) is(col, value string) {
	if value != "" {
		s.and(col+" = ?", value)
	}
}

// idSlack is how far the time in an ID may be from the time of its row. It bounds what
// is read of an index; the column itself decides.
const idSlack = time.Hour

func (s *selection) between(col, id, prefix string, from, to time.Time) {
	if !from.IsZero() {
		s.and(col+" >= ?", micros(from))
		s.and(id+" >= ?", ids.Floor(prefix, from.Add(-idSlack)))
	}
	if !to.IsZero() {
		s.and(col+" < ?", micros(to))
		s.and(id+" < ?", ids.Floor(prefix, to.Add(idSlack)))
	}
}

// page adds the cursor and returns the order and limit.
func (s *selection) page(id string, p flow.Page) string {
	op, order := " < ?", " DESC"
	if p.Oldest {
		op, order = " > ?", ""
	}
	if p.After != "" {
		s.and(id+op, p.After)
	}
	return " ORDER BY " + id + order + " LIMIT ?"
}

// Events returns a page of the events that the scope sees.
func (l *Ledger) Events(ctx context.Context, scope rule.Scope, f flow.EventFilter, p flow.Page) ([]flow.EventView, error) {
	s, err := scoped(scope, "", "grp")
	if err != nil {
		return nil, err
	}
	anyOf(s, "id", f.IDs)
	anyOf(s, "type", f.Types)
	anyOf(s, "source", f.Sources)
	anyOf(s, "app", f.Apps)
	anyOf(s, "grp", f.Groups)
	s.is("subject", f.Subject)
	s.is("receipt", f.Receipt)
	if f.Unmapped {
		s.and("app = ''")
	}
	s.between("received", "id", ids.Event, f.From, f.To)
	order := s.page("id", p)
	document := "NULL"
	if scope.Payloads() {
		document = "document"
	}
	var out []flow.EventView
	err = l.read(ctx, "read events", "SELECT id, org, source, receipt, type, time, received, subject, grp, app, severity, "+document+
		" FROM events WHERE "+s.sql()+order, append(s.args, int64(p.Limit)), func(scan func(...any) error) error {
		var e flow.EventView
		var at, received int64
		err := scan(&e.ID, &e.Org, &e.Source, &e.Receipt, &e.Type, &at, &received, &e.Subject, &e.Group, &e.App, &e.Severity, &e.Document)
		e.Time, e.Received = instant(at), instant(received)
		out = append(out, e)
		return err
	})
	return out, err
}

// Event returns an event, or flow.ErrNotFound.
func (l *Ledger) Event(ctx context.Context, scope rule.Scope, id string) (*flow.EventView, error) {
	return only(l.Events(ctx, scope, flow.EventFilter{IDs: []string{id}}, flow.Page{Limit: 1}))
}

func only[T any](list []T, err error) (*T, error) {
	switch {
	case err != nil:
		return nil, err
	case len(list) == 0:
		return nil, flow.ErrNotFound
	}
	return &list[0], nil
}

// Receipts returns a page of the receipts that the scope sees. A receipt is at the
// level of its events; one without events, or with events of several asset groups, is
// the organization's.
func (l *Ledger) Receipts(ctx context.Context, scope rule.Scope, f flow.ReceiptFilter, p flow.Page) ([]flow.ReceiptView, error) {
	s, err := scoped(scope, "", "grp")
	if err != nil {
		return nil, err
	}
	anyOf(s, "id", f.IDs)
	anyOf(s, "source", f.Sources)
	anyOf(s, "state", f.States)
	s.between("at", "id", ids.Receipt, f.From, f.To)
	order := s.page("id", p)
	body := "NULL"
	if scope.Payloads() {
		body = "body"
	}
	var out []flow.ReceiptView
	err = l.read(ctx, "read receipts", "SELECT id, org, source, grp, at, method, header, path, query, content_type, "+body+", remote, state, note"+
		" FROM receipts WHERE "+s.sql()+order, append(s.args, int64(p.Limit)), func(scan func(...any) error) error {
		var r flow.ReceiptView
		var at int64
		err := scan(&r.ID, &r.Org, &r.Source, &r.Group, &at, &r.Method, &r.Header, &r.Path, &r.Query, &r.ContentType, &r.Body, &r.Remote, &r.State, &r.Note)
		r.At = instant(at)
		out = append(out, r)
		return err
	})
	if err != nil || len(out) == 0 {
		return nil, err
	}
	byID := make(map[string]*flow.ReceiptView, len(out))
	list := make([]string, len(out))
	for i := range out {
		byID[out[i].ID], list[i] = &out[i], out[i].ID
	}
	if err := l.readWaiting(ctx, scope.Organization(), byID); err != nil {
		return nil, err
	}
	sql, args, err := eventsOf(scope, list)
	if err != nil {
		return nil, err
	}
	err = l.read(ctx, "read the events of receipts", sql, args, func(scan func(...any) error) error {
		var receipt, event string
		if err := scan(&receipt, &event); err != nil {
			return err
		}
		byID[receipt].Events = append(byID[receipt].Events, event)
		return nil
	})
	return out, err
}

// eventsOf reads the events that receipts gave, as far as they are visible. The way in is
// the index by receipt: see givenBy.
func eventsOf(scope rule.Scope, receipts []string) (sql string, args []any, err error) {
	s, err := scoped(scope, "'' || ", "grp")
	if err != nil {
		return "", nil, err
	}
	s.in("receipt", receipts)
	return "SELECT receipt, id FROM events WHERE " + s.sql() + " ORDER BY id", s.args, nil
}

// Receipt returns a receipt, or flow.ErrNotFound.
func (l *Ledger) Receipt(ctx context.Context, scope rule.Scope, id string) (*flow.ReceiptView, error) {
	return only(l.Receipts(ctx, scope, flow.ReceiptFilter{IDs: []string{id}}, flow.Page{Limit: 1}))
}

// The columns of a delivery as people see it, of one that is open and of one that has
// ended. That a node holds it is what they know as "attempting".
const (
	openView  = "id, org, event, webhook, endpoint, level, app, type, CASE WHEN lease_node <> '' THEN 'ATTEMPTING' ELSE state END AS state, reason, attempts, created, first_failed, next_at, 0 AS ended, redelivers FROM open_deliveries"
	endedView = "id, org, event, webhook, endpoint, level, app, type, state, reason, attempts, created, first_failed, 0 AS next_at, ended, redelivers FROM deliveries"
)

func deliveryFilter(scope rule.Scope, f *flow.DeliveryFilter, state string) (*selection, error) {
	s, err := scoped(scope, "", "level")
	if err != nil {
		return nil, err
	}
	anyOf(s, "id", f.IDs)
	s.is("event", f.Event)
	anyOf(s, "webhook", f.Webhooks)
	anyOf(s, "endpoint", f.Endpoints)
	anyOf(s, "app", f.Apps)
	anyOf(s, state, f.States)
	anyOf(s, "type", f.Types)
	s.between("created", "id", ids.Delivery, f.From, f.To)
	return s, nil
}

// Deliveries returns a page of the deliveries that the scope sees, open and ended.
func (l *Ledger) Deliveries(ctx context.Context, scope rule.Scope, f flow.DeliveryFilter, p flow.Page) ([]flow.DeliveryView, error) {
	open, err := deliveryFilter(scope, &f, "CASE WHEN lease_node <> '' THEN 'ATTEMPTING' ELSE state END")
	if err != nil {
		return nil, err
	}
	ended, err := deliveryFilter(scope, &f, "state")
	if err != nil {
		return nil, err
	}
	order := open.page("id", p)
	ended.page("id", p)
	limit := int64(p.Limit)
	args := append(append(append(open.args, limit), append(ended.args, limit)...), limit)
	sql := "SELECT * FROM (SELECT " + openView + " WHERE " + open.sql() + order + ") AS o UNION ALL " +
		"SELECT * FROM (SELECT " + endedView + " WHERE " + ended.sql() + order + ") AS e" + order
	var out []flow.DeliveryView
	err = l.read(ctx, "read deliveries", sql, args, func(scan func(...any) error) error {
		var d flow.DeliveryView
		var created, failed, next, ended int64
		err := scan(&d.ID, &d.Org, &d.Event, &d.Webhook, &d.Endpoint, &d.Level, &d.App, &d.Type, &d.State, &d.Reason, &d.Attempts, &created, &failed, &next, &ended, &d.Redelivers)
		d.Created, d.FirstFailed, d.NextAt, d.Ended = instant(created), instant(failed), instant(next), instant(ended)
		out = append(out, d)
		return err
	})
	return out, err
}

// Delivery returns a delivery, or flow.ErrNotFound.
func (l *Ledger) Delivery(ctx context.Context, scope rule.Scope, id string) (*flow.DeliveryView, error) {
	return only(l.Deliveries(ctx, scope, flow.DeliveryFilter{IDs: []string{id}}, flow.Page{Limit: 1}))
}

// Attempts returns a delivery's lines of the log, oldest first; bodies are left out.
func (l *Ledger) Attempts(ctx context.Context, scope rule.Scope, delivery string) ([]flow.AttemptView, error) {
	return l.attempts(ctx, scope, "delivery", delivery, false)
}

// Attempt returns a line of the log with the bodies that the scope may read, or
// flow.ErrNotFound.
func (l *Ledger) Attempt(ctx context.Context, scope rule.Scope, id string) (*flow.AttemptView, error) {
	return only(l.attempts(ctx, scope, "id", id, scope.Payloads()))
}

func (l *Ledger) attempts(ctx context.Context, scope rule.Scope, col, value string, bodies bool) ([]flow.AttemptView, error) {
	s, err := scoped(scope, "", "level")
	if err != nil {
		return nil, err
	}
	s.and(col+" = ?", value)
	body := "NULL"
	if bodies {
		body = "response_body"
	}
	var out []flow.AttemptView
	var sent []claimed // what was sent, by reference
	err = l.read(ctx, "read attempts", "SELECT "+entryFields+", rendering, method, url, request_header, response_header, "+body+", truncated, dns, connect, tls, first_byte FROM entries WHERE "+
		s.sql()+" ORDER BY seq", s.args, func(scan func(...any) error) error {
		var a flow.AttemptView
		var key, method, url, requestHeader, responseHeader string
		var responseBody []byte
		var truncated, dns, connect, tls, first int64
		if err := scanEntry(scan, &a.Entry, &key, &method, &url, &requestHeader, &responseHeader, &responseBody, &truncated, &dns, &connect, &tls, &first); err != nil {
			return err
		}
		us := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
		a.Timing = connectors.Timing{DNS: us(dns), Connect: us(connect), TLS: us(tls), FirstByte: us(first), Total: a.Duration}
		if a.Number > 0 {
			a.Request = &connectors.Request{Method: method, URL: url, Header: splitHeaders(requestHeader)}
		}
		if a.Status != 0 || responseHeader != "" {
			a.Response = &connectors.Response{Status: a.Status, Header: splitHeaders(responseHeader), Body: responseBody, Truncated: truncated != 0}
		}
		out = append(out, a)
		sent = append(sent, claimed{Due: &flow.Due{Org: a.Org, Event: a.Event}, key: key})
		return nil
	})
	if err != nil || !bodies {
		return out, err
	}
	if err := l.load(ctx, sent); err != nil {
		return nil, err
	}
	for i := range out {
		switch {
		case out[i].Request == nil:
		case sent[i].Rendering != nil:
			out[i].Request.Body = sent[i].Rendering.Body
		case sent[i].key == documentKey:
			out[i].Request.Body = sent[i].Document
		}
	}
	return out, nil
}
