package graph

import (
	"context"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/viewer"
	graphgen "github.com/hookyard/hookyard/graph/gen"
)

func (r *Resolver) createAPIKey(ctx context.Context, in graphgen.CreateAPIKeyInput) (*gen.APIKey, string, error) {
	if err := once(in.GroupIds); err != nil {
		return nil, "", err
	}
	key, hint, hash := r.Credentials.NewKey()
	k, err := change(ctx, r, r.DB.Client.APIKey.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		c := tx.APIKey.Create().SetName(in.Name).SetRole(in.Role).SetNillableCustomRoleID(in.CustomRoleID).SetAllGroups(in.AllGroups).
			AddGroupIDs(in.GroupIds...).SetPrefix(hint).SetHash(hash).SetNillableOwnerID(in.OwnerID)
		if in.ExpiresAt != nil {
			c.SetExpiresAt(in.ExpiresAt.UTC())
		}
		k, err := c.Save(ctx)
		if err != nil {
			return "", err
		}
		return k.ID, nil
	})
	return k, key, err
}

func (r *Resolver) updateAPIKey(ctx context.Context, in graphgen.UpdateAPIKeyInput) (*gen.APIKey, error) {
	if err := once(in.GroupIds); err != nil {
		return nil, err
	}
	return change(ctx, r, r.DB.Client.APIKey.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		if _, err := tx.APIKey.Get(ctx, in.ID); err != nil { // before anything is said of permissions
			return "", orNotFound(err, "input.id", in.ID)
		}
		u := tx.APIKey.UpdateOneID(in.ID).SetNillableName(in.Name).SetNillableRole(in.Role).SetNillableAllGroups(in.AllGroups)
		if in.CustomRoleID != nil {
			u.SetCustomRoleID(*in.CustomRoleID)
		} else if in.Role != nil && *in.Role != viewer.Custom {
			u.ClearCustomRole()
		}
		if in.GroupIds != nil {
			u.ClearGroups().AddGroupIDs(in.GroupIds...)
		}
		if at, given := in.ExpiresAt.ValueOK(); given && at == nil {
			u.ClearExpiresAt()
		} else if given {
			u.SetExpiresAt(at.UTC())
		}
		return in.ID, u.Exec(ctx)
	})
}

func (r *Resolver) deleteAPIKey(ctx context.Context, id string) (*graphgen.DeletePayload, error) {
	return r.delete(ctx, id, func(ctx context.Context, tx *gen.Tx) error {
		if _, err := tx.APIKey.Get(ctx, id); err != nil {
			return orNotFound(err, "input.id", id)
		}
		return tx.APIKey.DeleteOneID(id).Exec(ctx)
	})
}
