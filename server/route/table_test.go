package route

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/server/flow"
)

func world(hooks ...*flow.Webhook) *flow.World {
	w := &flow.World{
		Groups:       map[string]flow.Group{"g1": {ID: "g1", Name: "Shop"}, "g2": {ID: "g2", Name: "Bank"}},
		Applications: map[string]flow.Application{"a1": {ID: "a1", Name: "Cart", Group: "g1"}, "a2": {ID: "a2", Name: "Ledger", Group: "g2"}},
		Webhooks:     map[string]*flow.Webhook{},
	}
	for i, h := range hooks {
		if h.ID == "" {
			h.ID = fmt.Sprintf("h%04d", i)
		}
		w.Webhooks[h.ID] = h
	}
	return w
}

func matched(w *flow.World, f flow.Facts) string {
	var s []string
	for _, h := range Compile(w).Match(f, nil) {
		s = append(s, h.ID)
	}
	return strings.Join(s, " ")
}

func TestMatch(t *testing.T) {
	kinds := []connectors.EventType{connectors.ScanCompleted, connectors.FindingDiscovered, connectors.FindingChanged, connectors.TicketClosed}
	hook := func(id string, set func(*flow.Webhook)) *flow.Webhook {
		h := &flow.Webhook{ID: id, Global: true, Types: kinds}
		set(h)
		return h
	}
	scan := flow.Facts{Type: connectors.ScanCompleted, Group: "g1", App: "a1", Source: "s1", Severity: connectors.SeverityHigh, HasSeverity: true}
	with := func(f flow.Facts, set func(*flow.Facts)) flow.Facts { set(&f); return f }
	for _, c := range []struct {
		name  string
		hook  *flow.Webhook
		facts flow.Facts
		want  bool
	}{
		{"global, organization", hook("h", func(h *flow.Webhook) {}), scan, true},
		{"other type", hook("h", func(h *flow.Webhook) { h.Types = kinds[1:] }), scan, false},
		{"no types", hook("h", func(h *flow.Webhook) { h.Types = nil }), scan, false},
		{"global, its group", hook("h", func(h *flow.Webhook) { h.Group = "g1" }), scan, true},
		{"global, other group", hook("h", func(h *flow.Webhook) { h.Group = "g2" }), scan, false},
		{"no scopes never fires", hook("h", func(h *flow.Webhook) { h.Global = false }), scan, false},
		{"application scope", hook("h", func(h *flow.Webhook) { h.Global, h.Apps = false, []string{"a2", "a1"} }), scan, true},
		{"other application", hook("h", func(h *flow.Webhook) { h.Global, h.Apps = false, []string{"a2"} }), scan, false},
		{"group scope", hook("h", func(h *flow.Webhook) { h.Global, h.Groups = false, []string{"g1"} }), scan, true},
		{"group scope at group level is none", hook("h", func(h *flow.Webhook) { h.Global, h.Group, h.Groups = false, "g1", []string{"g1"} }), scan, false},
		{"application that left the group", hook("h", func(h *flow.Webhook) { h.Global, h.Group, h.Apps = false, "g1", []string{"a1"} }),
			with(scan, func(f *flow.Facts) { f.Group = "g2" }), false},
		{"unmapped, organization", hook("h", func(h *flow.Webhook) {}), with(scan, func(f *flow.Facts) { f.App = "" }), true},
		{"unmapped, group", hook("h", func(h *flow.Webhook) { h.Group = "g1" }), with(scan, func(f *flow.Facts) { f.App = "" }), false},
		{"unmapped, group scope", hook("h", func(h *flow.Webhook) { h.Global, h.Groups = false, []string{"g1"} }), with(scan, func(f *flow.Facts) { f.App = "" }), false},
		{"named source", hook("h", func(h *flow.Webhook) { h.Sources = []string{"s2", "s1"} }), scan, true},
		{"other source", hook("h", func(h *flow.Webhook) { h.Sources = []string{"s2"} }), scan, false},
		{"severe enough", hook("h", func(h *flow.Webhook) { h.MinSeverity = "high" }), scan, true},
		{"too mild", hook("h", func(h *flow.Webhook) { h.MinSeverity = "critical" }), scan, false},
		{"unknown severity", hook("h", func(h *flow.Webhook) { h.MinSeverity = "info" }), with(scan, func(f *flow.Facts) { f.Severity = "" }), false},
		{"kind without severity", hook("h", func(h *flow.Webhook) { h.MinSeverity = "critical" }), with(scan, func(f *flow.Facts) { f.HasSeverity = false }), true},
		{"only new, scan", hook("h", func(h *flow.Webhook) { h.OnlyNew = true }), scan, true},
		{"only new, first sight", hook("h", func(h *flow.Webhook) { h.OnlyNew = true }), with(scan, func(f *flow.Facts) { f.Type, f.New = connectors.FindingDiscovered, true }), true},
		{"only new, known", hook("h", func(h *flow.Webhook) { h.OnlyNew = true }), with(scan, func(f *flow.Facts) { f.Type = connectors.FindingDiscovered }), false},
		{"only new, changed", hook("h", func(h *flow.Webhook) { h.OnlyNew = true }), with(scan, func(f *flow.Facts) { f.Type, f.New = connectors.FindingChanged, true }), false},
		{"only new, closed", hook("h", func(h *flow.Webhook) { h.OnlyNew = true }), with(scan, func(f *flow.Facts) { f.Type = connectors.TicketClosed }), false},
		{"disabled matches too", hook("h", func(h *flow.Webhook) { h.State = flow.WebhookDisabled }), scan, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := matched(world(c.hook), c.facts) == "h"; got != c.want {
				t.Errorf("matched %v, want %v; %v", got, c.want, Compile(world(c.hook)).Explain("h", c.facts))
			}
		})
	}
}

