package connectors

import (
	"context"
	"time"
)

// Poller is the ability to ask a system that does not call. It runs in the plugin's
// process. There is one poll of a source at a time in all the hub's nodes.
type Poller interface {
	// Poll fetches what is new since the cursor. What it returns becomes receipts, which
	// the Receiver of the source's kind reads, in the same transaction that keeps the
	// cursor: nothing is lost or told twice by a crash in between. A document that the
	// Receiver refuses is kept as a rejected receipt, and does not come again. It has a
	// minute. Errors are as for Enrich, and keep nothing: what is tried again is tried with
	// the same cursor, after pauses that grow to half an hour; a Permanent failure after six hours, or when
	// somebody changes the source or the connector's version.
	Poll(ctx context.Context, h Host, p Poll) (Polled, error)
}

// Poll is one question to a source.
type Poll struct {
	Source Endpoint
	Kind   string    // of the Receiver that reads what is fetched
	Cursor []byte    // of the last Polled; empty: this is the first, or there was none
	Since  time.Time // for the first: from when on things are wanted
	Limit  int       // documents at most; an answer with more is a failure
}

// Polled is the answer.
type Polled struct {
	Documents []Document
	Cursor    []byte        // where to go on, at most MaxState bytes; no secrets, it is not sealed
	More      bool          // there is more to fetch: poll again at once, which is within a second or so
	After     time.Duration // else not before, a day at most; 0: as the source is set up
}
