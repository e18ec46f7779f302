// Package veracode is the room of Veracode SCA, the agent-based scan: it reads the
// webhooks of its projects (scans, issues that are discovered or change without a scan) and
// writes events down in the same shape.
//
// Place in the path of an event: Receiver at the way in, Format at the way out. Both
// are pure. What is sent has exactly the documented keys, with null for what is not
// known and 32-bit numbers for every ID: its receivers refuse anything else.
package veracode

import (
	"encoding/json"

	"github.com/hookyard/hookyard/connectors"
)

// Name is the name of the connector, its receiver and its format.
const Name = "veracode-sca"

// Connector is Veracode SCA's. Its zero value is ready for use.
type Connector struct{}

// Spec describes the connector.
func (Connector) Spec() connectors.Spec {
	return connectors.Spec{
		Name:        Name,
		Title:       "Veracode SCA",
		Description: "Receives the webhooks of Veracode Software Composition Analysis, and sends events in their shape.",
		Version:     "1.0.0",
		Abilities:   []connectors.Ability{connectors.AbilityFormat, connectors.AbilityReceive},
		Settings:    json.RawMessage(`{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{},"additionalProperties":false}`),
	}
}

// Formats returns the format "veracode-sca".
func (Connector) Formats() []connectors.Format { return []connectors.Format{Format{}} }

// Receivers returns the receiver "veracode-sca".
func (Connector) Receivers() []connectors.Receiver { return []connectors.Receiver{Receiver{}} }

// The events.
const (
	eventScan       = "SCAN_SUCCESS"
	eventDiscovered = "VULN_ISSUES_DISCOVERED_AFTER_SCAN"
	eventChanged    = "VULN_ISSUES_CHANGED_AFTER_SCAN"
)

// The words for how an issue stands, and the canonical ones.
const (
	statusNew      = "NEW"
	statusResolved = "RESOLVED"

	open     = "open"
	resolved = "resolved"
)

// What the documented payloads say where nothing else is known.
const (
	planType  = "ENTERPRISE"
	cveStatus = "NA"
	stage     = "RELEASED"
)

// extras is what only Veracode tells of a vulnerability. It travels in the event's
// attributes, for the format to find again.
type extras struct {
	Veracode *vulnerability `json:"veracode,omitempty"`
}

type vulnerability struct {
	ID             string  `json:"vulnId"`
	CVEStatus      string  `json:"cveStatus,omitempty"`
	Stage          string  `json:"stage,omitempty"`
	DisclosureDate *string `json:"disclosureDate,omitempty"`
}
