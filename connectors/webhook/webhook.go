// Package webhook is the room of everything that speaks plain HTTP without being one
// vendor's: it receives CloudEvents, writes events down as hookyard, cloudevents, raw, slack and
// teams, and delivers whatever an HTTP format has written.
//
// Place in the path of an event: Receiver at the way in, the formats before the ledger,
// Deliver at the way out. Receiver and formats are pure. Deliver makes one request per item
// through the host's client, follows no redirect, keeps to the delivery's time limit for
// the whole answer, and answers every item exactly once.
package webhook

import (
	"encoding/json"

	"github.com/hookyard/hookyard/connectors"
)

// Name is the name of the connector.
const Name = "webhook"

// Version is the connector's version.
const Version = "1.0.0"

// The settings of an endpoint that this room reads. "ca_bundle" and "forward_proxy",
// which its schema offers too, are read by the host's HTTP client.
const (
	settingBasicUser    = "basic_user"
	secretBasicPassword = "basic_password"
	secretBearerToken   = "bearer_token"
)

// Connector delivers over plain HTTP. Its zero value is ready for use; it keeps
// nothing between deliveries, the host keeps the clients.
type Connector struct{}

// Spec describes the connector.
func (Connector) Spec() connectors.Spec {
	return connectors.Spec{
		Name:        Name,
		Title:       "Plain webhook",
		Description: "Sends events as HTTP requests to any address, and receives CloudEvents.",
		Version:     Version,
		Abilities: []connectors.Ability{connectors.AbilityFormat, connectors.AbilityReceive,
			connectors.AbilityDeliver, connectors.AbilityCheck},
		Settings:     json.RawMessage(settingsSchema),
		TakesRequest: true,
	}
}

// Formats returns hookyard, cloudevents, raw, slack and teams.
func (Connector) Formats() []connectors.Format {
	return []connectors.Format{HookyardFormat{}, CloudEventsFormat{}, RawFormat{}, SlackFormat{}, TeamsFormat{}}
}

// Receivers returns the receiver "cloudevents".
func (Connector) Receivers() []connectors.Receiver { return []connectors.Receiver{Receiver{}} }

const settingsSchema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "basic_user": {
      "type": "string", "title": "Basic user", "maxLength": 255, "pattern": "^[^:]*$",
      "description": "User name for HTTP Basic authentication. Leave it empty for none."
    },
    "basic_password": {
      "type": "string", "title": "Basic password", "writeOnly": true, "maxLength": 4096,
      "description": "Password for HTTP Basic authentication."
    },
    "bearer_token": {
      "type": "string", "title": "Bearer token", "writeOnly": true, "maxLength": 16384,
      "description": "Sent as \"Authorization: Bearer …\". Not together with a Basic user."
    },
    "ca_bundle": {
      "type": "string", "title": "CA bundle", "maxLength": 1048576, "contentMediaType": "application/x-pem-file",
      "description": "Certificates (PEM) of the authorities that are trusted for this endpoint, instead of the system's."
    },
    "forward_proxy": {
      "type": "string", "title": "Forward proxy", "maxLength": 2048, "pattern": "^(https?|socks5)://[^@/?#]+/?$",
      "description": "Address of a proxy that makes the connection. The proxy then resolves names and decides which addresses may be reached; the hub checks only the proxy's own address."
    }
  }
}`
