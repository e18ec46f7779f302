package store

import (
	"context"
	"fmt"
	"slices"

	"entgo.io/ent"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/application"
	"github.com/hookyard/hookyard/ent/gen/onetimelink"
	"github.com/hookyard/hookyard/ent/gen/project"
	"github.com/hookyard/hookyard/ent/gen/session"
	"github.com/hookyard/hookyard/ent/gen/trigger"
	"github.com/hookyard/hookyard/ent/gen/webhook"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/parts"
	"github.com/hookyard/hookyard/ent/viewer"
)

// Channel is where PostgreSQL notifies of a new revision; the payload is the
// organization's ID.
const Channel = "hookyard_config"

// hook installs what needs the database or the clock and so is not in ent/schema.
func (db *DB) hook() {
	c := db.Client
	c.Use(db.identify)
	c.Use(db.audit)
	// These look at what has become of the rows once the revision is raised, which makes
	// changes of one organization wait for each other.
	c.User.Use(db.keepAdministrator, db.consistent)
	c.APIKey.Use(db.consistent)
	c.CustomRole.Use(db.consistent)
	c.Endpoint.Use(db.consistent, db.unverify)
	c.Webhook.Use(db.consistent)
	c.Project.Use(db.consistent)
	c.Trigger.Use(db.consistent)
	c.Run.Use(db.consistent)
	c.Presence.Use(db.consistent)
	c.Organization.Use(db.revise)
	c.AssetGroup.Use(db.revise)
	c.Application.Use(db.revise, db.takeAlong)
	c.Project.Use(db.revise)
	c.Trigger.Use(db.revise)
	c.User.Use(db.revise)
	c.User.Use(db.signOut)
	c.APIKey.Use(db.revise)
	c.CustomRole.Use(db.revise)
	c.Session.Use(db.revise)
	c.Source.Use(db.revise)
	c.Endpoint.Use(db.revise)
	c.Webhook.Use(db.revise)
	c.Presence.Use(db.revise)
	c.IdentityProvider.Use(db.revise, db.bounded)
	c.TrustedIssuer.Use(db.revise, db.bounded)
	c.Identity.Use(db.revise)
	c.EnabledConnector.Use(db.revise)
}

// identify gives a new row an ID, unless it was given one.
func (db *DB) identify(next ent.Mutator) ent.Mutator {
	return ent.MutateFunc(func(ctx context.Context, m ent.Mutation) (ent.Value, error) {
		if n, ok := m.(interface {
			ID() (string, bool)
			SetID(string)
		}); ok && m.Op().Is(ent.OpCreate) {
			if _, given := n.ID(); !given {
				n.SetID(db.ids.New(ids.PrefixOf(m.Type())))
			}
		}
		return next.Mutate(ctx, m)
	})
}

// revise raises the revision of the organizations whose configuration a mutation
// changes, in its transaction, so that every node can see that its world is old.
func (db *DB) revise(next ent.Mutator) ent.Mutator {
	return ent.MutateFunc(func(ctx context.Context, m ent.Mutation) (ent.Value, error) {
		c, ok := m.(interface {
			Tx() (*gen.Tx, error)
			Organizations(context.Context) ([]string, error)
		})
		if !ok || traced(m) || goesOn(m) {
			return next.Mutate(ctx, m)
		}
		tx, err := c.Tx()
		if err != nil {
			return nil, fmt.Errorf("change a %s: only in a transaction (store.DB.WithTx): %w", m.Type(), err)
		}
		var orgs []string
		if rows, ok := ctx.Value(touched{}).([]parts.AuditRow); ok { // afterwards the row may be gone
			for _, r := range rows {
				orgs = append(orgs, r.Organization)
			}
			slices.Sort(orgs)
			orgs = slices.Compact(orgs)
		} else if orgs, err = c.Organizations(ctx); err != nil {
			return nil, err
		}
		v, err := next.Mutate(ctx, m)
		if err != nil {
			return nil, err
		}
		if m.Op().Is(ent.OpCreate) {
			if orgs, err = c.Organizations(ctx); err != nil {
				return nil, err
			}
		}
		for _, org := range orgs {
			if err := db.raise(ctx, tx, org); err != nil {
				return nil, err
			}
		}
		return v, nil
	})
}

// unverify has the webhooks of an endpoint asked again, each before it is sent anything,
// when the endpoint is at another address: those whose address had agreed.
func (db *DB) unverify(next ent.Mutator) ent.Mutator {
	return ent.MutateFunc(func(ctx context.Context, m ent.Mutation) (ent.Value, error) {
		moved, ok := m.(*gen.EndpointMutation)
		if !ok || !m.Op().Is(ent.OpUpdateOne) {
			return next.Mutate(ctx, m)
		}
		address, changes := moved.URL()
		if changes {
			old, err := moved.OldURL(ctx)
			if err != nil && !gen.IsNotFound(err) { // what may not be seen is refused below, in the policy's words
				return nil, err
			}
			changes = err == nil && old != address
		}
		v, err := next.Mutate(ctx, m)
		if err != nil || !changes {
			return v, err
		}
		id, _ := moved.ID()
		ctx = viewer.SystemContext(ctx) // whoever may change the endpoint may do this
		c := moved.Client()
		const reason = "The address has changed and has not been asked yet whether it wants events."
		if err := c.Webhook.Update().Where(webhook.EndpointID(id), webhook.VerifiedAtNotNil(), webhook.StateEQ(webhook.StateACTIVE)).
			SetState(webhook.StateUNVERIFIED).SetStateReason(reason).Exec(ctx); err != nil {
			return nil, fmt.Errorf("have the endpoint's webhooks verified again: %w", err)
		}
		if err := c.Webhook.Update().Where(webhook.EndpointID(id), webhook.VerifiedAtNotNil()).ClearVerifiedAt().Exec(ctx); err != nil {
			return nil, fmt.Errorf("have the endpoint's webhooks verified again: %w", err)
		}
		return v, nil
	})
}

