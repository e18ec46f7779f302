package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"entgo.io/ent"

	"github.com/hookyard/hookyard/ent/parts"
)

// unaudited says why the changes of a noun's rows are not in the audit log, "" if they are.
func unaudited(noun string) string {
	switch noun {
	case "Scan", "Finding", "Ticket", "Report":
		return "the catalogue is what events tell of, not configuration"
	case "Run":
		return "it is what scans do; starting and stopping one are actions"
	case "SigningKey":
		return "it belongs to the hub and no organization; its rotation is an action"
	case "Session":
		return "signing in and ending sessions are actions; renewing one changes nothing"
	case "AuditEntry":
		return "it is the log"
	}
	return ""
}

// traces are columns that the hub keeps for itself: a change of nothing else is no
// change, and they are not shown beside others.
func traces(column string) bool {
	switch column {
	case "created_at", "updated_at", "organization_id", // the entry says them itself
		"revision",                        // counts the changes
		"last_used_at", "last_sign_in_at", // note that something was used
		"totp_step": // keeps a code from being used twice
		return true
	}
	return false
}

// auditable is what the generated code says of a mutation; see ent/template/audit.tmpl.
type auditable interface {
	ent.Mutation
	ID() (string, bool)
	auditRows
	auditEdges
}

type auditRows interface {
	AuditRows(context.Context) ([]parts.AuditRow, error)
	AuditRowsOf(context.Context, []string) ([]parts.AuditRow, error)
	AuditCascade(context.Context, string) (map[string][]parts.AuditRow, error)
}

type auditEdges interface {
	AuditEdges() []string
	AuditEdge(ctx context.Context, id, edge string) ([]string, bool, error)
}

// touched is the key of the rows that a change is about, for the hooks that come after.
type touched struct{}

// audit tells of every change in the audit log. It is on every noun, so that a new one
// is audited without anybody thinking of it.
func (db *DB) audit(next ent.Mutator) ent.Mutator {
	return ent.MutateFunc(func(ctx context.Context, m ent.Mutation) (ent.Value, error) {
		if unaudited(m.Type()) != "" || traced(m) {
			return next.Mutate(ctx, m)
		}
		a, ok := m.(auditable)
		log := pendingOf(ctx)
		if !ok || log == nil {
			return nil, fmt.Errorf("change a %s: only in a transaction (store.DB.WithTx), with its context, where it can be audited", m.Type())
		}
		c := &change{db: db, log: log, m: a}
		if err := c.before(ctx); err != nil {
			return nil, fmt.Errorf("audit a %s: %w", m.Type(), err)
		}
		v, err := next.Mutate(context.WithValue(ctx, touched{}, c.old), m)
		if err != nil {
			return nil, err
		}
		if err := c.after(ctx, v); err != nil {
			return nil, fmt.Errorf("audit a %s: %w", m.Type(), err)
		}
		return v, nil
	})
}

// traced says that a mutation leaves nothing but traces.
func traced(m ent.Mutation) bool {
	columns := slices.Concat(m.Fields(), m.ClearedFields())
	return m.Op().Is(ent.OpUpdate|ent.OpUpdateOne) && len(columns) > 0 &&
		!slices.ContainsFunc(columns, func(c string) bool { return !traces(c) }) &&
		len(m.AddedEdges())+len(m.RemovedEdges())+len(m.ClearedEdges()) == 0
}

// change is one mutation on its way into the audit log.
type change struct {
	db    *DB
	log   *pending
	m     auditable
	old   []parts.AuditRow
	edges map[string]map[string][]string // by row, by edge: what was at its other end
	gone  map[string][]parts.AuditRow    // by noun: rows that go with a deleted one
}

