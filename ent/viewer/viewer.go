// Package viewer says who is asking: a person, a key or the hub itself, with the
// organization, role, permissions and asset groups that the ent policies and the
// ledger's scopes decide by. A leaf: it imports only the standard library.
//
// No viewer in a context means no data.
package viewer

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Role is a named set of permissions.
type Role string

// The predefined roles. They cannot be changed or removed.
const (
	Administrator      Role = "ADMINISTRATOR"
	Manager            Role = "MANAGER"
	ApplicationManager Role = "APPLICATION_MANAGER"
	Tester             Role = "TESTER"
	ReportViewer       Role = "REPORT_VIEWER"
)

// Custom stands for a role that the organization has made: a row with its permissions.
const Custom Role = "CUSTOM"

// Predefined lists the predefined roles, the mightiest first.
func Predefined() []Role {
	return []Role{Administrator, Manager, ApplicationManager, Tester, ReportViewer}
}

// Values lists what a role can be: a predefined one by its name, or Custom.
func (Role) Values() []string {
	values := make([]string, 0, len(Predefined())+1)
	for _, r := range Predefined() {
		values = append(values, string(r))
	}
	return append(values, string(Custom))
}

// MarshalGQL writes the role as GraphQL's enum does.
func (r Role) MarshalGQL(w io.Writer) { _, _ = io.WriteString(w, strconv.Quote(string(r))) }

// UnmarshalGQL reads the role from GraphQL's enum.
func (r *Role) UnmarshalGQL(v any) error {
	s, ok := v.(string)
	if !ok || !slices.Contains(Role("").Values(), s) {
		return fmt.Errorf("%v is not a role", v)
	}
	*r = Role(s)
	return nil
}

// Permission opens one kind of action.
type Permission string

// The permissions that exist so far.
const (
	CreateModifyWebhooks Permission = "CREATE_MODIFY_WEBHOOKS" // webhooks and their endpoints
	ManageSources        Permission = "MANAGE_SOURCES"         // sources and their mapping; processing receipts again
	ManageTriggers       Permission = "MANAGE_TRIGGERS"        // inbound addresses that start scans
	RunScans             Permission = "RUN_SCANS"              // start and stop scans
	ManagePresences      Permission = "MANAGE_PRESENCES"       // agents in private networks
	ManageConnectors     Permission = "MANAGE_CONNECTORS"      // which connectors and versions may be used
	ManageCatalogue      Permission = "MANAGE_CATALOGUE"       // asset groups and applications
	SendEvents           Permission = "SEND_EVENTS"            // events through the API
	ReadPayloads         Permission = "READ_PAYLOADS"          // bodies of receipts, events, requests and responses
	Redeliver            Permission = "REDELIVER"              // redeliver and cancel deliveries
	ManageAccess         Permission = "MANAGE_ACCESS"          // users, roles, keys, sign-in and the organization
	ReadAudit            Permission = "READ_AUDIT"             // the audit log
	EraseData            Permission = "ERASE_DATA"             // erase payloads and persons
)

// AllPermissions lists every permission, in the order in which people read them.
func AllPermissions() []Permission {
	return []Permission{CreateModifyWebhooks, ManageSources, ManageTriggers, RunScans, ManagePresences, ManageConnectors, ManageCatalogue,
		SendEvents, ReadPayloads, Redeliver, ManageAccess, ReadAudit, EraseData}
}

// Permissions returns what a predefined role may do; nil for any other.
func (r Role) Permissions() []Permission {
	switch r {
	case Administrator:
		return AllPermissions()
	case Manager:
		return []Permission{CreateModifyWebhooks, ManageSources, ManageTriggers, RunScans, ManagePresences, ManageCatalogue, SendEvents, ReadPayloads, Redeliver}
	case ApplicationManager:
		return []Permission{ManageCatalogue, RunScans, SendEvents, ReadPayloads}
	case Tester:
		return []Permission{RunScans, SendEvents, ReadPayloads}
	case ReportViewer:
		return []Permission{}
	}
	return nil
}

// Viewer is who is asking. It is immutable once it is in a context.
type Viewer struct {
	ID           string // "usr_…", "key_…" or "prs_…"; "" for the hub itself
	Name         string // for logs and the audit trail
	Organization string // "org_…"
	Role         Role
	Permissions  []Permission
	Owner        string   // of a key: "usr_…" that it belongs to; "" the organization
	AllGroups    bool     // complete access to all asset groups
	Groups       []string // otherwise these
	Session      string   // "ses_…" of a user who has signed in
	Enrolling    bool     // a user without rights until a second factor is set up
	system       bool
	operator     bool
	behalf       *Viewer // whoever made the hub ask; nil: it does so by itself
}

