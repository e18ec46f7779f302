package flow

import (
	"errors"
	"time"
)

// ErrShared says that a receipt gave events that are not to be seen, too.
var ErrShared = errors.New("flow: the receipt is shared")

// Erasure is what is left of an event's payload: who erased it, when and why.
type Erasure struct {
	At     time.Time
	ByID   string // of the user or key
	By     string // the name then
	Reason string // for people
}

// PersonErased is how far a search for a person has come, and what it has erased, or
// would have.
type PersonErased struct {
	Looked   int // rows that were read
	Events   int // payloads, each with its renderings and attempts
	Receipts int // that gave no event
	Objects  int // scans, findings, tickets, reports
	Attempts int // and deliveries whose responses, or the words for what became of them, spoke of the person
	// Next is where to go on; "": everything was looked at.
	Next string
}
