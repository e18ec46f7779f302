// Package apviso is the room of APVISO: it reads the webhooks that APVISO sends (findings,
// the life of scans, reports) and writes events down in the same shape, signed in
// the same way.
//
// Place in the path of an event: Receiver at the way in, Format at the way out. Both
// are pure. A signature is checked over the bytes as they came, before anything reads
// them; what is sent is signed over the bytes that are sent.
package apviso

import (
	"encoding/json"

	"github.com/hookyard/hookyard/connectors"
)

// Name is the name of the connector, its receiver and its format.
const Name = "apviso"

// Connector is APVISO's. Its zero value is ready for use.
type Connector struct{}

// Spec describes the connector.
func (Connector) Spec() connectors.Spec {
	return connectors.Spec{
		Name:        Name,
		Title:       "APVISO",
		Description: "Receives the webhooks of APVISO, and sends events in their shape.",
		Version:     "1.0.0",
		Abilities:   []connectors.Ability{connectors.AbilityFormat, connectors.AbilityReceive},
		Settings:    json.RawMessage(`{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{},"additionalProperties":false}`),
	}
}

// Formats returns the format "apviso".
func (Connector) Formats() []connectors.Format { return []connectors.Format{Format{}} }

// Receivers returns the receiver "apviso".
func (Connector) Receivers() []connectors.Receiver { return []connectors.Receiver{Receiver{}} }

// The events as they are sent; some more names are understood.
const (
	eventFinding      = "finding.created"
	eventStarted      = "scan.started"
	eventProgress     = "scan.progress"
	eventCompleted    = "scan.completed"
	eventFailed       = "scan.failed"
	eventReport       = "report.ready"
	eventVerification = "webhook.verification"
)

// The words for how a scan stands.
const (
	statusRunning   = "running"
	statusCompleted = "completed"
	statusFailed    = "failed"
)

const (
	signatureHeader = "X-APVISO-Signature"
	signaturePrefix = "sha256="

	// timeLayout is how times are written, always in UTC.
	timeLayout = "2006-01-02T15:04:05Z"
)