func TestMatchOnceAndInOrder(t *testing.T) {
	kinds := []connectors.EventType{connectors.ScanStarted, connectors.ScanStarted}
	w := world(
		&flow.Webhook{ID: "h3", Types: kinds, Apps: []string{"a1", "a1"}, Groups: []string{"g1"}, Sources: []string{"s1", "s1"}},
		&flow.Webhook{ID: "h1", Types: kinds, Groups: []string{"g1"}, MinSeverity: "high"},
		&flow.Webhook{ID: "h2", Types: kinds, Global: true},
	)
	if got := matched(w, flow.Facts{Type: connectors.ScanStarted, Group: "g1", App: "a1", Source: "s1"}); got != "h1 h2 h3" {
		t.Errorf("matched %q", got)
	}
}

// The indexes give what holding every rule against every webhook gives.
func TestMatchEqualsExplain(t *testing.T) {
	pick := func(p string) *rapid.Generator[string] {
		return rapid.Map(rapid.IntRange(1, 3), func(n int) string { return fmt.Sprint(p, n) })
	}
	severities := []connectors.Severity{"", "info", "low", "medium", "high", "critical", "odd"}
	kinds := append(connectors.EventTypes()[5:9], "no.such")
	hooks := rapid.Custom(func(t *rapid.T) *flow.Webhook {
		return &flow.Webhook{
			Group:       rapid.OneOf(rapid.Just(""), pick("g")).Draw(t, "group"),
			Global:      rapid.Bool().Draw(t, "global"),
			Apps:        rapid.SliceOfN(pick("a"), 0, 2).Draw(t, "apps"),
			Groups:      rapid.SliceOfN(pick("g"), 0, 2).Draw(t, "groups"),
			Types:       rapid.SliceOfN(rapid.SampledFrom(kinds), 0, 4).Draw(t, "types"),
			MinSeverity: rapid.SampledFrom(severities).Draw(t, "min"),
			OnlyNew:     rapid.Bool().Draw(t, "onlyNew"),
			Sources:     rapid.SliceOfN(pick("s"), 0, 2).Draw(t, "sources"),
		}
	})
	facts := rapid.Custom(func(t *rapid.T) flow.Facts {
		return flow.Facts{
			Type:        rapid.SampledFrom(kinds).Draw(t, "type"),
			Group:       rapid.OneOf(rapid.Just(""), pick("g")).Draw(t, "group"),
			App:         rapid.OneOf(rapid.Just(""), pick("a")).Draw(t, "app"),
			Source:      rapid.OneOf(rapid.Just(""), pick("s")).Draw(t, "source"),
			Severity:    rapid.SampledFrom(severities).Draw(t, "severity"),
			HasSeverity: rapid.Bool().Draw(t, "hasSeverity"),
			New:         rapid.Bool().Draw(t, "new"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		w := world(rapid.SliceOfN(hooks, 0, 80).Draw(t, "hooks")...)
		table := Compile(w)
		for _, f := range rapid.SliceOfN(facts, 1, 20).Draw(t, "facts") {
			var want []string
			for id := range w.Webhooks {
				if !slices.ContainsFunc(table.Explain(id, f), func(r Reason) bool { return !r.Passed && r.Rule != RuleState }) {
					want = append(want, id)
				}
			}
			slices.Sort(want)
			if got := matched(w, f); got != strings.Join(want, " ") {
				t.Fatalf("%+v: matched %q, want %q", f, got, want)
			}
		}
	})
}

func TestExplainUnknown(t *testing.T) {
	if r := Compile(world()).Explain("h9", flow.Facts{}); len(r) != 1 || r[0].Passed || !strings.Contains(r[0].Text, "h9") {
		t.Errorf("%v", r)
	}
}

// BenchmarkMatch finds 10 webhooks among as many as there are; the others differ in
// one thing each: the place, the source, the severity or the kind.
func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var hooks []*flow.Webhook
			for i := range n {
				h := &flow.Webhook{Global: true, Types: connectors.EventTypes()}
				if i >= 10 {
					switch i % 4 {
					case 0:
						h.Global, h.Apps = false, []string{fmt.Sprint("other", i)}
					case 1:
						h.Sources = []string{fmt.Sprint("other", i)}
					case 2:
						h.MinSeverity = connectors.SeverityCritical
					case 3:
						h.Types = h.Types[5:]
					}
				}
				hooks = append(hooks, h)
			}
			table := Compile(world(hooks...))
			f := flow.Facts{Type: connectors.ScanCompleted, Group: "g1", App: "a1", Source: "s1", Severity: connectors.SeverityLow, HasSeverity: true}
			found := table.Match(f, nil)
			if len(found) != 10 {
				b.Fatalf("found %d", len(found))
			}
			b.ReportAllocs()
			for b.Loop() {
				found = table.Match(f, found[:0])
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	var hooks []*flow.Webhook
	for i := range 10_000 {
		hooks = append(hooks, &flow.Webhook{Types: connectors.EventTypes(), Apps: []string{fmt.Sprint("a", i)}})
	}
	w := world(hooks...)
	for b.Loop() {
		Compile(w)
	}
}
