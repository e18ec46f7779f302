package rule_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"entgo.io/ent/privacy"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/trustedissuer"
	"github.com/hookyard/hookyard/ent/gen/webhook"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
)

// row is one row of the world below. Level is its asset group, "" the organization;
// for users and keys it says nothing.
type row struct{ id, org, level string }

// noun is how the tests list, make, change and remove one kind of row.
type noun struct {
	name    string
	write   viewer.Permission
	open    bool // everyone in the organization sees all
	access  bool // users and keys
	fixed   bool // only the hub creates and deletes
	hub     bool // only the hub changes anything
	ownRows bool // the row is itself the group
	flat    bool // it has no level
	list    func(context.Context, *gen.Client) ([]string, error)
	create  func(ctx context.Context, c *gen.Client, name, level string, w *world) error
	update  func(ctx context.Context, c *gen.Client, id string) error
	remove  func(ctx context.Context, c *gen.Client, id string) error
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func nouns() []noun {
	return []noun{
		{name: "organization", write: viewer.ManageAccess, open: true, fixed: true,
			list: func(ctx context.Context, c *gen.Client) ([]string, error) { return c.Organization.Query().IDs(ctx) },
			create: func(ctx context.Context, c *gen.Client, name, _ string, _ *world) error {
				return c.Organization.Create().SetName(name).Exec(ctx)
			},
			update: func(ctx context.Context, c *gen.Client, id string) error {
				return c.Organization.UpdateOneID(id).SetRetentionEventsDays(1).Exec(ctx)
			},
			remove: func(ctx context.Context, c *gen.Client, id string) error {
				return c.Organization.DeleteOneID(id).Exec(ctx)
			}},
		{name: "asset group", write: viewer.ManageCatalogue, ownRows: true,
			list: func(ctx context.Context, c *gen.Client) ([]string, error) { return c.AssetGroup.Query().IDs(ctx) },
			create: func(ctx context.Context, c *gen.Client, name, _ string, _ *world) error {
				return c.AssetGroup.Create().SetName(name).Exec(ctx)
			},
			update: func(ctx context.Context, c *gen.Client, id string) error {
				return c.AssetGroup.UpdateOneID(id).SetDescription("x").Exec(ctx)
			},
			remove: func(ctx context.Context, c *gen.Client, id string) error {
				return c.AssetGroup.DeleteOneID(id).Exec(ctx)
			}},
		{name: "application", write: viewer.ManageCatalogue,
			list: func(ctx context.Context, c *gen.Client) ([]string, error) { return c.Application.Query().IDs(ctx) },
			create: func(ctx context.Context, c *gen.Client, name, level string, _ *world) error {
				return c.Application.Create().SetName(name).SetAssetGroupID(level).Exec(ctx)
			},
			update: func(ctx context.Context, c *gen.Client, id string) error {
				return c.Application.UpdateOneID(id).SetDescription("x").Exec(ctx)
			},
			remove: func(ctx context.Context, c *gen.Client, id string) error {
				return c.Application.DeleteOneID(id).Exec(ctx)
			}},
		{name: "user", write: viewer.ManageAccess, access: true,
			list: func(ctx context.Context, c *gen.Client) ([]string, error) { return c.User.Query().IDs(ctx) },
			create: func(ctx context.Context, c *gen.Client, name, _ string, _ *world) error {
				return c.User.Create().SetEmail(name + "@Example.com").SetRole(viewer.Tester).Exec(ctx)
			},
			update: func(ctx context.Context, c *gen.Client, id string) error {
				return c.User.UpdateOneID(id).SetName("x").Exec(ctx)
			},
			remove: func(ctx context.Context, c *gen.Client, id string) error { return c.User.DeleteOneID(id).Exec(ctx) }},
		{name: "API key", write: viewer.ManageAccess, access: true,
			list: func(ctx context.Context, c *gen.Client) ([]string, error) { return c.APIKey.Query().IDs(ctx) },
			create: func(ctx context.Context, c *gen.Client, name, _ string, _ *world) error {
				return c.APIKey.Create().SetName(name).SetRole(viewer.Tester).SetPrefix("hy_").SetHash(name).Exec(ctx)
			},
			update: func(ctx context.Context, c *gen.Client, id string) error {
				return c.APIKey.UpdateOneID(id).SetName("x").Exec(ctx)
			},
			remove: func(ctx context.Context, c *gen.Client, id string) error { return c.APIKey.DeleteOneID(id).Exec(ctx) }},
		{name: "identity provider", write: viewer.ManageAccess, access: true,
			list: func(ctx context.Context, c *gen.Client) ([]string, error) { return c.IdentityProvider.Query().IDs(ctx) },
			create: func(ctx context.Context, c *gen.Client, name, _ string, _ *world) error {
				return c.IdentityProvider.Create().SetName(name).SetIssuer("https://login.example.com").SetClientID("hub").Exec(ctx)
			},
			update: func(ctx context.Context, c *gen.Client, id string) error {
				return c.IdentityProvider.UpdateOneID(id).SetEnabled(false).Exec(ctx)
			},
			remove: func(ctx context.Context, c *gen.Client, id string) error {
				return c.IdentityProvider.DeleteOneID(id).Exec(ctx)
			}},
		{name: "trusted issuer", write: viewer.ManageAccess, access: true,
			list: func(ctx context.Context, c *gen.Client) ([]string, error) { return c.TrustedIssuer.Query().IDs(ctx) },
			create: func(ctx context.Context, c *gen.Client, name, _ string, _ *world) error {
				return c.TrustedIssuer.Create().SetName(name).SetIssuer("https://login.example.com").SetAudience(name).SetActsAs(trustedissuer.ActsAsRoles).Exec(ctx)
			},
			update: func(ctx context.Context, c *gen.Client, id string) error {
				return c.TrustedIssuer.UpdateOneID(id).SetEnabled(false).Exec(ctx)
			},
			remove: func(ctx context.Context, c *gen.Client, id string) error {
				return c.TrustedIssuer.DeleteOneID(id).Exec(ctx)
			}},
		{name: "role", write: viewer.ManageAccess, open: true, flat: true,
			list: func(ctx context.Context, c *gen.Client) ([]string, error) { return c.CustomRole.Query().IDs(ctx) },
			create: func(ctx context.Context, c *gen.Client, name, _ string, _ *world) error {
				return c.CustomRole.Create().SetName(name).SetPermissions([]viewer.Permission{viewer.RunScans}).Exec(ctx)
			},
			update: func(ctx context.Context, c *gen.Client, id string) error {
				return c.CustomRole.UpdateOneID(id).SetDescription("x").Exec(ctx)
			},
			remove: func(ctx context.Context, c *gen.Client, id string) error {
				return c.CustomRole.DeleteOneID(id).Exec(ctx)
			}},
		{name: "source", write: viewer.ManageSources,
			list: func(ctx context.Context, c *gen.Client) ([]string, error) { return c.Source.Query().IDs(ctx) },
			create: func(ctx context.Context, c *gen.Client, name, level string, _ *world) error {
				return c.Source.Create().SetName(name).SetKind("holm").SetTokenHash(name).SetNillableAssetGroupID(optional(level)).Exec(ctx)
			},
			update: func(ctx context.Context, c *gen.Client, id string) error {
				return c.Source.UpdateOneID(id).SetEnabled(false).Exec(ctx)
			},
			remove: func(ctx context.Context, c *gen.Client, id string) error { return c.Source.DeleteOneID(id).Exec(ctx) }},
		{name: "Presence", write: viewer.ManagePresences,
			list: func(ctx context.Context, c *gen.Client) ([]string, error) { return c.Presence.Query().IDs(ctx) },
			create: func(ctx context.Context, c *gen.Client, name, level string, _ *world) error {
				return c.Presence.Create().SetName(name).SetKeyPrefix("hkp_").SetKeyHash(name).SetNillableAssetGroupID(optional(level)).Exec(ctx)
			},
			update: func(ctx context.Context, c *gen.Client, id string) error {
				return c.Presence.UpdateOneID(id).SetDescription("x").Exec(ctx)
			},
			remove: func(ctx context.Context, c *gen.Client, id string) error { return c.Presence.DeleteOneID(id).Exec(ctx) }},
		{name: "endpoint", write: viewer.CreateModifyWebhooks,
			list: func(ctx context.Context, c *gen.Client) ([]string, error) { return c.Endpoint.Query().IDs(ctx) },
			create: func(ctx context.Context, c *gen.Client, name, level string, _ *world) error {
				return c.Endpoint.Create().SetName(name).SetConnector("webhook").SetNillableAssetGroupID(optional(level)).Exec(ctx)
			},
			update: func(ctx context.Context, c *gen.Client, id string) error {
				return c.Endpoint.UpdateOneID(id).SetURL("https://example.com").Exec(ctx)
			},
			remove: func(ctx context.Context, c *gen.Client, id string) error { return c.Endpoint.DeleteOneID(id).Exec(ctx) }},
		{name: "webhook", write: viewer.CreateModifyWebhooks,
			list: func(ctx context.Context, c *gen.Client) ([]string, error) { return c.Webhook.Query().IDs(ctx) },
			create: func(ctx context.Context, c *gen.Client, name, level string, w *world) error {
				return c.Webhook.Create().SetName(name).SetFormat("hookyard").SetEndpointID(w.at("endpoint", level)).SetNillableAssetGroupID(optional(level)).Exec(ctx)
			},
			update: func(ctx context.Context, c *gen.Client, id string) error {
				return c.Webhook.UpdateOneID(id).SetState(webhook.StatePAUSED).Exec(ctx)
			},
			remove: func(ctx context.Context, c *gen.Client, id string) error { return c.Webhook.DeleteOneID(id).Exec(ctx) }},
		{name: "scan", hub: true,
			list: func(ctx context.Context, c *gen.Client) ([]string, error) { return c.Scan.Query().IDs(ctx) },
			create: func(ctx context.Context, c *gen.Client, name, level string, w *world) error {
				return c.Scan.Create().SetOrganizationID(w.org).SetKey(name).SetSourceID("src_x").SetNillableAssetGroupID(optional(level)).Exec(ctx)
			},
			update: func(ctx context.Context, c *gen.Client, id string) error {
				return c.Scan.UpdateOneID(id).SetStatus("x").Exec(ctx)
			},
			remove: func(ctx context.Context, c *gen.Client, id string) error { return c.Scan.DeleteOneID(id).Exec(ctx) }},
		{name: "finding", hub: true,
			list: func(ctx context.Context, c *gen.Client) ([]string, error) { return c.Finding.Query().IDs(ctx) },
			create: func(ctx context.Context, c *gen.Client, name, level string, w *world) error {
				return c.Finding.Create().SetOrganizationID(w.org).SetKey(name).SetSourceID("src_x").SetNillableAssetGroupID(optional(level)).Exec(ctx)
			},
			update: func(ctx context.Context, c *gen.Client, id string) error {
				return c.Finding.UpdateOneID(id).SetStatus("x").Exec(ctx)
			},
			remove: func(ctx context.Context, c *gen.Client, id string) error { return c.Finding.DeleteOneID(id).Exec(ctx) }},
		{name: "ticket", hub: true,
			list: func(ctx context.Context, c *gen.Client) ([]string, error) { return c.Ticket.Query().IDs(ctx) },
			create: func(ctx context.Context, c *gen.Client, name, level string, w *world) error {
				return c.Ticket.Create().SetOrganizationID(w.org).SetKey(name).SetSourceID("src_x").SetNillableAssetGroupID(optional(level)).Exec(ctx)
			},
			update: func(ctx context.Context, c *gen.Client, id string) error {
				return c.Ticket.UpdateOneID(id).SetStatus("x").Exec(ctx)
			},
			remove: func(ctx context.Context, c *gen.Client, id string) error { return c.Ticket.DeleteOneID(id).Exec(ctx) }},
		{name: "report", hub: true,
			list: func(ctx context.Context, c *gen.Client) ([]string, error) { return c.Report.Query().IDs(ctx) },
			create: func(ctx context.Context, c *gen.Client, name, level string, w *world) error {
				return c.Report.Create().SetOrganizationID(w.org).SetKey(name).SetSourceID("src_x").SetNillableAssetGroupID(optional(level)).Exec(ctx)
			},
			update: func(ctx context.Context, c *gen.Client, id string) error {
				return c.Report.UpdateOneID(id).SetFormat("x").Exec(ctx)
			},
			remove: func(ctx context.Context, c *gen.Client, id string) error { return c.Report.DeleteOneID(id).Exec(ctx) }},
		{name: "signing key", hub: true, fixed: true,
			list: func(ctx context.Context, c *gen.Client) ([]string, error) { return c.SigningKey.Query().IDs(ctx) },
			create: func(ctx context.Context, c *gen.Client, _, _ string, _ *world) error {
				return c.SigningKey.Create().SetAlgorithm("EdDSA").SetMaterial([]byte("x")).Exec(ctx)
			},
			update: func(ctx context.Context, c *gen.Client, id string) error {
				return c.SigningKey.UpdateOneID(id).ClearRetiredAt().Exec(ctx)
			},
			remove: func(ctx context.Context, c *gen.Client, id string) error {
				return c.SigningKey.DeleteOneID(id).Exec(ctx)
			}},
	}
}

// world is two organizations with two asset groups each, and every noun at every level.
type world struct {
	db         *store.DB
	org, other string
	red, blue  string // asset groups of org
	rows       map[string][]row
	user       string // a user of org
	otherRed   string
}

// at is the row of a noun at a level of the first organization.
func (w *world) at(name, level string) string {
	for _, r := range w.rows[name] {
		if r.org == w.org && r.level == level {
			return r.id
		}
	}
	return ""
}

var errRollback = errors.New("roll back")

// try runs a change and takes it back.
func (w *world) try(ctx context.Context, do func(context.Context, *gen.Client) error) error {
	err := w.db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
		return errors.Join(errRollback, do(ctx, tx.Client()))
	})
	if err.Error() == errRollback.Error() {
		return nil
	}
	return err
}

