package store_test

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"entgo.io/ent"
	"entgo.io/ent/dialect/sql/schema"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/auditentry"
	"github.com/hookyard/hookyard/ent/gen/migrate"
	"github.com/hookyard/hookyard/ent/parts"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
)

// excused are the nouns that the audit log leaves out; see unaudited.
func excused() []string {
	return []string{"AuditEntry", "Finding", "Report", "Run", "Scan", "Session", "SigningKey", "Ticket"}
}

// anyNoun makes, changes and deletes rows of any noun, whatever columns it has.
type anyNoun struct {
	name  string
	row   reflect.Type // gen.Webhook
	table *schema.Table
}

func (n anyNoun) zero() parts.AuditRow {
	return reflect.New(n.row).Interface().(interface{ AuditRow() parts.AuditRow }).AuditRow()
}

// allNouns finds every noun of the storage.
func allNouns(t *testing.T) map[string]anyNoun {
	t.Helper()
	out := map[string]anyNoun{}
	client := reflect.TypeFor[gen.Client]()
	for i := range client.NumField() {
		get, ok := client.Field(i).Type.MethodByName("Get")
		if !ok || client.Field(i).Type.Kind() != reflect.Pointer {
			continue
		}
		n := anyNoun{name: client.Field(i).Name, row: get.Type.Out(0).Elem()}
		fields := n.zero().Fields
		for _, table := range migrate.Tables {
			has := func(f parts.AuditField) bool {
				return slices.ContainsFunc(table.Columns, func(c *schema.Column) bool { return c.Name == f.Name })
			}
			if len(table.Columns) == len(fields)+1 && !slices.ContainsFunc(fields, func(f parts.AuditField) bool { return !has(f) }) {
				n.table = table
			}
		}
		if n.table == nil {
			t.Fatalf("%s: its table was not found", n.name)
		}
		out[n.table.Name] = n
	}
	return out
}

// maker fills rows.
type maker struct {
	nouns map[string]anyNoun // by table
	org   string
	n     int
	made  map[string]string // the last row, by table
}

func call(of any, method string, args ...any) []reflect.Value {
	in := make([]reflect.Value, len(args))
	for i, a := range args {
		in[i] = reflect.ValueOf(a)
	}
	return reflect.ValueOf(of).MethodByName(method).Call(in)
}

func client(tx *gen.Tx, noun string) any {
	return reflect.ValueOf(tx).Elem().FieldByName(noun).Interface()
}

func failed(v reflect.Value) error { err, _ := v.Interface().(error); return err }

// value is one that a column takes. Those that want something in particular are named here.
func (m *maker) value(n anyNoun, c *schema.Column, like any) any {
	m.n++
	text := fmt.Sprintf("x%d", m.n)
	if slices.Contains([]string{"issuer", "url", "jwks_url", "target_url"}, c.Name) {
		text = "https://" + text + ".example.com"
	}
	switch c.Name {
	case "algorithms":
		text = "ES256"
	case "event_types":
		text = "scan.completed"
	case "permissions":
		text = string(viewer.Redeliver)
	}
	typ := reflect.TypeOf(like)
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if c.Name == "role" { // the last Administrator stays, and a custom role needs its row
		return viewer.Tester
	}
	if len(c.Enums) > 0 {
		return reflect.ValueOf(c.Enums[m.n%len(c.Enums)]).Convert(typ).Interface()
	}
	switch typ.Kind() {
	case reflect.String:
		return reflect.ValueOf(text).Convert(typ).Interface()
	case reflect.Bool:
		return m.n%2 == 0
	case reflect.Int, reflect.Int64, reflect.Float64:
		return reflect.ValueOf(m.n).Convert(typ).Interface()
	case reflect.Slice:
		if typ.Elem().Kind() == reflect.Uint8 {
			return reflect.ValueOf([]byte(text)).Convert(typ).Interface()
		}
		if typ.Elem().Kind() == reflect.String {
			one := reflect.MakeSlice(typ, 1, 1)
			one.Index(0).SetString(text)
			return one.Interface()
		}
		return reflect.MakeSlice(typ, 0, 0).Interface()
	case reflect.Map:
		return reflect.MakeMap(typ).Interface()
	}
	if typ == reflect.TypeFor[time.Time]() {
		return time.Now().UTC()
	}
	return reflect.Zero(typ).Interface()
}

