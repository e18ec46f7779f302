package server

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/assetgroup"
	"github.com/hookyard/hookyard/ent/gen/customrole"
	"github.com/hookyard/hookyard/ent/gen/identity"
	"github.com/hookyard/hookyard/ent/gen/identityprovider"
	"github.com/hookyard/hookyard/ent/gen/organization"
	"github.com/hookyard/hookyard/ent/gen/trustedissuer"
	"github.com/hookyard/hookyard/ent/gen/user"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/parts"
	"github.com/hookyard/hookyard/ent/secret"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/plugins"
	"github.com/hookyard/hookyard/server/auth"
)

// openSingleSignOn makes what outside issuers need: the way out to them, and who they
// vouch for. Calls to them keep to the operator's address policy, as deliveries do.
func (h *Hub) openSingleSignOn() (*auth.Outside, error) {
	// The organization's own list of targets binds its endpoints, not its issuers.
	way := connectors.Endpoint{Ref: "issuers", Dial: connectors.DialPolicy{Open: h.cfg.open()}}
	h.outbound = plugins.NewOutbound(h.log, nil)
	h.outbound.Put(way)
	client, err := h.outbound.HTTPClient(way)
	if err != nil {
		return nil, fmt.Errorf("make the way out to issuers: %w", err)
	}
	issuers := auth.NewIssuers(client.Transport, h.clock, func(result string) { h.metrics.issuers.WithLabelValues(result).Inc() })
	kept := vouchers{h.db, h.secrets}
	h.sso = auth.NewSingleSignOn(auth.SingleSignOnConfig{
		Providers: kept, Issuers: issuers, Sealer: h.secrets, PublicURL: h.cfg.PublicURL, Clock: h.clock, Log: h.log,
		Begin: h.beginSession, Count: func(result string) { h.metrics.sso.WithLabelValues(result).Inc() },
	})
	return auth.NewOutside(kept, issuers, h.log), nil
}

// beginSession starts the session of a user whom an identity provider has vouched for.
func (h *Hub) beginSession(w http.ResponseWriter, r *http.Request, user string) error {
	t, err := h.signIn.StartSession(r.Context(), user, "single sign-on", r.UserAgent())
	if err != nil {
		return err
	}
	h.doors.SetCookie(w, t)
	return nil
}

// vouchers keeps identity providers and trusted issuers, and knows what they vouch for.
type vouchers struct {
	db      *store.DB
	secrets *secret.Box
}

// Provider finds a provider that people may sign in through.
func (s vouchers) Provider(ctx context.Context, id string) (*auth.Provider, error) {
	ctx = viewer.SystemContext(ctx)
	p, err := s.db.Client.IdentityProvider.Query().Where(identityprovider.ID(id), identityprovider.Enabled(true)).Only(ctx)
	if err != nil {
		return nil, gen.MaskNotFound(err)
	}
	if active, err := s.active(ctx, p.OrganizationID); err != nil || !active {
		return nil, err
	}
	out := &auth.Provider{ID: p.ID, Organization: p.OrganizationID, Name: p.Name, Issuer: p.Issuer, ClientID: p.ClientID, Scopes: p.Scopes, GroupsClaim: p.GroupsClaim}
	if len(p.ClientSecret) > 0 {
		if err := s.secrets.UnsealJSON(p.ID, identityprovider.FieldClientSecret, p.ClientSecret, &out.ClientSecret); err != nil {
			return nil, fmt.Errorf("open the client secret of %s: %w", p.ID, err)
		}
	}
	return out, nil
}

func (s vouchers) active(ctx context.Context, org string) (bool, error) {
	ok, err := s.db.Client.Organization.Query().Where(organization.ID(org), organization.SuspendedAtIsNil()).Exist(ctx)
	if err != nil {
		return false, fmt.Errorf("look an organization up: %w", err)
	}
	return ok, nil
}

// The words for people who may not sign in.
const (
	noRule     = "You are in none of the groups that may sign in here. Ask an Administrator."
	noAddress  = "The identity provider has not verified an e-mail address of yours, so the hub cannot tell who you are here. Ask an Administrator."
	noUser     = "You are not a user here, and this identity provider does not make users. Ask an Administrator."
	disabled   = "Your user is disabled. Ask an Administrator."
	linked     = "The user with your e-mail address belongs to somebody else at the identity provider. An Administrator can unlink them."
	mightier   = "The user with your e-mail address has rights that the identity provider does not give you. An Administrator must take them away, or map you to them, first."
	lastOfThem = "You are the last Administrator, and the identity provider would make you less. An Administrator must change the mapping first."
)

// Admit finds or makes the user that a person is, and gives the rights of the mapping.
func (s vouchers) Admit(ctx context.Context, provider string, who auth.Person) (string, error) {
	id, err := s.admit(ctx, provider, who)
	if gen.IsConstraintError(err) { // the same person signs in twice at once: now there is a user
		id, err = s.admit(ctx, provider, who)
	}
	return id, err
}

