package store_test

import (
	"context"
	"errors"
	"testing"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
)

func TestWebhooksAreConsistent(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx := administrator(t.Context(), newOrganization(t, db, "Acme").ID)
		var red, blue *gen.AssetGroup
		var redApp, blueApp *gen.Application
		var above, inRed, shared, lent *gen.Endpoint
		if err := db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
			red, blue = tx.AssetGroup.Create().SetName("red").SaveX(ctx), tx.AssetGroup.Create().SetName("blue").SaveX(ctx)
			redApp = tx.Application.Create().SetName("r").SetAssetGroup(red).SaveX(ctx)
			blueApp = tx.Application.Create().SetName("b").SetAssetGroup(blue).SaveX(ctx)
			above = tx.Endpoint.Create().SetName("above").SetConnector("webhook").SaveX(ctx)
			shared = tx.Endpoint.Create().SetName("shared").SetConnector("webhook").AddSharedGroups(red).SaveX(ctx)
			lent = tx.Endpoint.Create().SetName("lent").SetConnector("webhook").SetAssetGroup(red).AddSharedGroups(blue).SaveX(ctx)
			inRed = tx.Endpoint.Create().SetName("red").SetConnector("webhook").SetAssetGroup(red).SaveX(ctx)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		rollback := errors.New("roll back")
		for what, test := range map[string]struct {
			field string // "": it is fine
			set   func(*gen.WebhookCreate)
		}{
			"nothing said":                 {"", func(*gen.WebhookCreate) {}},
			"global":                       {"", func(c *gen.WebhookCreate) { c.SetGlobal(true) }},
			"both kinds of scope":          {"", func(c *gen.WebhookCreate) { c.AddApplications(redApp).AddScopeGroups(blue) }},
			"global with an application":   {"global", func(c *gen.WebhookCreate) { c.SetGlobal(true).AddApplications(redApp) }},
			"global with a group":          {"global", func(c *gen.WebhookCreate) { c.SetGlobal(true).AddScopeGroups(red) }},
			"a group's own":                {"", func(c *gen.WebhookCreate) { c.SetAssetGroup(red).SetEndpoint(inRed).AddApplications(redApp) }},
			"a group's, endpoint shared":   {"", func(c *gen.WebhookCreate) { c.SetAssetGroup(red).SetEndpoint(shared).AddApplications(redApp) }},
			"shared with another group":    {"endpoint", func(c *gen.WebhookCreate) { c.SetAssetGroup(blue).SetEndpoint(shared) }},
			"another group's, shared":      {"", func(c *gen.WebhookCreate) { c.SetAssetGroup(blue).SetEndpoint(lent) }},
			"above, a group's, shared":     {"endpoint", func(c *gen.WebhookCreate) { c.SetEndpoint(lent) }},
			"a group's, endpoint above":    {"endpoint", func(c *gen.WebhookCreate) { c.SetAssetGroup(red).AddApplications(redApp) }},
			"a group's, of another group":  {"applications", func(c *gen.WebhookCreate) { c.SetAssetGroup(red).AddApplications(blueApp) }},
			"a group's, with a group":      {"scope_groups", func(c *gen.WebhookCreate) { c.SetAssetGroup(red).AddScopeGroups(red) }},
			"above, endpoint of a group":   {"endpoint", func(c *gen.WebhookCreate) { c.SetEndpoint(inRed) }},
			"endpoint of another group":    {"endpoint", func(c *gen.WebhookCreate) { c.SetAssetGroup(blue).SetEndpoint(inRed) }},
			"a kind that is none":          {"event_types", func(c *gen.WebhookCreate) { c.SetEventTypes([]string{"scan.completed", "scan.exploded"}) }},
			"a severity that is none":      {"min_severity", func(c *gen.WebhookCreate) { c.SetMinSeverity("grave") }},
			"retries that go backwards":    {"retry_offsets_seconds", func(c *gen.WebhookCreate) { c.SetRetryOffsetsSeconds([]int{60, 30}) }},
			"no retries":                   {"", func(c *gen.WebhookCreate) { c.SetRetryOffsetsSeconds([]int{}) }},
			"a time limit of a whole hour": {"timeout_seconds", func(c *gen.WebhookCreate) { c.SetTimeoutSeconds(3600) }},
		} {
			err := db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
				c := tx.Webhook.Create().SetName("w").SetFormat("hookyard").SetEndpoint(above)
				test.set(c)
				if err := c.Exec(ctx); err != nil {
					return err
				}
				return rollback
			})
			invalid := new(gen.ValidationError)
			if errors.As(err, &invalid); invalid.Name != test.field || test.field == "" && !errors.Is(err, rollback) {
				t.Errorf("%s: %v", what, err)
			}
		}
		err := db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
			tx.Webhook.Create().SetName("w").SetFormat("hookyard").SetEndpoint(above).ExecX(ctx)
			return tx.Endpoint.UpdateOne(above).SetAssetGroup(red).Exec(ctx)
		})
		clash := new(rule.Conflict)
		if !errors.As(err, &clash) {
			t.Errorf("an endpoint moved away from its webhook: %v", err)
		}
		err = db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
			tx.Webhook.Create().SetName("w").SetFormat("hookyard").SetEndpoint(shared).SetAssetGroup(red).ExecX(ctx)
			tx.Endpoint.UpdateOne(shared).AddSharedGroups(blue).ExecX(ctx)
			tx.Endpoint.UpdateOne(shared).RemoveSharedGroups(blue).ExecX(ctx)
			return tx.Endpoint.UpdateOne(shared).ClearSharedGroups().Exec(ctx)
		})
		if !errors.As(err, &clash) {
			t.Errorf("an endpoint unshared under its webhook: %v", err)
		}
	})
}
