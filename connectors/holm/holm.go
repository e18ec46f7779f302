// Package holm is the room of Holm Security: it reads the webhooks that Security
// Center sends (finished scans, scheduled scans, tickets) and writes events down in
// the same shape.
//
// Place in the path of an event: Receiver at the way in, Format at the way out. Both
// are pure. What Receiver accepts it accepts whole; a value that is not what Holm
// documents is refused with the path of the field, and no input makes it panic.
package holm

import (
	"encoding/json"

	"github.com/hookyard/hookyard/connectors"
)

// Name is the name of the connector, its receiver and its format.
const Name = "holm"

// Connector is Holm Security's. Its zero value is ready for use.
type Connector struct{}

// Spec describes the connector.
func (Connector) Spec() connectors.Spec {
	return connectors.Spec{
		Name:        Name,
		Title:       "Holm Security",
		Description: "Receives the webhooks of Holm Security, and sends events in their shape.",
		Version:     "1.0.0",
		Abilities:   []connectors.Ability{connectors.AbilityFormat, connectors.AbilityReceive},
		Settings:    json.RawMessage(`{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{},"additionalProperties":false}`),
	}
}

// Formats returns the format "holm".
func (Connector) Formats() []connectors.Format { return []connectors.Format{Format{}} }

// Receivers returns the receiver "holm".
func (Connector) Receivers() []connectors.Receiver { return []connectors.Receiver{Receiver{}} }

// The kinds of information; each is the one top-level key of a message.
const (
	kindScheduled = "scheduled_scan"
	kindFinished  = "finished_scan"
	kindTicket    = "ticket"
)

const (
	statusCompleted = "Completed"
	statusFailed    = "Failed"
	statusOpen      = "Open"
	statusClosed    = "Closed (Fixed)"

	minuteLayout = "2006-01-02 15:04"
	secondLayout = "2006-01-02 15:04:05"
	dateLayout   = "2006-01-02"

	errorSeparator = "\n\n"
)

// severityWord is Holm's word for a severity, "" for an unknown one.
func severityWord(s connectors.Severity) string {
	switch s {
	case connectors.SeverityInfo:
		return "Info"
	case connectors.SeverityLow:
		return "Low"
	case connectors.SeverityMedium:
		return "Medium"
	case connectors.SeverityHigh:
		return "High"
	case connectors.SeverityCritical:
		return "Critical"
	}
	return ""
}
