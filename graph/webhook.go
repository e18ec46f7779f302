package graph

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/webhook"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/viewer"
	graphgen "github.com/hookyard/hookyard/graph/gen"
	"github.com/hookyard/hookyard/server/flow"
)

// formats are the shapes in which events can be written down for the organization.
func (r *Resolver) formats(ctx context.Context) ([]*graphgen.Format, error) {
	var out []*graphgen.Format
	add := func(set *connectors.Set) {
		for _, f := range set.Formats() {
			out = append(out, &graphgen.Format{Name: f.Name(), EventTypes: eventTypes(f.EventTypes()), Handshake: handshake(f)})
		}
	}
	add(r.Connectors)
	packages, err := r.providers(ctx, r.DB.Client, false)
	for _, p := range packages {
		add(p.Provides)
	}
	return out, err
}

// format is the one of a name; nil when the organization has none. A new webhook needs a
// connector that is enabled.
func (r *Resolver) format(ctx context.Context, c *gen.Client, name string, exists bool) (connectors.Format, error) {
	set := r.Connectors
	if by := flow.Provider(name); by != "" {
		p, err := r.provider(ctx, c, by, exists)
		if p == nil {
			return nil, err
		}
		set = p.Provides
	}
	f, _ := set.Format(name)
	return f, nil
}

// formatFor is format, for a webhook that wants it now.
func (r *Resolver) formatFor(ctx context.Context, c *gen.Client, name string) (connectors.Format, error) {
	f, err := r.format(ctx, c, name, false)
	if err == nil && f == nil {
		err = badInput("input.format", "There is no format %q; see formats.", name)
	}
	return f, err
}

func eventTypes(types []connectors.EventType) []string {
	out := make([]string, len(types))
	for i, t := range types {
		out[i] = string(t)
	}
	return out
}

// checkTypes checks the kinds of events of a webhook; none are those that its format
// gives a new one. What a format cannot say of the others is skipped, and says so. The
// other rules of a webhook are its row's.
func checkTypes(f connectors.Format, types []string) ([]string, error) {
	if types == nil {
		return eventTypes(f.EventTypes()), nil
	}
	if len(types) == 0 {
		return nil, badInput("input.eventTypes", "Choose at least one kind of events.")
	}
	for i, t := range types {
		at := fmt.Sprintf("input.eventTypes[%d]", i)
		switch {
		case !connectors.EventType(t).Valid():
			return nil, badInput(at, "%q is no kind of events; see eventTypes.", t)
		case slices.Index(types, t) != i:
			return nil, badInput(at, "%s is there twice.", t)
		}
	}
	return types, nil
}

func (r *Resolver) createWebhook(ctx context.Context, in graphgen.CreateWebhookInput) (*gen.Webhook, string, error) {
	f, err := r.formatFor(ctx, r.DB.Client, in.Format)
	if err != nil {
		return nil, "", err
	}
	asked, err := asks(f, in.Handshake)
	if err != nil {
		return nil, "", err
	}
	secret, key, err := signingSecret(in.SigningSecret, textKeys(f))
	if err != nil {
		return nil, "", err
	}
	id := r.IDs.New(ids.Webhook)
	sealed, err := r.Secrets.SealJSON(id, webhook.FieldSigningSecrets, [][]byte{key})
	if err != nil {
		return nil, "", err
	}
	types, err := checkTypes(f, in.EventTypes)
	if err != nil {
		return nil, "", err
	}
	w, err := change(ctx, r, r.DB.Client.Webhook.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		c := tx.Webhook.Create().SetID(id).SetName(in.Name).SetNillableDescription(in.Description).SetNillableAssetGroupID(in.AssetGroupID).
			SetEndpointID(in.EndpointID).SetGlobal(in.Global).AddApplicationIDs(in.ApplicationIds...).AddScopeGroupIDs(in.ScopeGroupIds...).
			AddSourceIDs(in.SourceIds...).SetEventTypes(types).SetNillableMinSeverity(in.MinSeverity).SetNillableOnlyNew(in.OnlyNew).SetFormat(in.Format).
			SetNillableUnknownCounts(in.UnknownCounts).SetNillableTimeoutSeconds(in.TimeoutSeconds).SetSigningSecrets(sealed).SetHandshake(in.Handshake)
		if asked {
			c.SetState(webhook.StateUNVERIFIED).SetStateReason(notAsked)
		}
		if owner := viewer.FromContext(ctx).User(); owner != "" {
			c.SetOwnerID(owner)
		}
		if in.RetryOffsetsSeconds != nil {
			c.SetRetryOffsetsSeconds(in.RetryOffsetsSeconds)
		}
		return id, c.Exec(ctx)
	})
	if err == nil && asked {
		w, err = r.askNow(ctx, w)
	}
	return w, secret, err
}

