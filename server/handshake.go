package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jonboulle/clockwork"
	"golang.org/x/sync/errgroup"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/webhook"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/flow"
)

// handshakes asks addresses and records what they answered, as the hub's own finding.
type handshakes struct {
	ask   func(ctx context.Context, org, webhook string) (connectors.Grant, error)
	world func(org string) *flow.World
	db    *store.DB
	clock clockwork.Clock
	log   *slog.Logger
}

// Verify is part of graph.Handshakes.
func (h handshakes) Verify(ctx context.Context, org, id string) (message string, err error) {
	w := h.world(org)
	if w == nil || w.Webhooks[id] == nil {
		return "", fmt.Errorf("verify webhook %s: %w", id, flow.ErrNotFound)
	}
	asked := w.Webhooks[id]
	address := ""
	if e := w.Endpoints[asked.Endpoint]; e != nil {
		address = e.URL
	}
	grant, refusal := h.ask(ctx, org, id)
	if errors.Is(refusal, flow.ErrNotFound) {
		return "", fmt.Errorf("verify webhook %s: %w", id, refusal)
	}
	if refusal != nil {
		message = capital(refusal.Error())
	}
	// What the address answered holds even when the one who wanted to know has gone.
	ctx = viewer.SystemContext(context.WithoutCancel(ctx))
	return message, h.db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
		now, err := tx.Webhook.Query().Where(webhook.ID(id), webhook.OrganizationID(org)).WithEndpoint().Only(ctx)
		switch {
		case gen.IsNotFound(err):
			return nil
		case err != nil:
			return err
		case now.Format != asked.Format || now.EndpointID != asked.Endpoint || now.Edges.Endpoint == nil || now.Edges.Endpoint.URL != address:
			return nil // who has changed it has it asked again
		}
		u := tx.Webhook.UpdateOneID(id)
		switch {
		case message == "":
			u.SetVerifiedAt(h.clock.Now().UTC().Truncate(time.Microsecond))
			if now.State == webhook.StateUNVERIFIED {
				u.SetState(webhook.StateACTIVE).SetStateReason("")
			}
			if err := h.keepTo(ctx, tx, now.Edges.Endpoint, grant); err != nil {
				return err
			}
		case !now.Handshake:
			return nil // it was only wanted to know
		case errors.Is(refusal, flow.ErrUnavailable) && now.State != webhook.StateUNVERIFIED:
			return nil // the address has not said no
		default:
			u.ClearVerifiedAt()
			if now.State == webhook.StateUNVERIFIED || now.State == webhook.StateACTIVE {
				u.SetState(webhook.StateUNVERIFIED).SetStateReason(message)
			}
		}
		return u.Exec(ctx)
	})
}

// keepTo lowers an endpoint's rate to what its address has agreed to.
func (h handshakes) keepTo(ctx context.Context, tx *gen.Tx, e *gen.Endpoint, grant connectors.Grant) error {
	perSecond := float64(grant.PerMinute) / 60
	if perSecond <= 0 || e.RatePerSecond > 0 && e.RatePerSecond <= perSecond {
		return nil
	}
	h.log.Info("an endpoint gets fewer events, as its address demands", "endpoint", e.ID, "at most per minute", grant.PerMinute)
	return tx.Endpoint.UpdateOneID(e.ID).SetRatePerSecond(perSecond).SetBurst(1).Exec(ctx)
}

// VerifyAll is part of graph.Handshakes. A few are asked at a time; each waits only for its
// own answer.
func (h handshakes) VerifyAll(ctx context.Context, org, endpoint string) error {
	w := h.world(org)
	if w == nil {
		return nil
	}
	const atOnce = 8
	var g errgroup.Group
	g.SetLimit(atOnce)
	for id, x := range w.Webhooks {
		if x.Endpoint == endpoint && x.State == flow.WebhookUnverified {
			g.Go(func() error {
				_, err := h.Verify(ctx, org, id)
				return err
			})
		}
	}
	return g.Wait()
}

// capital begins a sentence.
func capital(s string) string {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return s
	}
	return string(s[0]-'a'+'A') + s[1:]
}
