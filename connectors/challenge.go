package connectors

import "time"

// Challenger is the ability of a Format to ask an endpoint, before anything else is sent
// there, whether it wants it: the handshake. It is pure: the hub makes the call through
// the endpoint's connector, signed by the format's own rule, once, without retries. It
// does so when a webhook is made, when its address changes and when people ask for it.
type Challenger interface {
	// Required says whether the handshake cannot be declined. A webhook that has not
	// declined it is sent nothing until it is verified.
	Required() bool
	// Challenge writes the question.
	Challenge(c Challenge) (Rendered, error)
	// Granted reads the answer. An error says in words for people why the webhook stays
	// unverified.
	Granted(c Challenge, answer *Response) (Grant, error)
}

// Challenge is one handshake.
type Challenge struct {
	ID        string // names this handshake; new each time
	Webhook   string // the hub's ID of the webhook
	Time      time.Time
	Origin    string // the host name of the hub, which the endpoint is asked to accept
	PublicURL string // base of links to the hub, no slash at the end
}

// Grant is what an endpoint accepts.
type Grant struct {
	PerMinute int // at most so many requests; 0: it did not say
}

// RuledFormat is the ability of a Format to have its own rule for signatures, as data that
// the hub applies. Formats of third parties can have this only: their Signer would need the
// webhook's secret, which never leaves the hub.
type RuledFormat interface {
	SignatureRule() SignatureRule
}

// RuledReceiver is the same for a Receiver: the hub checks what comes in.
type RuledReceiver interface {
	SignatureRule() SignatureRule
}
