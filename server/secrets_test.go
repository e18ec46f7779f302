package server

import (
	"context"
	"testing"
	"time"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/source"
	"github.com/hookyard/hookyard/ent/gen/webhook"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
)

// onBoth runs a test with a hub on each database.
func onBoth(t *testing.T, test func(*testing.T, Config)) {
	t.Run("sqlite", func(t *testing.T) { test(t, Config{}) })
	t.Run("postgres", func(t *testing.T) { test(t, Config{DatabaseURL: storetest.Postgres(t)}) })
}

// sealedRows makes a webhook and a source with the secrets, the old ones counting until a
// time.
func sealedRows(t *testing.T, h *Hub, until time.Time, keys ...string) (hook, src string) {
	t.Helper()
	list := make([][]byte, len(keys))
	for i, k := range keys {
		list[i] = []byte(k)
	}
	seal := func(id, field string, v any) []byte {
		b, err := h.secrets.SealJSON(id, field, v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	ctx := viewer.SystemContext(t.Context())
	org := h.db.Client.Organization.Query().OnlyIDX(ctx)
	hook, src = h.db.NewID(ids.Webhook), h.db.NewID(ids.Source)
	if err := h.db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
		id := h.db.NewID(ids.Endpoint)
		if err := tx.Endpoint.Create().SetID(id).SetOrganizationID(org).SetName(id).SetConnector("webhook").
			SetSecrets(seal(id, "secrets", map[string]string{"header:X-Key": keys[0]})).Exec(ctx); err != nil {
			return err
		}
		if err := tx.Webhook.Create().SetID(hook).SetOrganizationID(org).SetName("hook").SetEndpointID(id).SetFormat("hookyard").
			SetSigningSecrets(seal(hook, webhook.FieldSigningSecrets, list)).SetOldSecretUntil(until).Exec(ctx); err != nil {
			return err
		}
		return tx.Source.Create().SetID(src).SetOrganizationID(org).SetName(src).SetKind("holm").SetTokenHash(src).
			SetSecrets(seal(src, source.FieldSecrets, list)).SetAuthorization(seal(src, source.FieldAuthorization, keys[0])).SetOldSecretsUntil(until).Exec(ctx)
	}); err != nil {
		t.Fatal(err)
	}
	return hook, src
}

// An old secret whose time is over is forgotten, also by a hub that was down then; one
// whose time is not stays.
func TestOldSecretsAreForgotten(t *testing.T) {
	onBoth(t, func(t *testing.T, cfg Config) {
		h := openHub(t, cfg)
		over, _ := sealedRows(t, h, time.Now().Add(-time.Minute), "new", "old")
		still, stillSource := sealedRows(t, h, time.Now().Add(time.Hour), "new", "old")
		if err := h.forgetSecrets(t.Context()); err != nil {
			t.Fatal(err)
		}
		w, err := worlds{db: h.db, secrets: h.secrets}.World(t.Context(), h.db.Client.Organization.Query().OnlyIDX(viewer.SystemContext(t.Context())))
		if err != nil {
			t.Fatal(err)
		}
		if k := w.Webhooks[over]; len(k.Keys) != 1 || string(k.Keys[0].Reveal()) != "new" || !k.OldKeys.IsZero() {
			t.Errorf("over: %d keys until %v", len(k.Keys), k.OldKeys)
		}
		if k := w.Webhooks[still]; len(k.Keys) != 2 || k.OldKeys.IsZero() {
			t.Errorf("not over: %d keys until %v", len(k.Keys), k.OldKeys)
		}
		if s := w.Sources[stillSource]; len(s.Secrets) != 2 || s.OldSecrets.IsZero() {
			t.Errorf("not over: %d secrets until %v", len(s.Secrets), s.OldSecrets)
		}
	})
}
