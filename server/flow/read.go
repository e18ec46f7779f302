package flow

import (
	"errors"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// Page is a piece of a list that is ordered by ID, which is by time.
type Page struct {
	After  string // ID of the row before the first one wanted; "" from the start
	Limit  int    // rows at most; more than 0
	Oldest bool   // oldest first; otherwise newest first
}

// EventFilter chooses events: all that is set must fit.
type EventFilter struct {
	IDs      []string // any of
	Types    []connectors.EventType
	Sources  []string // IDs, any of
	Apps     []string // IDs, any of
	Groups   []string // IDs, any of
	Subject  string
	Receipt  string
	Unmapped bool // only events without an application
	From, To time.Time
}

// EventView is an event as people read it.
type EventView struct {
	ID, Org, Source, Receipt string
	Type                     connectors.EventType
	Time, Received           time.Time
	Subject                  string
	Group, App               string
	Severity                 connectors.Severity
	Document                 []byte // JSON; nil: not kept any more, or not for the viewer
}

// DeliveryFilter chooses deliveries: all that is set must fit.
type DeliveryFilter struct {
	IDs       []string // any of
	Event     string
	Webhooks  []string // IDs, any of
	Endpoints []string
	Apps      []string
	States    []DeliveryState
	Types     []connectors.EventType
	From, To  time.Time // when it was created: From <= t < To
}

// DeliveryView is a delivery as people read it.
type DeliveryView struct {
	ID, Org, Event, Webhook, Endpoint string
	Level, App                        string
	Type                              connectors.EventType
	State                             DeliveryState
	Reason                            string // why it is in this state, for people; "" none
	Attempts                          int
	Created                           time.Time
	FirstFailed, NextAt, Ended        time.Time // each zero when there is none
	Redelivers                        string    // the delivery that this one repeats, "" none
}

// AttemptView is a line of the delivery log in full. Number is 0 where the delivery
// ended without an attempt.
type AttemptView struct {
	Entry
	Timing   connectors.Timing
	Request  *connectors.Request  // Body is nil: it is not kept any more, or not for the viewer
	Response *connectors.Response // nil: there was none
}

// ReceiptFilter chooses receipts: all that is set must fit.
type ReceiptFilter struct {
	IDs      []string // any of
	Sources  []string // IDs, any of
	States   []ReceiptState
	From, To time.Time
}

// ReceiptView is a receipt as people read it. Body is nil when it is not kept any
// more, or not for the viewer.
type ReceiptView struct {
	Receipt
	Group    string    // asset group of the source, "" organization
	Events   []string  // IDs of the events that it gave, oldest first
	Attempts int       // made so far to enrich it, while it waits
	NextAt   time.Time // when the next one is due; zero: it does not wait
}

// Sent is one event that somebody sends through the API.
type Sent struct {
	ID          string // of the sender's choice; a known one is a repeat; "" never is
	Application string // the hub's ID; "" leaves it to the source's mapping
	connectors.Incoming
}

// Bulk is what came of something done to many rows.
type Bulk struct {
	Matched int      // rows that fit; not counted any further than the cap
	Capped  bool     // there are more than that
	IDs     []string // what was made or changed, in order; none for a dry run
}

// ErrNotFound says that there is no such row, as far as the viewer may know.
var ErrNotFound = errors.New("flow: not found")

// ErrDisabled says that a source takes nothing at present.
var ErrDisabled = errors.New("flow: disabled")

// Reason is the answer of one of a webhook's conditions to an event, for people.
type Reason struct {
	Rule   string // EXISTS, TYPE, LEVEL, SCOPE, SOURCE, SEVERITY, NEW, STATE
	Passed bool
	Text   string
}

// IsNode marks what has a global ID in the API.
func (*EventView) IsNode()    {}
func (*DeliveryView) IsNode() {}
func (*AttemptView) IsNode()  {}
func (*ReceiptView) IsNode()  {}
