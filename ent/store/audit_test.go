package store_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/auditentry"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
)

// log is an organization's audit log, the first entry first, without those of its making.
func log(t *testing.T, db *store.DB, org string) []*gen.AuditEntry {
	t.Helper()
	list, err := db.Client.AuditEntry.Query().Where(auditentry.OrganizationID(org), auditentry.NumberGT(1)).
		Order(gen.Asc(auditentry.FieldNumber)).All(viewer.SystemContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range list {
		if e.Number != int64(i)+2 {
			t.Errorf("entry %d has the number %d", i, e.Number)
		}
	}
	return list
}

// changes writes an entry's changes down: "name: "a" > "b"".
func changes(e *gen.AuditEntry) string {
	var b strings.Builder
	for i, c := range e.Changes {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(c.Field)
		switch {
		case c.Hidden:
			b.WriteString(" hidden")
		default:
			// PostgreSQL writes JSON in its own way.
			b.WriteString(strings.ReplaceAll(": "+string(c.Before)+" > "+string(c.After), ", ", ","))
		}
		if c.Cut {
			b.WriteString(" cut")
		}
	}
	return b.String()
}

func TestChangesAreAudited(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		org := newOrganization(t, db, "Acme").ID
		ctx := viewer.WithOrigin(administrator(t.Context(), org), "192.0.2.1")
		var red, blue *gen.AssetGroup
		var user *gen.User
		var end *gen.Endpoint
		var hook *gen.Webhook
		var app *gen.Application
		for _, step := range []struct {
			do   func(ctx context.Context, tx *gen.Tx) error
			want []string
		}{
			{func(ctx context.Context, tx *gen.Tx) error {
				red, blue = tx.AssetGroup.Create().SetName("red").SaveX(ctx), tx.AssetGroup.Create().SetName("blue").SaveX(ctx)
				app = tx.Application.Create().SetName("shop").SetAssetGroup(red).SaveX(ctx)
				return nil
			}, []string{`CREATE AssetGroup red @red name:  > "red"`, `CREATE AssetGroup blue @blue name:  > "blue"`,
				`CREATE Application shop @red name:  > "shop", assetGroupId:  > "<red>"`}},
			{func(ctx context.Context, tx *gen.Tx) error {
				user = tx.User.Create().SetEmail("Ann@Example.com").SetRole(viewer.Manager).SetPasswordHash("$argon2id$secret").AddGroups(red).SaveX(ctx)
				return nil
			}, []string{`CREATE User ann@example.com @ email:  > "ann@example.com", role:  > "MANAGER", passwordHash hidden, groups: [] > ["<red>"]`}},
			{func(ctx context.Context, tx *gen.Tx) error {
				return tx.User.UpdateOneID(user.ID).SetPasswordHash("$argon2id$another").ClearGroups().AddGroups(blue).SetAllGroups(true).Exec(ctx)
			}, []string{`UPDATE User ann@example.com @ allGroups: false > true, passwordHash hidden, groups: ["<red>"] > ["<blue>"]`}},
			{func(ctx context.Context, tx *gen.Tx) error {
				return tx.User.UpdateOneID(user.ID).RemoveGroups(blue).AddGroups(red).Exec(ctx)
			}, []string{`UPDATE User ann@example.com @ groups: ["<blue>"] > ["<red>"]`}},
			{func(ctx context.Context, tx *gen.Tx) error { // nothing has changed
				return tx.User.UpdateOneID(user.ID).SetRole(viewer.Manager).SetAllGroups(true).Exec(ctx)
			}, nil},
			{func(ctx context.Context, tx *gen.Tx) error {
				end = tx.Endpoint.Create().SetName("e").SetConnector("webhook").SetURL("https://" + strings.Repeat("x", 2000)).SetSecrets([]byte("sealed")).SaveX(ctx)
				hook = tx.Webhook.Create().SetName("w").SetFormat("hookyard").SetEndpoint(end).SetAssetGroup(red).AddApplications(app).SetSigningSecrets([]byte("sealed")).SaveX(ctx)
				return nil
			}, []string{`CREATE Endpoint e @ name:  > "e", connector:  > "webhook", url:  > "https://` + strings.Repeat("x", 992) + `" cut, enabled:  > true, secrets hidden, burst:  > 1`,
				`CREATE Webhook w @red name:  > "w", assetGroupId:  > "<red>", endpointId:  > "<end>", format:  > "hookyard", unknownCounts:  > "SKIP", state:  > "ACTIVE", signingSecrets hidden, retryOffsetsSeconds:  > [60,300,1800,7200], timeoutSeconds:  > 10, applications: [] > ["<app>"]`}},
			{func(ctx context.Context, tx *gen.Tx) error {
				return tx.Webhook.UpdateOne(hook).ClearApplications().ClearAssetGroup().Exec(ctx)
			}, []string{`UPDATE Webhook w @ assetGroupId: "<red>" > , applications: ["<app>"] > []`}},
			{func(ctx context.Context, tx *gen.Tx) error {
				return tx.Webhook.DeleteOneID(hook.ID).Exec(ctx)
			}, []string{`DELETE Webhook w @ name: "w" > , endpointId: "<end>" > , format: "hookyard" > , unknownCounts: "SKIP" > , state: "ACTIVE" > , signingSecrets hidden, retryOffsetsSeconds: [60,300,1800,7200] > , timeoutSeconds: 10 > `}},
			{func(ctx context.Context, tx *gen.Tx) error {
				return tx.APIKey.Create().SetName("ci").SetRole(viewer.Tester).SetPrefix("hy_").SetHash("h").SetOwner(user).Exec(ctx)
			}, []string{`CREATE APIKey ci @ name:  > "ci", role:  > "TESTER", prefix:  > "hy_", hash hidden, ownerId:  > "<user>"`}},
			{func(ctx context.Context, tx *gen.Tx) error { // the key goes with its owner
				return tx.User.DeleteOneID(user.ID).Exec(ctx)
			}, []string{`DELETE User ann@example.com @ email: "ann@example.com" > , role: "MANAGER" > , allGroups: true > , passwordHash hidden, groups: ["<red>"] > []`,
				`DELETE APIKey ci @ name: "ci" > , role: "TESTER" > , prefix: "hy_" > , hash hidden, ownerId: "<user>" > `}},
			{func(ctx context.Context, tx *gen.Tx) error {
				return db.Audit(ctx, store.Action{Action: store.Redeliver, Noun: "Delivery", ID: "dlv_1", Group: red.ID, Details: map[string]any{"b": 1, "a": "x"}})
			}, []string{`REDELIVER Delivery  @red a:  > "x", b:  > 1`}},
		} {
			before := len(log(t, db, org))
			if err := db.WithTx(ctx, step.do); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range log(t, db, org)[before:] {
				if e.ActorKind != auditentry.ActorKindUSER || e.ActorID != "usr_1" || e.Origin != "192.0.2.1" || e.At.IsZero() {
					t.Errorf("entry %+v", e)
				}
				group := ""
				if e.AssetGroupID != nil {
					group = *e.AssetGroupID
				}
				line := e.Action + " " + e.Noun + " " + e.ObjectName + " @" + strings.NewReplacer(red.ID, "red", blue.ID, "blue").Replace(group) + " " + changes(e)
				r := []string{red.ID, "<red>", blue.ID, "<blue>", app.ID, "<app>"}
				if user != nil {
					r = append(r, user.ID, "<user>")
				}
				if end != nil {
					r = append(r, end.ID, "<end>")
				}
				got = append(got, strings.NewReplacer(r...).Replace(line))
			}
			if strings.Join(got, "\n") != strings.Join(step.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(step.want, "\n"))
			}
		}
		// What is given up leaves nothing, and what cannot be audited does not happen.
		n := len(log(t, db, org))
		_ = db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
			tx.AssetGroup.Create().SetName("green").SaveX(ctx)
			return errors.New("changed my mind")
		})
		if err := db.WithTx(ctx, func(_ context.Context, tx *gen.Tx) error {
			return tx.AssetGroup.Create().SetName("green").Exec(ctx) // not the transaction's context
		}); err == nil {
			t.Error("a change without an audit")
		}
		if err := db.Audit(viewer.SystemContext(t.Context()), store.Action{Action: store.Redeliver, Noun: "Delivery"}); err == nil {
			t.Error("an action of no organization")
		}
		if got := len(log(t, db, org)); got != n {
			t.Errorf("%d entries more", got-n)
		}
	})
}
