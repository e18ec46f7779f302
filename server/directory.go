package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/apikey"
	"github.com/hookyard/hookyard/ent/gen/assetgroup"
	"github.com/hookyard/hookyard/ent/gen/organization"
	"github.com/hookyard/hookyard/ent/gen/presence"
	"github.com/hookyard/hookyard/ent/gen/session"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/auth"
)

// directory looks people and keys up for package auth, as the hub itself.
type directory struct {
	client *gen.Client
	clock  clockwork.Clock

	mu   sync.Mutex
	used map[string]time.Time // when the use of a key was last noted
}

func newDirectory(client *gen.Client, clock clockwork.Clock) *directory {
	return &directory{client: client, clock: clock, used: map[string]time.Time{}}
}

// KeyViewer finds an API key by its hash and notes its use, to the minute.
func (d *directory) KeyViewer(ctx context.Context, hash string) (*viewer.Viewer, time.Time, error) {
	ctx = viewer.SystemContext(ctx)
	k, err := d.keys().Where(apikey.Hash(hash)).Only(ctx)
	if gen.IsNotFound(err) {
		return nil, time.Time{}, nil
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("look an API key up: %w", err)
	}
	v, expires, err := d.key(ctx, k)
	if v != nil {
		d.note(ctx, k.ID)
	}
	return v, expires, err
}

// PresenceViewer finds a Presence by the hash of a key of it.
func (d *directory) PresenceViewer(ctx context.Context, hash string) (*viewer.Viewer, time.Time, error) {
	ctx = viewer.SystemContext(ctx)
	p, err := d.client.Presence.Query().Where(presence.Enabled(true), presence.Or(presence.KeyHash(hash),
		presence.And(presence.PreviousKeyHash(hash), presence.PreviousKeyUntilGT(d.clock.Now())))).Only(ctx)
	if gen.IsNotFound(err) {
		return nil, time.Time{}, nil
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("look the key of a Presence up: %w", err)
	}
	var expires time.Time
	if p.KeyHash != hash {
		expires = *p.PreviousKeyUntil
	}
	v, _, err := d.active(ctx, &viewer.Viewer{ID: p.ID, Name: p.Name, Organization: p.OrganizationID})
	return v, expires, err
}

// Viewer finds a user in one of his sessions, or an API key.
func (d *directory) Viewer(ctx context.Context, id, in string) (*viewer.Viewer, error) {
	ctx = viewer.SystemContext(ctx)
	switch ids.Prefix(id) {
	case ids.APIKey:
		k, err := d.keys().Where(apikey.ID(id)).Only(ctx)
		if err != nil {
			return nil, gen.MaskNotFound(err)
		}
		v, _, err := d.key(ctx, k)
		return v, err
	case ids.User:
		now := d.clock.Now()
		s, err := d.client.Session.Query().Where(session.ID(in), session.UserID(id), session.ExpiresAtGT(now), session.EndsAtGT(now)).
			WithUser(func(q *gen.UserQuery) { q.WithCustomRole().WithGroups(groupIDs) }).Only(ctx)
		if err != nil {
			return nil, gen.MaskNotFound(err)
		}
		v := userViewer(s.Edges.User)
		if v != nil {
			v.Session = s.ID
		}
		v, org, err := d.active(ctx, v)
		// Whoever comes by single sign-on has proven as much as their provider demands.
		if v != nil && org.RequireSecondFactor && s.Method == auth.ByPassword && s.Edges.User.SecondFactorAt == nil {
			v = v.Enrol()
		}
		return v, err
	}
	return nil, nil
}

func groupIDs(q *gen.AssetGroupQuery) { q.Select(assetgroup.FieldID) }

// keys finds keys with all that decides what they may do.
func (d *directory) keys() *gen.APIKeyQuery {
	return d.client.APIKey.Query().WithCustomRole().WithGroups(groupIDs).
		WithOwner(func(q *gen.UserQuery) { q.WithCustomRole().WithGroups(groupIDs) })
}

// key makes the viewer of an API key; nil when it or its owner may not ask any more.
func (d *directory) key(ctx context.Context, k *gen.APIKey) (*viewer.Viewer, time.Time, error) {
	var expires time.Time
	if k.ExpiresAt != nil {
		expires = *k.ExpiresAt
		if !d.clock.Now().Before(expires) {
			return nil, expires, nil
		}
	}
	v := &viewer.Viewer{ID: k.ID, Name: k.Name, Organization: k.OrganizationID, Role: k.Role, Permissions: permissions(k.Role, k.Edges.CustomRole),
		AllGroups: k.AllGroups, Groups: groupsOf(k.Edges.Groups)}
	if k.OwnerID != nil {
		owner := userViewer(k.Edges.Owner)
		if owner == nil {
			return nil, expires, nil
		}
		v = v.Within(owner)
	}
	v, _, err := d.active(ctx, v)
	return v, expires, err
}

// userViewer makes the viewer of a user; nil for none and for a disabled one.
func userViewer(u *gen.User) *viewer.Viewer {
	if u == nil || u.DisabledAt != nil {
		return nil
	}
	return &viewer.Viewer{ID: u.ID, Name: u.Email, Organization: u.OrganizationID, Role: u.Role, Permissions: permissions(u.Role, u.Edges.CustomRole),
		AllGroups: u.AllGroups, Groups: groupsOf(u.Edges.Groups)}
}

func permissions(role viewer.Role, custom *gen.CustomRole) []viewer.Permission {
	if role == viewer.Custom && custom != nil {
		return custom.Permissions
	}
	return role.Permissions()
}

func groupsOf(groups []*gen.AssetGroup) []string {
	list := make([]string, len(groups))
	for i, g := range groups {
		list[i] = g.ID
	}
	return list
}

// active is v with its organization, or nil when that is suspended.
func (d *directory) active(ctx context.Context, v *viewer.Viewer) (*viewer.Viewer, *gen.Organization, error) {
	if v == nil {
		return nil, nil, nil
	}
	org, err := d.client.Organization.Query().Where(organization.ID(v.Organization), organization.SuspendedAtIsNil()).
		Select(organization.FieldRequireSecondFactor).Only(ctx)
	switch {
	case gen.IsNotFound(err):
		return nil, nil, nil
	case err != nil:
		return nil, nil, fmt.Errorf("look an organization up: %w", err)
	}
	return v, org, nil
}

// note writes down that a key was used, at most once a minute. Failing to is no reason
// to turn the caller away.
func (d *directory) note(ctx context.Context, id string) {
	now := d.clock.Now().UTC()
	d.mu.Lock()
	last, known := d.used[id]
	due := !known || now.Sub(last) >= time.Minute
	if due {
		d.used[id] = now
	}
	d.mu.Unlock()
	if due {
		_ = d.client.APIKey.UpdateOneID(id).SetLastUsedAt(now).Exec(ctx)
	}
}
