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
	"github.com/hookyard/hookyard/ent/gen/application"
	"github.com/hookyard/hookyard/ent/gen/webhook"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/viewer"
	graphgen "github.com/hookyard/hookyard/graph/gen"
	"github.com/hookyard/hookyard/server/flow"
)

// Limits of a webhook's timetable.
const (
	maxRetries     = 20
	maxRetryOffset = 7 * 24 * 3600 // seconds
)

// formats are the shapes in which events can be written down.
func (r *Resolver) formats() []*graphgen.Format {
	var out []*graphgen.Format
	for _, f := range r.Connectors.Formats() {
		out = append(out, &graphgen.Format{Name: f.Name(), EventTypes: eventTypes(f.EventTypes())})
	}
	return out
}

func eventTypes(types []connectors.EventType) []string {
	out := make([]string, len(types))
	for i, t := range types {
		out[i] = string(t)
	}
	return out
}

// draftWebhook is a webhook as it will be.
type draftWebhook struct {
	group       string // "" organization
	endpoint    string
	global      bool
	apps        []string
	groups      []string
	sources     []string
	types       []string
	minSeverity string
	format      string
	retries     []int
}

// check holds the webhook against the rules that its row cannot know: its level, its
// scopes, what its format can say. What it refers to must exist, as far as the viewer
// sees; the rules of the row check that once more.
func (d *draftWebhook) check(ctx context.Context, r *Resolver, tx *gen.Tx) error {
	if err := d.checkLevel(ctx, tx); err != nil {
		return err
	}
	format, ok := r.Connectors.Format(d.format)
	if !ok {
		return badInput("input.format", "There is no format %q; see formats.", d.format)
	}
	can := eventTypes(format.EventTypes())
	if d.types == nil {
		d.types = can
	}
	if len(d.types) == 0 {
		return badInput("input.eventTypes", "Choose at least one kind of events.")
	}
	for i, t := range d.types {
		at := fmt.Sprintf("input.eventTypes[%d]", i)
		if !connectors.EventType(t).Valid() {
			return badInput(at, "%q is no kind of events; see eventTypes.", t)
		}
		if !slices.Contains(can, t) {
			return badInput(at, "The format %s cannot say %s; it can say %s.", d.format, t, strings.Join(can, ", "))
		}
	}
	if d := firstDuplicate(d.types); d != "" {
		return badInput("input.eventTypes", "%s is there twice.", d)
	}
	if connectors.Severity(d.minSeverity).Rank() < 0 {
		return badInput("input.minSeverity", "%q is no severity: info, low, medium, high or critical.", d.minSeverity)
	}
	if len(d.retries) > maxRetries {
		return badInput("input.retryOffsetsSeconds", "At most %d attempts more.", maxRetries)
	}
	for i, s := range d.retries {
		if s < 1 || s > maxRetryOffset || i > 0 && s <= d.retries[i-1] {
			return badInput(fmt.Sprintf("input.retryOffsetsSeconds[%d]", i), "The offsets must ascend, from 1 second to 7 days.")
		}
	}
	return nil
}

func (d *draftWebhook) checkLevel(ctx context.Context, tx *gen.Tx) error {
	if d.global && len(d.apps)+len(d.groups) > 0 {
		return badInput("input.global", "A global webhook takes all events of its level, so it has no scopes: choose one of both.")
	}
	e, err := tx.Endpoint.Get(ctx, d.endpoint)
	if gen.IsNotFound(err) {
		return badInput("input.endpointId", "There is no endpoint %q here.", d.endpoint)
	} else if err != nil {
		return err
	}
	if level := or(e.AssetGroupID); level != "" && level != d.group {
		return badInput("input.endpointId", "The endpoint belongs to another asset group than the webhook.")
	}
	for field, list := range map[string][]string{"input.applicationIds": d.apps, "input.scopeGroupIds": d.groups, "input.sourceIds": d.sources} {
		if twice := firstDuplicate(list); twice != "" {
			return badInput(field, "%s is there twice.", twice)
		}
	}
	if d.group == "" {
		return nil
	}
	if len(d.groups) > 0 {
		return badInput("input.scopeGroupIds", "Only the organization's webhooks have asset groups as scopes.")
	}
	n, err := tx.Application.Query().Where(application.IDIn(d.apps...), application.AssetGroupID(d.group)).Count(ctx)
	if err != nil {
		return err
	}
	if n != len(d.apps) {
		return badInput("input.applicationIds", "A group's webhook takes only applications of its group.")
	}
	return nil
}

func (r *Resolver) createWebhook(ctx context.Context, in graphgen.CreateWebhookInput) (*gen.Webhook, string, error) {
	secret, key, err := signingSecret(in.SigningSecret)
	if err != nil {
		return nil, "", err
	}
	id := r.IDs.New(ids.Webhook)
	sealed, err := r.Secrets.SealJSON(id, webhook.FieldSigningSecrets, [][]byte{key})
	if err != nil {
		return nil, "", err
	}
	w, err := change(ctx, r, r.DB.Client.Webhook.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		d := draftWebhook{group: or(in.AssetGroupID), endpoint: in.EndpointID, global: in.Global, apps: in.ApplicationIds, groups: in.ScopeGroupIds,
			sources: in.SourceIds, types: in.EventTypes, minSeverity: or(in.MinSeverity), format: in.Format, retries: in.RetryOffsetsSeconds}
		if err := d.check(ctx, r, tx); err != nil {
			return "", err
		}
		c := tx.Webhook.Create().SetID(id).SetName(in.Name).SetNillableDescription(in.Description).SetNillableAssetGroupID(in.AssetGroupID).
			SetEndpointID(in.EndpointID).SetGlobal(in.Global).AddApplicationIDs(in.ApplicationIds...).AddScopeGroupIDs(in.ScopeGroupIds...).
			AddSourceIDs(in.SourceIds...).SetEventTypes(d.types).SetMinSeverity(d.minSeverity).SetNillableOnlyNew(in.OnlyNew).SetFormat(in.Format).
			SetNillableUnknownCounts(in.UnknownCounts).SetNillableTimeoutSeconds(in.TimeoutSeconds).SetSigningSecrets(sealed)
		if in.RetryOffsetsSeconds != nil {
			c.SetRetryOffsetsSeconds(in.RetryOffsetsSeconds)
		}
		return id, c.Exec(ctx)
	})
	return w, secret, err
}

