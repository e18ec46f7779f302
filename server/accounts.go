package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/onetimelink"
	"github.com/hookyard/hookyard/ent/gen/organization"
	"github.com/hookyard/hookyard/ent/gen/session"
	"github.com/hookyard/hookyard/ent/gen/user"
	"github.com/hookyard/hookyard/ent/secret"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/auth"
)

// accounts keeps for package auth how people sign in, as the hub itself.
type accounts struct {
	db      *store.DB
	secrets *secret.Box
	now     func() time.Time
}

// Find is part of auth.Accounts.
func (a accounts) Find(ctx context.Context, email, org string) (*auth.Account, error) {
	ctx = viewer.SystemContext(ctx)
	q := a.db.Client.User.Query().Where(user.Email(email))
	if org != "" {
		ids, err := a.db.Client.Organization.Query().Where(organization.Or(organization.ID(org), organization.Name(org))).IDs(ctx)
		if err != nil {
			return nil, fmt.Errorf("look an organization up: %w", err)
		}
		q.Where(user.OrganizationIDIn(ids...))
	}
	found, err := q.Limit(2).All(ctx)
	if err != nil {
		return nil, fmt.Errorf("look a user up: %w", err)
	}
	if len(found) != 1 {
		return nil, nil
	}
	return a.account(ctx, found[0])
}

// Account is part of auth.Accounts.
func (a accounts) Account(ctx context.Context, id string) (*auth.Account, error) {
	ctx = viewer.SystemContext(ctx)
	u, err := a.db.Client.User.Get(ctx, id)
	if err != nil {
		return nil, gen.MaskNotFound(err)
	}
	return a.account(ctx, u)
}

func (a accounts) account(ctx context.Context, u *gen.User) (*auth.Account, error) {
	org, err := a.db.Client.Organization.Get(ctx, u.OrganizationID)
	if err != nil {
		return nil, fmt.Errorf("look an organization up: %w", err)
	}
	if u.DisabledAt != nil || org.SuspendedAt != nil {
		return nil, nil
	}
	out := &auth.Account{ID: u.ID, Email: u.Email, Issuer: org.Name, Password: u.PasswordHash}
	if len(u.TotpSecret) > 0 {
		out.Factor = auth.Factor{Enabled: u.SecondFactorAt != nil, Step: u.TotpStep}
		if out.Factor.Secret, err = a.secrets.Unseal(u.ID, user.FieldTotpSecret, u.TotpSecret); err != nil {
			return nil, fmt.Errorf("open the second factor of %s: %w", u.ID, err)
		}
		if u.RecoveryHashes != "" {
			out.Factor.Recovery = strings.Split(u.RecoveryHashes, ",")
		}
	}
	return out, nil
}

// SetPassword is part of auth.Accounts.
func (a accounts) SetPassword(ctx context.Context, id, phc, keep string) error {
	return a.db.WithTx(viewer.SystemContext(ctx), func(ctx context.Context, tx *gen.Tx) error {
		return setPassword(ctx, tx, id, phc, keep)
	})
}

func setPassword(ctx context.Context, tx *gen.Tx, id, phc, keep string) error {
	if err := tx.User.UpdateOneID(id).SetPasswordHash(phc).Exec(ctx); err != nil {
		return fmt.Errorf("set the password: %w", err)
	}
	return signOut(ctx, tx, id, keep)
}

// signOut ends a user's sessions but one and withdraws the links.
func signOut(ctx context.Context, tx *gen.Tx, id, keep string) error {
	if _, err := tx.Session.Delete().Where(session.UserID(id), session.IDNEQ(keep)).Exec(ctx); err != nil {
		return fmt.Errorf("end the user's sessions: %w", err)
	}
	if _, err := tx.OneTimeLink.Delete().Where(onetimelink.UserID(id)).Exec(ctx); err != nil {
		return fmt.Errorf("withdraw the user's links: %w", err)
	}
	return nil
}

// Rehash is part of auth.Accounts.
func (a accounts) Rehash(ctx context.Context, id, old, phc string) error {
	return a.db.WithTx(viewer.SystemContext(ctx), func(ctx context.Context, tx *gen.Tx) error {
		return tx.User.Update().Where(user.ID(id), user.PasswordHash(old)).SetPasswordHash(phc).Exec(ctx)
	})
}

