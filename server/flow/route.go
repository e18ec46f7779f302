package flow

import (
	"errors"

	"github.com/hookyard/hookyard/connectors"
)

// Facts is what routing looks at: the event's kind and place, and what the filters
// of a webhook ask about.
type Facts struct {
	Type        connectors.EventType
	Group, App  string // "" unmapped
	Source      string // ID of the source or key that sent it
	Severity    connectors.Severity
	HasSeverity bool // false for kinds that have none
	New         bool // the first sight of a finding
}

// The ledger's errors that its callers act on. Nothing was accepted in either case;
// the sender is asked to send again, and the idempotency key makes it one event.
var (
	ErrBusy        = errors.New("the hub has more to write than it can take")
	ErrUnavailable = errors.New("the database cannot commit")
)