func newWorld(t *testing.T, db *store.DB) *world {
	t.Helper()
	w := &world{db: db, rows: map[string][]row{}}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := viewer.SystemContext(t.Context())
	build := func(name string) (org string, groups []string) {
		must(db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
			o, err := tx.Organization.Create().SetName(name).Save(ctx)
			must(err)
			org = o.ID
			for _, g := range []string{"red", "blue"} {
				g, err := tx.AssetGroup.Create().SetOrganizationID(org).SetName(g).Save(ctx)
				must(err)
				groups = append(groups, g.ID)
				w.rows["asset group"] = append(w.rows["asset group"], row{g.ID, org, g.ID})
			}
			w.rows["organization"] = append(w.rows["organization"], row{o.ID, org, ""})
			return nil
		}))
		return org, groups
	}
	fill := func(org string, groups []string) {
		admin := viewer.NewContext(t.Context(), &viewer.Viewer{ID: "usr_setup", Organization: org, Role: viewer.Administrator, Permissions: viewer.Administrator.Permissions()})
		before := w.org
		w.org = org // at() looks for endpoints of this organization
		defer func() { w.org = before }()
		for _, n := range nouns() {
			if n.name == "organization" || n.name == "asset group" {
				continue
			}
			for _, level := range append([]string{""}, groups...) {
				if level == "" && n.name == "application" || level != "" && (n.access || n.flat || n.name == "signing key") {
					continue
				}
				ctx := admin
				if n.hub {
					ctx = viewer.SystemContext(t.Context())
				}
				known, err := n.list(viewer.SystemContext(t.Context()), db.Client)
				must(err)
				must(db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
					return n.create(ctx, tx.Client(), fmt.Sprintf("%s of %s at %q", n.name, org, level), level, w)
				}))
				all, err := n.list(viewer.SystemContext(t.Context()), db.Client)
				must(err)
				for _, id := range all {
					if !slices.Contains(known, id) {
						w.rows[n.name] = append(w.rows[n.name], row{id, org, level})
					}
				}
			}
		}
	}
	org, groups := build("Acme")
	other, otherGroups := build("Bolt")
	fill(org, groups)
	fill(other, otherGroups)
	w.org, w.other, w.red, w.blue, w.otherRed = org, other, groups[0], groups[1], otherGroups[0]
	w.user = w.at("user", "")
	return w
}

