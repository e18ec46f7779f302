package server

import (
	"context"
	"crypto/ed25519"
	"fmt"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/signingkey"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/auth"
)

// openAuth reads the keys that tokens are signed with, and makes the first one.
func (h *Hub) openAuth(ctx context.Context) (*auth.Authenticator, error) {
	ctx = viewer.SystemContext(ctx)
	keys, err := h.signingKeys(ctx)
	if err == nil && len(keys) == 0 {
		if err = h.firstSigningKey(ctx); err == nil {
			keys, err = h.signingKeys(ctx)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the signing keys: %w", err)
	}
	return auth.New(auth.Config{Directory: newDirectory(h.db.Client, h.clock), Keys: keys, Issuer: h.cfg.PublicURL, Clock: h.clock}), nil
}

// signingKeys returns the keys that are not retired, the newest first.
func (h *Hub) signingKeys(ctx context.Context) ([]auth.SigningKey, error) {
	rows, err := h.db.Client.SigningKey.Query().Where(signingkey.RetiredAtIsNil()).Order(gen.Desc(signingkey.FieldCreatedAt)).All(ctx)
	if err != nil {
		return nil, err
	}
	var keys []auth.SigningKey
	for _, row := range rows {
		seed, err := h.secrets.Unseal(row.ID, signingkey.FieldMaterial, row.Material)
		if err != nil {
			return nil, fmt.Errorf("open the key %s: %w", row.ID, err)
		}
		keys = append(keys, auth.SigningKey{ID: row.ID, Private: ed25519.NewKeyFromSeed(seed)})
	}
	return keys, nil
}

// firstSigningKey makes the key that all nodes sign with. Its ID is always the same, so
// that of several nodes that start at once one makes it and the others find it.
func (h *Hub) firstSigningKey(ctx context.Context) error {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	id := ids.Of(ids.SigningKey, "first")
	sealed, err := h.secrets.Seal(id, signingkey.FieldMaterial, private.Seed())
	if err != nil {
		return err
	}
	err = h.db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
		return tx.SigningKey.Create().SetID(id).SetAlgorithm("EdDSA").SetMaterial(sealed).Exec(ctx)
	})
	if gen.IsConstraintError(err) {
		return nil
	}
	return err
}