// before reads what is about to change.
func (c *change) before(ctx context.Context) (err error) {
	if c.m.Op().Is(ent.OpCreate) {
		return nil
	}
	if c.old, err = c.m.AuditRows(ctx); err != nil {
		return err
	}
	removal := c.m.Op().Is(ent.OpDelete | ent.OpDeleteOne)
	names := slices.Concat(c.m.AddedEdges(), c.m.RemovedEdges(), c.m.ClearedEdges())
	if removal {
		names = c.m.AuditEdges()
	}
	slices.Sort(names)
	c.edges, c.gone = map[string]map[string][]string{}, map[string][]parts.AuditRow{}
	for i := range c.old {
		id := c.old[i].ID
		c.edges[id] = map[string][]string{}
		for _, name := range slices.Compact(names) {
			list, ok, err := c.m.AuditEdge(ctx, id, name)
			if err != nil {
				return err
			}
			if ok {
				slices.Sort(list)
				c.edges[id][name] = list
			}
		}
		if removal {
			gone, err := c.m.AuditCascade(ctx, id)
			if err != nil {
				return err
			}
			for noun, rows := range gone {
				c.gone[noun] = append(c.gone[noun], rows...)
			}
		}
	}
	return nil
}

// after makes the entries, once the change was made.
func (c *change) after(ctx context.Context, made ent.Value) error {
	switch op := c.m.Op(); {
	case op.Is(ent.OpCreate):
		row, ok := made.(interface{ AuditRow() parts.AuditRow })
		if !ok {
			return fmt.Errorf("there is no row in a %T", made)
		}
		return c.tell(ctx, Create, c.m.Type(), parts.AuditRow{}, row.AuditRow())
	case op.Is(ent.OpUpdate | ent.OpUpdateOne):
		return c.updated(ctx, made)
	}
	for i := range c.old {
		if err := c.tell(ctx, Delete, c.m.Type(), c.old[i], parts.AuditRow{}); err != nil {
			return err
		}
	}
	for noun, rows := range c.gone {
		for _, r := range rows {
			if unaudited(noun) != "" {
				continue
			}
			if err := c.tell(ctx, Delete, noun, r, parts.AuditRow{}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *change) updated(ctx context.Context, made ent.Value) (err error) {
	var now []parts.AuditRow
	if row, ok := made.(interface{ AuditRow() parts.AuditRow }); ok {
		now = []parts.AuditRow{row.AuditRow()}
	} else {
		list := make([]string, len(c.old))
		for i := range c.old {
			list[i] = c.old[i].ID
		}
		if now, err = c.m.AuditRowsOf(ctx, list); err != nil {
			return err
		}
	}
	for _, row := range now {
		i := slices.IndexFunc(c.old, func(o parts.AuditRow) bool { return o.ID == row.ID })
		if i < 0 {
			return fmt.Errorf("%s was not there before", row.ID)
		}
		if err := c.tell(ctx, Update, c.m.Type(), c.old[i], row); err != nil {
			return err
		}
	}
	return nil
}

// tell makes the entry of one row; either end may be empty. A change of nothing is none.
func (c *change) tell(ctx context.Context, action, noun string, old, now parts.AuditRow) error {
	of := now
	switch {
	case of.ID == "":
		of = old
	case old.ID != "" && old.Group != now.Group:
		of.Group = "" // it concerns two groups, and so the organization
	}
	changes, err := compare(old, now)
	if err != nil {
		return err
	}
	if noun == c.m.Type() {
		edges, err := c.compareEdges(of.ID)
		if err != nil {
			return err
		}
		changes = append(changes, edges...)
	}
	if action == Update && len(changes) == 0 {
		return nil
	}
	if of.Organization == "" {
		return fmt.Errorf("%s belongs to no organization", of.ID)
	}
	c.log.add(ctx, c.db, actorOf(ctx), of.Organization, action, noun, of, changes)
	return nil
}

// compare holds two states of a row against each other.
func compare(old, now parts.AuditRow) ([]parts.AuditChange, error) {
	fields := now.Fields
	if fields == nil {
		fields = old.Fields
	}
	changes := []parts.AuditChange{}
	for i, f := range fields {
		if traces(f.Name) {
			continue
		}
		var was, is any
		if old.Fields != nil {
			was = old.Fields[i].Value
		}
		if now.Fields != nil {
			is = now.Fields[i].Value
		}
		if empty(was) && empty(is) {
			continue
		}
		x := parts.AuditChange{Field: apiName(f.Name), Hidden: f.Secret}
		before, after, err := plain(was, is)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(before, after) {
			continue
		}
		if !f.Secret {
			var cut bool
			x.Before, x.Cut = shorten(before)
			x.After, cut = shorten(after)
			x.Cut = x.Cut || cut
		}
		changes = append(changes, x)
	}
	return changes, nil
}

// compareEdges tells what a mutation did to the edges of a row.
func (c *change) compareEdges(id string) ([]parts.AuditChange, error) {
	names := slices.Concat(c.m.AddedEdges(), c.m.RemovedEdges(), c.m.ClearedEdges())
	removal := c.m.Op().Is(ent.OpDelete | ent.OpDeleteOne)
	if removal {
		names = c.m.AuditEdges()
	}
	slices.Sort(names)
	var changes []parts.AuditChange
	for _, name := range slices.Compact(names) {
		was, known := c.edges[id][name]
		if !known && (!c.m.Op().Is(ent.OpCreate) || !slices.Contains(c.m.AuditEdges(), name)) {
			continue
		}
		is := slices.Clone(was)
		if removal || c.m.EdgeCleared(name) {
			is = nil
		}
		is = slices.DeleteFunc(is, func(id string) bool {
			return slices.Contains(c.m.RemovedIDs(name), ent.Value(id))
		})
		for _, v := range c.m.AddedIDs(name) {
			if s, ok := v.(string); ok {
				is = append(is, s)
			}
		}
		slices.Sort(is)
		is = slices.Compact(is)
		if slices.Equal(was, is) {
			continue
		}
		x := parts.AuditChange{Field: apiName(name)}
		before, after, err := plain(list(was), list(is))
		if err != nil {
			return nil, err
		}
		var cut bool
		x.Before, x.Cut = shorten(before)
		x.After, cut = shorten(after)
		x.Cut = x.Cut || cut
		changes = append(changes, x)
	}
	return changes, nil
}

// list is a list for JSON: none rather than null.
func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func empty(v any) bool {
	r := reflect.ValueOf(v)
	switch {
	case !r.IsValid() || r.IsZero():
		return true
	case r.Kind() == reflect.Slice || r.Kind() == reflect.Map:
		return r.Len() == 0
	}
	return false
}

// plain writes two values as JSON; nothing is no text at all.
func plain(was, is any) (before, after json.RawMessage, err error) {
	write := func(v any) (json.RawMessage, error) {
		if r := reflect.ValueOf(v); !r.IsValid() || (r.Kind() == reflect.Pointer || r.Kind() == reflect.Map || r.Kind() == reflect.Slice) && r.IsNil() {
			return nil, nil
		}
		return json.Marshal(v)
	}
	if before, err = write(was); err != nil {
		return nil, nil, err
	}
	after, err = write(is)
	return before, after, err
}

// longest is how long a value in the audit log may be, as JSON, before it is cut.
const longest = 1000

// shorten cuts a long value to a text with its beginning.
func shorten(v json.RawMessage) (json.RawMessage, bool) {
	if len(v) <= longest {
		return v, false
	}
	text := string(v)
	var s string
	if json.Unmarshal(v, &s) == nil {
		text = s
	}
	end := min(longest, len(text))
	for end > 0 && end < len(text) && !utf8.RuneStart(text[end]) {
		end--
	}
	short, err := json.Marshal(text[:end])
	return short, err == nil
}

// audited writes a detail as the log keeps it.
func audited(v any) (json.RawMessage, bool, error) {
	_, text, err := plain(nil, v)
	text, cut := shorten(text)
	return text, cut, err
}

// apiName is the name that a column or edge has in the API: "asset_group_id" is "assetGroupId".
func apiName(column string) string {
	words := strings.Split(column, "_")
	for i, w := range words[1:] {
		if w != "" {
			words[i+1] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, "")
}
