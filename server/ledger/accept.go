package ledger

import (
	"context"
	"errors"

	"github.com/hookyard/hookyard/server/flow"
)

// Accept makes a receipt and its events durable, with everything that they are due to;
// r is nil when the receipt is in the ledger already. The answers are in the order of
// the events. An event with a known key is not written; its answer names the event
// that stands for it.
//
// After an error nothing was accepted, with one exception: when the connection is lost
// during the commit (flow.ErrUnavailable), all of it may have been. In both cases the
// sender sends again, and the events' keys make them one.
// flow.ErrBusy says that more waits than may; ErrClosed that the ledger is ending.
// The structs given belong to the ledger until Accept returns.
func (l *Ledger) Accept(ctx context.Context, r *flow.Receipt, events []flow.NewEvent) ([]flow.Accepted, error) {
	if r == nil && len(events) == 0 {
		return nil, errors.New("ledger: accept: neither a receipt nor an event")
	}
	j := &job{receipt: r, events: events, bytes: 512}
	if r != nil {
		j.bytes += len(r.Body) + len(r.Header)
	}
	for i := range events {
		e := &events[i]
		j.bytes += 512 + len(e.Document) + 256*len(e.Deliveries)
		for k := range e.Renderings {
			j.bytes += len(e.Renderings[k].Body)
		}
	}
	if err := l.submit(ctx, j); err != nil {
		return nil, err
	}
	return j.accepted, nil
}

// Record makes durable what came of attempts: the delivery's new state, if this node
// still holds it, and the entry of the log. A result that comes too late is kept as an
// entry and changes nothing else; the same attempt once more is nothing. A record without a Result is a decision: it has an
// entry when the delivery ends by it, and none when it is only put off.
//
// While the database is away Record waits for it, until ctx ends. Records of one call
// are committed together.
func (l *Ledger) Record(ctx context.Context, recs ...flow.Record) error {
	if len(recs) == 0 {
		return nil
	}
	return l.submit(ctx, &job{records: recs})
}
