package flow

import (
	"encoding/base64"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// Agent is one agent of a Presence, as it says of itself when it links.
type Agent struct {
	ID            string // of its key, see AgentID in server/presence
	Name, Version string
	Key           []byte // X25519, what is sealed for it can be opened by nobody else
}

// AgentView is an agent of a Presence as people see it.
type AgentView struct {
	ID, Name, Version string
	Linked            bool      // now
	Node              string    // of the hub that it is, or was last, linked to
	LinkedAt, SeenAt  time.Time // when its last link began, and when it last gave a sign of life
}

// Work is what an agent is handed at a time. An endpoint comes before the deliveries
// that name it.
type Work struct {
	Endpoints  []WorkEndpoint
	Deliveries []WorkDelivery
	Checks     []WorkCheck
}

// WorkEndpoint is an endpoint as an agent gets it: its secrets, by name, are JSON that is
// sealed for this one agent.
type WorkEndpoint struct {
	Ref, ID, Connector, URL string
	Settings                []byte // JSON
	Sealed                  []byte
}

// Secrets are the sealed secrets in base64.
func (e *WorkEndpoint) Secrets() string { return base64.StdEncoding.EncodeToString(e.Sealed) }

// WorkDelivery is one attempt to be made. Headers with a Secret have no value: it is
// among the endpoint's secrets, under that name.
type WorkDelivery struct {
	Try string // ID of the attempt, the same however often it is handed over
	connectors.Delivery
}

// Document is the event as JSON, for connectors that take it.
func (d *WorkDelivery) Document() []byte { return d.Event }

// Body64 is the request's body in base64.
func (d *WorkDelivery) Body64() string {
	if d.Request == nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(d.Request.Body)
}

// WorkCheck asks whether an endpoint would work.
type WorkCheck struct{ ID, Endpoint string } // a Ref

// AgentResult is what came of an attempt that an agent has made.
type AgentResult struct {
	Try    string // ID of the attempt
	Number int    // of the attempt within its delivery
	connectors.Result
}

// AgentCheck is the answer to a WorkCheck: what is wrong, "" nothing.
type AgentCheck struct{ ID, Error string }
