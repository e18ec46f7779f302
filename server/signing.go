package server

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"time"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/signingkey"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/secret"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/auth"
)

// How nodes agree on the keys that tokens are signed with: each looks for new ones every
// few seconds, and none signs with a key that another may not know yet. An old key is
// believed until the last token that it signed has expired.
const (
	keysLookedAt = 3 * time.Second
	keySigns     = 10 * time.Second // after it was made
	keyRetires   = auth.MaxTokenLife + time.Minute
)

// openAuth reads the keys that tokens are signed with, and makes the first one.
func (h *Hub) openAuth(ctx context.Context) (err error) {
	keys := signingKeys{h.db, h.secrets, h.clock.Now}
	list, err := keys.read(ctx)
	if err == nil && len(list) == 0 {
		// Its ID is always the same, so that of several nodes that start at once one makes
		// it and the others find it.
		if err = keys.make(ctx, ids.Of(ids.SigningKey, "first")); err == nil || gen.IsConstraintError(err) {
			list, err = keys.read(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("read the signing keys: %w", err)
	}
	h.keys = auth.NewKeyring(list...)
	outside, err := h.openSingleSignOn()
	if err != nil {
		return err
	}
	h.auth = auth.New(auth.Config{Directory: newDirectory(h.db.Client, h.clock), Keys: h.keys, Issuer: h.cfg.PublicURL, Clock: h.clock, Outside: outside})
	kept := accounts{h.db, h.secrets, h.clock.Now}
	h.signIn = auth.NewSignIn(auth.SignInConfig{Accounts: kept, Factors: kept, Links: kept, Sessions: kept, Tokens: h.auth,
		Passwords: auth.NewPasswords(auth.DefaultEffort()), Clock: h.clock, Log: h.log, Observe: h.signedIn})
	h.doors, err = auth.NewDoors(h.signIn, h.cfg.PublicURL, h.log)
	return err
}

// keepAccess takes new keys up and removes what has expired, until ctx ends.
func (h *Hub) keepAccess(ctx context.Context) {
	keys, kept := signingKeys{h.db, h.secrets, h.clock.Now}, accounts{h.db, h.secrets, h.clock.Now}
	look, sweep := h.clock.NewTicker(keysLookedAt), h.clock.NewTicker(10*time.Minute)
	defer look.Stop()
	defer sweep.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-look.Chan():
			var list []auth.SigningKey
			if list, err = keys.read(ctx); err == nil && len(list) > 0 {
				h.keys.Replace(list)
			}
		case <-sweep.Chan():
			err = kept.forget(ctx)
		}
		if err != nil && ctx.Err() == nil {
			h.log.Warn("signing keys and sessions", "err", err)
		}
	}
}

// signingKeys keeps the keys, sealed.
type signingKeys struct {
	db      *store.DB
	secrets *secret.Box
	now     func() time.Time
}

// read returns the keys that are not retired, the newest first.
func (k signingKeys) read(ctx context.Context) ([]auth.SigningKey, error) {
	ctx = viewer.SystemContext(ctx)
	rows, err := k.db.Client.SigningKey.Query().Where(signingkey.Or(signingkey.RetiredAtIsNil(), signingkey.RetiredAtGT(k.now()))).
		Order(gen.Desc(signingkey.FieldCreatedAt)).All(ctx)
	if err != nil {
		return nil, err
	}
	var keys []auth.SigningKey
	for _, row := range rows {
		seed, err := k.secrets.Unseal(row.ID, signingkey.FieldMaterial, row.Material)
		if err != nil {
			return nil, fmt.Errorf("open the key %s: %w", row.ID, err)
		}
		keys = append(keys, auth.SigningKey{ID: row.ID, Private: ed25519.NewKeyFromSeed(seed), Signs: row.CreatedAt.Add(keySigns)})
	}
	return keys, nil
}

// make makes a key.
func (k signingKeys) make(ctx context.Context, id string) error {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	sealed, err := k.secrets.Seal(id, signingkey.FieldMaterial, private.Seed())
	if err != nil {
		return err
	}
	return k.db.WithTx(viewer.SystemContext(ctx), func(ctx context.Context, tx *gen.Tx) error {
		return tx.SigningKey.Create().SetID(id).SetCreatedAt(k.now().UTC()).SetAlgorithm("EdDSA").SetMaterial(sealed).Exec(ctx)
	})
}

// rotate makes a new key and retires the others: once no token of theirs can be valid
// any more, or at once.
func (k signingKeys) rotate(ctx context.Context, atOnce bool) (id string, err error) {
	now := k.now().UTC()
	retires := now.Add(keyRetires)
	if atOnce {
		retires = now
	}
	id = k.db.NewID(ids.SigningKey)
	if err := k.make(ctx, id); err != nil {
		return "", fmt.Errorf("make a signing key: %w", err)
	}
	err = k.db.WithTx(viewer.SystemContext(ctx), func(ctx context.Context, tx *gen.Tx) error {
		return tx.SigningKey.Update().Where(signingkey.IDNEQ(id), signingkey.Or(signingkey.RetiredAtIsNil(), signingkey.RetiredAtGT(retires))).SetRetiredAt(retires).Exec(ctx)
	})
	if err != nil {
		return "", fmt.Errorf("retire the older signing keys: %w", err)
	}
	return id, nil
}
