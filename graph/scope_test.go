package graph

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/flow"
	"github.com/hookyard/hookyard/server/watch"
)

// TestScopesAreEntsFilters compares the two ways past which everything goes: what the
// ledger's scopes let through, and what the policies of ent do, for every role and
// every access, on both databases.
func TestScopesAreEntsFilters(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, Options{}, watch.Options{})
		w.must("admin", fmt.Sprintf(`mutation { updateEndpoint(input: {id: %q, sharedGroupIds: [%q, %q]}) { endpoint { id } } }`, w.hq(), w.vars["red"], w.vars["blue"]))
		for i, level := range []string{"null", fmt.Sprintf("%q", w.vars["red"]), fmt.Sprintf("%q", w.vars["blue"])} {
			w.must("admin", fmt.Sprintf(`mutation { createWebhook(input: {name: "webhook %d", endpointId: %q, assetGroupId: %s, global: true}) { webhook { id } } }`, i, w.hq(), level))
		}
		e := w.must("stranger", `mutation { createEndpoint(input: {name: "theirs", url: "https://example.com"}) { endpoint { id } } }`)
		w.must("stranger", fmt.Sprintf(`mutation { createWebhook(input: {name: "theirs", endpointId: %q, global: true}) { webhook { id } } }`,
			e["createEndpoint"].(map[string]any)["endpoint"].(map[string]any)["id"]))
		for org, apps := range map[string][]string{w.org: {"", w.vars["shop"], w.vars["site"]}, w.vars["other"]: {""}} {
			for _, app := range apps {
				var sent flow.Sent
				sent.Type, sent.Application = "scan.completed", app
				if _, err := w.Send(t.Context(), org, "key_x", "", []flow.Sent{sent}); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.end(flow.Succeeded) // the world gives every webhook of an organization its events

		for _, role := range []viewer.Role{viewer.Administrator, viewer.Manager, viewer.ApplicationManager, viewer.Tester, viewer.ReportViewer, "CUSTOM"} {
			for name, v := range map[string]viewer.Viewer{
				"no group": {}, "red": {Groups: []string{w.vars["red"]}}, "blue": {Groups: []string{w.vars["blue"]}},
				"both": {Groups: []string{w.vars["red"], w.vars["blue"]}}, "all": {AllGroups: true},
			} {
				for _, org := range []string{w.org, w.vars["other"]} {
					v.ID, v.Organization, v.Role, v.Permissions = "key_x", org, role, role.Permissions()
					ctx := viewer.NewContext(t.Context(), &v)
					byScope, byEnt := w.deliveredTo(ctx), w.webhooksOf(ctx)
					if !slices.Equal(byScope, byEnt) {
						t.Errorf("%s of %s: deliveries of %v are seen, and the webhooks %v", role, name, byScope, byEnt)
					}
					if len(byEnt) == 0 != (name == "no group" && role != viewer.Administrator || org != w.org && !v.All()) {
						t.Errorf("%s of %s sees %d webhooks", role, name, len(byEnt))
					}
					if events, levels := w.eventGroups(ctx), w.groupsOf(ctx); !slices.Equal(events, levels) {
						t.Errorf("%s of %s: events of the groups %v are seen, and the groups %v", role, name, events, levels)
					}
				}
			}
		}
	})
}

// deliveredTo are the webhooks of all deliveries that the ledger shows, in lists and in
// the log's entries.
func (w *world) deliveredTo(ctx context.Context) []string {
	w.t.Helper()
	scope, err := rule.LedgerScope(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	rows, err := w.ledger.Deliveries(ctx, scope, flow.DeliveryFilter{}, flow.Page{Limit: 200})
	if err != nil {
		w.t.Fatal(err)
	}
	list, entries := map[string]bool{}, map[string]bool{}
	for _, d := range rows {
		list[d.Webhook] = true
		if one, err := w.ledger.Delivery(ctx, scope, d.ID); err != nil || one.ID != d.ID {
			w.t.Errorf("a delivery of the list by itself: %v", err)
		}
	}
	tail, err := w.ledger.Tail(ctx, scope.Organization(), 0, 200)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range tail {
		if scope.Sees(e.Org, e.Level) {
			entries[e.Webhook] = true
		}
	}
	if !maps.Equal(list, entries) {
		w.t.Errorf("the list has deliveries of %v, and the log of %v", list, entries)
	}
	return slices.Sorted(maps.Keys(list))
}

func (w *world) webhooksOf(ctx context.Context) []string {
	w.t.Helper()
	list, err := w.db.Client.Webhook.Query().IDs(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	return slices.Sorted(slices.Values(list))
}

// eventGroups are the groups of the events and receipts that the ledger shows, without the
// organization's own level.
func (w *world) eventGroups(ctx context.Context) []string {
	w.t.Helper()
	scope, err := rule.LedgerScope(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	rows, err := w.ledger.Events(ctx, scope, flow.EventFilter{}, flow.Page{Limit: 200})
	if err != nil {
		w.t.Fatal(err)
	}
	groups := map[string]bool{}
	for _, e := range rows {
		groups[e.Group] = true
		if _, err := w.ledger.Receipt(ctx, scope, e.Receipt); err != nil {
			w.t.Errorf("the receipt of an event that is seen: %v", err)
		}
	}
	if groups[""] != scope.All() {
		w.t.Errorf("events of no group are seen: %t, by somebody who sees all: %t", groups[""], scope.All())
	}
	delete(groups, "")
	return slices.Sorted(maps.Keys(groups))
}

func (w *world) groupsOf(ctx context.Context) []string {
	w.t.Helper()
	list, err := w.db.Client.AssetGroup.Query().IDs(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	return slices.Sorted(slices.Values(list))
}
