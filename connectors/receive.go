package connectors

import (
	"fmt"
	"net/http"
	"time"
)

// Receiver reads what one kind of source sends. It is pure: see the package's life
// cycle. The hub has read the body (within its limit) and found the source by the
// address; credentials that the source's settings name are checked by the hub with
// Verify before Receive is called.
type Receiver interface {
	// Kind is what people choose when they make a source: "holm", "cloudevents", …
	Kind() string
	// Receive turns one request into events, zero or more. A request that is not
	// acceptable gives a *RefuseError; nothing of it becomes an event then.
	Receive(in Inbound) (Received, error)
}

// Verifier is the ability to check a vendor's signature over the raw request.
type Verifier interface {
	// Verify returns a *RefuseError with status 401 when the request is not
	// genuine. secrets are the source's, the current one first; none means that
	// the source has no secret.
	Verify(in Inbound, secrets [][]byte) error
}

// Handshaker is the ability to answer requests that carry no event: a HEAD, an
// OPTIONS, a challenge.
type Handshaker interface {
	// Handshake returns nil when the request is not a handshake.
	Handshake(in Inbound) *Reply
}

// MethodReceiver is the ability of a Receiver to take requests by other methods than POST.
type MethodReceiver interface {
	// Methods are those that carry events: "GET", …
	Methods() []string
}

// Inbound is one request to a source's address, or a document in its place.
type Inbound struct {
	Via         Via
	Method      string
	Path        string // what follows the source's address, unescaped: "" or "/…"
	Header      http.Header
	Query       map[string][]string
	Body        []byte
	ReceivedAt  time.Time
	Location    *time.Location // of times that carry no zone; never nil
	SourceID    string         // the hub's ID of the source
	ContentType string
}

// Via is how an Inbound came to be.
type Via string

// The ways.
const (
	ViaRequest Via = ""       // a request, as it came in
	ViaEnrich  Via = "ENRICH" // the request, but Body and ContentType are what Enrich fetched
	ViaPoll    Via = "POLL"   // a document that Poll fetched: no method, header or query
)

// Received is what a request was found to say.
type Received struct {
	Items []Incoming
	// Enrich says that the request only names what happened: answer it with Reply, have the
	// connector's Enricher fetch the rest and call Receive again with that (ViaEnrich).
	// Items are then empty.
	Enrich bool
	Note   string // why there is no event although the request is fine; for people
	Reply  *Reply // nil: 200 with an empty JSON object
}

// Incoming is one event before the hub has given it a place: no ID, no application.
type Incoming struct {
	Type   EventType
	Time   time.Time // when it happened; zero: when it was received
	Source string    // CloudEvents source; "": the hub's name of the source
	Data   Data
	// Key makes a repeat recognisable within the source; "" means never a repeat.
	// State, when not empty, makes it a repeat only if the last accepted event of
	// the same Key had the same State.
	Key   string
	State string
	// Fields are the vendor's own names and values that mapping rules may look at.
	Fields map[string]string
	// DefaultField is the field that names the application when no rule is set. NameField,
	// where the source has one, is the field with its name for people; DefaultField
	// is then the source's key of it.
	DefaultField string
	NameField    string
}

// Reply is an answer to a source.
type Reply struct {
	Status int
	Header http.Header
	Body   []byte
}

// RefuseError is a request that cannot be accepted. Status is the HTTP status;
// Field is the path of what is wrong ("finished_scan.started"), when one is;
// Message is a sentence for people.
type RefuseError struct {
	Status  int
	Field   string
	Message string
}

func (e *RefuseError) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("refused (%d): %s", e.Status, e.Message)
	}
	return fmt.Sprintf("refused (%d): %s: %s", e.Status, e.Field, e.Message)
}

// Refuse makes a *RefuseError.
func Refuse(status int, field, format string, args ...any) error {
	return &RefuseError{Status: status, Field: field, Message: fmt.Sprintf(format, args...)}
}
