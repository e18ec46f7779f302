package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/auditentry"
	"github.com/hookyard/hookyard/ent/gen/user"
	"github.com/hookyard/hookyard/ent/viewer"
)

// The audit log takes removals and erasures only between these two statements, in one
// transaction: triggers refuse them otherwise.
const (
	PermitAudit = "INSERT INTO audit_permits (one) VALUES (1)"
	RevokeAudit = "DELETE FROM audit_permits"
)

// auditBatch is how many entries one transaction removes or reads for a person's erasure.
const auditBatch = 500

// RetainAudit makes one bounded step in removing an organization's entries of before a
// time, the oldest first; more says to call again soon.
func (db *DB) RetainAudit(ctx context.Context, org string, before time.Time) (removed int, more bool, err error) {
	ctx = viewer.SystemContext(ctx)
	// Numbers and times go together well enough: the first entry that is younger ends the batch.
	rows, err := db.Client.AuditEntry.Query().Where(auditentry.OrganizationID(org)).Order(gen.Asc(auditentry.FieldNumber)).
		Limit(auditBatch).Select(auditentry.FieldNumber, auditentry.FieldAt).All(ctx)
	if err != nil {
		return 0, false, fmt.Errorf("look for old audit entries: %w", err)
	}
	for removed < len(rows) && rows[removed].At.Before(before) {
		removed++
	}
	if removed == 0 {
		return 0, false, nil
	}
	upto := rows[removed-1].Number
	err = db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
		return permitted(ctx, tx, func() error {
			if _, err := tx.ExecContext(ctx, "DELETE FROM audit_entries WHERE organization_id = $1 AND number <= $2", org, upto); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, "UPDATE audit_tails SET removed = $2 WHERE organization_id = $1 AND removed < $2", org, upto)
			return err
		})
	})
	if err != nil {
		return 0, false, fmt.Errorf("remove old audit entries: %w", err)
	}
	return removed, removed == auditBatch, nil
}

func permitted(ctx context.Context, tx *gen.Tx, do func() error) error {
	if _, err := tx.ExecContext(ctx, PermitAudit); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, RevokeAudit)
	return err
}

// restoredName is the note, in meta, that the database was filled from a backup.
const restoredName = "audit.restored"

// NoteRestore notes, by exec, that the context's viewer has filled the database from a
// backup. The backup may be of a schema without an audit log, so the entry is written by
// AuditRestore, when a hub has opened it.
func NoteRestore(ctx context.Context, exec func(ctx context.Context, query string, args ...any) error) error {
	note, err := json.Marshal(actorOf(ctx))
	if err != nil {
		return err
	}
	if err := exec(ctx, "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", restoredName, string(note)); err != nil {
		return fmt.Errorf("note the restore: %w", err)
	}
	return nil
}

func takeNotes(ctx context.Context, tx *gen.Tx) (notes []string, err error) {
	rows, err := tx.QueryContext(ctx, "DELETE FROM meta WHERE name = $1 RETURNING value", restoredName)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var n string
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		notes = append(notes, n)
	}
	return notes, rows.Err()
}

// AuditRestore writes what NoteRestore has noted into every organization's audit log.
func (db *DB) AuditRestore(ctx context.Context) error {
	ctx = viewer.OperatorContext(ctx, "")
	return db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
		notes, err := takeNotes(ctx, tx)
		if err != nil {
			return fmt.Errorf("look for the note of a restore: %w", err)
		}
		for _, n := range notes {
			var who Actor
			if err := json.Unmarshal([]byte(n), &who); err != nil {
				return fmt.Errorf("read the note of a restore: %w", err)
			}
			if err := db.Audit(ctx, Action{Organization: Everywhere, Actor: &who, Action: Restore, Noun: "Hub"}); err != nil {
				return err
			}
		}
		return nil
	})
}

// Person is who is to be erased.
type Person struct {
	ID    string // of the user, "usr_…"; "" whoever has or had the address
	Email string // "" not known

	ids []string // of the users that the person is or was
}

// Erased stands where something was erased.
const Erased = "[erased]"