// viewers are one of each kind, all of the first organization.
func (w *world) viewers() []*viewer.Viewer {
	v := func(name string, r viewer.Role, all bool, groups ...string) *viewer.Viewer {
		return &viewer.Viewer{ID: w.user, Name: name, Organization: w.org, Role: r, Permissions: r.Permissions(), AllGroups: all, Groups: groups}
	}
	return []*viewer.Viewer{
		v("administrator", viewer.Administrator, false),
		v("manager of all", viewer.Manager, true),
		v("manager of red", viewer.Manager, false, w.red),
		v("manager of red and a foreign group", viewer.Manager, false, w.red, w.otherRed),
		v("manager of nothing", viewer.Manager, false),
		v("application manager of blue", viewer.ApplicationManager, false, w.blue),
		v("tester of both", viewer.Tester, false, w.red, w.blue),
		v("report viewer of all", viewer.ReportViewer, true),
		v("unknown role of all", "SOMETHING", true),
	}
}

// sees says in plain words what the rules have to come to.
func (n noun) sees(v *viewer.Viewer, r row) bool {
	switch {
	case r.org != v.Organization || n.name == "signing key":
		return false
	case n.open:
		return true
	case n.access:
		return v.Can(viewer.ManageAccess) || r.id == v.ID
	case r.level == "":
		return v.All()
	}
	return v.InGroup(r.level)
}

