package store_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/secret"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
)

func administrator(ctx context.Context, org string) context.Context {
	return viewer.NewContext(ctx, &viewer.Viewer{ID: "usr_1", Organization: org, Role: viewer.Administrator, Permissions: viewer.Administrator.Permissions()})
}

func TestRevisionFollowsEveryChange(t *testing.T) {
	run := func(t *testing.T, cfg store.Config) {
		var told []string
		cfg.Changed = func(org string) { told = append(told, org) }
		db := storetest.Open(t, cfg)
		acme, bolt := newOrganization(t, db, "Acme"), newOrganization(t, db, "Bolt")
		ctx := administrator(t.Context(), acme.ID)
		revision := func(org string) int64 {
			t.Helper()
			all, err := db.Revisions(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return all[org]
		}
		if n := revision(acme.ID); n != 1 {
			t.Errorf("after its creation: revision %d", n)
		}
		var end *gen.Endpoint
		var key *gen.APIKey
		for i, step := range []func(context.Context, *gen.Tx) error{
			func(ctx context.Context, tx *gen.Tx) (err error) {
				end, err = tx.Endpoint.Create().SetName("e").SetConnector("webhook").Save(ctx)
				return err
			},
			func(ctx context.Context, tx *gen.Tx) error {
				return tx.Endpoint.UpdateOne(end).SetURL("https://x").Exec(ctx)
			},
			func(ctx context.Context, tx *gen.Tx) error { return tx.Endpoint.DeleteOne(end).Exec(ctx) },
			func(ctx context.Context, tx *gen.Tx) (err error) {
				key, err = tx.APIKey.Create().SetName("k").SetRole(viewer.Tester).SetPrefix("hy_").SetHash("h").Save(ctx)
				return err
			},
		} {
			if err := db.WithTx(ctx, step); err != nil {
				t.Fatal(err)
			}
			if n := revision(acme.ID); n != int64(i)+2 {
				t.Errorf("after step %d: revision %d", i, n)
			}
		}
		before := revision(acme.ID)
		if err := db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
			if err := tx.AssetGroup.Create().SetName("g").Exec(ctx); err != nil {
				return err
			}
			return errors.New("changed my mind")
		}); err == nil || err.Error() != "changed my mind" {
			t.Errorf("WithTx returned %v", err)
		}
		if err := db.Client.APIKey.UpdateOne(key).SetLastUsedAt(time.Now()).Exec(ctx); err != nil {
			t.Errorf("a key's use needs no transaction: %v", err)
		}
		if n := revision(acme.ID); n != before {
			t.Errorf("a transaction rolled back, or a key's use, raised the revision from %d to %d", before, n)
		}
		if err := db.Client.AssetGroup.Create().SetName("g").Exec(ctx); err == nil {
			t.Error("configuration was changed outside a transaction")
		}
		all, err := db.Revisions(t.Context())
		if err != nil || all[acme.ID] != before || all[bolt.ID] != 1 {
			t.Errorf("revisions %v, %v", all, err)
		}
		if want := []string{acme.ID, bolt.ID, acme.ID, acme.ID, acme.ID, acme.ID}; !slices.Equal(told, want) {
			t.Errorf("told of %v, want %v", told, want)
		}
	}
	t.Run("sqlite", func(t *testing.T) { run(t, store.Config{DataDir: t.TempDir()}) })
	t.Run("postgres", func(t *testing.T) { run(t, store.Config{DatabaseURL: storetest.Postgres(t)}) })
}

func TestOtherNodesAreNotified(t *testing.T) {
	db := storetest.Open(t, store.Config{DatabaseURL: storetest.Postgres(t)})
	conn, err := db.Pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), "LISTEN "+store.Channel); err != nil {
		t.Fatal(err)
	}
	org := newOrganization(t, db, "Acme")
	note, err := conn.Conn().WaitForNotification(t.Context())
	if err != nil || note.Payload != org.ID {
		t.Errorf("notified of %v, %v", note, err)
	}
}

func TestEndpointRevisionAndEmails(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx := administrator(t.Context(), newOrganization(t, db, "Acme").ID)
		if err := db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
			e := tx.Endpoint.Create().SetName("e").SetConnector("webhook").SaveX(ctx)
			if e = e.Update().SetURL("https://x").SaveX(ctx); e.Revision != 2 {
				t.Errorf("revision of the endpoint %d", e.Revision)
			}
			u := tx.User.Create().SetEmail(" Ann@Example.COM").SetRole(viewer.Manager).SaveX(ctx)
			if u.Email != "ann@example.com" || !strings.HasPrefix(u.ID, "usr_") {
				t.Errorf("user %s %s", u.ID, u.Email)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		err := db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
			return tx.User.Create().SetEmail("ANN@example.com").SetRole(viewer.Manager).Exec(ctx)
		})
		if !gen.IsConstraintError(err) {
			t.Errorf("the same address in other letters: %v", err)
		}
	})
}

func TestSnapshotStandsStill(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx := viewer.SystemContext(t.Context())
		newOrganization(t, db, "Acme")
		if err := db.Snapshot(ctx, func(ctx context.Context, tx *gen.Tx) error {
			first := tx.Organization.Query().CountX(ctx)
			newOrganization(t, db, "Bolt")
			if again := tx.Organization.Query().CountX(ctx); first != 1 || again != 1 {
				t.Errorf("saw %d, then %d", first, again)
			}
			if err := tx.SigningKey.Create().SetAlgorithm("EdDSA").SetMaterial([]byte("k")).Exec(ctx); err == nil {
				t.Error("wrote in a snapshot")
			}
			return nil
		}); db.Dialect == store.SQLite && err != nil { // PostgreSQL gives the transaction up after the refused write
			t.Fatal(err)
		}
	})
}

func TestKeyBelongsToItsDatabase(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		dir := t.TempDir()
		open := func(name string) *secret.Box {
			b, err := secret.Open(t.Context(), secret.Config{KeyFile: filepath.Join(dir, name)})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		for range 2 {
			if err := db.CheckKey(t.Context(), open("a")); err != nil {
				t.Errorf("the first key: %v", err)
			}
		}
		if err := db.CheckKey(t.Context(), open("b")); err == nil || !strings.Contains(err.Error(), "another key") {
			t.Errorf("another key: %v", err)
		}
	})
}

// A sealed secret that is copied to another row does not open there.
func TestSecretIsBoundToItsRow(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		box, err := secret.Open(t.Context(), secret.Config{KeyFile: filepath.Join(t.TempDir(), "secret.key")})
		if err != nil {
			t.Fatal(err)
		}
		ctx := administrator(t.Context(), newOrganization(t, db, "Acme").ID)
		if err := db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
			id := db.NewID("end")
			sealed, err := box.SealJSON(id, "secrets", map[string]string{"password": "hunter2"})
			if err != nil {
				return err
			}
			first := tx.Endpoint.Create().SetID(id).SetName("a").SetConnector("webhook").SetSecrets(sealed).SaveX(ctx)
			thief := tx.Endpoint.Create().SetName("b").SetConnector("webhook").SetSecrets(first.Secrets).SaveX(ctx)
			var values map[string]string
			if err := box.UnsealJSON(first.ID, "secrets", tx.Endpoint.GetX(ctx, id).Secrets, &values); err != nil || values["password"] != "hunter2" {
				t.Errorf("opened %v, %v", values, err)
			}
			if err := box.UnsealJSON(thief.ID, "secrets", thief.Secrets, &values); err == nil {
				t.Error("opened in another row")
			}
			if s := first.String(); strings.Contains(s, string(sealed)) {
				t.Errorf("the row prints its secrets: %s", s)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	})
}
