package server

import (
	"context"
	"fmt"
	"time"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/onetimelink"
	"github.com/hookyard/hookyard/ent/gen/session"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/auth"
)

// CreateSession is part of auth.Sessions.
func (a accounts) CreateSession(ctx context.Context, s auth.Session) (id string, err error) {
	found, err := a.Account(ctx, s.User)
	if err != nil || found == nil {
		return "", err
	}
	id = a.db.NewID(ids.Session)
	sealed, err := a.secrets.Seal(id, session.FieldChain, s.Chain)
	if err != nil {
		return "", err
	}
	err = a.db.WithTx(viewer.SystemContext(ctx), func(ctx context.Context, tx *gen.Tx) error {
		u, err := tx.User.UpdateOneID(s.User).SetLastSignInAt(s.Used).Save(ctx)
		if err != nil {
			return fmt.Errorf("note the sign-in: %w", err)
		}
		return tx.Session.Create().SetID(id).SetOrganizationID(u.OrganizationID).SetUserID(u.ID).SetMethod(s.Method).SetOrigin(s.Origin).SetUserAgent(s.Agent).
			SetLastUsedAt(s.Used).SetExpiresAt(s.Expires).SetEndsAt(s.Ends).SetFamilyHash(s.Family).SetRefreshHash(s.Current).SetChain(sealed).Exec(ctx)
	})
	return id, err
}

// FindSession is part of auth.Sessions.
func (a accounts) FindSession(ctx context.Context, family string) (*auth.Session, error) {
	s, err := a.db.Client.Session.Query().Where(session.FamilyHash(family)).Only(viewer.SystemContext(ctx))
	if err != nil {
		return nil, gen.MaskNotFound(err)
	}
	chain, err := a.secrets.Unseal(s.ID, session.FieldChain, s.Chain)
	if err != nil {
		return nil, fmt.Errorf("open the session %s: %w", s.ID, err)
	}
	return &auth.Session{ID: s.ID, User: s.UserID, Method: s.Method, Origin: s.Origin, Agent: s.UserAgent, Used: s.LastUsedAt, Expires: s.ExpiresAt, Ends: s.EndsAt,
		Family: s.FamilyHash, Current: s.RefreshHash, Previous: s.PreviousHash, Chain: chain}, nil
}

// Renew is part of auth.Sessions.
func (a accounts) Renew(ctx context.Context, id, current, next string, used, expires time.Time) (bool, error) {
	n, err := a.db.Client.Session.Update().Where(session.ID(id), session.RefreshHash(current)).
		SetRefreshHash(next).SetPreviousHash(current).SetLastUsedAt(used).SetExpiresAt(expires).Save(viewer.SystemContext(ctx))
	return n == 1, err
}

// EndSession is part of auth.Sessions.
func (a accounts) EndSession(ctx context.Context, id string) error {
	return a.db.WithTx(viewer.SystemContext(ctx), func(ctx context.Context, tx *gen.Tx) error {
		_, err := tx.Session.Delete().Where(session.ID(id)).Exec(ctx)
		return err
	})
}

// forget removes sessions and links that have expired.
func (a accounts) forget(ctx context.Context) error {
	now := a.now()
	return a.db.WithTx(viewer.SystemContext(ctx), func(ctx context.Context, tx *gen.Tx) error {
		if _, err := tx.Session.Delete().Where(session.Or(session.ExpiresAtLT(now), session.EndsAtLT(now))).Exec(ctx); err != nil {
			return err
		}
		_, err := tx.OneTimeLink.Delete().Where(onetimelink.ExpiresAtLT(now)).Exec(ctx)
		return err
	})
}
