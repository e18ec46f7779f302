package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

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
	clock := clockwork.NewFakeClock()
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
				create.SetVerifiedAt(clock.Now().UTC())
			}
			hook = create.SaveX(ctx)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		h := handshakes{db: db, clock: clock, log: slog.New(slog.DiscardHandler),
			ask: func(context.Context, string, string) (connectors.Grant, error) { return connectors.Grant{}, c.refusal },
			world: func(string) *flow.World {
				return &flow.World{Webhooks: map[string]*flow.Webhook{hook.ID: {ID: hook.ID, Format: hook.Format, Endpoint: hook.EndpointID}},
					Endpoints: map[string]*flow.Endpoint{hook.EndpointID: {URL: "https://example.com"}}}
			}}
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
