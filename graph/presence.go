package graph

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/assetgroup"
	"github.com/hookyard/hookyard/ent/gen/presence"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/viewer"
	graphgen "github.com/hookyard/hookyard/graph/gen"
	"github.com/hookyard/hookyard/server/flow"
)

// maxReport is how many results an agent may tell at once.
const maxReport = 256

// agentOnly implements the directive @agent.
func agentOnly(ctx context.Context, _ any, next graphql.Resolver) (any, error) {
	switch v := viewer.FromContext(ctx); {
	case v == nil:
		return nil, errUnauthenticated
	case !v.Agent():
		return nil, forbidden("Only agents of a Presence do this, with the Presence's key.")
	}
	return next(ctx)
}

// keepAgents lets agents of Presences have what is meant for them, and nothing else.
func keepAgents(ctx context.Context, next graphql.OperationHandler) graphql.ResponseHandler {
	if !viewer.FromContext(ctx).Agent() {
		return next(ctx)
	}
	for _, s := range graphql.GetOperationContext(ctx).Operation.SelectionSet {
		f, ok := s.(*ast.Field)
		if !ok || f.Name != "__typename" && f.Definition.Directives.ForName("agent") == nil {
			e := &Error{Code: Forbidden, Message: "The key of a Presence is for its agents' work and opens nothing else."}
			return graphql.OneShot(&graphql.Response{Errors: gqlerror.List{{Message: e.Message, Extensions: e.extensions()}}})
		}
	}
	return next(ctx)
}

func (r *Resolver) createPresence(ctx context.Context, in graphgen.CreatePresenceInput) (*gen.Presence, string, error) {
	key, hint, hash := r.Credentials.NewPresenceKey()
	p, err := change(ctx, r, r.DB.Client.Presence.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		p, err := tx.Presence.Create().SetName(in.Name).SetNillableDescription(in.Description).SetNillableAssetGroupID(in.AssetGroupID).
			AddSharedGroupIDs(in.SharedGroupIds...).SetKeyPrefix(hint).SetKeyHash(hash).Save(ctx)
		if err != nil {
			return "", err
		}
		return p.ID, nil
	})
	return p, key, err
}

func (r *Resolver) updatePresence(ctx context.Context, in graphgen.UpdatePresenceInput) (*gen.Presence, error) {
	return change(ctx, r, r.DB.Client.Presence.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		p, err := tx.Presence.Get(ctx, in.ID)
		if err != nil {
			return "", err
		}
		u := tx.Presence.UpdateOneID(p.ID).SetNillableName(in.Name).SetNillableDescription(in.Description).SetNillableEnabled(in.Enabled)
		if group, given := in.AssetGroupID.ValueOK(); given && group == nil {
			u.ClearAssetGroup()
		} else if given {
			u.SetAssetGroupID(*group)
		}
		if in.SharedGroupIds != nil {
			seen, err := p.QuerySharedGroups().IDs(ctx) // the others stay
			if err != nil {
				return "", err
			}
			u.RemoveSharedGroupIDs(without(seen, in.SharedGroupIds)...).AddSharedGroupIDs(without(in.SharedGroupIds, seen)...)
		}
		return p.ID, u.Exec(ctx)
	})
}

func (r *Resolver) rotatePresenceKey(ctx context.Context, in graphgen.RotatePresenceKeyInput) (*gen.Presence, string, error) {
	if in.OverlapSeconds < 0 || in.OverlapSeconds > int(maxOverlap/time.Second) {
		return nil, "", badInput("input.overlapSeconds", "The old key counts for 0 to %d seconds more.", int(maxOverlap/time.Second))
	}
	key, hint, hash := r.Credentials.NewPresenceKey()
	p, err := change(ctx, r, r.DB.Client.Presence.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		p, err := tx.Presence.Get(ctx, in.ID)
		if err != nil {
			return "", err
		}
		u := tx.Presence.UpdateOne(p).Where(presence.KeyHash(p.KeyHash)).SetKeyPrefix(hint).SetKeyHash(hash)
		if in.OverlapSeconds == 0 {
			u.ClearPreviousKeyHash().ClearPreviousKeyUntil()
		} else {
			u.SetPreviousKeyHash(p.KeyHash).SetPreviousKeyUntil(time.Now().UTC().Add(time.Duration(in.OverlapSeconds) * time.Second).Truncate(time.Microsecond))
		}
		return p.ID, errRotated(u.Exec(ctx))
	})
	return p, key, err
}

