package graph

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/viewer"
	graphgen "github.com/hookyard/hookyard/graph/gen"
)

func (r *Resolver) updateOrganization(ctx context.Context, in graphgen.UpdateOrganizationInput) (*gen.Organization, error) {
	allow, err := allowRules(in.AllowTargets)
	if err != nil {
		return nil, err
	}
	id := viewer.FromContext(ctx).Organization
	return change(ctx, r, r.DB.Client.Organization.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		u := tx.Organization.UpdateOneID(id).SetNillableName(in.Name).SetNillableRetentionEventsDays(in.RetentionEventsDays).
			SetNillableRetentionAttemptsDays(in.RetentionAttemptsDays).SetNillableRetentionPayloadsDays(in.RetentionPayloadsDays).
			SetNillableRetentionAuditDays(in.RetentionAuditDays).SetNillableRequireSecondFactor(in.RequireSecondFactor)
		if in.AllowTargets != nil {
			u.SetAllowTargets(allow)
		}
		return id, u.Exec(ctx)
	})
}

// allowRules checks a list of targets. A host is a name, with "*." in front for all
// below it, an address or a CIDR.
func allowRules(in []*connectors.AllowRule) ([]connectors.AllowRule, error) {
	out := make([]connectors.AllowRule, 0, len(in))
	for _, a := range in {
		_, notAddr := netip.ParseAddr(a.Host)
		_, notCIDR := netip.ParsePrefix(a.Host)
		if name := strings.TrimPrefix(a.Host, "*."); notAddr != nil && notCIDR != nil && !hostName(name) {
			return nil, badInput("input.allowTargets", "%q is neither a host name, nor an address, nor a CIDR.", a.Host)
		}
		if a.Port < 0 || a.Port > 65535 {
			return nil, badInput("input.allowTargets", "%d is not a port; 0 is any.", a.Port)
		}
		out = append(out, connectors.AllowRule{Host: strings.ToLower(a.Host), Port: a.Port})
	}
	return out, nil
}

func hostName(s string) bool {
	labels := strings.Split(s, ".")
	return len(s) <= 253 && !slices.ContainsFunc(labels, func(l string) bool {
		return l == "" || len(l) > 63 || strings.ContainsFunc(l, func(c rune) bool {
			return c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
		})
	})
}

func (r *Resolver) createAssetGroup(ctx context.Context, in graphgen.CreateAssetGroupInput) (*gen.AssetGroup, error) {
	allow, err := allowRules(in.AllowTargets)
	if err != nil {
		return nil, err
	}
	return change(ctx, r, r.DB.Client.AssetGroup.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		c := tx.AssetGroup.Create().SetName(in.Name).SetNillableDescription(in.Description)
		if in.AllowTargets != nil {
			c.SetAllowTargets(allow)
		}
		g, err := c.Save(ctx)
		if err != nil {
			return "", err
		}
		return g.ID, nil
	})
}

func (r *Resolver) updateAssetGroup(ctx context.Context, in graphgen.UpdateAssetGroupInput) (*gen.AssetGroup, error) {
	allow, err := allowRules(in.AllowTargets)
	if err != nil {
		return nil, err
	}
	return change(ctx, r, r.DB.Client.AssetGroup.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		u := tx.AssetGroup.UpdateOneID(in.ID).SetNillableName(in.Name).SetNillableDescription(in.Description)
		if in.AllowTargets != nil {
			u.SetAllowTargets(allow)
		}
		return in.ID, u.Exec(ctx)
	})
}

func (r *Resolver) createApplication(ctx context.Context, in graphgen.CreateApplicationInput) (*gen.Application, error) {
	return change(ctx, r, r.DB.Client.Application.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		a, err := tx.Application.Create().SetName(in.Name).SetNillableDescription(in.Description).SetNillableKey(in.Key).SetAssetGroupID(in.AssetGroupID).Save(ctx)
		if err != nil {
			return "", err
		}
		return a.ID, nil
	})
}

func (r *Resolver) updateApplication(ctx context.Context, in graphgen.UpdateApplicationInput) (*gen.Application, error) {
	return change(ctx, r, r.DB.Client.Application.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		return in.ID, tx.Application.UpdateOneID(in.ID).SetNillableName(in.Name).SetNillableDescription(in.Description).
			SetNillableKey(in.Key).SetNillableAssetGroupID(in.AssetGroupID).Exec(ctx)
	})
}
