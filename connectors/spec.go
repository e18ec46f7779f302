package connectors

import "encoding/json"

// Spec is what a connector says of itself.
type Spec struct {
	Name        string // lower case, digits, hyphens: "webhook"
	Title       string // for people: "Plain webhook"
	Description string
	Version     string // semantic version
	Abilities   []Ability
	// Settings is a JSON Schema (2020-12) of an endpoint's settings. Properties
	// with "writeOnly": true are secrets: stored encrypted, never read back, and
	// handed to the connector in Endpoint.Secrets rather than Endpoint.Settings.
	Settings json.RawMessage
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
)
