package graph

import (
	"context"

	"github.com/hookyard/hookyard/ent/gen"
	graphgen "github.com/hookyard/hookyard/graph/gen"
)

func (r *Resolver) createTrustedIssuer(ctx context.Context, in graphgen.CreateTrustedIssuerInput) (*gen.TrustedIssuer, error) {
	return change(ctx, r, r.DB.Client.TrustedIssuer.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		c := tx.TrustedIssuer.Create().SetName(in.Name).SetIssuer(in.Issuer).SetAudience(in.Audience).SetNillableKeysURL(in.KeysURL).
			SetActsAs(in.ActsAs).SetNillableGroupsClaim(in.GroupsClaim).SetMapping(accessRules(in.Mapping)).SetEnabled(in.Enabled)
		if in.Algorithms != nil {
			c.SetAlgorithms(in.Algorithms)
		}
		t, err := c.Save(ctx)
		if gen.IsConstraintError(err) {
			return "", conflict("There is one with this name already, or one that takes tokens of this issuer for this audience. Choose another name or audience.")
		}
		if err != nil {
			return "", err
		}
		return t.ID, nil
	})
}

func (r *Resolver) updateTrustedIssuer(ctx context.Context, in graphgen.UpdateTrustedIssuerInput) (*gen.TrustedIssuer, error) {
	return change(ctx, r, r.DB.Client.TrustedIssuer.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		u := tx.TrustedIssuer.UpdateOneID(in.ID).SetNillableName(in.Name).SetNillableKeysURL(in.KeysURL).
			SetNillableGroupsClaim(in.GroupsClaim).SetNillableEnabled(in.Enabled)
		if in.Algorithms != nil {
			u.SetAlgorithms(in.Algorithms)
		}
		if in.Mapping != nil {
			u.SetMapping(accessRules(in.Mapping))
		}
		return in.ID, u.Exec(ctx)
	})
}