func TestWall(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		for _, v := range w.viewers() {
			t.Run(v.Name, func(t *testing.T) {
				ctx := viewer.NewContext(t.Context(), v)
				for _, n := range nouns() {
					w.reads(ctx, t, v, n)
					w.changes(ctx, t, v, n)
				}
			})
		}
		t.Run("nobody", func(t *testing.T) {
			for _, n := range nouns() {
				if ids, err := n.list(t.Context(), db.Client); len(ids) > 0 || !errors.Is(err, rule.ErrNoViewer) {
					t.Errorf("%s: nobody sees %v, %v", n.name, ids, err)
				}
				err := w.try(t.Context(), func(ctx context.Context, c *gen.Client) error { return n.remove(ctx, c, w.rows[n.name][0].id) })
				if !errors.Is(err, rule.ErrNoViewer) {
					t.Errorf("%s: nobody deletes: %v", n.name, err)
				}
			}
		})
	})
}

// reads checks the list, and that the ledger's scope agrees with it level by level.
func (w *world) reads(ctx context.Context, t *testing.T, v *viewer.Viewer, n noun) {
	t.Helper()
	var want []string
	scope, err := rule.LedgerScope(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range w.rows[n.name] {
		if n.sees(v, r) {
			want = append(want, r.id)
		}
		if levelled := !n.open && !n.access && n.name != "signing key"; levelled && scope.Sees(r.org, r.level) != n.sees(v, r) {
			t.Errorf("%s at %q: the ledger's scope disagrees", n.name, r.level)
		}
	}
	got, err := n.list(ctx, w.db.Client)
	if n.name == "signing key" {
		if !errors.Is(err, privacy.Deny) {
			t.Errorf("signing keys: %v, %v", got, err)
		}
		return
	}
	slices.Sort(got)
	slices.Sort(want)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%s: sees %v (%v), should see %v", n.name, got, err, want)
	}
}

