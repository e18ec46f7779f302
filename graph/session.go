package graph

import (
	"context"
	"time"

	"github.com/99designs/gqlgen/graphql"

	"github.com/hookyard/hookyard/ent/gen"
	rows "github.com/hookyard/hookyard/ent/gen/session"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/viewer"
	graphgen "github.com/hookyard/hookyard/graph/gen"
)

// Self changes how the viewer, a user, signs in. Errors that people can do something
// about are an *Error.
type Self interface {
	ChangePassword(ctx context.Context, current, next string) error
	ProposeFactor(ctx context.Context, password string) (secret, uri string, err error)
	EnableFactor(ctx context.Context, code string) (recovery []string, err error)
	RemoveFactor(ctx context.Context, password string) error
}

// Links makes one-time links.
type Links interface {
	// NewLink withdraws a user's links and makes another, which is shown this once.
	NewLink(ctx context.Context, tx *gen.Tx, user *gen.User) (link string, expires time.Time, err error)
}

// oneself implements the directive of the same name. An API key is nobody's self.
func oneself(ctx context.Context, _ any, next graphql.Resolver, or *viewer.Permission) (any, error) {
	v := viewer.FromContext(ctx)
	switch {
	case v == nil:
		return nil, errUnauthenticated
	case ids.Prefix(v.ID) == ids.User, or != nil && v.Can(*or):
		return next(ctx)
	case or != nil:
		return nil, forbidden("You need the permission %s for this, or to be a user who has signed in.", *or)
	}
	return nil, forbidden("Only users who have signed in do this, each for themselves.")
}

func (r *Resolver) inviteUser(ctx context.Context, in graphgen.InviteUserInput) (*graphgen.InviteUserPayload, error) {
	u, err := r.createUser(ctx, *in.User)
	if err != nil {
		return nil, err
	}
	link, err := r.createUserLink(ctx, u.ID)
	if err != nil {
		return nil, err
	}
	return &graphgen.InviteUserPayload{User: u, Link: link}, nil
}

func (r *Resolver) createUserLink(ctx context.Context, user string) (*graphgen.UserLink, error) {
	out := &graphgen.UserLink{}
	err := r.DB.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) (err error) {
		u, err := mine(ctx, tx, user)
		if err != nil {
			return err
		}
		if u.DisabledAt != nil {
			return conflict("%s is disabled; enable the user first.", u.Email)
		}
		out.URL, out.ExpiresAt, err = r.Links.NewLink(ctx, tx, u)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// mine returns a user whom the viewer may do everything to: whoever sets the password of
// a user, or takes away what protects it, can sign in as that user. The policy of changes
// decides, by a change of nothing.
func mine(ctx context.Context, tx *gen.Tx, user string) (*gen.User, error) {
	u, err := tx.User.Get(ctx, user)
	if err != nil {
		return nil, err
	}
	return tx.User.UpdateOneID(user).SetName(u.Name).Save(ctx)
}

func (r *Resolver) removeUserSecondFactor(ctx context.Context, user string) (*gen.User, error) {
	return change(ctx, r, r.DB.Client.User.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		err := tx.User.UpdateOneID(user).ClearTotpSecret().ClearSecondFactorAt().ClearRecoveryHashes().SetTotpStep(0).Exec(ctx)
		if err != nil {
			return "", err
		}
		_, err = endSessions(ctx, tx, user, "")
		return user, err
	})
}

func (r *Resolver) endSession(ctx context.Context, id string) (*graphgen.DeletePayload, error) {
	return r.delete(ctx, id, func(ctx context.Context, tx *gen.Tx) error {
		s, err := tx.Session.Get(ctx, id)
		if err != nil {
			return err
		}
		if err := tx.Session.DeleteOneID(id).Exec(ctx); err != nil {
			return err
		}
		return r.DB.Audit(ctx, store.Action{Action: store.EndSessions, Noun: "User", ID: s.UserID, Details: map[string]any{"sessionId": id}})
	})
}

func (r *Resolver) endUserSessions(ctx context.Context, in graphgen.EndUserSessionsInput) (*graphgen.EndUserSessionsPayload, error) {
	v := viewer.FromContext(ctx)
	user, keep := v.ID, ""
	if in.UserID != nil {
		user = *in.UserID
	}
	if in.KeepThis {
		keep = v.Session
	}
	out := &graphgen.EndUserSessionsPayload{}
	err := r.DB.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) (err error) {
		if _, err := tx.User.Get(ctx, user); err != nil {
			return orNotFound(err, "input.userId", user)
		}
		if user != v.ID {
			if _, err := mine(ctx, tx, user); err != nil { // also when there is no session to end
				return err
			}
		}
		out.Ended, err = endSessions(ctx, tx, user, keep)
		if err != nil || out.Ended == 0 {
			return err
		}
		return r.DB.Audit(ctx, store.Action{Action: store.EndSessions, Noun: "User", ID: user, Details: map[string]any{"ended": out.Ended}})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// endSessions ends those of a user's sessions that the viewer sees, but one.
func endSessions(ctx context.Context, tx *gen.Tx, user, keep string) (n int, err error) {
	list, err := tx.Session.Query().Where(rows.UserID(user), rows.IDNEQ(keep)).IDs(ctx)
	if err != nil {
		return 0, err
	}
	for _, id := range list {
		if err := tx.Session.DeleteOneID(id).Exec(ctx); err != nil {
			return 0, err
		}
	}
	return len(list), nil
}

// self is the viewer's own row.
func (r *Resolver) self(ctx context.Context) (*gen.User, error) {
	return r.DB.Client.User.Get(ctx, viewer.FromContext(ctx).ID)
}