func (m *maker) create(ctx context.Context, tx *gen.Tx, n anyNoun) error {
	builder := call(client(tx, n.name), "Create")[0].Interface()
	mutation := call(builder, "Mutation")[0].Interface().(ent.Mutation)
	for _, f := range n.zero().Fields {
		i := slices.IndexFunc(n.table.Columns, func(c *schema.Column) bool { return c.Name == f.Name })
		c := n.table.Columns[i]
		var v any
		switch ref := reference(n.table, c.Name); {
		case c.Name == "organization_id":
			v = m.org
		case c.Nullable || c.Default != nil || c.Name == "created_at" || c.Name == "updated_at":
			continue
		case ref != "":
			if m.made[ref] == "" {
				if err := m.create(ctx, tx, m.nouns[ref]); err != nil {
					return err
				}
			}
			v = m.made[ref]
		default:
			v = m.value(n, c, f.Value)
		}
		if err := mutation.SetField(c.Name, v); err != nil {
			return fmt.Errorf("%s.%s: %w", n.name, c.Name, err)
		}
	}
	out := call(builder, "Save", ctx)
	if err := failed(out[1]); err != nil {
		return fmt.Errorf("create %s: %w", n.name, err)
	}
	id := out[0].Elem().FieldByName("ID").String()
	m.made[n.table.Name] = id
	if n.name == "Organization" {
		m.org = id
	}
	return nil
}

func reference(t *schema.Table, column string) string {
	for _, k := range t.ForeignKeys {
		if k.Columns[0].Name == column {
			return k.RefTable.Name
		}
	}
	return ""
}

// update changes a row, column by column, until the log has noticed.
func (m *maker) update(ctx context.Context, db *store.DB, n anyNoun) error {
	var last error
	for _, f := range n.zero().Fields {
		i := slices.IndexFunc(n.table.Columns, func(c *schema.Column) bool { return c.Name == f.Name })
		c := n.table.Columns[i]
		if reference(n.table, c.Name) != "" || len(c.Enums) > 0 || slices.Contains([]string{"organization_id", "created_at", "updated_at"}, c.Name) {
			continue
		}
		before := m.entries(ctx, db, n, store.Update)
		last = db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
			builder := call(client(tx, n.name), "UpdateOneID", m.made[n.table.Name])[0].Interface()
			if err := call(builder, "Mutation")[0].Interface().(ent.Mutation).SetField(c.Name, m.value(n, c, f.Value)); err != nil {
				return err
			}
			return failed(call(builder, "Exec", ctx)[0])
		})
		if last == nil && m.entries(ctx, db, n, store.Update) > before {
			return nil
		}
	}
	return fmt.Errorf("no update of a %s left an entry (%w)", n.name, last)
}

func (m *maker) entries(ctx context.Context, db *store.DB, n anyNoun, action string) int {
	return db.Client.AuditEntry.Query().Where(auditentry.Noun(n.name), auditentry.Action(action), auditentry.ObjectID(m.made[n.table.Name])).CountX(ctx)
}

// Whatever noun there is, or will be: its changes are in the audit log, or it is excused.
func TestEveryNounIsAudited(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx := viewer.SystemContext(t.Context())
		nouns := allNouns(t)
		for table, n := range nouns {
			if slices.Contains(excused(), n.name) {
				continue
			}
			m := &maker{nouns: nouns, made: map[string]string{}}
			if err := db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
				m.n = int(time.Now().UnixNano() % 1e9)
				if err := m.create(ctx, tx, nouns["organizations"]); err != nil || n.name == "Organization" {
					return err
				}
				return m.create(ctx, tx, n)
			}); err != nil {
				t.Errorf("%v: give its column a value that it takes in maker.value", err)
				continue
			}
			if got := m.entries(ctx, db, n, store.Create); got != 1 {
				t.Errorf("creating a %s left %d entries", n.name, got)
			}
			if !slices.Contains([]string{"OneTimeLink", "Identity"}, n.name) { // in which nothing can change
				if err := m.update(ctx, db, n); err != nil {
					t.Error(err)
				}
			}
			if err := db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
				return failed(call(call(client(tx, n.name), "DeleteOneID", m.made[table])[0].Interface(), "Exec", ctx)[0])
			}); err != nil {
				t.Errorf("delete a %s: %v", n.name, err)
			} else if got := m.entries(ctx, db, n, store.Delete); got != 1 {
				t.Errorf("deleting a %s left %d entries", n.name, got)
			}
		}
	})
}