// changes checks every update and deletion, and creation at every level.
func (w *world) changes(ctx context.Context, t *testing.T, v *viewer.Viewer, n noun) {
	t.Helper()
	for _, r := range w.rows[n.name] {
		for verb, do := range map[string]func(context.Context, *gen.Client, string) error{"update": n.update, "delete": n.remove} {
			err := w.try(ctx, func(ctx context.Context, c *gen.Client) error { return do(ctx, c, r.id) })
			switch {
			case n.name == "API key" && !v.Can(n.write): // it could be their own
				if !gen.IsNotFound(err) {
					t.Errorf("%s %s: %v, want not found", verb, n.name, err)
				}
			case n.hub, n.fixed && verb == "delete", !v.Can(n.write):
				if !errors.Is(err, privacy.Deny) {
					t.Errorf("%s %s: %v, want a denial", verb, n.name, err)
				}
			case !n.sees(v, r):
				if !gen.IsNotFound(err) {
					t.Errorf("%s %s of %s at %q: %v, want not found", verb, n.name, r.org, r.level, err)
				}
			case err != nil && !gen.IsConstraintError(err):
				t.Errorf("%s %s at %q: %v", verb, n.name, r.level, err)
			}
		}
	}
	for _, level := range []string{"", w.red, w.blue, w.otherRed} {
		if level == "" && n.name == "application" {
			continue
		}
		err := w.try(ctx, func(ctx context.Context, c *gen.Client) error { return n.create(ctx, c, "new", level, w) })
		unknown := new(rule.UnknownReference)
		switch {
		case n.hub, n.fixed, !v.Can(n.write):
			if !errors.Is(err, privacy.Deny) {
				t.Errorf("create %s at %q: %v, want a denial", n.name, level, err)
			}
		case n.access, n.flat:
			if err != nil {
				t.Errorf("create %s: %v", n.name, err)
			}
		case n.ownRows && !v.All(), !n.ownRows && level != "" && !v.InGroup(level), !n.ownRows && level == "" && !v.All():
			if !errors.Is(err, privacy.Deny) {
				t.Errorf("create %s at %q: %v, want a denial", n.name, level, err)
			}
		case level == w.otherRed && !n.ownRows:
			if !errors.As(err, &unknown) {
				t.Errorf("create %s in a foreign group: %v", n.name, err)
			}
		case err != nil:
			t.Errorf("create %s at %q: %v", n.name, level, err)
		}
	}
}

