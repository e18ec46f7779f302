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
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/viewer"
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
	k, err := d.client.APIKey.Query().Where(apikey.Hash(hash)).WithGroups(groupIDs).WithOwner().Only(ctx)
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

// Viewer finds a user or an API key by ID.
func (d *directory) Viewer(ctx context.Context, id string) (*viewer.Viewer, error) {
	ctx = viewer.SystemContext(ctx)
	switch ids.Prefix(id) {
	case ids.APIKey:
		k, err := d.client.APIKey.Query().Where(apikey.ID(id)).WithGroups(groupIDs).WithOwner().Only(ctx)
		if err != nil {
			return nil, gen.MaskNotFound(err)
		}
		v, _, err := d.key(ctx, k)
		return v, err
	case ids.User:
		u, err := d.client.User.Get(ctx, id)
		if err != nil {
			return nil, gen.MaskNotFound(err)
		}
		if u.DisabledAt != nil {
			return nil, nil
		}
		groups, err := u.QueryGroups().IDs(ctx)
		if err != nil {
			return nil, fmt.Errorf("look a user's groups up: %w", err)
		}
		return d.viewer(ctx, u.OrganizationID, viewer.Viewer{ID: u.ID, Name: u.Email, Role: u.Role, AllGroups: u.AllGroups, Groups: groups})
	}
	return nil, nil
}

func groupIDs(q *gen.AssetGroupQuery) { q.Select(assetgroup.FieldID) }

// key makes the viewer of an API key; nil when it or its owner may not ask any more.
func (d *directory) key(ctx context.Context, k *gen.APIKey) (*viewer.Viewer, time.Time, error) {
	var expires time.Time
	if k.ExpiresAt != nil {
		expires = *k.ExpiresAt
		if !d.clock.Now().Before(expires) {
			return nil, expires, nil
		}
	}
	if owner := k.Edges.Owner; owner != nil && owner.DisabledAt != nil {
		return nil, expires, nil
	}
	groups := make([]string, len(k.Edges.Groups))
	for i, g := range k.Edges.Groups {
		groups[i] = g.ID
	}
	v, err := d.viewer(ctx, k.OrganizationID, viewer.Viewer{ID: k.ID, Name: k.Name, Role: k.Role, AllGroups: k.AllGroups, Groups: groups})
	return v, expires, err
}

// viewer completes v; nil when the organization is suspended.
func (d *directory) viewer(ctx context.Context, org string, v viewer.Viewer) (*viewer.Viewer, error) {
	active, err := d.client.Organization.Query().Where(organization.ID(org), organization.SuspendedAtIsNil()).Exist(ctx)
	if err != nil {
		return nil, fmt.Errorf("look an organization up: %w", err)
	}
	if !active {
		return nil, nil
	}
	v.Organization, v.Permissions = org, v.Role.Permissions()
	return &v, nil
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
