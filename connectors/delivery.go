package connectors

import (
	"encoding/json"
	"time"
)

// Endpoint is the other side as its connector sees it: where deliveries go or, by its
// Role, a source that is polled or a scanner. A process receives it once per Ref and then
// again only when it has changed (a new Ref).
type Endpoint struct {
	Ref          string            // the endpoint's ID and revision: "end_…@7"
	ID           string            // the hub's ID of the endpoint
	Organization string            // the hub's ID of whom it belongs to
	Role         Role              //
	URL          string            // the address, for connectors that have one
	Settings     json.RawMessage   // valid against the Spec's schema for the role, defaults filled in
	Secrets      map[string]string // only those that this connection needs, by setting name
	Dial         DialPolicy
}

// Role is what an Endpoint is used for.
type Role string

// The roles.
const (
	RoleEndpoint Role = ""        // deliveries go there
	RoleSource   Role = "SOURCE"  // receipts come from there
	RoleScanner  Role = "SCANNER" // it runs scans
)

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
