package graph

import (
	"context"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/flow"
)

// EventReader reads events. What the scope does not see is flow.ErrNotFound.
type EventReader interface {
	Event(ctx context.Context, scope rule.Scope, id string) (*flow.EventView, error)
	Events(ctx context.Context, scope rule.Scope, f flow.EventFilter, p flow.Page) ([]flow.EventView, error)
}

// DeliveryReader reads deliveries and their attempts, the first attempt first. What
// the scope does not see is flow.ErrNotFound.
type DeliveryReader interface {
	Delivery(ctx context.Context, scope rule.Scope, id string) (*flow.DeliveryView, error)
	Deliveries(ctx context.Context, scope rule.Scope, f flow.DeliveryFilter, p flow.Page) ([]flow.DeliveryView, error)
	Attempt(ctx context.Context, scope rule.Scope, id string) (*flow.AttemptView, error)
	Attempts(ctx context.Context, scope rule.Scope, delivery string) ([]flow.AttemptView, error)
}

// ReceiptReader reads receipts. What the scope does not see is flow.ErrNotFound.
type ReceiptReader interface {
	Receipt(ctx context.Context, scope rule.Scope, id string) (*flow.ReceiptView, error)
	Receipts(ctx context.Context, scope rule.Scope, f flow.ReceiptFilter, p flow.Page) ([]flow.ReceiptView, error)
}

// Redeliverer repeats and cancels deliveries within a scope, and sees to it that they
// are taken up.
type Redeliverer interface {
	// RedeliverMatching makes new deliveries of ended ones, the oldest first, up to
	// limit; a dry run only counts.
	RedeliverMatching(ctx context.Context, scope rule.Scope, f flow.DeliveryFilter, limit int, dryRun bool) (flow.Bulk, error)
	// CancelDeliveries ends open deliveries; ended ones are left alone.
	CancelDeliveries(ctx context.Context, scope rule.Scope, deliveries []string) (flow.Bulk, error)
}

// Sender accepts events, all or none. sender is the ID of the user or key that sends;
// it stands for the source unless source names one, which flow.ErrDisabled is about.
type Sender interface {
	Send(ctx context.Context, org, sender, source string, events []flow.Sent) ([]flow.Accepted, error)
}

// Polls is how asking sources goes.
type Polls interface {
	// Polls returns it by source, for those that have had a turn. The caller has read the sources.
	Polls(ctx context.Context, scope rule.Scope, sources []string) (map[string]*flow.PollView, error)
	// PollNow has a source asked at once; with from, as if it were the first time.
	PollNow(ctx context.Context, org, source string, from time.Time) error
}

// Reprocessor reads a receipt again, with today's source and mapping, and returns the
// events that are new. A *connectors.RefuseError, flow.ErrNotFound and flow.ErrExpired
// are about this receipt; other errors are about the hub.
type Reprocessor interface {
	Reprocess(ctx context.Context, org, receipt string) ([]flow.Accepted, error)
}

// Checker tries an endpoint without delivering anything. The error's text is for people.
type Checker interface {
	Check(ctx context.Context, org, endpoint string) error
}

// Handshakes asks addresses whether they want events, and records what they answered.
type Handshakes interface {
	// Verify asks the address of one webhook. message says why it does not agree, for
	// people; "" when it does, or when somebody has changed the webhook meanwhile.
	Verify(ctx context.Context, org, webhook string) (message string, err error)
	// VerifyAll asks for those webhooks of an endpoint that wait for it.
	VerifyAll(ctx context.Context, org, endpoint string) error
}

// Catalogue is third parties' connectors, on all nodes.
type Catalogue interface {
	// Packages returns every version of every connector that is or was installed, by
	// name, the newest first.
	Packages(ctx context.Context) ([]flow.Package, error)
	// Processes returns how an organization's processes are.
	Processes(ctx context.Context, org string) ([]flow.ConnectorProcess, error)
	// Snippets are those of a third party's trigger, with the address in them; none, when its
	// connector does not answer.
	Snippets(org, kind, address string) []connectors.Snippet
}

// Explainer holds an event against each condition of a webhook.
type Explainer interface {
	Explain(ctx context.Context, org, webhook, event string) ([]flow.Reason, error)
}

// Follower watches the delivery log; see package server/watch. It returns why it ended.
type Follower interface {
	Follow(ctx context.Context, scope rule.Scope, f flow.EntryFilter, after *int64,
		send func(context.Context, flow.EntryBatch) error) error
}

// AuditFollower watches the audit log; see package server/watch. It returns why it ended.
type AuditFollower interface {
	Follow(ctx context.Context, scope rule.Scope, f store.AuditFilter, after *int64,
		send func(context.Context, store.AuditBatch) error) error
}

// Hold is the state of a restored hub, which delivers nothing until it is released.
type Hold interface {
	Held() bool
	Unhold(ctx context.Context) error
}

// Sealer encrypts a value, as JSON, for one field of one row.
type Sealer interface {
	SealJSON(id, field string, v any) ([]byte, error)
	UnsealJSON(id, field string, sealed []byte, v any) error
}

// Credentials makes what is shown once.
type Credentials interface {
	// NewKey makes an API key; hint is its beginning, which may be shown, and hash is
	// how it is kept.
	NewKey() (key, hint, hash string)
	// NewPresenceKey makes the key of a Presence, likewise.
	NewPresenceKey() (key, hint, hash string)
	// NewAddress makes the address of a source, NewTrigger that of a trigger; hash is how
	// its token is kept.
	NewAddress() (address, hash string)
	NewTrigger() (address, hash string)
}

// SignIn is how people sign in at identity providers.
type SignIn interface {
	// StartURL is where signing in through a provider begins.
	StartURL(provider string) string
	// RedirectURL is what has to be registered at every provider.
	RedirectURL() string
	// CheckProvider tries whether an issuer answers and can be used. The error's text
	// is for people.
	CheckProvider(ctx context.Context, issuer string) error
}

// Presences is where agents of Presences are linked. presence is the ID of a Presence that
// the viewer sees, or whose agent the viewer is.
type Presences interface {
	// Link hands work to an agent until ctx ends, and returns why it ended.
	Link(ctx context.Context, org, presence string, a flow.Agent, send func(context.Context, flow.Work) error) error
	// Report takes what came of the work; forget are the attempts that are durable, or
	// that nobody knows of any more.
	Report(ctx context.Context, org, presence string, results []flow.AgentResult, checks []flow.AgentCheck) (forget []string, err error)
	Agents(ctx context.Context, presence string) ([]flow.AgentView, error)
}

// Services is what the API works with. All of it is needed.
type Services struct {
	DB          *store.DB
	Connectors  *connectors.Set
	IDs         *ids.Maker
	Events      EventReader
	Deliveries  DeliveryReader
	Receipts    ReceiptReader
	Redeliverer Redeliverer
	Eraser      Eraser
	Sender      Sender
	Scans       ScanRunner
	Polls       Polls
	Reprocessor Reprocessor
	Checker     Checker
	Handshakes  Handshakes
	Catalogue   Catalogue
	Explainer   Explainer
	Log         Follower
	Audit       AuditFollower
	Hold        Hold
	Secrets     Sealer
	Credentials Credentials
	SignIn      SignIn
	Self        Self
	Links       Links
	Presences   Presences
}

// Authenticator says who a credential belongs to, and when it ends (zero: never).
type Authenticator interface {
	Authenticate(ctx context.Context, authorizationHeader string) (v *viewer.Viewer, expires time.Time, err error)
}

// Resolver answers every field.
type Resolver struct{ Services }
