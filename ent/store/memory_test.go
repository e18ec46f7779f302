package store_test

import (
	"context"
	"errors"
	"testing"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/connectortest"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/secret"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
)

func TestMemoryOfConnectors(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		box, err := secret.Open(t.Context(), secret.Config{KeyFile: t.TempDir() + "/key"})
		if err != nil {
			t.Fatal(err)
		}
		acme, bolt := newOrganization(t, db, "Acme"), newOrganization(t, db, "Bolt")
		ctx := viewer.SystemContext(t.Context())
		end := func(org, name string) connectors.Endpoint {
			var id string
			if err := db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
				e, err := tx.Endpoint.Create().SetOrganizationID(org).SetName(name).SetConnector("webhook").Save(ctx)
				if err == nil {
					id = e.ID
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			return connectors.Endpoint{Ref: id + "@1", ID: id, Organization: org}
		}
		one, other := end(acme.ID, "one"), end(acme.ID, "other")
		m := db.Memory(box)
		connectortest.RunMemory(t, m, one, other)

		// Links are bounded, whichever node keeps them.
		few := func() *store.Memory {
			m := db.Memory(box)
			m.MaxLinks, m.MaxLinkBytes = 20, 16<<10
			return m
		}
		many, large := end(acme.ID, "many"), end(acme.ID, "large")
		connectortest.RunLinkBounds(t, few(), many, large, 20, 16<<10)
		for _, e := range []connectors.Endpoint{many, large} {
			var limit *connectors.LimitError
			l := connectors.Link{Kind: "issue", Ours: "fnd_of_another_node", Theirs: "x", Note: make([]byte, connectors.MaxLinkNote)}
			if err := few().SetLink(t.Context(), e, l); !errors.As(err, &limit) {
				t.Errorf("by another node: %v", err)
			}
		}

		// The organization is part of every key, whatever the ID.
		foreign := one
		foreign.Organization = bolt.ID
		if err := m.SetState(t.Context(), one, connectors.State{Key: "k", Value: []byte("our secret")}); err != nil {
			t.Fatal(err)
		}
		if s, err := m.State(t.Context(), foreign, "k"); err != nil || s.Version != 0 {
			t.Errorf("another organization reads %+v, %v", s, err)
		}

		// Values are sealed, and an exchange of the key reaches them.
		rows := func(query string, args ...any) (n int) {
			r, err := db.Client.QueryContext(ctx, query, args...)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			for r.Next() {
				if err := r.Scan(&n); err != nil {
					t.Fatal(err)
				}
			}
			return n
		}
		if n := rows("SELECT count(*) FROM connector_states WHERE value = $1", []byte("our secret")); n != 0 {
			t.Error("a state is in the clear")
		}
		if err := box.AddKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := box.Promote(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n, err := db.Reseal(t.Context(), box); err != nil || n < connectors.MaxStates {
			t.Errorf("%d were sealed anew: %v", n, err)
		}
		if err := box.DropOld(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s, err := m.State(t.Context(), one, "k"); err != nil || string(s.Value) != "our secret" {
			t.Errorf("after the exchange: %+v, %v", s, err)
		}

		// What an endpoint had goes with it, and nothing comes after.
		if err := db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error { return tx.Endpoint.DeleteOneID(one.ID).Exec(ctx) }); err != nil {
			t.Fatal(err)
		}
		_ = m.SetState(t.Context(), one, connectors.State{Key: "late", Value: []byte("x")})
		_ = m.SetLink(t.Context(), one, connectors.Link{Kind: "issue", Ours: "fnd_1", Theirs: "late"})
		for _, table := range []string{"connector_states", "connector_links"} {
			if n := rows("SELECT count(*) FROM "+table+" WHERE owner = $1", one.ID); n != 0 {
				t.Errorf("%d rows of %s are left of an endpoint that is gone", n, table)
			}
			if n := rows("SELECT count(*) FROM "+table+" WHERE owner = $1", other.ID); n == 0 {
				t.Errorf("the rows of %s of another endpoint went too", table)
			}
		}
	})
}
