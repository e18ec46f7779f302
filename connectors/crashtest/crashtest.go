// Package crashtest is the room of Crashtest Security: the calls with which CI starts a
// scan, follows it and fetches its report, and the answers that the public clients of such
// an API expect, byte for byte where they look that closely.
//
// Place: at the hub's triggers, where a scan begins. All of it is pure: what a request asks for
// is read here, done by the hub, and the answer written here.
package crashtest

import (
	"encoding/json"

	"github.com/hookyard/hookyard/connectors"
)

// Name is the name of the connector and its trigger.
const Name = "crashtest"

// Connector is Crashtest Security's. Its zero value is ready for use.
type Connector struct{}

// Spec describes the connector.
func (Connector) Spec() connectors.Spec {
	return connectors.Spec{
		Name:        Name,
		Title:       "Crashtest Security",
		Description: "Lets pipelines start scans, follow them and fetch their reports as they do with Crashtest Security Suite.",
		Version:     "1.0.0",
		Abilities:   []connectors.Ability{connectors.AbilityTrigger},
		Settings:    json.RawMessage(`{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{},"additionalProperties":false}`),
	}
}

// Triggers returns the trigger "crashtest".
func (Connector) Triggers() []connectors.Trigger { return []connectors.Trigger{Trigger{}} }

// Trigger is the three calls: POST to the address starts a scan, and below it GET
// /scans/N/status and GET /scans/N/report/junit tell of it.
type Trigger struct{}

// Kind is "crashtest".
func (Trigger) Kind() string { return Name }
