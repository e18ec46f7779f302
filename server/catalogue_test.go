package server

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
)

// What everybody may ask for as often as they like, and what each change of an endpoint asks
// for, does not read and parse every manifest that was ever told.
func TestTheCatalogueIsCheap(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx := viewer.SystemContext(t.Context())
		clock := clockwork.NewFakeClock()
		c := &catalogue{db: db, log: slog.New(slog.DiscardHandler), clock: clock}
		var org *gen.Organization
		add := func(name string) {
			t.Helper()
			if err := db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) (err error) {
				if org == nil {
					if org, err = tx.Organization.Create().SetName("Acme").Save(ctx); err != nil {
						return err
					}
					if err := tx.EnabledConnector.Create().SetOrganizationID(org.ID).SetName("radar").SetVersion("1.0.0").SetDigest("d1").Exec(ctx); err != nil {
						return err
					}
				}
				return tx.Endpoint.Create().SetOrganizationID(org.ID).SetName(name).SetConnector("radar").Exec(ctx)
			}); err != nil {
				t.Fatal(err)
			}
		}
		add("one")
		manifest, err := json.Marshal(map[string]any{"name": "radar", "title": "Radar", "version": "1.0.0", "protocol": 1, "abilities": []string{"DELIVER"}, "run": []string{"radar"},
			"files": map[string]any{"radar": map[string]any{"sha256": strings.Repeat("0", 64), "size": 1, "executable": true}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.TellPackages(ctx, "node", []store.ConnectorPackage{{Digest: "d1", Name: "radar", Version: "1.0.0", Manifest: manifest}}); err != nil {
			t.Fatal(err)
		}
		strands := func(want int) {
			t.Helper()
			if got, err := c.stranded(ctx); err != nil || got["radar 1.0.0"] != want || len(got) != 1 {
				t.Errorf("%v are stranded (%v), want %d", got, err, want)
			}
		}
		strands(1)
		add("two")
		strands(1)
		clock.Advance(strandedFor)
		strands(2)

		packages := func() {
			t.Helper()
			if list, err := c.Packages(ctx); err != nil || len(list) != 1 || list[0].Title != "Radar" || list[0].Provides == nil {
				t.Errorf("%+v, %v", list, err)
			}
		}
		packages()
		if _, err := db.Client.ExecContext(ctx, "UPDATE connector_packages SET manifest = $1", []byte("none")); err != nil {
			t.Fatal(err)
		}
		packages() // it was parsed once
	})
}