func (r *Resolver) updateWebhook(ctx context.Context, in graphgen.UpdateWebhookInput) (*gen.Webhook, error) {
	return change(ctx, r, r.DB.Client.Webhook.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		w, err := tx.Webhook.Query().Where(webhook.ID(in.ID)).WithApplications().WithScopeGroups().WithSources().Only(ctx)
		if err != nil {
			return "", err
		}
		d := draftWebhook{group: or(w.AssetGroupID), endpoint: w.EndpointID, global: w.Global, types: w.EventTypes,
			minSeverity: w.MinSeverity, format: w.Format, retries: w.RetryOffsetsSeconds}
		for _, a := range w.Edges.Applications {
			d.apps = append(d.apps, a.ID)
		}
		for _, g := range w.Edges.ScopeGroups {
			d.groups = append(d.groups, g.ID)
		}
		u := tx.Webhook.UpdateOneID(in.ID).SetNillableName(in.Name).SetNillableDescription(in.Description).SetNillableEndpointID(in.EndpointID).
			SetNillableGlobal(in.Global).SetNillableMinSeverity(in.MinSeverity).SetNillableOnlyNew(in.OnlyNew).SetNillableFormat(in.Format).
			SetNillableUnknownCounts(in.UnknownCounts).SetNillableTimeoutSeconds(in.TimeoutSeconds)
		if group, given := in.AssetGroupID.ValueOK(); given {
			if d.group = or(group); group == nil {
				u.ClearAssetGroup()
			} else {
				u.SetAssetGroupID(*group)
			}
		}
		set(&d.endpoint, in.EndpointID)
		set(&d.global, in.Global)
		set(&d.minSeverity, in.MinSeverity)
		set(&d.format, in.Format)
		if in.ApplicationIds != nil {
			d.apps = in.ApplicationIds
			u.ClearApplications().AddApplicationIDs(d.apps...)
		}
		if in.ScopeGroupIds != nil {
			d.groups = in.ScopeGroupIds
			u.ClearScopeGroups().AddScopeGroupIDs(d.groups...)
		}
		if in.SourceIds != nil {
			d.sources = in.SourceIds
			u.ClearSources().AddSourceIDs(d.sources...)
		}
		if in.EventTypes != nil {
			d.types = in.EventTypes
			u.SetEventTypes(d.types)
		}
		if in.RetryOffsetsSeconds != nil {
			d.retries = in.RetryOffsetsSeconds
			u.SetRetryOffsetsSeconds(d.retries)
		}
		if err := d.check(ctx, r, tx); err != nil {
			return "", err
		}
		return in.ID, u.Exec(ctx)
	})
}

// set changes what was given.
func set[T any](to *T, given *T) {
	if given != nil {
		*to = *given
	}
}

// setWebhookState moves a webhook from one of the states into another; one that is
// there already stays.
func (r *Resolver) setWebhookState(ctx context.Context, id, verb string, to webhook.State, from ...webhook.State) (*gen.Webhook, error) {
	return change(ctx, r, r.DB.Client.Webhook.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		w, err := tx.Webhook.Get(ctx, id)
		switch {
		case err != nil:
			return "", err
		case w.State == to:
			return id, nil
		case !slices.Contains(from, w.State):
			return "", conflict("The webhook is %s, and cannot be %sd.", strings.ToLower(string(w.State)), verb)
		}
		return id, tx.Webhook.UpdateOneID(id).SetState(to).SetStateReason("").Exec(ctx)
	})
}

func (r *Resolver) rotateWebhookSecret(ctx context.Context, id string) (*gen.Webhook, string, error) {
	secret, key, err := signingSecret(nil)
	if err != nil {
		return nil, "", err
	}
	sealed, err := r.Secrets.SealJSON(id, webhook.FieldSigningSecrets, [][]byte{key})
	if err != nil {
		return nil, "", err
	}
	w, err := change(ctx, r, r.DB.Client.Webhook.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		return id, tx.Webhook.UpdateOneID(id).SetSigningSecrets(sealed).Exec(ctx)
	})
	return w, secret, err
}

// secretPrefix begins a signing secret, as Standard Webhooks has it.
const secretPrefix = "whsec_"

// signingSecret reads a secret, or makes one; shown is how people copy it, key is what signs.
func signingSecret(given *string) (shown string, key []byte, err error) {
	if given == nil {
		key = make([]byte, 32)
		_, _ = rand.Read(key) // never fails
		return secretPrefix + base64.StdEncoding.EncodeToString(key), key, nil
	}
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
