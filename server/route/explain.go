package route

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/server/flow"
)

// Rule names one condition of a webhook.
type Rule string

// The rules, in the order in which Explain gives them. RuleState is not part of Match:
// it says what happens to the delivery of a webhook that matches.
const (
	RuleExists   Rule = "EXISTS"
	RuleType     Rule = "TYPE"
	RuleLevel    Rule = "LEVEL"
	RuleScope    Rule = "SCOPE"
	RuleSource   Rule = "SOURCE"
	RuleSeverity Rule = "SEVERITY"
	RuleNew      Rule = "NEW"
	RuleState    Rule = "STATE"
)

// Reason is the answer of one rule, in a sentence for people.
type Reason struct {
	Rule   Rule
	Passed bool
	Text   string
}

// Explain answers why the webhook gets, or does not get, an event with these facts.
// It holds every rule against the webhook by itself, without the table's indexes.
func (t *Table) Explain(webhook string, f flow.Facts) []Reason {
	h := t.world.Webhooks[webhook]
	if h == nil {
		return []Reason{{RuleExists, false, fmt.Sprintf("There is no webhook %s in this organization.", webhook)}}
	}
	return []Reason{
		{RuleExists, true, fmt.Sprintf("The webhook exists: %s.", h.Name)},
		t.explainType(h, f), t.explainLevel(h, f), t.explainScope(h, f), t.explainSource(h, f),
		explainSeverity(h, f), explainNew(h, f), t.explainState(h),
	}
}

func (t *Table) explainType(h *flow.Webhook, f flow.Facts) Reason {
	kinds := make([]string, len(h.Types))
	for i, k := range h.Types {
		kinds[i] = string(k)
	}
	if len(kinds) == 0 {
		return Reason{RuleType, false, "The webhook has no event types, so it never fires."}
	}
	passed := slices.Contains(h.Types, f.Type) && f.Type.Valid()
	return Reason{RuleType, passed, fmt.Sprintf("The event is %s; the webhook takes %s.", f.Type, strings.Join(kinds, ", "))}
}

func (t *Table) explainLevel(h *flow.Webhook, f flow.Facts) Reason {
	switch {
	case h.Group == "":
		return Reason{RuleLevel, true, "The webhook belongs to the organization and sees all of its events."}
	case f.App == "":
		return Reason{RuleLevel, false, fmt.Sprintf("The event has no application; the webhook belongs to asset group %s. Only global webhooks of the organization get unmapped events.", t.group(h.Group))}
	case f.Group != h.Group:
		return Reason{RuleLevel, false, fmt.Sprintf("The application was in asset group %s at the time of the event; the webhook belongs to %s.", t.group(f.Group), t.group(h.Group))}
	}
	return Reason{RuleLevel, true, fmt.Sprintf("The application was in the webhook's asset group %s at the time of the event.", t.group(h.Group))}
}

func (t *Table) explainScope(h *flow.Webhook, f flow.Facts) Reason {
	groups := h.Groups
	if h.Group != "" {
		groups = nil
	}
	switch {
	case h.Global:
		return Reason{RuleScope, true, "The webhook is global in its level."}
	case len(h.Apps)+len(groups) == 0:
		return Reason{RuleScope, false, "The webhook is not global and has no scopes, so it never fires. Attach a scope or make it global."}
	case f.App == "":
		return Reason{RuleScope, false, "The event has no application, so it is under no scope. Map the source's events to applications, or make the webhook global."}
	case slices.Contains(h.Apps, f.App):
		return Reason{RuleScope, true, fmt.Sprintf("Application %s is one of the webhook's scopes.", t.application(f.App))}
	case slices.Contains(groups, f.Group):
		return Reason{RuleScope, true, fmt.Sprintf("Asset group %s is one of the webhook's scopes.", t.group(f.Group))}
	}
	return Reason{RuleScope, false, fmt.Sprintf("Neither application %s nor its asset group at the time of the event is one of the webhook's scopes.", t.application(f.App))}
}

func (t *Table) explainSource(h *flow.Webhook, f flow.Facts) Reason {
	if len(h.Sources) == 0 {
		return Reason{RuleSource, true, "The webhook takes events of any source."}
	}
	names := make([]string, len(h.Sources))
	for i, s := range h.Sources {
		names[i] = t.source(s)
	}
	return Reason{RuleSource, slices.Contains(h.Sources, f.Source),
		fmt.Sprintf("The event came from %s; the webhook takes events of %s.", t.source(f.Source), strings.Join(names, ", "))}
}

func explainSeverity(h *flow.Webhook, f flow.Facts) Reason {
	least := h.MinSeverity.Rank()
	switch {
	case least == 0:
		return Reason{RuleSeverity, true, "The webhook asks for no severity."}
	case least < 0:
		return Reason{RuleSeverity, false, fmt.Sprintf("The webhook asks for %q, which is no severity.", h.MinSeverity)}
	case !f.HasSeverity:
		return Reason{RuleSeverity, true, "This kind of event has no severity."}
	case f.Severity == connectors.SeverityUnknown:
		return Reason{RuleSeverity, false, fmt.Sprintf("The event's severity is not known, or nothing was found; the webhook asks for %s or more.", h.MinSeverity)}
	}
	return Reason{RuleSeverity, severe(f, least), fmt.Sprintf("The event's severity is %s; the webhook asks for %s or more.", f.Severity, h.MinSeverity)}
}

func explainNew(h *flow.Webhook, f flow.Facts) Reason {
	switch {
	case !h.OnlyNew:
		return Reason{RuleNew, true, "The webhook takes known findings too."}
	case newness(f.Type, f.New):
		return Reason{RuleNew, true, "The event tells something new, or does not speak of a finding."}
	}
	return Reason{RuleNew, false, "The webhook takes only new findings; this event speaks of one that was known before."}
}

func (t *Table) explainState(h *flow.Webhook) Reason {
	switch h.State {
	case flow.WebhookDisabled:
		return Reason{RuleState, false, "The webhook is disabled: its deliveries are recorded as skipped and can be redelivered."}
	case flow.WebhookUnverified:
		return Reason{RuleState, false, "The webhook is not verified yet: its deliveries are recorded as skipped and can be redelivered."}
	case flow.WebhookPaused:
		return Reason{RuleState, true, "The webhook is paused: its deliveries wait until it is resumed."}
	}
	if e := t.world.Endpoints[h.Endpoint]; e == nil || !e.Enabled {
		return Reason{RuleState, true, "The webhook's endpoint is disabled: deliveries wait until it is enabled."}
	}
	return Reason{RuleState, true, "The webhook is active."}
}

func (t *Table) group(id string) string       { return named(id, t.world.Groups[id].Name) }
func (t *Table) application(id string) string { return named(id, t.world.Applications[id].Name) }

func (t *Table) source(id string) string {
	if s := t.world.Sources[id]; s != nil {
		return named(id, s.Name)
	}
	return named(id, "")
}

// named shows a name with its ID, and what is left of the two.
func named(id, name string) string {
	switch {
	case id == "":
		return "(none)"
	case name == "":
		return id
	}
	return fmt.Sprintf("%s (%s)", name, id)
}