// presenceChoices are the Presences that an endpoint of the level can use, of which the
// viewer need not see more than this.
func (r *Resolver) presenceChoices(ctx context.Context, group, name *string) ([]*gen.Presence, error) {
	q := r.DB.Client.Presence.Query()
	switch v := viewer.FromContext(ctx); {
	case group == nil && !v.All():
		return nil, forbidden("The organization's level needs access to all asset groups.")
	case group == nil:
		q.Where(presence.AssetGroupIDIsNil())
	case !v.InGroup(*group):
		return nil, forbidden("You have no access to the asset group %s.", *group)
	default:
		q.Where(presence.Or(presence.AssetGroupID(*group), presence.HasSharedGroupsWith(assetgroup.ID(*group))))
	}
	if name != nil {
		q.Where(presence.NameContainsFold(*name))
	}
	return q.Order(presence.ByName(), presence.ByID()).Limit(maxPage).Select(presence.FieldID, presence.FieldName).All(rule.Choosing(ctx))
}

// linkAgent hands work to an agent as long as it is there.
func (r *Resolver) linkAgent(ctx context.Context, in graphgen.PresenceWorkInput) (<-chan *flow.Work, error) {
	key, err := base64.StdEncoding.DecodeString(in.PublicKey)
	switch {
	case err != nil || len(key) != 32:
		return nil, badInput("input.publicKey", "This is not an X25519 key in base64.")
	case in.Name == "" || len(in.Name) > 200:
		return nil, badInput("input.name", "A name has 1 to 200 characters.")
	case len(in.Version) > 100:
		return nil, badInput("input.version", "A version has at most 100 characters.")
	}
	v := viewer.FromContext(ctx)
	a := flow.Agent{Name: strings.ToValidUTF8(in.Name, "?"), Version: strings.ToValidUTF8(in.Version, "?"), Key: key}
	return handOver(ctx, func(send func(context.Context, flow.Work) error) error {
		return r.Presences.Link(ctx, v.Organization, v.ID, a, send)
	}), nil
}

// reportWork takes what came of an agent's work.
func (r *Resolver) reportWork(ctx context.Context, in graphgen.ReportPresenceWorkInput) ([]string, error) {
	if len(in.Results) > maxReport {
		return nil, badInput("input.results", "At most %d results at a time.", maxReport)
	}
	results := make([]flow.AgentResult, len(in.Results))
	for i, x := range in.Results {
		result, err := agentResult(x)
		if err != nil {
			return nil, badInput(fmt.Sprintf("input.results[%d].response.body", i), "This is not base64.")
		}
		results[i] = result
	}
	checks := make([]flow.AgentCheck, len(in.Checks))
	for i, c := range in.Checks {
		checks[i] = *c
	}
	v := viewer.FromContext(ctx)
	forget, err := r.Presences.Report(ctx, v.Organization, v.ID, results, checks)
	return slices.Clip(forget), err
}

func agentResult(in *graphgen.PresenceResultInput) (flow.AgentResult, error) {
	out := flow.AgentResult{Try: in.Attempt, Number: in.Number, Result: connectors.Result{DeliveryID: in.DeliveryID, Outcome: in.Outcome,
		RetryAfter: in.RetryAfter, Started: in.StartedAt.UTC(), Timing: *in.Timing, Error: in.Error}}
	if in.Fault != nil {
		out.Fault = *in.Fault
	}
	if q := in.Request; q != nil {
		out.Request = &connectors.Request{Method: q.Method, URL: q.URL, Header: headersOf(q.Headers)}
	}
	if a := in.Response; a != nil {
		body, err := base64.StdEncoding.DecodeString(a.Body)
		if err != nil {
			return out, err
		}
		out.Response = &connectors.Response{Status: a.Status, Header: headersOf(a.Headers), Body: body, Truncated: a.Truncated}
		if len(body) > connectors.MaxResponseBody {
			out.Response.Body, out.Response.Truncated = body[:connectors.MaxResponseBody], true
		}
	}
	return out, nil
}

func headersOf(in []*graphgen.HeaderInput) []connectors.Header {
	out := make([]connectors.Header, len(in))
	for i, h := range in {
		out[i] = connectors.Header{Name: h.Name, Value: h.Value}
	}
	return out
}

// presenceLinked says whether any agent of a Presence is linked.
func (r *Resolver) presenceLinked(ctx context.Context, id string) (bool, error) {
	agents, err := r.Presences.Agents(ctx, id)
	return slices.ContainsFunc(agents, func(a flow.AgentView) bool { return a.Linked }), err
}

func (r *Resolver) presenceAgents(ctx context.Context, id string) ([]*flow.AgentView, error) {
	agents, err := r.Presences.Agents(ctx, id)
	out := make([]*flow.AgentView, len(agents))
	for i := range agents {
		out[i] = &agents[i]
	}
	return out, err
}
