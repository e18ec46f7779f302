package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/auditentry"
	"github.com/hookyard/hookyard/ent/viewer"
)

// AuditFilter chooses entries of the audit log: all that is set must fit. The zero value
// fits everything.
type AuditFilter struct {
	Actors   []string // IDs of users and keys, any of
	Kinds    []auditentry.ActorKind
	Nouns    []string  // any of
	Objects  []string  // IDs, any of
	Actions  []string  // any of
	From, To time.Time // From <= at < To
}

// Match says whether e fits.
func (f *AuditFilter) Match(e *gen.AuditEntry) bool {
	return among(f.Actors, e.ActorID) && among(f.Kinds, e.ActorKind) && among(f.Nouns, e.Noun) && among(f.Objects, e.ObjectID) &&
		among(f.Actions, e.Action) && !e.At.Before(f.From) && (f.To.IsZero() || e.At.Before(f.To))
}

func among[V comparable](list []V, v V) bool { return len(list) == 0 || slices.Contains(list, v) }

// AuditBatch is a piece of the audit log as one watcher sees it.
type AuditBatch struct {
	Entries   []*gen.AuditEntry // in order of their numbers; shared, do not change
	Cursor    int64             // the watcher has seen everything up to and including this number
	Heartbeat bool              // nothing new
}

// AuditLevel is the asset group that an entry is in, "" for the organization.
func AuditLevel(e *gen.AuditEntry) string { return value(e.AssetGroupID) }

// AuditLog returns up to limit entries that the viewer may see and that fit, beginning
// behind the one with the number after (0: at the end of the list): the newest first, or
// the oldest first.
func (db *DB) AuditLog(ctx context.Context, f AuditFilter, after int64, oldest bool, limit int) ([]*gen.AuditEntry, error) {
	q := db.Client.AuditEntry.Query().Limit(limit)
	if oldest {
		q.Where(auditentry.NumberGT(after)).Order(gen.Asc(auditentry.FieldNumber))
	} else {
		q.Order(gen.Desc(auditentry.FieldNumber))
		if after > 0 {
			q.Where(auditentry.NumberLT(after))
		}
	}
	if len(f.Actors) > 0 {
		q.Where(auditentry.ActorIDIn(f.Actors...))
	}
	if len(f.Kinds) > 0 {
		q.Where(auditentry.ActorKindIn(f.Kinds...))
	}
	if len(f.Nouns) > 0 {
		q.Where(auditentry.NounIn(f.Nouns...))
	}
	if len(f.Objects) > 0 {
		q.Where(auditentry.ObjectIDIn(f.Objects...))
	}
	if len(f.Actions) > 0 {
		q.Where(auditentry.ActionIn(f.Actions...))
	}
	if !f.From.IsZero() {
		q.Where(auditentry.AtGTE(f.From))
	}
	if !f.To.IsZero() {
		q.Where(auditentry.AtLT(f.To))
	}
	rows, err := q.All(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	return rows, nil
}

// AuditTail is the audit log for those who follow it; see package server/watch.
type AuditTail struct{ DB *DB }

// Tail returns up to limit entries of the organization after the one numbered after, in
// order. Who has read up to n has missed nothing below n.
func (t AuditTail) Tail(ctx context.Context, org string, after int64, limit int) ([]*gen.AuditEntry, error) {
	rows, err := t.DB.Client.AuditEntry.Query().Where(auditentry.OrganizationID(org), auditentry.NumberGT(after)).
		Order(gen.Asc(auditentry.FieldNumber)).Limit(limit).All(viewer.SystemContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	return rows, nil
}

// LastSeq is the highest number that a reader can have seen, 0 for none.
func (t AuditTail) LastSeq(ctx context.Context, org string) (int64, error) {
	last, _, err := t.ends(ctx, org)
	return last, err
}

// OldestSeq is where the kept log begins: each entry with this number or a higher one is there.
func (t AuditTail) OldestSeq(ctx context.Context, org string) (int64, error) {
	_, removed, err := t.ends(ctx, org)
	return removed + 1, err
}

func (t AuditTail) ends(ctx context.Context, org string) (last, removed int64, err error) {
	rows, err := t.DB.Client.QueryContext(ctx, "SELECT number, removed FROM audit_tails WHERE organization_id = $1", org)
	if err != nil {
		return 0, 0, fmt.Errorf("read the ends of the audit log: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := rows.Scan(&last, &removed); err != nil {
			return 0, 0, fmt.Errorf("read the ends of the audit log: %w", err)
		}
	}
	return last, removed, rows.Err()
}
