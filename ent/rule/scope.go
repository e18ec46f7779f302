package rule

import (
	"context"
	"errors"
	"slices"

	"github.com/hookyard/hookyard/ent/viewer"
)

// ErrNoViewer says that nobody is asking, so there is nothing to see.
var ErrNoViewer = errors.New("rule: no viewer in the context")

// Scope is the part of the ledger that a viewer may see. It can only be made here,
// from a viewer, and the ledger reads nothing without one. The zero value sees nothing.
//
// A row of the ledger is in one organization and at one level: the asset group of
// its event (receipts, events) or of its webhook (deliveries, entries), "" for the
// organization. Rows at the organization's level need access to all groups.
type Scope struct {
	organization string
	all          bool
	groups       []string
	payloads     bool
}

// LedgerScope makes the scope of the context's viewer.
func LedgerScope(ctx context.Context) (Scope, error) {
	v := viewer.FromContext(ctx)
	if v == nil || v.System() || v.Agent() || v.Organization == "" {
		return Scope{}, ErrNoViewer
	}
	groups := slices.Clone(v.Groups)
	slices.Sort(groups)
	return Scope{organization: v.Organization, all: v.All(), groups: groups, payloads: v.Can(viewer.ReadPayloads)}, nil
}

// Organization is the one organization that the scope is in.
func (s Scope) Organization() string { return s.organization }

// All says that every level is visible; otherwise only Groups are.
func (s Scope) All() bool { return s.all }

// Groups are the visible asset groups, sorted. Do not change them.
func (s Scope) Groups() []string { return s.groups }

// Payloads says whether bodies may be read.
func (s Scope) Payloads() bool { return s.payloads }

// Sees says whether a row of the organization at the level is visible.
func (s Scope) Sees(organization, level string) bool {
	if s.organization == "" || s.organization != organization {
		return false
	}
	if s.all {
		return true
	}
	_, ok := slices.BinarySearch(s.groups, level)
	return ok && level != ""
}
