package store_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
)

// Packages that no node has are forgotten, but for those that somebody would use again.
func TestUnusedPackagesAreForgotten(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx := viewer.SystemContext(t.Context())
		org := newOrganization(t, db, "Acme").ID
		list := func(digests ...string) (out []store.ConnectorPackage) {
			for _, d := range digests {
				out = append(out, store.ConnectorPackage{Digest: d, Name: "radar", Version: d, Manifest: []byte(d)})
			}
			return out
		}
		tell := func(node string, digests ...string) {
			t.Helper()
			if err := db.TellPackages(t.Context(), node, list(digests...)); err != nil {
				t.Fatal(err)
			}
		}
		want := func(digests ...string) {
			t.Helper()
			got, err := db.Packages(t.Context())
			if err != nil || !slices.Equal(slices.Sorted(maps.Keys(got)), digests) {
				t.Errorf("known are %v, not %v (%v)", slices.Sorted(maps.Keys(got)), digests, err)
			}
		}
		change := func(f func(ctx context.Context, tx *gen.Tx) error) {
			t.Helper()
			if err := db.WithTx(ctx, f); err != nil {
				t.Fatal(err)
			}
		}
		tell("one", strings.Fields("elsewhere enabled nobody pinned")...)
		tell("two", "elsewhere")
		var enabled, pinned string
		change(func(ctx context.Context, tx *gen.Tx) error {
			c, err := tx.EnabledConnector.Create().SetOrganizationID(org).SetName("radar").SetVersion("1.0.0").SetDigest("enabled").SetEnabled(false).Save(ctx)
			if err != nil {
				return err
			}
			e, err := tx.Endpoint.Create().SetOrganizationID(org).SetName("e").SetConnector("radar").SetConnectorVersion("2.0.0").SetConnectorDigest("pinned").Save(ctx)
			if err == nil {
				enabled, pinned = c.ID, e.ID
			}
			return err
		})
		want("elsewhere", "enabled", "nobody", "pinned")
		tell("one")
		want("elsewhere", "enabled", "pinned")
		if b, err := db.Manifest(t.Context(), "nobody"); err != nil || b != nil {
			t.Errorf("the manifest of what is forgotten is %q (%v)", b, err)
		}
		change(func(ctx context.Context, tx *gen.Tx) error { return tx.Endpoint.DeleteOneID(pinned).Exec(ctx) })
		tell("two", "elsewhere")
		want("elsewhere", "enabled")
		change(func(ctx context.Context, tx *gen.Tx) error { return tx.EnabledConnector.DeleteOneID(enabled).Exec(ctx) })
		tell("two")
		want()
		tell("one", "nobody") // somebody has installed it again
		want("nobody")
	})
}
