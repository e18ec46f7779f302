package flow

import (
	"errors"
	"slices"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// DuePoll is a source that may have to be asked.
type DuePoll struct {
	Org, Source string
	// Due says that it has to; otherwise it has been asked in vain, and is to be asked
	// again if its connector is not this package any more.
	Due     bool
	Package string
}

// Poll is a source's turn to be asked, which this node has to itself for a while.
type Poll struct {
	Org, Source string
	Package     string    // of the connector that is asked; "" a shipped one
	Revision    int64     // of the source, when the turn was taken
	Cursor      []byte    // where the last poll ended; nil: this is the first
	Since       time.Time // for the first: from when on things are wanted
	Failures    int       // polls in vain since the last answer
	Lease       string    // by which the ledger knows the turn
}

// PollEnd is what came of a turn. The zero value hands it back untried.
type PollEnd struct {
	At        time.Time
	Next      time.Time // when it is asked again
	Error     string    // why there is no answer, for people; "" there is one
	Permanent bool      // and asking again will not help
	Cursor    []byte
	Receipts  []PolledReceipt
}

// PolledReceipt is a document that was polled, as a receipt.
type PolledReceipt struct {
	Receipt
	Key string // of the document within its source, "" none
}

// PollView is how asking a source goes, as people read it.
type PollView struct {
	Last, Next time.Time // each zero when there is none
	Failures   int       // since Last
	Error      string    // of the last time, "" none
	Permanent  bool      // asking again will not help
}

// MethodPoll is the method of receipts that were polled. No request comes by it.
const MethodPoll = "POLL"

// ErrPollLost says that a turn to ask a source is not its holder's any more.
var ErrPollLost = errors.New("flow: the turn to ask the source is lost")

// Polls says whether a connector can ask those of whom it reads.
func Polls(s connectors.Spec) bool { return slices.Contains(s.Abilities, connectors.AbilityPoll) }
