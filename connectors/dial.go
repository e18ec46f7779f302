package connectors

import (
	"context"
	"log/slog"
	"net"
	"net/http"
)

// Host is what the hub offers a connector with I/O.
type Host interface {
	// Endpoint returns what a Delivery.Endpoint names; ok is false for a Ref that
	// this process was never given.
	Endpoint(ref string) (e Endpoint, ok bool)
	// Log writes into the hub's log, under the connector's name; people of the
	// organization can read it. No secrets.
	Log() *slog.Logger
	Outside
	Memory
}

// Outside is the only way out: a connector that opens a connection by other means is
// refused by the house's lint, and by the sandbox.
type Outside interface {
	// DialContext connects to "host:port" under the endpoint's address policy,
	// checked after name resolution, at each dial.
	DialContext(ctx context.Context, e Endpoint, network, addr string) (net.Conn, error)
	// HTTPClient returns a client for the endpoint: the policy above, its CA bundle and
	// forward proxy, no redirects, no cookies. It is kept and shared per Ref.
	HTTPClient(e Endpoint) (*http.Client, error)
}

// DialPolicy is which addresses may be dialled. Public addresses are open, all
// others are closed unless Open names them; where Allow is not empty, a target
// must in addition match one of its rules.
type DialPolicy struct {
	Open  []string // CIDRs that the operator opened; "0.0.0.0/0" and "::/0" open everything
	Allow []AllowRule
	// Origins are where the target of a scanner's scans is: a third party's process may connect
	// there beside what its manifest names. The process does not get the list; see Target.
	Origins []string
}

// AllowRule is one line of an Administrator's list: a host name ("*.example.com"),
// an address or a CIDR, and a port (0: any).
type AllowRule struct {
	Host string
	Port int
	List string // the setting that holds this rule, for the text of a refusal
}

// PolicyError is a target that the address policy refuses. Setting names what an
// operator or Administrator would have to change.
type PolicyError struct {
	Target  string
	Reason  string
	Setting string
}

func (e *PolicyError) Error() string {
	return "the address policy refuses " + e.Target + ": " + e.Reason + " (setting: " + e.Setting + ")"
}
