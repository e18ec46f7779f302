package graph

import (
	"context"
	"time"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/source"
	"github.com/hookyard/hookyard/ent/gen/webhook"
	graphgen "github.com/hookyard/hookyard/graph/gen"
)

// maxOverlap is for how long an old secret may count beside a new one.
const maxOverlap = 30 * 24 * time.Hour

// overlap puts a new secret in front of the one that was in force, which counts until a
// time; nil: there is no other any more.
func overlap(fresh []byte, present [][]byte, seconds int) (keys [][]byte, until *time.Time, err error) {
	d := time.Duration(seconds) * time.Second
	switch {
	case seconds < 0 || seconds > int(maxOverlap/time.Second):
		return nil, nil, badInput("input.overlapSeconds", "The old secret counts for 0 to %d seconds more.", int(maxOverlap/time.Second))
	case seconds == 0 || len(present) == 0:
		return [][]byte{fresh}, nil, nil
	}
	ends := time.Now().UTC().Add(d).Truncate(time.Microsecond)
	return [][]byte{fresh, present[0]}, &ends, nil
}

// errRotated is for two that change a secret at once: each would show one, and one of
// them would be worth nothing.
func errRotated(err error) error {
	if gen.IsNotFound(err) {
		return conflict("Somebody else has just changed the secret; look before you do it again.")
	}
	return err
}

func (r *Resolver) rotateWebhookSecret(ctx context.Context, in graphgen.RotateWebhookSecretInput) (*gen.Webhook, string, error) {
	var secret string
	w, err := change(ctx, r, r.DB.Client.Webhook.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		w, err := tx.Webhook.Get(ctx, in.ID)
		if err != nil {
			return "", err
		}
		f, err := r.format(ctx, tx.Client(), w.Format, true)
		if err != nil {
			return "", err
		}
		shown, key, err := signingSecret(nil, textKeys(f))
		if err != nil {
			return "", err
		}
		secret = shown
		var present [][]byte
		if err := r.Secrets.UnsealJSON(w.ID, webhook.FieldSigningSecrets, w.SigningSecrets, &present); err != nil {
			return "", err
		}
		keys, until, err := overlap(key, present, in.OverlapSeconds)
		if err != nil {
			return "", err
		}
		sealed, err := r.Secrets.SealJSON(w.ID, webhook.FieldSigningSecrets, keys)
		if err != nil {
			return "", err
		}
		u := tx.Webhook.UpdateOne(w).SetSigningSecrets(sealed)
		if until == nil {
			u.ClearOldSecretUntil()
		} else {
			u.SetOldSecretUntil(*until)
		}
		if w.SigningSecrets == nil {
			u.Where(webhook.SigningSecretsIsNil())
		} else {
			u.Where(webhook.SigningSecrets(w.SigningSecrets))
		}
		return w.ID, errRotated(u.Exec(ctx))
	})
	return w, secret, err
}

func (r *Resolver) rotateSourceSecret(ctx context.Context, in graphgen.RotateSourceSecretInput) (*gen.Source, string, error) {
	secret, _, err := signingSecret(nil, false)
	if err != nil {
		return nil, "", err
	}
	if in.Secret != nil {
		if secret = *in.Secret; secret == "" {
			return nil, "", badInput("input.secret", "A secret cannot be empty.")
		}
	}
	s, err := change(ctx, r, r.DB.Client.Source.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		s, err := tx.Source.Get(ctx, in.ID)
		if err != nil {
			return "", err
		}
		var present [][]byte
		if err := r.Secrets.UnsealJSON(s.ID, source.FieldSecrets, s.Secrets, &present); err != nil {
			return "", err
		}
		keys, until, err := overlap([]byte(secret), present, in.OverlapSeconds)
		if err != nil {
			return "", err
		}
		sealed, err := r.Secrets.SealJSON(s.ID, source.FieldSecrets, keys)
		if err != nil {
			return "", err
		}
		u := tx.Source.UpdateOne(s).SetSecrets(sealed)
		if until == nil {
			u.ClearOldSecretsUntil()
		} else {
			u.SetOldSecretsUntil(*until)
		}
		if s.Secrets == nil {
			u.Where(source.SecretsIsNil())
		} else {
			u.Where(source.Secrets(s.Secrets))
		}
		return s.ID, errRotated(u.Exec(ctx))
	})
	return s, secret, err
}
