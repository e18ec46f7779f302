package server

import (
	"context"
	"fmt"
	"time"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/source"
	"github.com/hookyard/hookyard/ent/gen/webhook"
	"github.com/hookyard/hookyard/ent/viewer"
)

// keepSecrets takes a changed key file up and tells the other nodes which keys this one
// knows; and it forgets signing secrets whose time is over. Those have stopped counting by
// then: what sends and what verifies goes by the time itself.
func (h *Hub) keepSecrets(ctx context.Context) {
	look, sweep := h.clock.NewTicker(time.Second), h.clock.NewTicker(time.Minute)
	defer look.Stop()
	defer sweep.Stop()
	told := ""
	for {
		if _, err := h.secrets.Reload(ctx); err != nil && ctx.Err() == nil {
			h.log.Warn("the key file has changed and cannot be used; the keys stay as they were", "err", err)
		}
		if keys := h.secrets.Keys().String(); keys != told {
			if err := h.db.SetNodeKeys(ctx, h.cfg.NodeName, keys); err == nil {
				told = keys
			} else if ctx.Err() == nil {
				h.log.Warn("tell of this node's keys", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-look.Chan():
		case <-sweep.Chan():
			if err := h.forgetSecrets(ctx); err != nil && ctx.Err() == nil {
				h.log.Warn("forget old signing secrets", "err", err)
			}
		}
	}
}

func (h *Hub) forgetSecrets(ctx context.Context) error {
	ctx, now := viewer.SystemContext(ctx), h.clock.Now().UTC()
	hooks, err := h.db.Client.Webhook.Query().Where(webhook.OldSecretUntilLTE(now)).All(ctx)
	if err != nil {
		return fmt.Errorf("look for webhooks: %w", err)
	}
	for _, w := range hooks {
		sealed, err := h.onlyFirst(w.ID, webhook.FieldSigningSecrets, w.SigningSecrets)
		if err != nil {
			return err
		}
		// Unless somebody has changed it since, or another node has been here.
		err = h.db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
			return tx.Webhook.UpdateOne(w).Where(webhook.SigningSecrets(w.SigningSecrets)).SetSigningSecrets(sealed).ClearOldSecretUntil().Exec(ctx)
		})
		if err != nil && !gen.IsNotFound(err) {
			return fmt.Errorf("of webhook %s: %w", w.ID, err)
		}
	}
	sources, err := h.db.Client.Source.Query().Where(source.OldSecretsUntilLTE(now)).All(ctx)
	if err != nil {
		return fmt.Errorf("look for sources: %w", err)
	}
	for _, s := range sources {
		sealed, err := h.onlyFirst(s.ID, source.FieldSecrets, s.Secrets)
		if err != nil {
			return err
		}
		err = h.db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
			return tx.Source.UpdateOne(s).Where(source.Secrets(s.Secrets)).SetSecrets(sealed).ClearOldSecretsUntil().Exec(ctx)
		})
		if err != nil && !gen.IsNotFound(err) {
			return fmt.Errorf("of source %s: %w", s.ID, err)
		}
	}
	return nil
}

// onlyFirst seals the first of a list of secrets.
func (h *Hub) onlyFirst(id, field string, sealed []byte) ([]byte, error) {
	var keys [][]byte
	if err := h.secrets.UnsealJSON(id, field, sealed, &keys); err != nil {
		return nil, err
	}
	return h.secrets.SealJSON(id, field, keys[:min(len(keys), 1)])
}