func (r *Resolver) updateWebhook(ctx context.Context, in graphgen.UpdateWebhookInput) (*gen.Webhook, error) {
	ask := false
	w, err := change(ctx, r, r.DB.Client.Webhook.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		w, err := tx.Webhook.Get(ctx, in.ID)
		if err != nil {
			return "", err
		}
		u := tx.Webhook.UpdateOneID(in.ID).SetNillableName(in.Name).SetNillableDescription(in.Description).SetNillableEndpointID(in.EndpointID).
			SetNillableGlobal(in.Global).SetNillableMinSeverity(in.MinSeverity).SetNillableOnlyNew(in.OnlyNew).SetNillableFormat(in.Format).
			SetNillableUnknownCounts(in.UnknownCounts).SetNillableTimeoutSeconds(in.TimeoutSeconds)
		if group, given := in.AssetGroupID.ValueOK(); given && group == nil {
			u.ClearAssetGroup()
		} else if given {
			u.SetAssetGroupID(*group)
		}
		if in.ApplicationIds != nil {
			u.ClearApplications().AddApplicationIDs(in.ApplicationIds...)
		}
		if in.ScopeGroupIds != nil {
			u.ClearScopeGroups().AddScopeGroupIDs(in.ScopeGroupIds...)
		}
		if in.SourceIds != nil {
			u.ClearSources().AddSourceIDs(in.SourceIds...)
		}
		if in.RetryOffsetsSeconds != nil {
			u.SetRetryOffsetsSeconds(in.RetryOffsetsSeconds)
		}
		was, err := r.format(ctx, tx.Client(), w.Format, true)
		if err != nil {
			return "", err
		}
		f := was
		if in.Format != nil && *in.Format != w.Format {
			if f, err = r.formatFor(ctx, tx.Client(), *in.Format); err != nil {
				return "", err
			}
			if err := r.rekey(u, w, was, f); err != nil {
				return "", err
			}
		}
		if in.Format != nil || in.EventTypes != nil {
			types := w.EventTypes
			if in.EventTypes != nil {
				types = in.EventTypes
			}
			if types, err = checkTypes(f, types); err != nil {
				return "", err
			}
			u.SetEventTypes(types)
		}
		if ask, err = reask(u, w, &in, f); err != nil {
			return "", err
		}
		return in.ID, u.Exec(ctx)
	})
	if err == nil && ask {
		w, err = r.askNow(ctx, w)
	}
	return w, err
}

// setWebhookState moves a webhook from one of the states into another; one that is
// there already stays.
func (r *Resolver) setWebhookState(ctx context.Context, id, verb string, to webhook.State, from ...webhook.State) (*gen.Webhook, error) {
	ask := false
	w, err := change(ctx, r, r.DB.Client.Webhook.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		w, err := tx.Webhook.Get(ctx, id)
		switch {
		case err != nil:
			return "", err
		case w.State == to:
			return id, nil
		case !slices.Contains(from, w.State):
			return "", conflict("The webhook is %s, and cannot be %sd.", strings.ToLower(string(w.State)), verb)
		}
		u := tx.Webhook.UpdateOneID(id).SetState(to).SetStateReason("")
		f, err := r.format(ctx, tx.Client(), w.Format, true)
		if err != nil {
			return "", err
		}
		if asked, _ := asks(f, w.Handshake); to == webhook.StateACTIVE && asked && w.VerifiedAt == nil {
			ask = true
			u.SetState(webhook.StateUNVERIFIED).SetStateReason(notAsked)
		}
		return id, u.Exec(ctx)
	})
	if err == nil && ask {
		w, err = r.askNow(ctx, w)
	}
	return w, err
}

// secretPrefix begins a signing secret, as Standard Webhooks has it.
const secretPrefix = "whsec_"

// signingSecret reads a secret, or makes one; shown is how people copy it, key is what
// signs: what stands in base64 or, for formats that sign with it, the text itself.
func signingSecret(given *string, text bool) (shown string, key []byte, err error) {
	if given == nil {
		key = make([]byte, 32)
		_, _ = rand.Read(key) // never fails
		shown = secretPrefix + base64.StdEncoding.EncodeToString(key)
		if text {
			key = []byte(shown)
		}
		return shown, key, nil
	}
	if text {
		if n := len(*given); n < 16 || n > 256 || strings.ContainsFunc(*given, func(c rune) bool { return c < ' ' }) {
			return "", nil, badInput("input.signingSecret", "A signing secret of this format is a text of 16 to 256 characters.")
		}
		return *given, []byte(*given), nil
	}
	return standardSecret(given)
}

// standardSecret reads a secret as Standard Webhooks has it.
func standardSecret(given *string) (shown string, key []byte, err error) {
	text, ok := strings.CutPrefix(*given, secretPrefix)
	key, err = base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(key) < 24 || len(key) > 64 {
		return "", nil, badInput("input.signingSecret", "A signing secret is \"whsec_\" and 24 to 64 bytes in base64.")
	}
	return *given, key, nil
}

// explain answers why a webhook gets, or does not get, an event. Both must be visible.
func (r *Resolver) explain(ctx context.Context, webhookID, eventID string) (*graphgen.Explanation, error) {
	scope, err := rule.LedgerScope(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := r.DB.Client.Webhook.Get(ctx, webhookID); gen.IsNotFound(err) {
		return nil, notFound("webhookId", webhookID)
	} else if err != nil {
		return nil, err
	}
	if _, err := r.Events.Event(ctx, scope, eventID); err != nil {
		return nil, orNotFound(err, "eventId", eventID)
	}
	reasons, err := r.Explainer.Explain(ctx, viewer.FromContext(ctx).Organization, webhookID, eventID)
	if err != nil {
		return nil, err
	}
	rows, err := r.Deliveries.Deliveries(ctx, scope, flow.DeliveryFilter{Event: eventID, Webhooks: []string{webhookID}}, flow.Page{Limit: maxPage})
	if err != nil {
		return nil, err
	}
	out := &graphgen.Explanation{Matches: true, Reasons: pointers(reasons), Deliveries: pointers(rows)}
	for _, x := range reasons {
		out.Matches = out.Matches && x.Passed
	}
	return out, nil
}
