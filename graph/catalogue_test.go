package graph

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"entgo.io/ent"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/scan"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/flow"
	"github.com/hookyard/hookyard/server/watch"
)

// Pages follow one another without a gap or a repetition, in both orders and from both
// ends, also where several scans came at the same time.
func TestScanPages(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, Options{}, watch.Options{})
		at := time.Date(2026, 11, 22, 1, 2, 3, 456789000, time.UTC)
		for i, together := range []int{1, 3, 1, 2} {
			w.scans(at.Add(time.Duration(i)*time.Microsecond), together)
		}
		rows, err := db.Client.Scan.Query().Order(scan.ByCreatedAt(entsql.OrderDesc()), scan.ByID(entsql.OrderDesc())).All(viewer.SystemContext(t.Context()))
		if err != nil || len(rows) != 7 {
			t.Fatalf("%d scans: %v", len(rows), err)
		}
		newest := make([]string, len(rows))
		for i, s := range rows {
			newest[i] = s.ID
		}
		oldest := slices.Clone(newest)
		slices.Reverse(oldest)
		for order, want := range map[string][]string{"": newest, "orderBy: {field: CREATED_AT}": oldest} {
			for _, size := range []int{1, 2, 7, 8} {
				if got := w.walk(order, "first", "after", size); !slices.Equal(got, want) {
					t.Errorf("%d after %d, %q:\n got %v\nwant %v", size, size, order, got, want)
				}
				if got := w.walk(order, "last", "before", size); !slices.Equal(got, want) {
					t.Errorf("%d before %d, %q:\n got %v\nwant %v", size, size, order, got, want)
				}
			}
		}
	})
}

// scans has the ledger take so many events at one time, each of a scan of its own.
func (w *world) scans(at time.Time, n int) {
	w.t.Helper()
	events := make([]flow.NewEvent, n)
	for i := range events {
		id := fmt.Sprint("evt_", at.UnixMicro(), "_", i)
		s := connectors.Scan{ID: "scn_" + id, Key: id, Name: id}
		events[i] = flow.NewEvent{ID: id, Org: w.org, Source: "src_1", Receipt: "rcp_1", Type: "scan.completed", Time: at, Received: at,
			App: w.vars["shop"], Group: w.vars["red"], Document: []byte("{}"), Key: id, Digest: []byte(id), Subject: s.ID, Catalogue: &flow.CatalogueRow{Scan: &s}}
	}
	receipt := &flow.Receipt{ID: fmt.Sprint("rcp_", at.UnixMicro()), Org: w.org, Source: "src_1", At: at, Method: "POST", Header: []byte("[]"), Body: []byte("{}"), State: flow.ReceiptAccepted}
	if _, err := w.ledger.Accept(w.t.Context(), receipt, events); err != nil {
		w.t.Fatal(err)
	}
}

// walk reads all pages from one end to the other and returns the IDs in the list's order.
func (w *world) walk(order, size, from string, n int) (ids []string) {
	w.t.Helper()
	cursor := ""
	for {
		page := w.must("admin", fmt.Sprintf("{ scans(%s: %d %s %s) { edges { node { id } } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }", size, n, cursor, order))["scans"].(map[string]any)
		var got []string
		for _, e := range page["edges"].([]any) {
			got = append(got, e.(map[string]any)["node"].(map[string]any)["id"].(string))
		}
		info := page["pageInfo"].(map[string]any)
		more, next := info["hasNextPage"], info["endCursor"]
		if size == "last" {
			more, next = info["hasPreviousPage"], info["startCursor"]
			ids = append(got, ids...)
		} else {
			ids = append(ids, got...)
		}
		if more != true || len(got) == 0 {
			return ids
		}
		cursor = fmt.Sprintf("%s: %q", from, next)
	}
}

// Lists of the catalogue begin at their place in an index and sort no more than the
// rows of one moment.
func TestScanListsUseTheirIndexes(t *testing.T) {
	db := storetest.Open(t, store.Config{DataDir: t.TempDir()})
	w := newWorld(t, db, Options{}, watch.Options{})
	w.scans(time.Now(), 3)
	var last *entsql.Selector
	db.Client.Scan.Intercept(ent.TraverseFunc(func(_ context.Context, q ent.Query) error {
		q.(*gen.ScanQuery).WhereP(func(s *entsql.Selector) { last = s })
		return nil
	}))
	const fields = "{ edges { node { id name } } pageInfo { hasNextPage endCursor } }"
	first := w.must("admin", "{ scans(first: 1) "+fields+" }")["scans"].(map[string]any)
	cursor := first["pageInfo"].(map[string]any)["endCursor"].(string)
	for _, c := range []struct{ viewer, arguments, search string }{
		{"admin", "first: 50", "scan_organization_id_created_at (organization_id=?)"},
		{"admin", "last: 50", "scan_organization_id_created_at (organization_id=?)"},
		{"manager", "first: 50", "scan_organization_id_created_at (organization_id=?)"},
		{"admin", fmt.Sprintf("first: 50, after: %q", cursor), "scan_organization_id_created_at (organization_id=? AND created_at<?)"},
		{"admin", fmt.Sprintf("first: 50, where: {applicationId: %q}", w.vars["shop"]), "scan_organization_id_application_id_created_at (organization_id=? AND application_id=?)"},
		{"admin", fmt.Sprintf("first: 50, after: %q, where: {applicationId: %q}", cursor, w.vars["shop"]), "scan_organization_id_application_id_created_at (organization_id=? AND application_id=? AND created_at<?)"},
	} {
		w.must(c.viewer, "{ scans("+c.arguments+") "+fields+" }")
		query, args := last.Query()
		plan := queryPlan(t, db.Read, query, args)
		if !strings.Contains(plan, "USING INDEX "+c.search) || strings.Contains(plan, "TEMP B-TREE FOR ORDER BY") {
			t.Errorf("%s, %s:\n%s\n%s", c.viewer, c.arguments, query, plan)
		}
	}
}

func queryPlan(t *testing.T, db *sql.DB, query string, args []any) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var plan []string
	for rows.Next() {
		var id, parent, unused int
		var line string
		if err := rows.Scan(&id, &parent, &unused, &line); err != nil {
			t.Fatal(err)
		}
		plan = append(plan, line)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(plan, "\n")
}
