package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/webhook"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/flow"
)

// Only an address that says no takes a webhook's agreement back; one that could not be
// asked does not, on whichever node and for whatever reason.
func TestWhatIsNotKnownTakesNothingBack(t *testing.T) {
	db := storetest.Open(t, store.Config{DataDir: t.TempDir()})
	ctx := viewer.SystemContext(t.Context())
	no, unknown := errors.New("it said no"), fmt.Errorf("no agent is linked: %w", flow.ErrUnavailable)
	for i, c := range []struct {
		was     webhook.State
		refusal error
		want    webhook.State
		kept    bool // that it was verified
	}{
		{webhook.StateACTIVE, unknown, webhook.StateACTIVE, true},
		{webhook.StatePAUSED, unknown, webhook.StatePAUSED, true},
		{webhook.StateUNVERIFIED, unknown, webhook.StateUNVERIFIED, false},
		{webhook.StateACTIVE, no, webhook.StateUNVERIFIED, false},
		{webhook.StatePAUSED, no, webhook.StatePAUSED, false},
		{webhook.StateUNVERIFIED, nil, webhook.StateACTIVE, true},
	} {
		var hook *gen.Webhook
		if err := db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
			org := tx.Organization.Create().SetName(fmt.Sprint("Acme ", i)).SaveX(ctx)
			e := tx.Endpoint.Create().SetOrganizationID(org.ID).SetName("e").SetConnector("webhook").SetURL("https://example.com").SaveX(ctx)
			create := tx.Webhook.Create().SetOrganizationID(org.ID).SetName("w").SetFormat("apviso").SetEndpoint(e).SetState(c.was)
			if c.was != webhook.StateUNVERIFIED {
				create.SetVerifiedAt(time.Now().UTC())
			}
			hook = create.SaveX(ctx)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		h := shaking(db, hook, connectors.Grant{}, c.refusal)
		message, err := h.Verify(ctx, hook.OrganizationID, hook.ID)
		if err != nil || (message == "") != (c.refusal == nil) {
			t.Errorf("%s, %v: it says %q, %v", c.was, c.refusal, message, err)
		}
		now := db.Client.Webhook.GetX(ctx, hook.ID)
		if now.State != c.want || (now.VerifiedAt != nil) != c.kept || (now.State == webhook.StateUNVERIFIED) != (now.StateReason != "") {
			t.Errorf("%s, %v: it is %s %q, verified %v", c.was, c.refusal, now.State, now.StateReason, now.VerifiedAt)
		}
	}
}

// The rate that an address agrees to holds from then on, unless the endpoint's own is lower.
func TestGrantedRateIsKept(t *testing.T) {
	db := storetest.Open(t, store.Config{DataDir: t.TempDir()})
	ctx := viewer.SystemContext(t.Context())
	for i, c := range []struct {
		was       float64
		granted   int
		want      float64
		wantBurst int
	}{{0, 0, 0, 5}, {0, 120, 2, 1}, {10, 120, 2, 1}, {1, 120, 1, 5}} {
		var hook *gen.Webhook
		if err := db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
			org := tx.Organization.Create().SetName(fmt.Sprint("Acme ", i)).SaveX(ctx)
			e := tx.Endpoint.Create().SetOrganizationID(org.ID).SetName("e").SetConnector("webhook").SetURL("https://example.com").SetRatePerSecond(c.was).SetBurst(5).SaveX(ctx)
			hook = tx.Webhook.Create().SetOrganizationID(org.ID).SetName("w").SetFormat("cloudevents").SetEndpoint(e).SetState(webhook.StateUNVERIFIED).SaveX(ctx)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		h := shaking(db, hook, connectors.Grant{PerMinute: c.granted}, nil)
		if message, err := h.Verify(ctx, hook.OrganizationID, hook.ID); err != nil || message != "" {
			t.Errorf("%+v: %s, %v", c, message, err)
		}
		if e := db.Client.Endpoint.GetX(ctx, hook.EndpointID); e.RatePerSecond != c.want || e.Burst != c.wantBurst {
			t.Errorf("%+v: at most %v a second, %d at once", c, e.RatePerSecond, e.Burst)
		}
	}
}

// shaking are handshakes of a webhook with an address that answers as told.
func shaking(db *store.DB, hook *gen.Webhook, grant connectors.Grant, refusal error) handshakes {
	return handshakes{db: db, clock: clockwork.NewFakeClock(), log: slog.New(slog.DiscardHandler),
		ask: func(context.Context, string, string) (connectors.Grant, error) { return grant, refusal },
		world: func(string) *flow.World {
			return &flow.World{Webhooks: map[string]*flow.Webhook{hook.ID: {ID: hook.ID, Format: hook.Format, Endpoint: hook.EndpointID}},
				Endpoints: map[string]*flow.Endpoint{hook.EndpointID: {URL: "https://example.com"}}}
		}}
}