func TestNothingCrossesOrganizations(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		admin := viewer.NewContext(t.Context(), &viewer.Viewer{ID: w.user, Organization: w.org, Role: viewer.Administrator, Permissions: viewer.Administrator.Permissions()})
		foreign := func(name string) string {
			for _, r := range w.rows[name] {
				if r.org == w.other {
					return r.id
				}
			}
			t.Fatal("no foreign " + name)
			return ""
		}
		hook, unknown := w.at("webhook", ""), new(rule.UnknownReference)
		for what, do := range map[string]func(context.Context, *gen.Client) error{
			"endpoint": func(ctx context.Context, c *gen.Client) error {
				return c.Webhook.UpdateOneID(hook).SetEndpointID(foreign("endpoint")).Exec(ctx)
			},
			"applications": func(ctx context.Context, c *gen.Client) error {
				return c.Webhook.UpdateOneID(hook).AddApplicationIDs(w.at("application", w.red), foreign("application")).Exec(ctx)
			},
			"sources": func(ctx context.Context, c *gen.Client) error {
				return c.Webhook.UpdateOneID(hook).AddSourceIDs(foreign("source")).Exec(ctx)
			},
			"asset_group": func(ctx context.Context, c *gen.Client) error {
				return c.Application.UpdateOneID(w.at("application", w.red)).SetAssetGroupID(w.otherRed).Exec(ctx)
			},
			"groups": func(ctx context.Context, c *gen.Client) error {
				return c.User.UpdateOneID(w.user).AddGroupIDs(w.otherRed).Exec(ctx)
			},
		} {
			if err := w.try(admin, do); !errors.As(err, &unknown) || unknown.Field != what {
				t.Errorf("a foreign reference in %s: %v", what, err)
			}
			if err := w.try(viewer.SystemContext(t.Context()), do); !errors.As(err, &unknown) {
				t.Errorf("a foreign reference in %s, made by the hub itself: %v", what, err)
			}
		}
		err := w.try(admin, func(ctx context.Context, c *gen.Client) error {
			return c.AssetGroup.Create().SetName("new").SetOrganizationID(w.other).Exec(ctx)
		})
		if !errors.Is(err, privacy.Deny) {
			t.Errorf("a row for another organization: %v", err)
		}
		err = w.try(admin, func(ctx context.Context, c *gen.Client) error {
			return c.Webhook.Update().SetName("x").Exec(ctx)
		})
		if !errors.Is(err, privacy.Deny) {
			t.Errorf("an update of all webhooks: %v", err)
		}
		// Moving is a change at both ends.
		red := viewer.NewContext(t.Context(), &viewer.Viewer{ID: w.user, Organization: w.org, Role: viewer.Manager, Permissions: viewer.Manager.Permissions(), Groups: []string{w.red}})
		for to, do := range map[string]func(*gen.EndpointUpdateOne) *gen.EndpointUpdateOne{
			"an unseen group":        func(u *gen.EndpointUpdateOne) *gen.EndpointUpdateOne { return u.SetAssetGroupID(w.blue) },
			"the organization":       func(u *gen.EndpointUpdateOne) *gen.EndpointUpdateOne { return u.ClearAssetGroupID() },
			"the organization, too":  func(u *gen.EndpointUpdateOne) *gen.EndpointUpdateOne { return u.ClearAssetGroup() },
			"an unseen group's edge": func(u *gen.EndpointUpdateOne) *gen.EndpointUpdateOne { return u.SetAssetGroupID(w.blue) },
		} {
			err := w.try(red, func(ctx context.Context, c *gen.Client) error {
				return do(c.Endpoint.UpdateOneID(w.at("endpoint", w.red))).Exec(ctx)
			})
			if !errors.Is(err, privacy.Deny) {
				t.Errorf("moving an endpoint to %s: %v", to, err)
			}
		}
		// What one may not see cannot be referred to either.
		err = w.try(red, func(ctx context.Context, c *gen.Client) error {
			return c.Webhook.UpdateOneID(w.at("webhook", w.red)).AddApplicationIDs(w.at("application", w.blue)).Exec(ctx)
		})
		if !errors.As(err, &unknown) {
			t.Errorf("a scope out of sight: %v", err)
		}
		for which, id := range map[string]string{"unseen": w.at("webhook", w.blue), "foreign": foreign("webhook")} {
			err := w.try(red, func(ctx context.Context, c *gen.Client) error {
				return c.Webhook.UpdateOneID(id).AddApplicationIDs(w.at("application", w.red)).Exec(ctx)
			})
			if !gen.IsNotFound(err) {
				t.Errorf("a scope added to an %s webhook: %v", which, err)
			}
		}
		if _, err := db.Client.Noder(admin, foreign("scan"), store.WithNodeType()); !gen.IsNotFound(err) {
			t.Errorf("node of a foreign scan: %v", err)
		}
		if n, err := db.Client.Noder(admin, w.at("scan", w.red), store.WithNodeType()); err != nil || n == nil {
			t.Errorf("node of a scan: %v, %v", n, err)
		}
		for _, id := range []string{"nonsense", "xyz_1", ids.Of(ids.SigningKey, "x"), ids.Of(ids.Scan, "x")} {
			if _, err := db.Client.Noder(admin, id, store.WithNodeType()); !gen.IsNotFound(err) {
				t.Errorf("node %s: %v", id, err)
			}
		}
	})
}

