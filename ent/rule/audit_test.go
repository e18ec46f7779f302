package rule_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"entgo.io/ent/privacy"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/auditentry"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
)

// Who may read the audit log sees what was done at the levels that they see, by the
// policy as by the scope of those who follow it; everybody else sees nothing.
func TestAuditWall(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		all, err := db.Client.AuditEntry.Query().Order(gen.Asc(auditentry.FieldID)).All(viewer.SystemContext(t.Context()))
		if err != nil || len(all) == 0 {
			t.Fatalf("%d entries, %v", len(all), err)
		}
		viewers := w.viewers()
		for _, v := range w.viewers() {
			v.Name += ", auditor"
			v.Permissions = append(slices.Clone(v.Permissions), viewer.ReadAudit)
			viewers = append(viewers, v)
		}
		for _, v := range viewers {
			ctx := viewer.NewContext(t.Context(), v)
			got, err := db.Client.AuditEntry.Query().Order(gen.Asc(auditentry.FieldID)).IDs(ctx)
			scope, scopeErr := rule.AuditScope(ctx)
			if !v.Can(viewer.ReadAudit) {
				if !errors.Is(err, privacy.Deny) || !errors.Is(scopeErr, privacy.Deny) {
					t.Errorf("%s: %d entries, %v, %v", v.Name, len(got), err, scopeErr)
				}
				continue
			}
			var want []string
			for _, e := range all {
				level := store.AuditLevel(e)
				sees := e.OrganizationID == v.Organization && (v.All() || level != "" && slices.Contains(v.Groups, level))
				if sees {
					want = append(want, e.ID)
				}
				if scope.Sees(e.OrganizationID, level) != sees {
					t.Errorf("%s: the scope disagrees on %s", v.Name, e.ID)
				}
			}
			if err != nil || scopeErr != nil || !slices.Equal(got, want) {
				t.Errorf("%s: sees %d entries, should see %d (%v, %v)", v.Name, len(got), len(want), err, scopeErr)
			}
		}
		if _, err := db.Client.AuditEntry.Query().All(context.Background()); !errors.Is(err, rule.ErrNoViewer) {
			t.Errorf("nobody: %v", err)
		}
	})
}
