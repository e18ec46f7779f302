package flow

import (
	"log/slog"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// Secret is a value that must not be seen: it prints, logs and marshals as
// "[secret]". Reveal is the only way to its bytes.
type Secret struct{ b []byte }

// NewSecret wraps b, which the caller gives up.
func NewSecret(b []byte) Secret { return Secret{b} }

// Reveal returns the secret's bytes; they must not be changed or kept in logs.
func (s Secret) Reveal() []byte { return s.b }

// IsZero says that there is no secret.
func (s Secret) IsZero() bool { return len(s.b) == 0 }

func (s Secret) String() string               { return "[secret]" }
func (s Secret) GoString() string             { return "[secret]" }
func (s Secret) LogValue() slog.Value         { return slog.StringValue("[secret]") }
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"[secret]"`), nil }

// World is one organization's configuration at one revision: immutable, shared by
// all parts, replaced whole when anything in it changes.
type World struct {
	Revision     int64
	Erased       time.Time // when a payload was last erased: what was read before may be gone
	Organization Organization
	Groups       map[string]Group       // by ID
	Applications map[string]Application // by ID
	Sources      map[string]*Source     // by ID
	Endpoints    map[string]*Endpoint   // by ID
	Webhooks     map[string]*Webhook    // by ID
	Connectors   map[string]*Connector  // third parties', by name
	Projects     map[string]*Project    // by ID: those that third parties' connectors scan
	Triggers     []string               // kinds of triggers that third parties' connectors answer
	// Installed is what of these reads and writes without I/O, in the versions that the
	// organization uses, enabled or not: what is theirs is called "connector/name". Their
	// processes answer, or do not. nil: there is none.
	Installed *connectors.Set
}

// Connector is a third party's connector that the organization has at least once enabled.
type Connector struct {
	Name, Version string
	Digest        string // of the package that endpoints use unless they name another
	Enabled       bool
	Released      time.Time // when somebody last let it out of quarantine
}

// Package is the digest of the package that delivers to an endpoint; "" is a shipped
// connector. enabled is false when the organization does not use the connector.
func (w *World) Package(e *Endpoint) (digest string, enabled bool) {
	c := w.Connectors[e.Connector]
	if c == nil {
		return "", true
	}
	if e.Package != "" {
		return e.Package, c.Enabled
	}
	return c.Digest, c.Enabled
}

// Organization is the customer.
type Organization struct {
	ID, Name  string
	Suspended bool
	Retention Retention
	Allow     []connectors.AllowRule // hosts and ports that alone may be dialled, within what the operator opens; none: all
}

// Retention is how long each kind of history is kept; 0 keeps for ever.
type Retention struct {
	Events   time.Duration // events and their deliveries
	Attempts time.Duration // the log of attempts, the tail
	Payloads time.Duration // bodies: receipts, documents, renderings, responses
	Audit    time.Duration // the audit log
}

// Group is an asset group.
type Group struct {
	ID, Name string
	Allow    []connectors.AllowRule
}

// Application belongs to one asset group.
type Application struct {
	ID, Name, Group string
	Key             string // by which the system that scans it knows it, "" none
}

// Source is who sends events in.
type Source struct {
	ID, Name      string
	Kind          string // a Receiver's kind
	Group         string // asset group for applications that it creates, "" none
	Token         string // hex SHA-256 of the unguessable part of its address
	Enabled       bool
	Secrets       []Secret  // for Verifier, current first
	OldSecrets    time.Time // until when the others count; zero: for good
	Authorization Secret    // the exact Authorization header it must send; zero: none
	Location      *time.Location
	Mapping       Mapping
	PollEvery     time.Duration // how often it is asked; 0: it is not
	Revision      int64
	Settings      []byte            // JSON: how the hub reaches the sender, valid against its connector's schema
	Connection    map[string]Secret // the secret ones of these, by setting name
}

// Mapping finds the application of an event: the first rule that fits, else the
// receiver's default field by name, else Default, else a new application when Create.
type Mapping struct {
	Rules   []MappingRule `json:"rules,omitempty"`
	Default string        `json:"default,omitempty"` // application ID
	Create  bool          `json:"create,omitempty"`
}

// MappingRule fits when the field's value equals Equals or matches the pattern
// Matches (a shell pattern, "*" and "?").
type MappingRule struct {
	Field       string `json:"field"`
	Equals      string `json:"equals,omitempty"`
	Matches     string `json:"matches,omitempty"`
	Application string `json:"application"` // application ID
}

// Endpoint is where webhooks deliver.
type Endpoint struct {
	ID, Name    string
	Group       string // "": organization level
	Connector   string // a Spec's name
	Package     string // digest of the package that it is pinned to; "" the organization's
	Revision    int64
	URL         string
	Presence    string // the Presence whose agents make the calls, "" the hub itself
	Enabled     bool
	Headers     []connectors.Header // extra request headers; secret values by name
	Settings    []byte              // JSON, valid against the Spec's schema
	Secrets     map[string]Secret   // by setting name
	Rate        float64             // deliveries per second, 0 is unlimited
	Burst       int
	MaxInFlight int // upper limit of a lane's window, 0: the default
}

// WebhookState is whether a webhook fires.
type WebhookState string

// The states of a webhook.
const (
	WebhookActive     WebhookState = "ACTIVE"
	WebhookPaused     WebhookState = "PAUSED"     // holds its deliveries
	WebhookDisabled   WebhookState = "DISABLED"   // records them as skipped
	WebhookUnverified WebhookState = "UNVERIFIED" // the same, until a handshake succeeds
)

// Project is what a third party's connector scans.
type Project struct {
	Scanner string            // a Spec's name
	Secrets map[string]Secret // that the scanner gets: its settings', and of what is kept to get into the target
}

// Webhook is the stored wish "these events go there in this shape".
type Webhook struct {
	ID, Name    string
	Group       string // "": organization level
	Global      bool
	Apps        []string // scopes: applications
	Groups      []string // scopes: asset groups, organization level only
	Types       []connectors.EventType
	MinSeverity connectors.Severity
	OnlyNew     bool
	Sources     []string // named sources; none: any
	Format      string
	Options     connectors.RenderOptions // without Numbers and Raw
	Endpoint    string
	State       WebhookState
	Keys        []Secret        // signing secrets, current first
	OldKeys     time.Time       // until when the others count; zero: for good
	Retries     []time.Duration // offsets from the first failure
	Timeout     time.Duration
}
