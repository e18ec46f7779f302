package graph

import (
	"context"
	"slices"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/viewer"
	graphgen "github.com/hookyard/hookyard/graph/gen"
)

// triggerKinds are what callers of the organization's triggers can speak.
func (r *Resolver) triggerKinds(ctx context.Context, c *gen.Client) ([]string, error) {
	kinds := []string{}
	add := func(set *connectors.Set) {
		for _, t := range set.Triggers() {
			kinds = append(kinds, t.Kind())
		}
	}
	add(r.Connectors)
	packages, err := r.providers(ctx, c, false)
	for _, p := range packages {
		add(p.Provides)
	}
	return kinds, err
}

// snippets are ready to be copied into a pipeline.
func (r *Resolver) snippets(t *gen.Trigger, address string) []*connectors.Snippet {
	if speaks, ok := r.Connectors.Trigger(t.Kind); ok {
		return pointers(speaks.Snippets(address))
	}
	return pointers(r.Catalogue.Snippets(t.OrganizationID, t.Kind, address))
}

func (r *Resolver) generateTrigger(ctx context.Context, in graphgen.GenerateTriggerInput) (*graphgen.GenerateTriggerPayload, error) {
	id := r.IDs.New(ids.Trigger)
	address, hash := r.Credentials.NewTrigger()
	t, err := change(ctx, r, r.DB.Client.Trigger.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		p, err := tx.Project.Get(ctx, in.ProjectID)
		if err != nil {
			return "", orNotFound(err, "input.projectId", in.ProjectID)
		}
		name := p.Name
		if in.Name != nil {
			name = *in.Name
		}
		c := tx.Trigger.Create().SetID(id).SetName(name).SetKind(in.Kind).SetProjectID(p.ID).SetAssetGroupID(p.AssetGroupID).SetTokenHash(hash)
		if owner := viewer.FromContext(ctx).User(); owner != "" {
			c.SetOwnerID(owner)
		}
		if err := c.Exec(ctx); err != nil {
			return "", err
		}
		// Asked last: no other change of the organization can come between now.
		kinds, err := r.triggerKinds(ctx, tx.Client())
		if err == nil && !slices.Contains(kinds, in.Kind) {
			err = badInput("input.kind", "%q is no kind of trigger; there are %v.", in.Kind, kinds)
		}
		return id, err
	})
	if err != nil {
		return nil, err
	}
	return &graphgen.GenerateTriggerPayload{Trigger: t, Address: address, Snippets: r.snippets(t, address)}, nil
}

func (r *Resolver) regenerateTrigger(ctx context.Context, id string) (*graphgen.RegenerateTriggerPayload, error) {
	address, hash := r.Credentials.NewTrigger()
	t, err := change(ctx, r, r.DB.Client.Trigger.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		return id, tx.Trigger.UpdateOneID(id).SetTokenHash(hash).Exec(ctx)
	})
	if err != nil {
		return nil, err
	}
	return &graphgen.RegenerateTriggerPayload{Trigger: t, Address: address, Snippets: r.snippets(t, address)}, nil
}

func (r *Resolver) updateTrigger(ctx context.Context, in graphgen.UpdateTriggerInput) (*gen.Trigger, error) {
	return change(ctx, r, r.DB.Client.Trigger.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		return in.ID, tx.Trigger.UpdateOneID(in.ID).SetNillableName(in.Name).Exec(ctx)
	})
}

func (r *Resolver) setTriggerEnabled(ctx context.Context, id string, on bool) (*gen.Trigger, error) {
	return change(ctx, r, r.DB.Client.Trigger.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		return id, tx.Trigger.UpdateOneID(id).SetEnabled(on).Exec(ctx)
	})
}

// deleteTrigger leaves the runs that it has started.
func (r *Resolver) deleteTrigger(ctx context.Context, id string) (*graphgen.DeletePayload, error) {
	return r.delete(ctx, id, func(ctx context.Context, tx *gen.Tx) error { return tx.Trigger.DeleteOneID(id).Exec(ctx) })
}
