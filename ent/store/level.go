package store

import (
	"context"
	"fmt"
	"slices"

	"entgo.io/ent"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/application"
	"github.com/hookyard/hookyard/ent/gen/webhook"
	"github.com/hookyard/hookyard/ent/viewer"
)

// maxRetries is how many times a delivery is tried again at most.
const maxRetries = 20

// consistent refuses a webhook or an endpoint that contradicts itself or its level.
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
			if c, ok := m.(interface{ Client() *gen.Client }); ok && m.Op().Is(ent.OpUpdateOne) {
				err = checkEndpoint(ctx, c.Client(), row)
			}
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
	endpoint, err := w.QueryEndpoint().Only(ctx)
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
	case !fits(value(endpoint.AssetGroupID), level):
		return invalid("endpoint", "the endpoint belongs to an asset group and the webhook does not belong to the same one")
	}
	return nil
}

// fits says whether an endpoint of one level may be used by a webhook of another. An
// asset group's endpoint is in the hands of those who have access to the group, so
// it must not be given events from elsewhere.
func fits(endpoint, webhook string) bool { return endpoint == "" || endpoint == webhook }

func checkEndpoint(ctx context.Context, c *gen.Client, e *gen.Endpoint) error {
	if e.AssetGroupID == nil {
		return nil
	}
	elsewhere, err := c.Webhook.Query().Where(webhook.EndpointID(e.ID),
		webhook.Or(webhook.AssetGroupIDIsNil(), webhook.AssetGroupIDNEQ(*e.AssetGroupID))).Exist(ctx)
	if err != nil {
		return fmt.Errorf("look up the webhooks of the endpoint: %w", err)
	}
	if elsewhere {
		return invalid("asset_group", "webhooks of another level deliver to this endpoint")
	}
	return nil
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
