// Package route decides which webhooks an event is due to.
//
// Place: between ingest, which knows the event's facts, and the ledger, which accepts
// the event together with its deliveries. It is pure: a Table is compiled from one
// World, is immutable and safe for concurrent use, and the hub swaps it whole when the
// World changes.
//
// Guarantees: a webhook is found at most once for an event, however many of its scopes
// match; the order is that of the webhooks' IDs; the cost of an event follows the
// webhooks that it matches and not those that exist. Membership is looked at as it is
// in the facts, that is, at the time of the event.
//
// A webhook that is disabled or unverified matches too, because its deliveries are
// recorded as skipped; the caller looks at its State.
package route

import (
	"cmp"
	"slices"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/server/flow"
)

// Table is the routing of one World.
type Table struct {
	world    *flow.World
	webhooks []*flow.Webhook // by ID; an entry names one by its place here
	types    map[connectors.EventType]uint64
	places   map[string]uint64 // applications and asset groups that some webhook names
	sources  map[string]uint64 // sources that some webhook names
	lists    map[uint64][]entry
}

// entry is a webhook in a list; a list is sorted by min, so that a mild event stops
// at the first webhook that asks for more.
type entry struct {
	webhook int32
	min     int32 // rank of the least severity
}

// The key of a list: who asks for this kind of event, at this place, from this source,
// and whether only for new findings. Place 0 is everywhere, source 0 is any.
const (
	onlyNew     = 1 << 8
	placeShift  = 9
	sourceShift = 36
)

// Compile builds the table of w. It takes time; events do not wait for it.
func Compile(w *flow.World) *Table {
	t := &Table{
		world:   w,
		types:   map[connectors.EventType]uint64{},
		places:  map[string]uint64{},
		sources: map[string]uint64{},
		lists:   map[uint64][]entry{},
	}
	for i, k := range connectors.EventTypes() {
		t.types[k] = uint64(i)
	}
	for _, h := range w.Webhooks {
		t.webhooks = append(t.webhooks, h)
	}
	slices.SortFunc(t.webhooks, func(a, b *flow.Webhook) int { return cmp.Compare(a.ID, b.ID) })
	var rows []row
	for i, h := range t.webhooks {
		rows = t.add(rows, i, h)
	}
	slices.SortFunc(rows, func(a, b row) int {
		if a.key != b.key {
			return cmp.Compare(a.key, b.key)
		}
		if a.min != b.min {
			return cmp.Compare(a.min, b.min)
		}
		return cmp.Compare(a.webhook, b.webhook)
	})
	rows = slices.Compact(rows)
	all := make([]entry, len(rows))
	for i, start := 0, 0; i < len(rows); i++ {
		all[i] = rows[i].entry
		if i+1 == len(rows) || rows[i+1].key != rows[i].key {
			t.lists[rows[i].key] = all[start : i+1 : i+1]
			start = i + 1
		}
	}
	return t
}

// row is an entry on its way to the list of its key.
type row struct {
	key uint64
	entry
}

func (t *Table) add(rows []row, i int, h *flow.Webhook) []row {
	e := entry{webhook: int32(i), min: int32(h.MinSeverity.Rank())}
	if e.min < 0 {
		return rows // a word that is no severity: nothing reaches it
	}
	var places []uint64
	switch {
	case h.Global && h.Group == "":
		places = append(places, 0)
	case h.Global:
		places = append(places, number(t.places, h.Group))
	default:
		for _, a := range h.Apps {
			places = append(places, number(t.places, a))
		}
		if h.Group == "" {
			for _, g := range h.Groups {
				places = append(places, number(t.places, g))
			}
		}
	}
	sources := []uint64{0}
	if len(h.Sources) > 0 {
		sources = sources[:0]
		for _, s := range h.Sources {
			sources = append(sources, number(t.sources, s))
		}
	}
	for _, k := range h.Types {
		n, ok := t.types[k]
		if !ok || h.OnlyNew && !newness(k, true) {
			continue
		}
		if h.OnlyNew && !newness(k, false) {
			n |= onlyNew
		}
		for _, p := range places {
			for _, s := range sources {
				rows = append(rows, row{n | p<<placeShift | s<<sourceShift, e})
			}
		}
	}
	return rows
}

// number gives each name a small number above 0.
func number(m map[string]uint64, name string) uint64 {
	n, ok := m[name]
	if !ok {
		n = uint64(len(m)) + 1
		m[name] = n
	}
	return n
}

// newness says whether a kind of event passes a webhook that wants only what is new.
// A finding passes at its first sight, an opened ticket always; a changed finding and a
// closed ticket speak of something known. The kinds that do not speak of one weakness
// (scans, reports, applications) pass.
func newness(k connectors.EventType, first bool) bool {
	switch k {
	case connectors.FindingDiscovered:
		return first
	case connectors.FindingChanged, connectors.TicketClosed:
		return false
	}
	return true
}

// severe says whether the event is severe enough; kinds without a severity are.
func severe(f flow.Facts, least int) bool {
	return least == 0 || !f.HasSeverity || f.Severity.Rank() >= least
}

// Match appends the webhooks that the event is due to, in the order of their IDs.
func (t *Table) Match(f flow.Facts, to []*flow.Webhook) []*flow.Webhook {
	var room [64]int32
	found := t.collect(f, 0, room[:0])
	if f.New && f.Type == connectors.FindingDiscovered {
		found = t.collect(f, onlyNew, found)
	}
	slices.Sort(found)
	last := int32(-1)
	for _, i := range found {
		if i != last {
			to = append(to, t.webhooks[i])
			last = i
		}
	}
	return to
}

// collect appends the places of the matching webhooks, some of them perhaps twice.
func (t *Table) collect(f flow.Facts, filter uint64, found []int32) []int32 {
	kind, ok := t.types[f.Type]
	if !ok {
		return found
	}
	places := [3]uint64{0} // everywhere, the asset group, the application
	n := 1
	if f.App != "" {
		for _, name := range [2]string{f.Group, f.App} {
			if p, ok := t.places[name]; ok {
				places[n] = p
				n++
			}
		}
	}
	source, named := t.sources[f.Source]
	for _, p := range places[:n] {
		key := kind | filter | p<<placeShift
		found = t.pick(f, t.lists[key], found)
		if named {
			found = t.pick(f, t.lists[key|source<<sourceShift], found)
		}
	}
	return found
}

func (t *Table) pick(f flow.Facts, l []entry, found []int32) []int32 {
	for _, e := range l {
		if !severe(f, int(e.min)) {
			break
		}
		// An application that left the asset group of a webhook does not reach it.
		if g := t.webhooks[e.webhook].Group; g == "" || g == f.Group {
			found = append(found, e.webhook)
		}
	}
	return found
}
