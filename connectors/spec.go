package connectors

import "encoding/json"

// Spec is what a connector says of itself.
type Spec struct {
	Name        string // lower case, digits, hyphens: "webhook"
	Title       string // for people: "Plain webhook"
	Description string
	Version     string // semantic version
	Abilities   []Ability
	// Settings is a JSON Schema (2020-12) of an endpoint's settings: an object, each
	// property with a title and a description, of which forms are made. Properties of the object
	// itself with "writeOnly": true or "format": "password" are secrets: strings, stored
	// encrypted, never read back, and handed to the connector in Endpoint.Secrets rather than
	// Endpoint.Settings. A "default" is filled in before the connector sees the settings. What
	// a host is made of without being written as an address has "format": "hostname", so that
	// secrets are asked for again when it changes.
	Settings json.RawMessage
	// SourceSettings and ScanSettings are the same for sources that are polled or
	// enriched and for scanners; nil: there is nothing to set.
	SourceSettings json.RawMessage
	ScanSettings   json.RawMessage
	// TakesRequest says that deliveries carry a rendered Request; otherwise the Event.
	TakesRequest bool
}

// Ability is one thing that a connector can do.
type Ability string

// The abilities.
const (
	AbilityFormat  Ability = "FORMAT"
	AbilityReceive Ability = "RECEIVE"
	AbilityDeliver Ability = "DELIVER"
	AbilityCheck   Ability = "CHECK"
	AbilityTrigger Ability = "TRIGGER"
	AbilityPoll    Ability = "POLL"
	AbilityEnrich  Ability = "ENRICH"
	AbilityScan    Ability = "SCAN"
)

// Abilities are those that c has by the interfaces that it implements, which is what its
// Spec must state.
func Abilities(c Connector) []Ability {
	var out []Ability
	add := func(a Ability, has bool) {
		if has {
			out = append(out, a)
		}
	}
	_, ok := c.(FormatProvider)
	add(AbilityFormat, ok)
	_, ok = c.(ReceiverProvider)
	add(AbilityReceive, ok)
	_, ok = c.(TriggerProvider)
	add(AbilityTrigger, ok)
	_, ok = c.(Deliverer)
	add(AbilityDeliver, ok)
	_, ok = c.(Checker)
	add(AbilityCheck, ok)
	_, ok = c.(Poller)
	add(AbilityPoll, ok)
	_, ok = c.(Enricher)
	add(AbilityEnrich, ok)
	_, ok = c.(Scanner)
	add(AbilityScan, ok)
	return out
}

// NeedsProcess says whether a connector with these abilities does I/O, and so runs in a process.
func (s Spec) NeedsProcess() bool {
	for _, a := range s.Abilities {
		switch a {
		case AbilityFormat, AbilityReceive, AbilityTrigger:
		default:
			return true
		}
	}
	return false
}

// SettingsFor is the schema for a role; nil: there is nothing to set.
func (s Spec) SettingsFor(r Role) json.RawMessage {
	switch r {
	case RoleSource:
		return s.SourceSettings
	case RoleScanner:
		return s.ScanSettings
	}
	return s.Settings
}
