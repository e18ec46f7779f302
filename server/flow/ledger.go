package flow

import (
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// DeliveryState is where a delivery stands; docs/states.md has the picture.
type DeliveryState string

// The states of a delivery. Pending, attempting and retrying are open; the others
// are final. Attempting is not stored: it is an open delivery leased to a node.
const (
	Pending      DeliveryState = "PENDING"
	Attempting   DeliveryState = "ATTEMPTING"
	Retrying     DeliveryState = "RETRYING"
	Succeeded    DeliveryState = "SUCCEEDED"
	Failed       DeliveryState = "FAILED"
	SkippedState DeliveryState = "SKIPPED"
	Cancelled    DeliveryState = "CANCELLED"
)

// Final says that nothing more will happen by itself.
func (s DeliveryState) Final() bool {
	return s == Succeeded || s == Failed || s == SkippedState || s == Cancelled
}

// ReceiptState is what became of a receipt.
type ReceiptState string

// The states of a receipt.
const (
	ReceiptAccepted ReceiptState = "ACCEPTED" // it gave the events that name it, zero or more
	ReceiptRejected ReceiptState = "REJECTED" // malformed; Note says where
	ReceiptIgnored  ReceiptState = "IGNORED"  // fine, but nothing that we know
	ReceiptWaiting  ReceiptState = "WAITING"  // for enrichment
)

// Receipt is what a source sent, raw.
type Receipt struct {
	ID, Org, Source string
	At              time.Time
	Method          string
	Header          []byte // JSON array of [name, value], credentials as "[secret]"
	Path            string // what followed the source's address, "" or "/…"
	Query           string
	ContentType     string
	Body            []byte
	Remote          string // address of the sender
	State           ReceiptState
	Note            string
}

// Waiting is a receipt that is to be enriched, claimed by this node for a while.
type Waiting struct {
	Receipt
	Attempt int // 1, 2, …
}

// NewEvent is an event with everything that it is due to, to be accepted whole.
type NewEvent struct {
	ID, Org, Source, Receipt string
	Type                     connectors.EventType
	Time, Received           time.Time
	Subject                  string // hub ID of what it speaks of, "" none
	Group, App               string // at the time of the event; "" unmapped
	Severity                 connectors.Severity
	Document                 []byte // the Event as JSON, which is its rendering in format "hookyard"
	Key, State               string // see connectors.Incoming; the key is unique within Source
	Digest                   []byte // of what was sent, to tell a conflict from a repeat
	Catalogue                *CatalogueRow
	NewApplication           *Application // to be created in the same transaction
	Renderings               []Rendering
	Deliveries               []NewDelivery
}

// CatalogueRow is the state of the event's subject, written in the same transaction.
// Exactly one of the pointers is set; its ID field is the row's ID.
type CatalogueRow struct {
	Scan    *connectors.Scan
	Finding *connectors.Finding
	Ticket  *connectors.Ticket
	Report  *connectors.Report
}

// Rendering is an event written down in a format, kept with the event. Key is the
// format and a digest of its options; "hookyard" and "raw" need no row of their own.
type Rendering struct {
	Event, Key string
	connectors.Rendered
	// Open says that a third party's format has yet to write it: its process may be away, so
	// that is done when it is to be sent, from the event's document.
	Open bool
}

// NewDelivery is one event due to one webhook.
type NewDelivery struct {
	ID, Webhook, Endpoint string
	Level                 string        // asset group of the webhook, "" organization
	Rendering             string        // Rendering.Key
	State                 DeliveryState // Pending or SkippedState
	Reason                string        // why it was skipped, for people
	Lease                 bool          // born leased to this node
	Redelivers            string        // the delivery that this one repeats, "" none
}

// Accepted is what became of a NewEvent.
type Accepted struct {
	ID        string // of the event that now stands for it: the first one, for a repeat
	Duplicate bool
	Unmapped  bool  // a repeat of an event that has no application
	Conflict  bool  // the same key came with other bytes; the first was kept
	Lease     Lease // of its deliveries that were born leased
}

// Given is an event that a receipt has given.
type Given struct {
	ID                  string
	Type                connectors.EventType
	Time                time.Time
	Subject, Group, App string // as in NewEvent
}

// Due is a delivery leased to this node: everything that one attempt needs.
type Due struct {
	ID, Org, Event, Webhook, Endpoint string
	Level, App                        string
	Type                              connectors.EventType
	Attempts                          int       // made so far
	FirstFailed                       time.Time // zero: none has failed
	Created                           time.Time
	Rendering                         *Rendering // shared between deliveries; do not change
	Document                          []byte     // shared; do not change
	Lease                             Lease      // under which it is held; zero: the node's present one
}

// Backlog is a lane that has deliveries in the ledger which no node holds.
type Backlog struct {
	Org, Webhook string
	Due          time.Time // when the first of them is due
}

// Record is what came of one attempt, or of a decision without one (Result nil).
type Record struct {
	Due         *Due
	Attempt     string // "att_…", ID of the log's entry
	Number      int    // of the attempt, 1…; 0 without one
	Result      *connectors.Result
	URL         string        // as sent
	State       DeliveryState // new state
	NextAt      time.Time     // when Retrying
	FirstFailed time.Time
	Reason      string
	At          time.Time // when it ended
	Recorded    func()    // called once it is durable; may be nil
}

// Entry is one line of the delivery log: an attempt, or a delivery that ended
// without one. Seq orders all entries; a reader that has seen Seq n has seen all
// below it.
type Entry struct {
	Seq                                         int64
	ID, Org, Delivery, Event, Webhook, Endpoint string
	Level                                       string // asset group of the webhook, "" organization
	App                                         string // of the event
	Type                                        connectors.EventType
	Number                                      int           // 0: ended without an attempt
	State                                       DeliveryState // of the delivery after it
	Outcome                                     connectors.Outcome
	Fault                                       connectors.Fault
	At                                          time.Time // start of the attempt
	Duration                                    time.Duration
	Status                                      int // HTTP status, 0 none
	Error                                       string
	NextAt                                      time.Time
}

// Lease names the holder of a delivery: a node at one of its starts.
type Lease struct {
	Node  string
	Epoch int64
}
