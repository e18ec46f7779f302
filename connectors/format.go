package connectors

import (
	"time"
)

// Format writes events down in one shape. It is pure: see the package's life
// cycle. A Format is rendered once per event and the outcome is kept, so equal
// input must give equal bytes.
type Format interface {
	// Name is what people choose: "hookyard", "holm", … Lower case, digits, hyphens.
	Name() string
	// EventTypes are the kinds that a new webhook gets when none are chosen, so that
	// one fact is not told twice. All of them can be said; people may choose others,
	// and Render decides what can be said of those.
	EventTypes() []EventType
	// Render writes e down. A kind that the format cannot say, or a mandatory
	// value that is unknown, gives a *SkipError and never invented data.
	Render(e *Event, o RenderOptions) (Rendered, error)
}

// Signer is the ability of a Format to have its own rule for signatures.
type Signer interface {
	// Sign returns the headers that prove who sent body. keys holds the webhook's
	// secrets, the current one first; each of them signs where the rule allows.
	// It is called for each attempt; a rule that wants identical retries ignores at.
	Sign(keys [][]byte, deliveryID string, at time.Time, body []byte) ([]Header, error)
}

// SingleSigner is the ability of a Signer whose rule has room for one signature only. It
// is given one key: while a webhook's secret is being replaced, the old one until the time
// for that is over. Other Signers are given both, and sign with both.
type SingleSigner interface {
	Signer
	SignsOnce()
}

// TextKeyer is the ability of a Format that signs with the secret's text, as people copy it,
// in UTF-8. The keys of others are what stands in base64 after "whsec_", as Standard
// Webhooks has it.
type TextKeyer interface {
	Format
	TextKeys()
}

// Addresser is the ability of a Format to have its own way of putting what it rendered
// into the endpoint's address.
type Addresser interface {
	// Address is where a request goes: the endpoint's address of today, and the
	// TargetSuffix of the rendering.
	Address(address, suffix string) (string, error)
}

// HTTPSOnly is the ability of a Format to refuse addresses that are not https, unless the
// operator allows them.
type HTTPSOnly interface {
	HTTPSOnly()
}

// Numberer is the ability of a Format to say which stable numbers it needs for an
// event. The hub assigns them (1..2147483647, the same for the same object for
// good) and passes them in RenderOptions.Numbers.
type Numberer interface {
	Numbers(e *Event) []NumberKey
}

// NumberKey names an object that needs a number: a kind ("ticket", "finding") and
// the hub's ID of the object.
type NumberKey struct{ Kind, ID string }

// RenderOptions is what a webhook may choose about a format. It is comparable but
// for Numbers and Raw, and equal options share one rendering.
type RenderOptions struct {
	UnknownCounts UnknownCounts
	PublicURL     string // base of links to the hub, no slash at the end
	Numbers       map[NumberKey]int32
	Raw           *RawReceipt // only for formats that pass the receipt on unchanged
}

// UnknownCounts says what to do when a shape demands counts that are not known.
type UnknownCounts string

// The choices for unknown counts.
const (
	UnknownCountsSkip UnknownCounts = "SKIP"
	UnknownCountsZero UnknownCounts = "ZERO"
)

// RawReceipt is what the source sent, byte for byte.
type RawReceipt struct {
	ContentType string
	Body        []byte
}

// Rendered is an event written down, ready to be sent. TargetSuffix is appended to
// the endpoint's address, unless the format is an Addresser; empty for most formats.
type Rendered struct {
	Method       string // "" is POST
	TargetSuffix string
	Header       []Header
	Body         []byte
}

// Header is one header line. Secret names the secret that the value came from; such
// a value is recorded as "[secret:name]".
type Header struct {
	Name, Value string
	Secret      string
}

// SkipError says that an event is not sent in this format, and why. Reason is one
// sentence for people.
type SkipError struct{ Reason string }

func (e *SkipError) Error() string { return "skipped: " + e.Reason }
