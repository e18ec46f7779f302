package server

import (
	"context"
	"errors"
	"time"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/graph"
	"github.com/hookyard/hookyard/server/auth"
)

// door is the sign-in as the API sees it: for the viewer, with errors for people.
type door struct{ signIn *auth.SignIn }

// ChangePassword is part of graph.Self.
func (d door) ChangePassword(ctx context.Context, current, next string) error {
	v := viewer.FromContext(ctx)
	return explained(d.signIn.ChangePassword(ctx, v.ID, current, next, v.Session), "input.currentPassword", "input.newPassword")
}

// ProposeFactor is part of graph.Self.
func (d door) ProposeFactor(ctx context.Context, password string) (secret, uri string, err error) {
	secret, uri, err = d.signIn.ProposeFactor(ctx, viewer.FromContext(ctx).ID, password)
	return secret, uri, explained(err, "input.password", "")
}

// EnableFactor is part of graph.Self.
func (d door) EnableFactor(ctx context.Context, code string) ([]string, error) {
	recovery, err := d.signIn.EnableFactor(ctx, viewer.FromContext(ctx).ID, code)
	return recovery, explained(err, "input.code", "")
}

// RemoveFactor is part of graph.Self.
func (d door) RemoveFactor(ctx context.Context, password string) error {
	return explained(d.signIn.RemoveFactor(ctx, viewer.FromContext(ctx).ID, password), "input.password", "")
}

// explained finds the words for what the sign-in refuses; given and wanted are the inputs
// that it may be about.
func explained(err error, given, wanted string) error {
	var limited *auth.LimitedError
	var weak *auth.WeakError
	switch {
	case errors.As(err, &limited):
		return &graph.Error{Code: graph.Limited, Limit: "sign-in", Retry: limited.After, Message: "There were too many attempts; wait a while."}
	case errors.As(err, &weak):
		return &graph.Error{Code: graph.BadUserInput, Field: wanted, Message: weak.Reason}
	case errors.Is(err, auth.ErrWrongPassword):
		return &graph.Error{Code: graph.BadUserInput, Field: given, Message: "This is not your password."}
	case errors.Is(err, auth.ErrWrongCode):
		return &graph.Error{Code: graph.BadUserInput, Field: given, Message: "This is not the code that the new second factor shows now."}
	case errors.Is(err, auth.ErrFactorEnabled):
		return &graph.Error{Code: graph.Conflict, Message: "You have a second factor already; remove that first."}
	}
	return err
}

// links makes one-time links that begin with the hub's address.
type links struct {
	publicURL string
	now       func() time.Time
}

// NewLink is part of graph.Links. Links are the hub's own rows, whoever wants one.
func (l links) NewLink(ctx context.Context, tx *gen.Tx, u *gen.User) (string, time.Time, error) {
	return newLink(viewer.SystemContext(ctx), tx, u, l.publicURL, l.now())
}

// signedIn is told of everything that happens at the door.
func (h *Hub) signedIn(ctx context.Context, e auth.Event) {
	h.metrics.signIns.WithLabelValues(e.Method, string(e.Outcome)).Inc()
	level := h.log.InfoContext
	switch {
	case e.Outcome == auth.Reused:
		level = h.log.WarnContext
	case e.Method == auth.ByRefresh:
		level = h.log.DebugContext
	}
	level(ctx, "sign-in", "outcome", string(e.Outcome), "method", e.Method, "user", e.User, "session", e.Session, "from", viewer.Origin(ctx))
	if err := h.auditSignIn(viewer.SystemContext(ctx), e); err != nil {
		h.log.ErrorContext(ctx, "a sign-in is missing in the audit log", "user", e.User, "err", err)
	}
}

// auditSignIn tells of what concerns a user that exists.
func (h *Hub) auditSignIn(ctx context.Context, e auth.Event) error {
	if ids.Prefix(e.User) != ids.User || e.Method == auth.ByRefresh && e.Outcome != auth.Reused {
		return nil
	}
	u, err := h.db.Client.User.Get(ctx, e.User)
	if err != nil {
		return gen.MaskNotFound(err)
	}
	a := store.Action{Organization: u.OrganizationID, Noun: "User", ID: u.ID, Name: u.Email, Details: map[string]any{"method": e.Method},
		Actor: &store.Actor{Kind: viewer.ActorNobody, Name: u.Email}}
	switch e.Outcome {
	case auth.OK:
		a.Action, a.Actor = store.SignIn, &store.Actor{Kind: viewer.ActorUser, ID: u.ID, Name: u.Email}
		if e.Method == auth.ByLink {
			a.Action = "SET_PASSWORD"
		}
	case auth.Failed:
		a.Action = store.SignInFailed
	case auth.Throttled:
		a.Action = store.SignInLocked
	case auth.Reused:
		a.Action, a.Details["reason"] = store.EndSessions, "an old refresh token was used again"
	}
	if e.Session != "" {
		a.Details["sessionId"] = e.Session
	}
	return h.db.Audit(ctx, a)
}
