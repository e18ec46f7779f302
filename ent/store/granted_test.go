package store_test

import (
	"context"
	"errors"
	"testing"

	"entgo.io/ent/privacy"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/trustedissuer"
	"github.com/hookyard/hookyard/ent/parts"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
)

// TestNobodyLetsAnOutsiderGiveMore: whoever manages access with a role of the organization
// cannot reach for more by way of a provider or issuer of their own, or of somebody else's.
func TestNobodyLetsAnOutsiderGiveMore(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		org, other := newOrganization(t, db, "Acme"), newOrganization(t, db, "Bolt")
		system := viewer.SystemContext(t.Context())
		var red, blue, foreign, weak, mighty string
		if err := db.WithTx(system, func(ctx context.Context, tx *gen.Tx) error {
			red = tx.AssetGroup.Create().SetOrganizationID(org.ID).SetName("red").SaveX(ctx).ID
			blue = tx.AssetGroup.Create().SetOrganizationID(org.ID).SetName("blue").SaveX(ctx).ID
			foreign = tx.AssetGroup.Create().SetOrganizationID(other.ID).SetName("red").SaveX(ctx).ID
			weak = tx.CustomRole.Create().SetOrganizationID(org.ID).SetName("weak").SetPermissions([]viewer.Permission{viewer.RunScans}).SaveX(ctx).ID
			mighty = tx.CustomRole.Create().SetOrganizationID(org.ID).SetName("mighty").SetPermissions([]viewer.Permission{viewer.EraseData}).SaveX(ctx).ID
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		rights := viewer.Viewer{ID: "usr_clerk", Organization: org.ID, Role: viewer.Custom, AllGroups: true,
			Permissions: []viewer.Permission{viewer.ManageAccess, viewer.RunScans, viewer.SendEvents, viewer.ReadPayloads}}
		clerk := viewer.NewContext(t.Context(), &rights)
		ofRed := rights
		ofRed.AllGroups, ofRed.Groups = false, []string{red}
		local := viewer.NewContext(t.Context(), &ofRed)
		create := func(ctx context.Context, name string, rules ...parts.AccessRule) (id string, err error) {
			err = db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
				p, err := tx.IdentityProvider.Create().SetName(name).SetIssuer("https://login.example.com").SetClientID("hub").SetMapping(rules).Save(ctx)
				if err == nil {
					id = p.ID
				}
				return err
			})
			return id, err
		}
		for name, c := range map[string]struct {
			rule parts.AccessRule
			ok   bool
		}{
			"a role within":        {parts.AccessRule{Value: "x", Role: viewer.Tester, Groups: []string{red}}, true},
			"a custom role within": {parts.AccessRule{Value: "x", Role: viewer.Custom, CustomRole: weak}, true},
			"a mightier role":      {parts.AccessRule{Value: "x", Role: viewer.Manager}, false},
			"an Administrator":     {parts.AccessRule{Value: "x", Role: viewer.Administrator}, false},
			"a mightier custom":    {parts.AccessRule{Value: "x", Role: viewer.Custom, CustomRole: mighty}, false},
			"no custom role":       {parts.AccessRule{Value: "x", Role: viewer.Custom, CustomRole: "rol_none"}, false},
			"all groups":           {parts.AccessRule{Value: "x", Role: viewer.Tester, AllGroups: true}, true},
			"another group":        {parts.AccessRule{Value: "x", Role: viewer.Tester, Groups: []string{blue}}, true},
			"a foreign group":      {parts.AccessRule{Value: "x", Role: viewer.Tester, Groups: []string{foreign}}, false},
		} {
			if _, err := create(clerk, name, c.rule); (err == nil) != c.ok {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := create(local, name+" by one of a group", c.rule); !errors.Is(err, privacy.Deny) {
				t.Errorf("%s, by one of a group: %v", name, err)
			}
		}
		if _, err := create(local, "no rule by one of a group"); !errors.Is(err, privacy.Deny) {
			t.Errorf("no rule, by one of a group: %v", err)
		}
		if _, err := create(administrator(t.Context(), org.ID), "a group of another organization", parts.AccessRule{Value: "x", Role: viewer.Tester, Groups: []string{foreign}}); err == nil {
			t.Error("an Administrator mapped to a group of another organization")
		}

		// What gives more than the clerk has is out of the clerk's hands altogether.
		id, err := create(administrator(t.Context(), org.ID), "for Administrators", parts.AccessRule{Value: "x", Role: viewer.Administrator})
		if err != nil {
			t.Fatal(err)
		}
		denied := func(what string, do func(context.Context, *gen.Tx) error) {
			t.Helper()
			if err := db.WithTx(clerk, do); !errors.Is(err, privacy.Deny) {
				t.Errorf("%s: %v", what, err)
			}
		}
		denied("change the claim", func(ctx context.Context, tx *gen.Tx) error {
			return tx.IdentityProvider.UpdateOneID(id).SetGroupsClaim("email").Exec(ctx)
		})
		denied("take the rules away", func(ctx context.Context, tx *gen.Tx) error {
			return tx.IdentityProvider.UpdateOneID(id).SetMapping([]parts.AccessRule{}).Exec(ctx)
		})
		denied("delete", func(ctx context.Context, tx *gen.Tx) error { return tx.IdentityProvider.DeleteOneID(id).Exec(ctx) })

		// An issuer that speaks for users speaks for Administrators too.
		denied("speak for users", func(ctx context.Context, tx *gen.Tx) error {
			return tx.TrustedIssuer.Create().SetName("own").SetIssuer("https://own.example.com").SetAudience("hub").SetActsAs(trustedissuer.ActsAsUsers).Exec(ctx)
		})
		var users string
		if err := db.WithTx(administrator(t.Context(), org.ID), func(ctx context.Context, tx *gen.Tx) error {
			row, err := tx.TrustedIssuer.Create().SetName("users").SetIssuer("https://login.example.com").SetAudience("hub").SetActsAs(trustedissuer.ActsAsUsers).Save(ctx)
			users = row.ID
			return err
		}); err != nil {
			t.Fatal(err)
		}
		denied("change whose keys they are", func(ctx context.Context, tx *gen.Tx) error {
			return tx.TrustedIssuer.UpdateOneID(users).SetKeysURL("https://own.example.com/keys").Exec(ctx)
		})
		// Another organization cannot take the same tokens.
		if err := db.WithTx(administrator(t.Context(), other.ID), func(ctx context.Context, tx *gen.Tx) error {
			return tx.TrustedIssuer.Create().SetName("users").SetIssuer("https://login.example.com").SetAudience("hub").SetActsAs(trustedissuer.ActsAsRoles).Exec(ctx)
		}); !gen.IsConstraintError(err) {
			t.Errorf("the same issuer and audience in two organizations: %v", err)
		}
	})
}
