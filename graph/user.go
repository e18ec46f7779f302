package graph

import (
	"context"
	"strings"
	"time"

	"entgo.io/ent/dialect/sql"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/apikey"
	"github.com/hookyard/hookyard/ent/gen/trigger"
	"github.com/hookyard/hookyard/ent/gen/webhook"
	"github.com/hookyard/hookyard/ent/viewer"
	graphgen "github.com/hookyard/hookyard/graph/gen"
)

func (r *Resolver) createUser(ctx context.Context, in graphgen.CreateUserInput) (*gen.User, error) {
	if at := strings.LastIndexByte(in.Email, '@'); at < 1 || at == len(in.Email)-1 || strings.ContainsAny(in.Email, " \r\n<>") {
		return nil, badInput("input.email", "%q is not an e-mail address.", in.Email)
	}
	if err := once(in.GroupIds); err != nil {
		return nil, err
	}
	return change(ctx, r, r.DB.Client.User.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		u, err := tx.User.Create().SetEmail(in.Email).SetNillableName(in.Name).SetRole(in.Role).SetNillableCustomRoleID(in.CustomRoleID).
			SetAllGroups(in.AllGroups).AddGroupIDs(in.GroupIds...).Save(ctx)
		if err != nil {
			return "", err
		}
		return u.ID, nil
	})
}

func (r *Resolver) updateUser(ctx context.Context, in graphgen.UpdateUserInput) (*gen.User, error) {
	if err := once(in.GroupIds); err != nil {
		return nil, err
	}
	return change(ctx, r, r.DB.Client.User.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		u := tx.User.UpdateOneID(in.ID).SetNillableName(in.Name).SetNillableRole(in.Role).SetNillableAllGroups(in.AllGroups)
		if in.CustomRoleID != nil {
			u.SetCustomRoleID(*in.CustomRoleID)
		} else if in.Role != nil && *in.Role != viewer.Custom {
			u.ClearCustomRole()
		}
		if in.GroupIds != nil {
			u.ClearGroups().AddGroupIDs(in.GroupIds...)
		}
		return in.ID, u.Exec(ctx)
	})
}

// once refuses a list of asset groups in which one is twice.
func once(groups []string) error {
	if d := firstDuplicate(groups); d != "" {
		return badInput("input.groupIds", "%s is there twice.", d)
	}
	return nil
}

func (r *Resolver) disableUser(ctx context.Context, id string) (*graphgen.DisableUserPayload, error) {
	u, err := change(ctx, r, r.DB.Client.User.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		u, err := tx.User.Get(ctx, id)
		if err != nil || u.DisabledAt != nil {
			return id, err
		}
		return id, tx.User.UpdateOneID(id).SetDisabledAt(time.Now().UTC().Truncate(time.Microsecond)).Exec(ctx)
	})
	if err != nil {
		return nil, err
	}
	owned, err := r.ownership(ctx, id)
	if err != nil {
		return nil, err
	}
	return &graphgen.DisableUserPayload{User: u, Owned: owned}, nil
}

func (r *Resolver) enableUser(ctx context.Context, id string) (*gen.User, error) {
	return change(ctx, r, r.DB.Client.User.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		return id, tx.User.UpdateOneID(id).ClearDisabledAt().Exec(ctx)
	})
}

// ownership is what a user owns, as far as the viewer sees it.
func (r *Resolver) ownership(ctx context.Context, user string) (*graphgen.Ownership, error) {
	out := &graphgen.Ownership{}
	hooks := r.DB.Client.Webhook.Query().Where(webhook.OwnerID(user))
	keys := r.DB.Client.APIKey.Query().Where(apikey.OwnerID(user))
	var err error
	if out.WebhookCount, err = hooks.Clone().Count(ctx); err != nil {
		return nil, err
	}
	if out.APIKeyCount, err = keys.Clone().Count(ctx); err != nil {
		return nil, err
	}
	if out.Webhooks, err = hooks.Order(webhook.ByID(sql.OrderAsc())).Limit(maxPage).All(ctx); err != nil {
		return nil, err
	}
	for _, w := range out.Webhooks {
		loadersOf(ctx).choices.hint(w.EndpointID)
	}
	if out.APIKeys, err = keys.Order(apikey.ByID(sql.OrderAsc())).Limit(maxPage).All(ctx); err != nil {
		return nil, err
	}
	triggers := r.DB.Client.Trigger.Query().Where(trigger.OwnerID(user))
	if out.TriggerCount, err = triggers.Clone().Count(ctx); err != nil {
		return nil, err
	}
	out.Triggers, err = triggers.Order(trigger.ByID(sql.OrderAsc())).Limit(maxPage).All(ctx)
	return out, err
}

// transferOwnership gives what a user owns to another, or stops it.
func (r *Resolver) transferOwnership(ctx context.Context, in graphgen.TransferOwnershipInput) (*graphgen.TransferOwnershipPayload, error) {
	switch {
	case in.Stop == (in.ToID != nil):
		return nil, badInput("input.toId", "Say either who gets it, or that it is stopped.")
	case in.ToID != nil && *in.ToID == in.FromID:
		return nil, badInput("input.toId", "It belongs to this user already.")
	}
	out := &graphgen.TransferOwnershipPayload{}
	err := r.DB.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
		if _, err := tx.User.Get(ctx, in.FromID); err != nil {
			return orNotFound(err, "input.fromId", in.FromID)
		}
		if in.ToID != nil {
			to, err := tx.User.Get(ctx, *in.ToID)
			if err != nil {
				return orNotFound(err, "input.toId", *in.ToID)
			}
			if to.DisabledAt != nil {
				return conflict("%s is disabled and cannot own anything new.", to.Email)
			}
		}
		var err error
		if out.WebhookIds, err = tx.Webhook.Query().Where(webhook.OwnerID(in.FromID)).IDs(ctx); err != nil {
			return err
		}
		for _, id := range out.WebhookIds {
			u := tx.Webhook.UpdateOneID(id)
			if in.Stop {
				u.SetState(webhook.StateDISABLED).SetStateReason("What its owner has was stopped.")
			} else {
				u.SetOwnerID(*in.ToID)
			}
			if err := u.Exec(ctx); err != nil {
				return err
			}
		}
		if out.APIKeyIds, err = tx.APIKey.Query().Where(apikey.OwnerID(in.FromID)).IDs(ctx); err != nil {
			return err
		}
		for _, id := range out.APIKeyIds {
			if in.Stop {
				err = tx.APIKey.DeleteOneID(id).Exec(ctx)
			} else {
				err = tx.APIKey.UpdateOneID(id).SetOwnerID(*in.ToID).Exec(ctx)
			}
			if err != nil {
				return err
			}
		}
		if out.TriggerIds, err = tx.Trigger.Query().Where(trigger.OwnerID(in.FromID)).IDs(ctx); err != nil {
			return err
		}
		for _, id := range out.TriggerIds {
			u := tx.Trigger.UpdateOneID(id)
			if in.Stop {
				u.SetEnabled(false)
			} else {
				u.SetOwnerID(*in.ToID)
			}
			if err := u.Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