func TestOnlyAdministratorsOpenTargets(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		for _, role := range []viewer.Role{viewer.Administrator, viewer.Manager} {
			ctx := viewer.NewContext(t.Context(), &viewer.Viewer{Organization: w.org, Role: role, Permissions: role.Permissions(), AllGroups: true})
			err := w.try(ctx, func(ctx context.Context, c *gen.Client) error {
				return c.AssetGroup.UpdateOneID(w.red).ClearAllowTargets().Exec(ctx)
			})
			if denied := errors.Is(err, privacy.Deny); denied != (role != viewer.Administrator) {
				t.Errorf("%s changes the targets: %v", role, err)
			}
		}
	})
}

// The key of a Presence is for its agents' work, which does not pass here: they see and
// change no row, of whatever noun.
func TestAgentsSeeNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		ctx := viewer.NewContext(t.Context(), &viewer.Viewer{ID: w.at("Presence", ""), Organization: w.org, AllGroups: true,
			Role: viewer.Administrator, Permissions: viewer.AllPermissions()}) // even if somebody gave it rights
		for _, n := range nouns() {
			if ids, err := n.list(ctx, db.Client); len(ids) > 0 || !errors.Is(err, privacy.Deny) {
				t.Errorf("%s: an agent sees %v, %v", n.name, ids, err)
			}
			id := w.rows[n.name][0].id
			for verb, do := range map[string]func(context.Context, *gen.Client, string) error{"update": n.update, "delete": n.remove} {
				if err := w.try(ctx, func(ctx context.Context, c *gen.Client) error { return do(ctx, c, id) }); !errors.Is(err, privacy.Deny) {
					t.Errorf("%s %s: %v, want a denial", verb, n.name, err)
				}
			}
		}
		if _, err := rule.LedgerScope(ctx); !errors.Is(err, rule.ErrNoViewer) {
			t.Errorf("an agent has a scope: %v", err)
		}
	})
}