// goesOn says that a mutation begins a session or goes on with one: nobody may do less
// than before.
func goesOn(m ent.Mutation) bool {
	return m.Type() == gen.TypeSession && !m.Op().Is(ent.OpDelete|ent.OpDeleteOne)
}

// signOut ends the sessions of a user who is disabled and withdraws the user's links, so
// that none of them works again when the user is enabled.
func (db *DB) signOut(next ent.Mutator) ent.Mutator {
	return ent.MutateFunc(func(ctx context.Context, m ent.Mutation) (ent.Value, error) {
		v, err := next.Mutate(ctx, m)
		if _, disabled := m.Field("disabled_at"); err != nil || !disabled {
			return v, err
		}
		users, ok := m.(*gen.UserMutation)
		if !ok {
			return v, nil
		}
		ctx = viewer.SystemContext(ctx) // whoever may disable a user may do this
		ids, err := users.IDs(ctx)
		if err != nil {
			return nil, fmt.Errorf("look up who was disabled: %w", err)
		}
		c := users.Client()
		if _, err := c.Session.Delete().Where(session.UserIDIn(ids...)).Exec(ctx); err != nil {
			return nil, fmt.Errorf("end the sessions: %w", err)
		}
		if _, err := c.OneTimeLink.Delete().Where(onetimelink.UserIDIn(ids...)).Exec(ctx); err != nil {
			return nil, fmt.Errorf("withdraw the links: %w", err)
		}
		return v, nil
	})
}

// takeAlong moves what belongs to an application into the asset group that the
// application is moved into.
func (db *DB) takeAlong(next ent.Mutator) ent.Mutator {
	return ent.MutateFunc(func(ctx context.Context, m ent.Mutation) (ent.Value, error) {
		v, err := next.Mutate(ctx, m)
		group, moved := m.Field(application.FieldAssetGroupID)
		apps, ok := m.(*gen.ApplicationMutation)
		if err != nil || !moved || !ok || m.Op().Is(ent.OpCreate) {
			return v, err
		}
		ctx = viewer.SystemContext(ctx) // whoever may move an application may do this
		ids, err := apps.IDs(ctx)
		if err != nil {
			return nil, fmt.Errorf("look up what was moved: %w", err)
		}
		tx, err := apps.Tx()
		if err != nil {
			return nil, fmt.Errorf("move an application: only in a transaction (store.DB.WithTx): %w", err)
		}
		to := group.(string)
		projects, err := tx.Project.Query().Where(project.ApplicationIDIn(ids...), project.AssetGroupIDNEQ(to)).IDs(ctx)
		if err != nil {
			return nil, fmt.Errorf("look up what belongs to it: %w", err)
		}
		for _, id := range projects {
			if err := moveProject(ctx, tx, id, to); err != nil {
				return nil, fmt.Errorf("move the project %s: %w", id, err)
			}
		}
		return v, nil
	})
}

func moveProject(ctx context.Context, tx *gen.Tx, id, to string) error {
	if err := tx.Project.UpdateOneID(id).SetAssetGroupID(to).Exec(ctx); err != nil {
		return err
	}
	triggers, err := tx.Trigger.Query().Where(trigger.ProjectID(id)).IDs(ctx)
	if err != nil {
		return err
	}
	for _, t := range triggers {
		if err := tx.Trigger.UpdateOneID(t).SetAssetGroupID(to).Exec(ctx); err != nil {
			return err
		}
	}
	_, err = tx.ExecContext(ctx, "UPDATE runs SET asset_group_id = $1 WHERE project_id = $2", to, id) // they may be many
	return err
}

func (db *DB) raise(ctx context.Context, tx *gen.Tx, org string) error {
	if _, err := tx.ExecContext(ctx, "INSERT INTO revisions (organization_id, n) VALUES ($1, 1) "+
		"ON CONFLICT (organization_id) DO UPDATE SET n = revisions.n + 1", org); err != nil {
		return fmt.Errorf("raise the revision of %s: %w", org, err)
	}
	if db.Dialect == Postgres {
		if _, err := tx.ExecContext(ctx, "SELECT pg_notify($1, $2)", Channel, org); err != nil {
			return fmt.Errorf("tell other nodes of the revision of %s: %w", org, err)
		}
	}
	tx.OnCommit(func(next gen.Committer) gen.Committer {
		return gen.CommitFunc(func(ctx context.Context, tx *gen.Tx) error {
			err := next.Commit(ctx, tx)
			if err == nil {
				db.changed(org)
			}
			return err
		})
	})
	return nil
}
