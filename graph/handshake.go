package graph

import (
	"context"
	"encoding/base64"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/webhook"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/viewer"
	graphgen "github.com/hookyard/hookyard/graph/gen"
	"github.com/hookyard/hookyard/server/flow"
)

// notAsked is why a webhook is unverified until its address has answered.
const notAsked = "The address has not been asked yet whether it wants events."

// handshake is what a format knows of them.
func handshake(f connectors.Format) graphgen.FormatHandshake {
	c, ok := f.(connectors.Challenger)
	switch {
	case !ok:
		return graphgen.FormatHandshakeNone
	case c.Required():
		return graphgen.FormatHandshakeRequired
	}
	return graphgen.FormatHandshakeOptional
}

// asks says whether the address of a webhook is asked; wanted is the webhook's own wish.
func asks(f connectors.Format, wanted bool) (bool, error) {
	switch handshake(f) {
	case graphgen.FormatHandshakeRequired:
		if !wanted {
			return true, badInput("input.handshake", "The format %s does not do without its handshake.", f.Name())
		}
		return true, nil
	case graphgen.FormatHandshakeOptional:
		return wanted, nil
	}
	return false, nil
}

// reask changes the state of a webhook that is updated, and says whether its address must
// be asked then: it is another one, or another format does the asking.
func reask(u *gen.WebhookUpdateOne, w *gen.Webhook, in *graphgen.UpdateWebhookInput, f connectors.Format) (ask bool, err error) {
	wanted := w.Handshake
	if in.Handshake != nil {
		wanted = *in.Handshake
		u.SetHandshake(wanted)
	}
	asked, err := asks(f, wanted)
	if err != nil {
		return false, err
	}
	moved := in.EndpointID != nil && *in.EndpointID != w.EndpointID || in.Format != nil && *in.Format != w.Format
	switch {
	case !asked && w.State == webhook.StateUNVERIFIED:
		u.SetState(webhook.StateACTIVE).SetStateReason("")
		u.ClearVerifiedAt()
	case !asked:
		u.ClearVerifiedAt()
	case moved || in.Handshake != nil && !w.Handshake:
		u.ClearVerifiedAt()
		if w.State == webhook.StateACTIVE || w.State == webhook.StateUNVERIFIED {
			u.SetState(webhook.StateUNVERIFIED).SetStateReason(notAsked)
			return true, nil
		}
	}
	return false, nil
}

// askNow asks the address of a webhook and returns the webhook as it is then.
func (r *Resolver) askNow(ctx context.Context, w *gen.Webhook) (*gen.Webhook, error) {
	if _, err := r.Handshakes.Verify(ctx, viewer.FromContext(ctx).Organization, w.ID); err != nil {
		return nil, err
	}
	return r.DB.Client.Webhook.Get(ctx, w.ID)
}

// verifyWebhook asks on request. Whoever may change the webhook may do it.
func (r *Resolver) verifyWebhook(ctx context.Context, id string) (*graphgen.VerifyWebhookPayload, error) {
	w, err := change(ctx, r, r.DB.Client.Webhook.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		w, err := tx.Webhook.Get(ctx, id)
		if err != nil {
			return "", err
		}
		f, err := r.format(ctx, tx.Client(), w.Format, true)
		if err != nil {
			return "", err
		}
		if handshake(f) == graphgen.FormatHandshakeNone {
			return "", badInput("input.id", "The format %s knows no handshake, so there is nothing to verify.", w.Format)
		}
		return id, tx.Webhook.UpdateOneID(id).SetUpdatedAt(time.Now().UTC().Truncate(time.Microsecond)).Exec(ctx)
	})
	if err != nil {
		return nil, err
	}
	message, err := r.Handshakes.Verify(ctx, viewer.FromContext(ctx).Organization, id)
	if err != nil {
		return nil, err
	}
	out := &graphgen.VerifyWebhookPayload{Ok: message == "", Message: message}
	if out.Webhook, err = r.DB.Client.Webhook.Get(ctx, w.ID); err != nil {
		return nil, err
	}
	scope, err := rule.LedgerScope(ctx)
	if err != nil {
		return nil, err
	}
	skipped, err := r.Redeliverer.RedeliverMatching(ctx, scope, flow.DeliveryFilter{Webhooks: []string{id}, States: []flow.DeliveryState{flow.SkippedState}}, maxBulk, true)
	out.Skipped = skipped.Matched
	return out, err
}

// textKeys says whether a format signs with the secret's text.
func textKeys(f connectors.Format) bool {
	_, ok := f.(connectors.TextKeyer)
	return ok
}

// rekey keeps a webhook's secrets, as people know them, the same under another format.
func (r *Resolver) rekey(u *gen.WebhookUpdateOne, w *gen.Webhook, was, f connectors.Format) error {
	from, to := textKeys(was), textKeys(f)
	if from == to {
		return nil
	}
	var keys [][]byte
	if err := r.Secrets.UnsealJSON(w.ID, webhook.FieldSigningSecrets, w.SigningSecrets, &keys); err != nil {
		return err
	}
	for i, k := range keys {
		if to {
			keys[i] = []byte(secretPrefix + base64.StdEncoding.EncodeToString(k))
			continue
		}
		shown := string(k)
		_, key, err := standardSecret(&shown)
		if err != nil {
			return badInput("input.format", "The format %s cannot sign with this webhook's secret, which is a text of your own: give it a new one first (rotateWebhookSecret).", f.Name())
		}
		keys[i] = key
	}
	sealed, err := r.Secrets.SealJSON(w.ID, webhook.FieldSigningSecrets, keys)
	if err != nil {
		return err
	}
	u.SetSigningSecrets(sealed)
	return nil
}
