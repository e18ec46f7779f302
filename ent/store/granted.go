package store

import (
	"context"
	"fmt"

	"entgo.io/ent"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/assetgroup"
	"github.com/hookyard/hookyard/ent/gen/customrole"
	"github.com/hookyard/hookyard/ent/gen/trustedissuer"
	"github.com/hookyard/hookyard/ent/parts"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/viewer"
)

// vouched is what a row lets an outside party give.
type vouched struct {
	noun  string
	org   string
	rules []parts.AccessRule
	users bool // it speaks for any user of the organization
}

// bounded lets nobody set up, change or remove an outside party that gives more than
// they have themselves, and refuses one that contradicts itself.
func (db *DB) bounded(next ent.Mutator) ent.Mutator {
	return ent.MutateFunc(func(ctx context.Context, m ent.Mutation) (ent.Value, error) {
		before, err := vouchedBefore(ctx, m)
		if err != nil {
			return nil, err
		}
		client, err := clientOf(m)
		if err != nil {
			return nil, err
		}
		if err := before.within(ctx, client); err != nil {
			return nil, err
		}
		v, err := next.Mutate(ctx, m)
		if err != nil {
			return nil, err
		}
		var after vouched
		switch row := v.(type) {
		case *gen.IdentityProvider:
			after = ofProvider(row)
		case *gen.TrustedIssuer:
			after = ofIssuer(row)
			if err := parts.CheckAlgorithms(row.Algorithms); err != nil {
				return nil, gen.NewValidationError(trustedissuer.FieldAlgorithms, err)
			}
		default: // it was removed
			return v, nil
		}
		if err := parts.CheckAccessRules(after.rules); err != nil {
			return nil, gen.NewValidationError(trustedissuer.FieldMapping, err)
		}
		if err := after.refers(ctx, client); err != nil {
			return nil, err
		}
		if err := after.within(ctx, client); err != nil {
			return nil, err
		}
		return v, nil
	})
}

func ofProvider(p *gen.IdentityProvider) vouched {
	return vouched{noun: "identity provider", org: p.OrganizationID, rules: p.Mapping}
}

func ofIssuer(t *gen.TrustedIssuer) vouched {
	return vouched{noun: "trusted issuer", org: t.OrganizationID, rules: t.Mapping, users: t.ActsAs == trustedissuer.ActsAsUsers}
}

// vouchedBefore reads the row that a mutation is about to change; what is not there, or
// in another organization, is for the policy to say.
func vouchedBefore(ctx context.Context, m ent.Mutation) (vouched, error) {
	v := viewer.FromContext(ctx)
	if v == nil || v.System() || !m.Op().Is(ent.OpUpdateOne|ent.OpDeleteOne) {
		return vouched{}, nil
	}
	var (
		out vouched
		err error
	)
	ctx = viewer.SystemContext(ctx)
	switch m := m.(type) {
	case *gen.IdentityProviderMutation:
		if id, ok := m.ID(); ok {
			var p *gen.IdentityProvider
			if p, err = m.Client().IdentityProvider.Get(ctx, id); err == nil {
				out = ofProvider(p)
			}
		}
	case *gen.TrustedIssuerMutation:
		if id, ok := m.ID(); ok {
			var t *gen.TrustedIssuer
			if t, err = m.Client().TrustedIssuer.Get(ctx, id); err == nil {
				out = ofIssuer(t)
			}
		}
	}
	if gen.MaskNotFound(err) != nil {
		return vouched{}, fmt.Errorf("read what is to be changed: %w", err)
	}
	if out.org != v.Organization {
		return vouched{}, nil
	}
	return out, nil
}

// within denies what gives more than the viewer has. Asset groups are no question: outside
// parties are the organization's own, and whoever deals with those has access to all.
func (o vouched) within(ctx context.Context, c *gen.Client) error {
	v := viewer.FromContext(ctx)
	if v == nil || v.System() {
		return nil // no viewer, no change: the policy has said so
	}
	if o.users && v.Role != viewer.Administrator {
		return &rule.Denied{Noun: o.noun, Reason: "only an Administrator deals with one that speaks for every user"}
	}
	custom, err := o.customRoles(ctx, c)
	if err != nil {
		return err
	}
	for _, r := range o.rules {
		permissions := r.Role.Permissions()
		if r.Role == viewer.Custom {
			permissions = custom[r.CustomRole]
		}
		for _, p := range permissions {
			if !v.Can(p) {
				return &rule.Denied{Noun: o.noun, Reason: fmt.Sprintf("its mapping gives the permission %s, which you do not have", p)}
			}
		}
		if r.Role == viewer.Administrator && v.Role != viewer.Administrator {
			return &rule.Denied{Noun: o.noun, Reason: "only an Administrator deals with one whose mapping makes Administrators"}
		}
	}
	return nil
}

// customRoles reads what the roles that the mapping names may do.
func (o vouched) customRoles(ctx context.Context, c *gen.Client) (map[string][]viewer.Permission, error) {
	var named []string
	for _, r := range o.rules {
		if r.Role == viewer.Custom {
			named = append(named, r.CustomRole)
		}
	}
	if len(named) == 0 {
		return nil, nil
	}
	rows, err := c.CustomRole.Query().Where(customrole.IDIn(named...), customrole.OrganizationID(o.org)).All(viewer.SystemContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("read the roles of a mapping: %w", err)
	}
	found := make(map[string][]viewer.Permission, len(rows))
	for _, r := range rows {
		found[r.ID] = r.Permissions
	}
	return found, nil
}

// refers looks whether what the mapping names is in the organization.
func (o vouched) refers(ctx context.Context, c *gen.Client) error {
	custom, err := o.customRoles(ctx, c)
	if err != nil {
		return err
	}
	var groups []string
	for _, r := range o.rules {
		groups = append(groups, r.Groups...)
		if _, known := custom[r.CustomRole]; r.Role == viewer.Custom && !known {
			return &rule.UnknownReference{Field: "custom_role", IDs: []string{r.CustomRole}}
		}
	}
	if len(groups) == 0 {
		return nil
	}
	n, err := c.AssetGroup.Query().Where(assetgroup.IDIn(groups...), assetgroup.OrganizationID(o.org)).Count(viewer.SystemContext(ctx))
	return rule.CheckReference("groups", groups, n, err)
}

func clientOf(m ent.Mutation) (*gen.Client, error) {
	c, ok := m.(interface{ Client() *gen.Client })
	if !ok {
		return nil, fmt.Errorf("change a %s: the mutation has no client", m.Type())
	}
	return c.Client(), nil
}
