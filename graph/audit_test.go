package graph

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/watch"
)

type auditAnswer struct {
	Data struct {
		AuditLog struct {
			Cursor    string
			Heartbeat bool
			Entries   []struct {
				Number     int
				ObjectName string
			}
		}
	}
	Errors []struct{ Extensions struct{ Code Code } }
}

// followAudit subscribes; what it returns reads one batch after the other.
func (c *client) followAudit(filter map[string]any, after string) func() auditAnswer {
	c.t.Helper()
	b, _ := json.Marshal(map[string]any{"variables": map[string]any{"filter": filter, "after": after},
		"query": `subscription ($filter: AuditFilter, $after: String) { auditLog(filter: $filter, after: $after) { cursor heartbeat entries { number objectName } } }`})
	c.send(wsMessage{ID: "1", Type: "subscribe", Payload: b})
	return func() (a auditAnswer) {
		c.t.Helper()
		m, err := c.next()
		if err != nil {
			c.t.Fatal(err)
		}
		if err := json.Unmarshal(m.Payload, &a.Errors); m.Type == "error" && err == nil {
			return a
		}
		if err := json.Unmarshal(m.Payload, &a); err != nil {
			c.t.Fatalf("%s %s: %v", m.Type, m.Payload, err)
		}
		return a
	}
}

// The log is followed without a gap, also where the connection is lost in between; each
// watcher sees its groups only.
func TestAuditLogLive(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, Options{}, watch.Options{Tick: time.Millisecond, Poll: 5 * time.Millisecond})
		ctx := viewer.NewContext(t.Context(), w.viewers["admin"])
		change := func(name string, group *string) {
			t.Helper()
			if err := db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
				return tx.Endpoint.Create().SetName(name).SetConnector("webhook").SetNillableAssetGroupID(group).Exec(ctx)
			}); err != nil {
				t.Fatal(err)
			}
		}
		red, blue := w.vars["red"], w.vars["blue"]
		next := w.dial("admin").followAudit(nil, "")
		inRed := w.dial("auditor").followAudit(map[string]any{"nouns": []string{"Endpoint"}}, "")
		first := next()
		if !first.Data.AuditLog.Heartbeat || first.Data.AuditLog.Cursor == "" {
			t.Fatalf("the first batch: %+v", first)
		}
		inRed()
		change("a", &red)
		change("b", nil)
		change("c", &blue)
		change("d", &red)
		read := func(next func() auditAnswer, n int) (names []string, cursor string) {
			t.Helper()
			for len(names) < n {
				a := next()
				if len(a.Errors) > 0 {
					t.Fatalf("%+v", a.Errors)
				}
				for _, e := range a.Data.AuditLog.Entries {
					names = append(names, e.ObjectName)
				}
				cursor = a.Data.AuditLog.Cursor
			}
			return names, cursor
		}
		names, cursor := read(next, 4)
		if !slices.Equal(names, []string{"a", "b", "c", "d"}) {
			t.Errorf("saw %v", names)
		}
		if names, _ := read(inRed, 2); !slices.Equal(names, []string{"a", "d"}) {
			t.Errorf("in the group: saw %v", names)
		}
		change("e", nil) // while nobody looks
		if names, _ := read(w.dial("admin").followAudit(nil, cursor), 1); !slices.Equal(names, []string{"e"}) {
			t.Errorf("afterwards: saw %v", names)
		}
		if names, _ := read(w.dial("admin").followAudit(map[string]any{"nouns": []string{"Endpoint"}}, first.Data.AuditLog.Cursor), 5); len(names) != 5 {
			t.Errorf("once more: saw %v", names)
		}
		for who, after := range map[string]string{"admin": logCursor(deliveryMark, w.org, 1), "manager": ""} {
			if a := w.dial(who).followAudit(nil, after)(); len(a.Errors) != 1 {
				t.Errorf("%s followed the log with %q: %+v", who, after, a)
			}
		}
	})
}
