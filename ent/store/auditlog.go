package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/organization"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/parts"
	"github.com/hookyard/hookyard/ent/viewer"
)

// pending are the entries of one transaction, written together just before its commit:
// on PostgreSQL the lock under which they get their numbers is then held for a moment only.
type pending struct {
	entries []auditEntry
}

type auditEntry struct {
	id, org      string
	at           time.Time
	who          Actor
	origin       string
	action, noun string
	of           parts.AuditRow
	changes      []parts.AuditChange
}

// pendingOf is the transaction's list; nil outside of WithTx.
func pendingOf(ctx context.Context) *pending {
	p, _ := ctx.Value(inTx{}).(*pending)
	return p
}

func (p *pending) add(ctx context.Context, db *DB, who Actor, org, action, noun string, of parts.AuditRow, changes []parts.AuditChange) {
	e := auditEntry{id: db.ids.New(ids.AuditEntry), org: org, who: who, origin: viewer.Origin(ctx), action: action, noun: noun, of: of, changes: changes}
	e.at, _ = ids.Time(e.id)
	p.entries = append(p.entries, e)
}

// write appends the entries, in one statement that also gives them their numbers (on
// SQLite in two), and has the readers woken once they are committed.
func (p *pending) write(ctx context.Context, db *DB, tx *gen.Tx) error {
	if err := p.everywhere(ctx, db, tx); err != nil {
		return err
	}
	if len(p.entries) == 0 {
		return nil
	}
	count := map[string]int{}
	for i := range p.entries {
		count[p.entries[i].org]++
	}
	orgs := slices.Sorted(maps.Keys(count)) // sorted, so that two transactions never wait for each other
	for chunk := range slices.Chunk(p.entries, auditChunk) {
		if err := db.append(ctx, tx, chunk); err != nil {
			return fmt.Errorf("write the audit log: %w", err)
		}
	}
	tx.OnCommit(func(next gen.Committer) gen.Committer {
		return gen.CommitFunc(func(ctx context.Context, tx *gen.Tx) error {
			err := next.Commit(ctx, tx)
			if err == nil {
				for _, org := range orgs {
					db.audited(org)
				}
			}
			return err
		})
	})
	return nil
}

// everywhere makes an entry for each organization of those that are for all.
func (p *pending) everywhere(ctx context.Context, db *DB, tx *gen.Tx) error {
	var entries []auditEntry
	var orgs []string
	for _, e := range p.entries {
		if e.org != Everywhere {
			entries = append(entries, e)
			continue
		}
		if orgs == nil {
			var err error
			if orgs, err = tx.Organization.Query().Order(gen.Asc(organization.FieldID)).IDs(viewer.SystemContext(ctx)); err != nil {
				return fmt.Errorf("write the audit log: %w", err)
			}
		}
		for i, org := range orgs {
			e := e
			e.org = org
			if i > 0 {
				e.id = db.ids.New(ids.AuditEntry)
			}
			entries = append(entries, e)
		}
	}
	p.entries = entries
	return nil
}

const (
	auditChunk   = 500 // entries in one statement
	auditColumns = "id, organization_id, number, at, actor_kind, actor_id, actor_name, origin, action, noun, object_id, object_name, asset_group_id, changes"
)

// append writes entries. Who has read an organization's log up to a number has missed
// nothing below it: whoever takes numbers holds the row of audit_tails until the commit,
// and on SQLite there is one writer in any case.
func (db *DB) append(ctx context.Context, tx *gen.Tx, entries []auditEntry) error {
	count, place := map[string]int{}, make([]int, len(entries))
	for i := range entries {
		place[i] = count[entries[i].org]
		count[entries[i].org]++
	}
	orgs := slices.Sorted(maps.Keys(count))
	tails := statement{typed: db.Dialect == Postgres}
	tails.text("INSERT INTO audit_tails (organization_id, number, removed) VALUES ")
	for i, org := range orgs {
		tails.begin(i)
		tails.arg(org, "text")
		tails.arg(count[org], "bigint")
		tails.text(", 0)")
	}
	tails.text(" ON CONFLICT (organization_id) DO UPDATE SET number = audit_tails.number + excluded.number RETURNING organization_id, number")
	if db.Dialect == Postgres {
		q := statement{typed: true, args: tails.args}
		q.text("WITH tail AS (" + tails.sql.String() + "), e (" + auditColumns + ") AS (VALUES ")
		if err := q.entries(entries, func(i int) int { return place[i] + 1 - count[entries[i].org] }); err != nil {
			return err
		}
		q.text(") INSERT INTO audit_entries (" + auditColumns + ") SELECT e.id, e.organization_id, tail.number + e.number" +
			strings.ReplaceAll(strings.TrimPrefix(auditColumns, "id, organization_id, number"), ", ", ", e.") +
			" FROM e JOIN tail ON tail.organization_id = e.organization_id")
		_, err := tx.ExecContext(ctx, q.sql.String(), q.args...)
		return err
	}
	last, err := numbers(ctx, tx, &tails)
	if err != nil {
		return err
	}
	var q statement
	q.text("INSERT INTO audit_entries (" + auditColumns + ") VALUES ")
	if err := q.entries(entries, func(i int) int { return last[entries[i].org] + place[i] + 1 - count[entries[i].org] }); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, q.sql.String(), q.args...)
	return err
}

// numbers takes numbers for entries and returns the last one of each organization.
func numbers(ctx context.Context, tx *gen.Tx, q *statement) (last map[string]int, err error) {
	rows, err := tx.QueryContext(ctx, q.sql.String(), q.args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	last = map[string]int{}
	for rows.Next() {
		var org string
		var n int
		if err := rows.Scan(&org, &n); err != nil {
			return nil, err
		}
		last[org] = n
	}
	return last, rows.Err()
}

// statement is SQL in the making.
type statement struct {
	typed bool // PostgreSQL has to be told what the values of a list are
	sql   strings.Builder
	args  []any
	first bool // the next value is the first of its row
}

func (q *statement) text(s string) { q.sql.WriteString(s) }

func (q *statement) begin(row int) {
	if row > 0 {
		q.text(", ")
	}
	q.text("(")
	q.first = true
}

func (q *statement) arg(v any, kind string) {
	if !q.first {
		q.text(", ")
	}
	q.first = false
	q.args = append(q.args, v)
	q.text("$" + strconv.Itoa(len(q.args)))
	if q.typed {
		q.text("::" + kind)
	}
}

func (q *statement) entries(list []auditEntry, number func(i int) int) error {
	for i := range list {
		e := &list[i]
		changes, err := json.Marshal(e.changes)
		if err != nil {
			return err
		}
		var group any
		if e.of.Group != "" {
			group = e.of.Group
		}
		q.begin(i)
		q.arg(e.id, "text")
		q.arg(e.org, "text")
		q.arg(number(i), "bigint")
		q.arg(e.at, "timestamptz")
		for _, s := range []string{string(e.who.Kind), e.who.ID, e.who.Name, e.origin, e.action, e.noun, e.of.ID, e.of.Name} {
			q.arg(s, "text")
		}
		q.arg(group, "text")
		q.arg(string(changes), "jsonb")
		q.text(")")
	}
	return nil
}