// Can says whether v has the permission.
func (v *Viewer) Can(p Permission) bool {
	return v != nil && (v.system || slices.Contains(v.Permissions, p))
}

// All says whether v has access to all asset groups: Administrators always have.
func (v *Viewer) All() bool {
	return v != nil && (v.system || v.AllGroups || v.Role == Administrator)
}

// InGroup says whether v has access to the asset group.
func (v *Viewer) InGroup(group string) bool {
	return v.All() || v != nil && slices.Contains(v.Groups, group)
}

// User is the user who asks, or whom the asking key belongs to; "" nobody.
func (v *Viewer) User() string {
	if v != nil && strings.HasPrefix(v.ID, "usr_") {
		return v.ID
	}
	if v == nil {
		return ""
	}
	return v.Owner
}

// Covers says whether v has everything that w has, so that v may give, change and
// take away w's rights.
func (v *Viewer) Covers(w *Viewer) bool { return v.Lacks(w) == "" }

// Lacks names, for people, the first thing that w has and v has not; "" nothing.
func (v *Viewer) Lacks(w *Viewer) string {
	switch {
	case v == nil, w == nil, w.system && !v.system:
		return "any right"
	case v.system:
		return ""
	case w.Role == Administrator && v.Role != Administrator:
		return "the role of an Administrator"
	case w.All() && !v.All():
		return "access to all asset groups"
	}
	for _, p := range w.Permissions {
		if !v.Can(p) {
			return "the permission " + string(p)
		}
	}
	for _, g := range w.Groups {
		if !v.InGroup(g) {
			return "access to the asset group " + g
		}
	}
	return ""
}

// Within is v, a key, with no more than its owner has today.
func (v *Viewer) Within(owner *Viewer) *Viewer {
	n := *v
	n.Owner = owner.ID
	if n.Role == Administrator {
		n.Role = owner.Role
	}
	n.Permissions = slices.DeleteFunc(slices.Clone(v.Permissions), func(p Permission) bool { return !owner.Can(p) })
	n.AllGroups = v.All() && owner.All()
	switch {
	case n.AllGroups:
	case v.All():
		n.Groups = owner.Groups
	default:
		n.Groups = slices.DeleteFunc(slices.Clone(v.Groups), func(g string) bool { return !owner.InGroup(g) })
	}
	return &n
}

// Enrol is v, a user, without any right until a second factor is set up.
func (v *Viewer) Enrol() *Viewer {
	return &Viewer{ID: v.ID, Name: v.Name, Organization: v.Organization, Role: Custom, Permissions: []Permission{}, Session: v.Session, Enrolling: true}
}

// Agent says that an agent of a Presence is asking, with the Presence's key. It is handed
// work and reports what came of it; nothing else in the hub is there for it.
func (v *Viewer) Agent() bool { return v != nil && strings.HasPrefix(v.ID, "prs_") }

// System says that the hub itself is asking.
func (v *Viewer) System() bool { return v != nil && v.system }

type key struct{}

type originKey struct{}

// WithOrigin returns a context that knows where its request came from: a remote
// address without port, or "command line". It is for the audit log and for throttling.
func WithOrigin(ctx context.Context, origin string) context.Context {
	return context.WithValue(ctx, originKey{}, origin)
}

// Origin is where the request came from, "" when nobody has said.
func Origin(ctx context.Context) string {
	s, _ := ctx.Value(originKey{}).(string)
	return s
}

// NewContext returns a context in which v is asking.
func NewContext(ctx context.Context, v *Viewer) context.Context {
	return context.WithValue(ctx, key{}, v)
}

// FromContext returns who is asking, nil for nobody.
func FromContext(ctx context.Context) *Viewer {
	v, _ := ctx.Value(key{}).(*Viewer)
	return v
}

// SystemContext returns a context in which the hub itself is asking, for all
// organizations. Only the hub's own start-up and background work may use it, and what
// it does for a viewer that the viewer's own rights do not reach; the audit log still
// says who that was.
func SystemContext(ctx context.Context) context.Context {
	return NewContext(ctx, &Viewer{Name: "hookyard", system: true, behalf: FromContext(ctx).Actor()})
}
