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
	// cursor: nothing is lost or told twice by a crash in between. Errors are as for Enrich.
	Poll(ctx context.Context, h Host, p Poll) (Polled, error)
}

// Poll is one question to a source.
type Poll struct {
	Source Endpoint
	Kind   string    // of the Receiver that reads what is fetched
	Cursor []byte    // of the last Polled; nil: this is the first
	Since  time.Time // for the first: from when on things are wanted
	Limit  int       // documents at most
}

// Polled is the answer.
type Polled struct {
	Documents []Document
	Cursor    []byte        // where to go on, at most MaxState bytes
	More      bool          // there is more to fetch: poll again at once
	After     time.Duration // else not before; 0: as the source is set up
}
