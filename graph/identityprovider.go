package graph

import (
	"context"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/identity"
	"github.com/hookyard/hookyard/ent/gen/identityprovider"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/parts"
	graphgen "github.com/hookyard/hookyard/graph/gen"
)

func (r *Resolver) createIdentityProvider(ctx context.Context, in graphgen.CreateIdentityProviderInput) (*gen.IdentityProvider, error) {
	id := r.IDs.New(ids.IdentityProvider)
	secret, err := r.sealClientSecret(id, or(in.ClientSecret))
	if err != nil {
		return nil, err
	}
	return change(ctx, r, r.DB.Client.IdentityProvider.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		c := tx.IdentityProvider.Create().SetID(id).SetName(in.Name).SetIssuer(in.Issuer).SetClientID(in.ClientID).SetNillableGroupsClaim(in.GroupsClaim).
			SetMapping(accessRules(in.Mapping)).SetCreateUsers(in.CreateUsers).SetEnabled(in.Enabled)
		if in.Scopes != nil {
			c.SetScopes(in.Scopes)
		}
		if secret != nil {
			c.SetClientSecret(secret)
		}
		return id, c.Exec(ctx)
	})
}

func (r *Resolver) updateIdentityProvider(ctx context.Context, in graphgen.UpdateIdentityProviderInput) (*gen.IdentityProvider, error) {
	secret, err := r.sealClientSecret(in.ID, or(in.ClientSecret))
	if err != nil {
		return nil, err
	}
	return change(ctx, r, r.DB.Client.IdentityProvider.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		u := tx.IdentityProvider.UpdateOneID(in.ID).SetNillableName(in.Name).SetNillableClientID(in.ClientID).SetNillableGroupsClaim(in.GroupsClaim).
			SetNillableCreateUsers(in.CreateUsers).SetNillableEnabled(in.Enabled)
		if in.Scopes != nil {
			u.SetScopes(in.Scopes)
		}
		if in.Mapping != nil {
			u.SetMapping(accessRules(in.Mapping))
		}
		switch {
		case secret != nil:
			u.SetClientSecret(secret)
		case in.ClientSecret != nil:
			u.ClearClientSecret()
		}
		return in.ID, u.Exec(ctx)
	})
}

// sealClientSecret seals a client secret for its row; nil for none.
func (r *Resolver) sealClientSecret(id, secret string) ([]byte, error) {
	if secret == "" {
		return nil, nil
	}
	return r.Secrets.SealJSON(id, identityprovider.FieldClientSecret, secret)
}

func accessRules(in []*parts.AccessRule) []parts.AccessRule {
	out := make([]parts.AccessRule, len(in))
	for i, r := range in {
		out[i] = *r
	}
	return out
}

func (r *Resolver) testIdentityProvider(ctx context.Context, id string) (*graphgen.TestIdentityProviderPayload, error) {
	p, err := r.DB.Client.IdentityProvider.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := r.SignIn.CheckProvider(ctx, p.Issuer); err != nil {
		return &graphgen.TestIdentityProviderPayload{Message: sentence(err.Error())}, nil
	}
	return &graphgen.TestIdentityProviderPayload{Ok: true}, nil
}

func (r *Resolver) unlinkUser(ctx context.Context, id string) (n int, err error) {
	err = r.DB.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
		if _, err := mine(ctx, tx, id); err != nil { // whoever comes next with the address is that user
			return err
		}
		links, err := tx.Identity.Query().Where(identity.UserID(id)).IDs(ctx)
		if err != nil {
			return err
		}
		n = len(links)
		for _, link := range links {
			if err := tx.Identity.DeleteOneID(link).Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}
