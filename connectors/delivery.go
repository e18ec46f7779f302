package connectors

import (
	"encoding/json"
	"time"
)

// Endpoint is where deliveries go, as its connector sees it. A process receives it
// once per Ref and then again only when it has changed (a new Ref).
type Endpoint struct {
	Ref      string            // the endpoint's ID and revision: "end_…@7"
	ID       string            // the hub's ID of the endpoint
	URL      string            // the address, for connectors that have one
	Settings json.RawMessage   // valid against the Spec's schema
	Secrets  map[string]string // only those that this connection needs, by setting name
	Dial     DialPolicy
}

// Delivery is one event due to one webhook, with all that is needed to make one
// attempt. HTTP connectors send Request as it is; others read Event.
type Delivery struct {
	ID       string // "dlv_…"; the same for every attempt
	Attempt  int    // 1, 2, …
	Endpoint string // Endpoint.Ref
	Timeout  time.Duration
	Request  *Request
	Event    json.RawMessage // an Event as JSON; nil for connectors that take Request
}

// Request is an HTTP request, fully written but for what the connection adds.
type Request struct {
	Method string
	URL    string
	Header []Header
	Body   []byte
}
