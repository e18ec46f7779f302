// Package appscan is the room of HCL AppScan on Cloud: it takes the webhooks that AppScan
// sends, which name nothing but an ID, fetches from AppScan's API what happened, and
// sends events in the same shape: a GET with an ID in its address.
//
// Place in the path of an event: Receiver at the way in, twice: for the request, which it only
// checks, and for what Enrich has fetched. Format at the way out. Both are pure. Enrich
// and Check run in the plugin's process; they log in, read and log out, and change nothing.
package appscan

import (
	"encoding/json"

	"github.com/hookyard/hookyard/connectors"
)

// Name is the name of the connector, its receiver and its format.
const Name = "appscan"

// Connector is AppScan's. Its zero value is ready for use.
type Connector struct{}

// Spec describes the connector.
func (Connector) Spec() connectors.Spec {
	return connectors.Spec{
		Name:        Name,
		Title:       "HCL AppScan on Cloud",
		Description: "Receives the webhooks of AppScan on Cloud and fetches what they are about, and sends events in their shape.",
		Version:     "1.0.0",
		Abilities: []connectors.Ability{connectors.AbilityFormat, connectors.AbilityReceive,
			connectors.AbilityCheck, connectors.AbilityEnrich},
		Settings:       json.RawMessage(`{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{},"additionalProperties":false}`),
		SourceSettings: json.RawMessage(sourceSettings),
	}
}

// Formats returns the format "appscan".
func (Connector) Formats() []connectors.Format { return []connectors.Format{Format{}} }

// Receivers returns the receiver "appscan".
func (Connector) Receivers() []connectors.Receiver { return []connectors.Receiver{Receiver{}} }

const sourceSettings = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "additionalProperties": false,
  "required": ["key_id", "key_secret"],
  "properties": {
    "service_url": {
      "type": "string", "title": "Address of the service", "maxLength": 2048, "pattern": "^https?://[^/?#@]+$", "default": "https://cloud.appscan.com",
      "description": "Where AppScan's API is, without a path."
    },
    "key_id": {
      "type": "string", "title": "API key ID", "minLength": 1, "maxLength": 255,
      "description": "ID of an API key whose user sees the applications that events are about."
    },
    "key_secret": {
      "type": "string", "title": "API key secret", "writeOnly": true, "minLength": 1, "maxLength": 4096,
      "description": "Secret of that API key."
    },
    "ca_bundle": {
      "type": "string", "title": "CA bundle", "maxLength": 1048576, "contentMediaType": "application/x-pem-file",
      "description": "Certificates (PEM) of the authorities that are trusted for the service, instead of the system's."
    },
    "forward_proxy": {
      "type": "string", "title": "Forward proxy", "maxLength": 2048, "pattern": "^(https?|socks5)://[^@/?#]+/?$",
      "description": "Address of a proxy that makes the connection. The proxy then resolves names and decides which addresses may be reached; the hub checks only the proxy's own address."
    }
  }
}`

// subjectKind is what an ID is of.
type subjectKind string

const (
	execution   subjectKind = "execution"
	application subjectKind = "application"
)

// extras is what only AppScan tells. It travels in the event's attributes, for the format
// to find the IDs again by which AppScan knows the subjects.
type extras struct {
	AppScan *identities `json:"appscan,omitempty"`
}

type identities struct {
	ExecutionID   string `json:"executionId,omitempty"`
	ScanID        string `json:"scanId,omitempty"`
	ApplicationID string `json:"applicationId,omitempty"`
}