// SetFactor is part of auth.Factors.
func (a accounts) SetFactor(ctx context.Context, id string, f auth.Factor) error {
	return a.db.WithTx(viewer.SystemContext(ctx), func(ctx context.Context, tx *gen.Tx) error {
		u := tx.User.UpdateOneID(id).SetTotpStep(f.Step).SetRecoveryHashes(strings.Join(f.Recovery, ","))
		if len(f.Secret) == 0 {
			return u.ClearTotpSecret().ClearSecondFactorAt().Exec(ctx)
		}
		sealed, err := a.secrets.Seal(id, user.FieldTotpSecret, f.Secret)
		if err != nil {
			return err
		}
		if f.Enabled {
			u.SetSecondFactorAt(a.now().UTC())
		}
		return u.SetTotpSecret(sealed).Exec(ctx)
	})
}

// TakeStep is part of auth.Factors.
func (a accounts) TakeStep(ctx context.Context, id string, step int64) (bool, error) {
	n, err := a.db.Client.User.Update().Where(user.ID(id), user.TotpStepLT(step)).SetTotpStep(step).Save(viewer.SystemContext(ctx))
	return n == 1, err
}

// SpendRecovery is part of auth.Factors.
func (a accounts) SpendRecovery(ctx context.Context, id, hash string) (spent bool, err error) {
	err = a.db.WithTx(viewer.SystemContext(ctx), func(ctx context.Context, tx *gen.Tx) error {
		u, err := tx.User.Get(ctx, id)
		if err != nil {
			return err
		}
		list := strings.Split(u.RecoveryHashes, ",")
		i := slices.Index(list, hash)
		if i < 0 {
			return nil
		}
		// When another code is spent at the same moment, the list is another one: try again.
		n, err := tx.User.Update().Where(user.ID(id), user.RecoveryHashes(u.RecoveryHashes)).
			SetRecoveryHashes(strings.Join(slices.Delete(list, i, i+1), ",")).Save(ctx)
		spent = n == 1
		return err
	})
	return spent && err == nil, err
}

// LinkAccount is part of auth.Links.
func (a accounts) LinkAccount(ctx context.Context, hash string) (*auth.Account, error) {
	ctx = viewer.SystemContext(ctx)
	u, err := a.db.Client.OneTimeLink.Query().Where(onetimelink.Hash(hash), onetimelink.ExpiresAtGT(a.now())).QueryUser().Only(ctx)
	if err != nil {
		return nil, gen.MaskNotFound(err)
	}
	return a.account(ctx, u)
}

// UseLink is part of auth.Links.
func (a accounts) UseLink(ctx context.Context, hash, phc string) (used bool, err error) {
	err = a.db.WithTx(viewer.SystemContext(ctx), func(ctx context.Context, tx *gen.Tx) error {
		l, err := tx.OneTimeLink.Query().Where(onetimelink.Hash(hash), onetimelink.ExpiresAtGT(a.now())).Only(ctx)
		if err != nil {
			return gen.MaskNotFound(err)
		}
		// Of several that use it at once, one deletes it.
		if n, err := tx.OneTimeLink.Delete().Where(onetimelink.ID(l.ID)).Exec(ctx); err != nil || n == 0 {
			return err
		}
		used = true
		return setPassword(ctx, tx, l.UserID, phc, "")
	})
	return used && err == nil, err
}

// newLink withdraws a user's links and makes another; what it returns is shown once.
func newLink(ctx context.Context, tx *gen.Tx, u *gen.User, publicURL string, now time.Time) (link string, expires time.Time, err error) {
	if _, err := tx.OneTimeLink.Delete().Where(onetimelink.UserID(u.ID)).Exec(ctx); err != nil {
		return "", expires, fmt.Errorf("withdraw the user's links: %w", err)
	}
	life := auth.ResetLife
	if u.PasswordHash == "" {
		life = auth.InviteLife
	}
	shown, hash := auth.NewLink()
	expires = now.Add(life).UTC().Truncate(time.Second)
	err = tx.OneTimeLink.Create().SetOrganizationID(u.OrganizationID).SetUserID(u.ID).SetHash(hash).SetExpiresAt(expires).Exec(ctx)
	if err != nil {
		return "", expires, fmt.Errorf("make a one-time link: %w", err)
	}
	// What follows a # is sent to no server and stands in no log.
	return publicURL + "/auth/link#" + shown, expires, nil
}
