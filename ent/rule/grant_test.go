package rule_test

import (
	"context"
	"errors"
	"testing"

	"entgo.io/ent/privacy"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/endpoint"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
)

// Rights are given from their own side only: not by way of what they are about.
func TestEdgesAreChangedFromTheirOwnSide(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		admin := viewer.NewContext(t.Context(), w.viewers()[0])
		for what, do := range map[string]func(context.Context, *gen.Client) error{
			"users of a group": func(ctx context.Context, c *gen.Client) error {
				return c.AssetGroup.UpdateOneID(w.red).AddUserIDs(w.user).Exec(ctx)
			},
			"webhooks of a group": func(ctx context.Context, c *gen.Client) error {
				return c.AssetGroup.UpdateOneID(w.red).AddWebhookIDs(w.at("webhook", "")).Exec(ctx)
			},
			"endpoints of a group": func(ctx context.Context, c *gen.Client) error {
				return c.AssetGroup.UpdateOneID(w.red).AddEndpointIDs(w.at("endpoint", "")).Exec(ctx)
			},
			"users of a role": func(ctx context.Context, c *gen.Client) error {
				return c.CustomRole.UpdateOneID(w.at("role", "")).AddUserIDs(w.user).Exec(ctx)
			},
			"webhooks of a source": func(ctx context.Context, c *gen.Client) error {
				return c.Source.UpdateOneID(w.at("source", "")).ClearWebhooks().Exec(ctx)
			},
		} {
			if err := w.try(admin, do); !errors.Is(err, privacy.Deny) {
				t.Errorf("%s: %v, want a denial", what, err)
			}
		}
	})
}

// What is shared can be chosen, and no more.
func TestChoosing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		shared := w.at("endpoint", "")
		if err := db.WithTx(viewer.SystemContext(t.Context()), func(ctx context.Context, tx *gen.Tx) error {
			return tx.Endpoint.UpdateOneID(shared).AddSharedGroupIDs(w.red).Exec(ctx)
		}); err != nil {
			t.Fatal(err)
		}
		as := func(groups ...string) context.Context {
			return viewer.NewContext(t.Context(), &viewer.Viewer{ID: w.user, Organization: w.org, Role: viewer.Manager, Permissions: viewer.Manager.Permissions(), Groups: groups})
		}
		for what, test := range map[string]struct {
			ctx  context.Context
			seen bool
		}{
			"of the group":            {rule.Choosing(as(w.red)), true},
			"of the group, otherwise": {as(w.red), false},
			"of another group":        {rule.Choosing(as(w.blue)), false},
			"of no group":             {rule.Choosing(as()), false},
		} {
			q := db.Client.Endpoint.Query().Where(endpoint.ID(shared))
			if n, err := q.Clone().Count(test.ctx); err != nil || (n == 1) != test.seen {
				t.Errorf("%s: counts %d, %v", what, n, err)
			}
			rows, err := q.Clone().Select(endpoint.FieldID, endpoint.FieldName, endpoint.FieldConnector).All(test.ctx)
			if err != nil || (len(rows) == 1) != test.seen {
				t.Errorf("%s: lists %v, %v", what, rows, err)
			}
			if rows, err = q.Clone().All(test.ctx); err != nil || len(rows) > 0 {
				t.Errorf("%s: reads %v, %v", what, rows, err)
			}
			if rows, err = q.Clone().Select(endpoint.FieldName, endpoint.FieldURL).All(test.ctx); err != nil || len(rows) > 0 {
				t.Errorf("%s: reads the address: %v, %v", what, rows, err)
			}
		}
	})
}