func (s vouchers) admit(ctx context.Context, provider string, who auth.Person) (id string, err error) {
	refused := ""
	err = s.db.WithTx(viewer.SystemContext(ctx), func(ctx context.Context, tx *gen.Tx) error {
		p, err := tx.IdentityProvider.Get(ctx, provider)
		if err != nil {
			return err
		}
		if id, refused, err = decide(ctx, tx, p, who); err != nil || refused == "" {
			return err
		}
		return s.db.Audit(ctx, store.Action{Organization: p.OrganizationID, Action: store.SignInFailed, Noun: "IdentityProvider", ID: p.ID, Name: p.Name,
			Actor: &store.Actor{Kind: viewer.ActorNobody, Name: who.Email}, Details: map[string]any{"reason": refused, "subject": who.Subject}})
	})
	switch {
	case err != nil:
		return "", fmt.Errorf("admit somebody through %s: %w", provider, err)
	case refused != "":
		return "", &auth.Refused{Reason: refused}
	}
	return id, nil
}

// decide finds or makes the user that a person is; refused says why they may not sign in.
func decide(ctx context.Context, tx *gen.Tx, p *gen.IdentityProvider, who auth.Person) (id, refused string, err error) {
	given, err := mapped(ctx, tx.Client(), p.OrganizationID, p.Mapping, who.Groups)
	if err != nil {
		return "", "", err
	}
	link, err := tx.Identity.Query().Where(identity.ProviderID(p.ID), identity.Subject(who.Subject)).Only(ctx)
	known := err == nil
	var u *gen.User
	if known {
		u, err = users(tx).Where(user.ID(link.UserID)).Only(ctx)
	}
	if gen.MaskNotFound(err) != nil {
		return "", "", err
	}
	switch {
	case given == nil && known: // what was begun under rights that are gone ends with them
		return "", noRule, signOut(ctx, tx, u.ID, "")
	case given == nil:
		return "", noRule, nil
	case known:
	case who.Email == "":
		return "", noAddress, nil
	default:
		if u, refused, err = firstTime(ctx, tx, p, who, given); err != nil || refused != "" {
			return "", refused, err
		}
	}
	if u.DisabledAt != nil {
		return "", disabled, nil
	}
	if last, err := lastAdministrator(ctx, tx, u); err != nil || last && given.role != viewer.Administrator {
		return "", lastOfThem, err
	}
	return u.ID, "", give(ctx, tx, u, given, who.Name)
}

func users(tx *gen.Tx) *gen.UserQuery { return tx.User.Query().WithCustomRole().WithGroups(groupIDs) }

// firstTime finds the user whom somebody is who has not come from this provider before,
// by the address that it has verified, or makes one; and links them.
func firstTime(ctx context.Context, tx *gen.Tx, p *gen.IdentityProvider, who auth.Person, given *rights) (u *gen.User, refused string, err error) {
	u, err = users(tx).Where(user.OrganizationID(p.OrganizationID), user.Email(who.Email)).Only(ctx)
	switch {
	case gen.IsNotFound(err) && !p.CreateUsers:
		return nil, noUser, nil
	case gen.IsNotFound(err):
		c := tx.User.Create().SetOrganizationID(p.OrganizationID).SetEmail(who.Email).SetName(shown(who.Name)).SetRole(given.role).SetAllGroups(given.all).AddGroupIDs(given.groups...)
		if given.custom != nil {
			c.SetCustomRoleID(given.custom.ID)
		}
		if u, err = c.Save(ctx); err == nil {
			u, err = users(tx).Where(user.ID(u.ID)).Only(ctx)
		}
	case err == nil:
		taken, err := tx.Identity.Query().Where(identity.UserID(u.ID), identity.ProviderID(p.ID)).Exist(ctx)
		switch {
		case err != nil:
			return nil, "", err
		case taken:
			return nil, linked, nil
		case u.DisabledAt != nil:
			return nil, disabled, nil
		case !given.cover(userViewer(u)): // a provider does not get hold of more than it gives
			return nil, mightier, nil
		}
	}
	if err != nil {
		return nil, "", err
	}
	return u, "", tx.Identity.Create().SetOrganizationID(p.OrganizationID).SetProviderID(p.ID).SetSubject(who.Subject).SetUserID(u.ID).Exec(ctx)
}

// lastAdministrator says whether nobody but the user could give others their rights back.
func lastAdministrator(ctx context.Context, tx *gen.Tx, u *gen.User) (bool, error) {
	if u.Role != viewer.Administrator {
		return false, nil
	}
	others, err := tx.User.Query().Where(user.OrganizationID(u.OrganizationID), user.IDNEQ(u.ID), user.RoleEQ(viewer.Administrator), user.DisabledAtIsNil()).Exist(ctx)
	return !others, err
}

