package store

// How to write into the audit log:
//
//   - Changes of rows write themselves: every change that goes through WithTx leaves an
//     entry, in its transaction, with the viewer of its context as the actor. A noun or a
//     column whose changes are no configuration is excused in unaudited or traces below.
//   - What is no change of a row calls db.Audit(ctx, store.Action{…}) before it acts, so
//     that what cannot be audited does not happen. Inside of WithTx (with the context that
//     WithTx hands over) the entry is committed with the transaction; elsewhere Audit
//     commits it before it returns. Do not call it with WithTx's outer context inside of
//     WithTx: on SQLite that would wait for itself.
//
//	func (db *DB) Audit(ctx context.Context, a Action) error
//
//	err := db.Audit(ctx, store.Action{Action: store.Redeliver, Noun: "Delivery", ID: d.ID, Group: d.Level})
//	err := db.Audit(ctx, store.Action{Action: store.SignInFailed, Noun: "User", ID: u.ID, Name: u.Email,
//		Organization: u.OrganizationID, Actor: &store.Actor{Kind: viewer.ActorNobody, Name: u.Email},
//		Details: map[string]any{"reason": "wrong password"}})

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/parts"
	"github.com/hookyard/hookyard/ent/viewer"
)

// What is done to something, as the audit log names it. Parts may add words of their own.
const (
	Create = "CREATE"
	Update = "UPDATE"
	Delete = "DELETE"

	Redeliver    = "REDELIVER"
	Cancel       = "CANCEL"
	ReleaseHold  = "RELEASE_HOLD"
	TestEndpoint = "TEST"
	Reprocess    = "REPROCESS"
	PollSource   = "POLL"
	StartScan    = "START_SCAN"
	StopScan     = "STOP_SCAN"

	SignIn        = "SIGN_IN"
	SignInFailed  = "SIGN_IN_FAILED"
	SignInLocked  = "SIGN_IN_LOCKED"
	EndSessions   = "END_SESSIONS"
	RotateSecrets = "ROTATE_SECRETS"
	Erase         = "ERASE"
	Restore       = "RESTORE"

	InstallConnector = "INSTALL"
	RemoveConnector  = "REMOVE"
)

// Everywhere as the organization of an action, writes an entry for each organization:
// for what an operator does to the whole hub.
const Everywhere = "*"

// Action is something to be told in the audit log.
type Action struct {
	Organization string         // "": the viewer's; Everywhere: each one
	Actor        *Actor         // nil: the viewer; the origin is always the context's
	Action       string         // Redeliver, …
	Noun         string         // as GraphQL names it: "Delivery"
	ID, Name     string         // of what it is done to; "" none
	Group        string         // the asset group that it is done in, "" the organization
	Details      map[string]any // what else there is to know, by name; never a secret
}

// Actor is who does something.
type Actor struct {
	Kind     viewer.ActorKind
	ID, Name string // "" none
}

// actorOf is who answers for what is done in a context.
func actorOf(ctx context.Context) Actor {
	v := viewer.FromContext(ctx).Actor()
	if v == nil {
		return Actor{Kind: viewer.ActorNobody}
	}
	return Actor{v.Kind(), v.ID, v.Name}
}

// Audit writes an action into the audit log: see the top of this file.
func (db *DB) Audit(ctx context.Context, a Action) error {
	if ctx.Value(inTx{}) == nil {
		return db.WithTx(ctx, func(ctx context.Context, _ *gen.Tx) error { return db.Audit(ctx, a) })
	}
	who := actorOf(ctx)
	if a.Actor != nil {
		who = *a.Actor
	}
	if a.Organization == "" {
		if v := viewer.FromContext(ctx); v != nil {
			a.Organization = v.Organization
		}
	}
	if a.Organization == "" || a.Action == "" || a.Noun == "" {
		return fmt.Errorf("audit %s of a %s: it belongs to no organization", a.Action, a.Noun)
	}
	changes := make([]parts.AuditChange, 0, len(a.Details))
	for _, name := range slices.Sorted(maps.Keys(a.Details)) {
		c := parts.AuditChange{Field: name}
		var err error
		if c.After, c.Cut, err = audited(a.Details[name]); err != nil {
			return fmt.Errorf("audit %s of a %s: %s: %w", a.Action, a.Noun, name, err)
		}
		changes = append(changes, c)
	}
	pendingOf(ctx).add(ctx, db, who, a.Organization, a.Action, a.Noun, parts.AuditRow{ID: a.ID, Name: a.Name, Group: a.Group}, changes)
	return nil
}