// EraseFromAudit takes a person out of an organization's audit log, in the transaction
// that ctx and tx belong to: the names, addresses and origins in what the person did, and
// what the entries about the person say of them. The entries stay, with their numbers,
// IDs, times and actions, and say since when something is erased. It returns how many
// entries it has changed. What the person does afterwards is not erased.
func (db *DB) EraseFromAudit(ctx context.Context, tx *gen.Tx, org string, p Person, now time.Time) (changed int, err error) {
	if p.ID == "" && p.Email == "" {
		return 0, nil
	}
	if err := p.find(ctx, tx, org); err != nil {
		return 0, fmt.Errorf("erase a person from the audit log: %w", err)
	}
	err = permitted(ctx, tx, func() error {
		for after := int64(0); ; {
			rows, err := tx.AuditEntry.Query().Where(auditentry.OrganizationID(org), auditentry.NumberGT(after)).
				Order(gen.Asc(auditentry.FieldNumber)).Limit(auditBatch).All(viewer.SystemContext(ctx))
			if err != nil {
				return err
			}
			for _, e := range rows {
				after = e.Number
				if !p.erase(e) {
					continue
				}
				changes, err := json.Marshal(e.Changes)
				if err != nil {
					return err
				}
				cast := ""
				if db.Dialect == Postgres {
					cast = "::jsonb"
				}
				if _, err := tx.ExecContext(ctx, "UPDATE audit_entries SET actor_name = $2, origin = $3, object_name = $4, changes = $5"+cast+", erased_at = $6 WHERE id = $1",
					e.ID, e.ActorName, e.Origin, e.ObjectName, string(changes), now.UTC()); err != nil {
					return err
				}
				changed++
			}
			if len(rows) < auditBatch {
				return nil
			}
		}
	})
	if err != nil {
		return 0, fmt.Errorf("erase a person from the audit log: %w", err)
	}
	return changed, nil
}

// find looks up which users the person is or was.
func (p *Person) find(ctx context.Context, tx *gen.Tx, org string) error {
	if p.ID != "" {
		p.ids = []string{p.ID}
	}
	if p.Email == "" {
		return nil
	}
	ctx, email := viewer.SystemContext(ctx), strings.ToLower(p.Email)
	are, err := tx.User.Query().Where(user.OrganizationID(org), user.Email(email)).IDs(ctx)
	if err != nil {
		return err
	}
	var were []string
	if err := tx.AuditEntry.Query().Where(auditentry.OrganizationID(org), auditentry.Noun("User"), auditentry.ObjectName(email), auditentry.ObjectIDNEQ("")).
		Unique(true).Select(auditentry.FieldObjectID).Scan(ctx, &were); err != nil {
		return err
	}
	p.ids = append(append(p.ids, are...), were...)
	return nil
}

// erase takes the person out of one entry and says whether anything has changed.
func (p *Person) erase(e *gen.AuditEntry) bool {
	found := false
	clear := func(s *string) {
		if *s != "" && *s != Erased {
			*s, found = Erased, true
		}
	}
	if slices.Contains(p.ids, e.ActorID) || p.mentioned(e.ActorName) {
		clear(&e.ActorName)
		clear(&e.Origin)
	}
	about := slices.Contains(p.ids, e.ObjectID)
	if about || p.mentioned(e.ObjectName) {
		clear(&e.ObjectName)
	}
	for i := range e.Changes {
		c := &e.Changes[i]
		personal := about && (c.Field == "email" || c.Field == "name")
		for _, v := range []*json.RawMessage{&c.Before, &c.After} {
			if len(*v) > 0 && string(*v) != erasedJSON && (personal || p.mentioned(string(*v))) {
				*v, found = json.RawMessage(erasedJSON), true
			}
		}
	}
	return found
}

const erasedJSON = `"` + Erased + `"`

// mentioned says whether a text has the person's address in it.
func (p *Person) mentioned(s string) bool {
	return p.Email != "" && strings.Contains(strings.ToLower(s), strings.ToLower(p.Email))
}