// give brings a user's rights to what the mapping says now; nothing is written when they
// are that already.
func give(ctx context.Context, tx *gen.Tx, u *gen.User, given *rights, name string) error {
	change, changed := tx.User.UpdateOneID(u.ID), false
	had := groupsOf(u.Edges.Groups)
	slices.Sort(had)
	if !slices.Equal(had, given.groups) {
		change.ClearGroups().AddGroupIDs(given.groups...)
		changed = true
	}
	custom := ""
	if given.custom != nil {
		custom = given.custom.ID
	}
	before := ""
	if u.CustomRoleID != nil {
		before = *u.CustomRoleID
	}
	if u.Role != given.role || u.AllGroups != given.all || before != custom {
		change.SetRole(given.role).SetAllGroups(given.all)
		if custom == "" {
			change.ClearCustomRole()
		} else {
			change.SetCustomRoleID(custom)
		}
		changed = true
	}
	if name = shown(name); u.Name == "" && name != "" {
		change.SetName(name)
		changed = true
	}
	if !changed {
		return nil
	}
	return change.Exec(ctx)
}

// shown is a name as an issuer writes it, in a form and length that can be kept.
func shown(name string) string {
	name = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return -1
		}
		return c
	}, name)
	return strings.ToValidUTF8(name[:min(len(name), 200)], "")
}

// rights are what a mapping gives.
type rights struct {
	role   viewer.Role
	custom *gen.CustomRole // nil for a predefined role
	all    bool
	groups []string // sorted; only such as exist
}

// mapped is what the rules give to somebody; nil when none fits, or when the role that
// they give does not exist any more.
func mapped(ctx context.Context, c *gen.Client, org string, rules []parts.AccessRule, values []string) (*rights, error) {
	fit, ok := parts.Fit(rules, values)
	if !ok {
		return nil, nil
	}
	given := &rights{role: fit.Role, all: fit.AllGroups}
	if fit.Role == viewer.Custom {
		custom, err := c.CustomRole.Query().Where(customrole.ID(fit.CustomRole), customrole.OrganizationID(org)).Only(ctx)
		if err != nil {
			return nil, gen.MaskNotFound(err)
		}
		given.custom = custom
	}
	if len(fit.Groups) > 0 {
		groups, err := c.AssetGroup.Query().Where(assetgroup.IDIn(fit.Groups...), assetgroup.OrganizationID(org)).IDs(ctx)
		if err != nil {
			return nil, fmt.Errorf("look the asset groups of a mapping up: %w", err)
		}
		slices.Sort(groups)
		given.groups = groups
	}
	return given, nil
}

// cover says whether nobody who has v's rights loses any by getting these instead.
func (r *rights) cover(v *viewer.Viewer) bool {
	own := &viewer.Viewer{Role: r.role, Permissions: permissions(r.role, r.custom), AllGroups: r.all, Groups: r.groups}
	if v.Role == viewer.Administrator && r.role != viewer.Administrator || v.All() && !own.All() {
		return false
	}
	return !slices.ContainsFunc(v.Permissions, func(p viewer.Permission) bool { return !own.Can(p) }) &&
		!slices.ContainsFunc(v.Groups, func(g string) bool { return !own.InGroup(g) })
}

// Trusted finds the trusted issuers that a token may be of.
func (s vouchers) Trusted(ctx context.Context, issuer string, audiences []string) ([]auth.TrustedIssuer, error) {
	ctx = viewer.SystemContext(ctx)
	rows, err := s.db.Client.TrustedIssuer.Query().Where(trustedissuer.Issuer(issuer), trustedissuer.AudienceIn(audiences...), trustedissuer.Enabled(true)).All(ctx)
	if err != nil {
		return nil, err
	}
	var out []auth.TrustedIssuer
	for _, t := range rows {
		active, err := s.active(ctx, t.OrganizationID)
		if err != nil {
			return nil, err
		}
		if active {
			out = append(out, auth.TrustedIssuer{ID: t.ID, Organization: t.OrganizationID, Issuer: t.Issuer, Audience: t.Audience,
				KeysURL: t.KeysURL, Algorithms: t.Algorithms, GroupsClaim: t.GroupsClaim})
		}
	}
	return out, nil
}

// Outsider makes the viewer of somebody whom a trusted issuer vouches for: a user, or a
// viewer of its own whose ID is always the same for the same subject.
func (s vouchers) Outsider(ctx context.Context, issuer string, who auth.Person) (*viewer.Viewer, error) {
	ctx = viewer.SystemContext(ctx)
	t, err := s.db.Client.TrustedIssuer.Get(ctx, issuer)
	if err != nil {
		return nil, gen.MaskNotFound(err)
	}
	if t.ActsAs == trustedissuer.ActsAsUsers {
		if who.Email == "" {
			return nil, nil
		}
		u, err := s.db.Client.User.Query().Where(user.OrganizationID(t.OrganizationID), user.Email(who.Email)).WithCustomRole().WithGroups(groupIDs).Only(ctx)
		if err != nil {
			return nil, gen.MaskNotFound(err)
		}
		return userViewer(u), nil
	}
	given, err := mapped(ctx, s.db.Client, t.OrganizationID, t.Mapping, who.Groups)
	if err != nil || given == nil {
		return nil, err
	}
	return &viewer.Viewer{ID: ids.Of(ids.Outsider, t.ID, who.Subject), Name: t.Name + ": " + who.Subject, Organization: t.OrganizationID,
		Role: given.role, Permissions: permissions(given.role, given.custom), AllGroups: given.all, Groups: given.groups}, nil
}
