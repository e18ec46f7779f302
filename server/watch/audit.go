package watch

import (
	"context"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/store"
)

// Audit serves the watchers of all organizations' audit logs.
type Audit struct{ log[*gen.AuditEntry] }

// NewAudit returns an Audit. It runs nothing until somebody watches.
func NewAudit(tail Tail[*gen.AuditEntry], o Options) *Audit {
	return &Audit{newLog("audit log", tail, func(e **gen.AuditEntry) int64 { return (*e).Number }, o)}
}

// Follow is as Watch.Follow, for the audit log.
func (w *Audit) Follow(ctx context.Context, scope rule.Scope, f store.AuditFilter, after *int64,
	send func(context.Context, store.AuditBatch) error) error {
	return w.follow(ctx, scope.Organization(), after,
		func(e **gen.AuditEntry) bool {
			return scope.Sees((*e).OrganizationID, store.AuditLevel(*e)) && f.Match(*e)
		},
		func(ctx context.Context, entries []*gen.AuditEntry, cursor int64) error {
			return send(ctx, store.AuditBatch{Entries: entries, Cursor: cursor, Heartbeat: len(entries) == 0})
		})
}
