package store

import (
	"context"
	"fmt"
	"slices"

	"entgo.io/ent"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/application"
	"github.com/hookyard/hookyard/ent/gen/endpoint"
	"github.com/hookyard/hookyard/ent/gen/project"
	"github.com/hookyard/hookyard/ent/gen/webhook"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/viewer"
)

// maxRetries is how many times a delivery is tried again at most.
const maxRetries = 20

// consistent refuses a row that contradicts itself, its level or what refers to it.
// It looks at the row as it has become, in the transaction that is then given up.
func (db *DB) consistent(next ent.Mutator) ent.Mutator {
	return ent.MutateFunc(func(ctx context.Context, m ent.Mutation) (ent.Value, error) {
		v, err := next.Mutate(ctx, m)
		if err != nil {
			return nil, err
		}
		ctx = viewer.SystemContext(ctx) // also what the viewer does not see has to fit
		switch row := v.(type) {
		case *gen.Webhook:
			err = checkWebhook(ctx, row)
		case *gen.Endpoint:
			if c, ok := m.(interface{ Client() *gen.Client }); ok {
				err = checkEndpoint(ctx, c.Client(), row)
			}
		case *gen.Project:
			err = sameGroup(ctx, row.AssetGroupID, row.QueryApplication().Select(application.FieldAssetGroupID).String)
		case *gen.Trigger:
			err = sameGroup(ctx, row.AssetGroupID, row.QueryProject().Select(project.FieldAssetGroupID).String)
		case *gen.Run:
			if m.Op().Is(ent.OpCreate) {
				err = sameGroup(ctx, row.AssetGroupID, row.QueryProject().Select(project.FieldAssetGroupID).String)
			}
		case *gen.Presence:
			if c, ok := m.(interface{ Client() *gen.Client }); ok && m.Op().Is(ent.OpUpdateOne) {
				err = checkPresence(ctx, c.Client(), row)
			}
		case *gen.User:
			err = checkRole(row.Role, row.CustomRoleID)
		case *gen.APIKey:
			err = checkRole(row.Role, row.CustomRoleID)
		case *gen.CustomRole:
			err = checkPermissions(row.Permissions)
		}
		if err != nil {
			return nil, err
		}
		return v, nil
	})
}

func invalid(name, format string, args ...any) error {
	return gen.NewValidationError(name, fmt.Errorf(format, args...))
}

func checkWebhook(ctx context.Context, w *gen.Webhook) error {
	for _, t := range w.EventTypes {
		if !connectors.EventType(t).Valid() {
			return invalid("event_types", "%q is no kind of event", t)
		}
	}
	if o := w.RetryOffsetsSeconds; len(o) > maxRetries || !slices.IsSorted(o) || len(o) > 0 && o[0] < 1 {
		return invalid("retry_offsets_seconds", "there are at most %d offsets, each one greater than the one before", maxRetries)
	}
	apps, err := w.QueryApplications().Select(application.FieldAssetGroupID).Strings(ctx)
	if err != nil {
		return fmt.Errorf("look up the scopes: %w", err)
	}
	groups, err := w.QueryScopeGroups().Count(ctx)
	if err != nil {
		return fmt.Errorf("look up the scopes: %w", err)
	}
	endpoint, err := w.QueryEndpoint().WithSharedGroups().Only(ctx)
	if err != nil {
		return fmt.Errorf("look up the endpoint: %w", err)
	}
	switch level := value(w.AssetGroupID); {
	case w.Global && len(apps)+groups > 0:
		return invalid("global", "a webhook is either global or has scopes, not both")
	case level != "" && groups > 0:
		return invalid("scope_groups", "a webhook of an asset group takes applications of that group, and no asset groups, as its scopes")
	case level != "" && slices.ContainsFunc(apps, func(g string) bool { return g != level }):
		return invalid("applications", "a webhook of an asset group takes only applications of that group as its scopes")
	case !fits(endpoint, level):
		return invalid("endpoint", "the endpoint is of another level than the webhook and is not shared with the webhook's asset group")
	}
	return nil
}

// fits says whether a webhook of a level, "" the organization's, may use an endpoint.
// Whoever has access to an asset group has its endpoints in hand, so that the
// organization's events must not go there; what one group shares with another is
// between the two.
func fits(e *gen.Endpoint, level string) bool {
	return value(e.AssetGroupID) == level ||
		level != "" && slices.ContainsFunc(e.Edges.SharedGroups, func(g *gen.AssetGroup) bool { return g.ID == level })
}

// sameGroup refuses a row that would be in another asset group than what it belongs to.
func sameGroup(ctx context.Context, group string, of func(context.Context) (string, error)) error {
	is, err := of(ctx)
	if err != nil {
		return fmt.Errorf("look up the asset group of what it belongs to: %w", err)
	}
	if is != group {
		return invalid("asset_group", "it is in the asset group of its application and no other")
	}
	return nil
}

func checkEndpoint(ctx context.Context, c *gen.Client, e *gen.Endpoint) error {
	e, err := c.Endpoint.Query().Where(endpoint.ID(e.ID)).WithSharedGroups().WithPresence(withShared).Only(ctx)
	if err != nil {
		return fmt.Errorf("look up with whom the endpoint is shared: %w", err)
	}
	if e.Edges.Presence != nil && !serves(e.Edges.Presence, e) {
		return invalid("presence", "the Presence is of another level than the endpoint, and is not shared with every asset group whose webhooks may use the endpoint")
	}
	var used []*gen.Webhook
	if used, err = c.Webhook.Query().Where(webhook.EndpointID(e.ID)).Select(webhook.FieldAssetGroupID).All(ctx); err != nil {
		return fmt.Errorf("look up the webhooks of the endpoint: %w", err)
	}
	for _, w := range used {
		if !fits(e, value(w.AssetGroupID)) {
			return &rule.Conflict{Noun: "endpoint", Reason: "webhooks of another level deliver to it; change or delete those first"}
		}
	}
	return nil
}

// serves says whether a Presence may make an endpoint's calls: those of its level, and of
// every asset group that the endpoint is shared with.
func serves(p *gen.Presence, e *gen.Endpoint) bool {
	for _, level := range levels(e) {
		shared := slices.ContainsFunc(p.Edges.SharedGroups, func(g *gen.AssetGroup) bool { return g.ID == level })
		if value(p.AssetGroupID) != level && (level == "" || !shared) {
			return false
		}
	}
	return true
}

// levels are those of the webhooks that may use an endpoint.
func levels(e *gen.Endpoint) []string {
	list := []string{value(e.AssetGroupID)}
	for _, g := range e.Edges.SharedGroups {
		list = append(list, g.ID)
	}
	return list
}

func withShared(q *gen.PresenceQuery) { q.WithSharedGroups() }

func checkPresence(ctx context.Context, c *gen.Client, p *gen.Presence) error {
	used, err := c.Endpoint.Query().Where(endpoint.PresenceID(p.ID)).WithSharedGroups().WithPresence(withShared).All(ctx)
	if err != nil {
		return fmt.Errorf("look up the endpoints of the Presence: %w", err)
	}
	for _, e := range used {
		if !serves(e.Edges.Presence, e) {
			return &rule.Conflict{Noun: "Presence", Reason: "endpoints of another level use it; change those first"}
		}
	}
	return nil
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
