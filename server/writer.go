package server

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/server/flow"
	"github.com/hookyard/hookyard/server/ledger"
)

// writer has third parties' formats write events down, for the dispatcher. It is done once for
// an event and format: what is kept first is what is sent, today and in a retry.
type writer struct {
	ledger    *ledger.Ledger
	publicURL string
}

// Write is part of dispatch.Writer.
func (w writer) Write(ctx context.Context, of *flow.World, due *flow.Due) (*flow.Rendering, error) {
	name, counts, _ := strings.Cut(due.Rendering.Key, "+")
	format, ok := connectors.Format(nil), false
	if of.Installed != nil {
		format, ok = of.Installed.Format(name)
	}
	if !ok {
		return nil, &connectors.SkipError{Reason: "the organization has no format " + name + " any more"}
	}
	var e connectors.Event
	if err := json.Unmarshal(due.Document, &e); err != nil {
		return nil, fmt.Errorf("read the event: %w", err)
	}
	o := connectors.RenderOptions{UnknownCounts: connectors.UnknownCounts(counts), PublicURL: w.publicURL}
	if n, ok := format.(interface {
		NumbersOf(e *connectors.Event) ([]connectors.NumberKey, error)
	}); ok {
		keys, err := n.NumbersOf(&e)
		if err != nil {
			return nil, err
		}
		if len(keys) > 0 {
			if o.Numbers, err = w.ledger.Numbers(ctx, due.Org, keys); err != nil {
				return nil, err
			}
		}
	}
	out, err := format.Render(&e, o)
	if err != nil {
		return nil, err
	}
	kept, err := w.ledger.Write(ctx, due.Org, &flow.Rendering{Event: due.Event, Key: due.Rendering.Key, Rendered: out})
	if err == nil && kept == nil {
		return nil, &connectors.SkipError{Reason: "the event's payload is not kept any more"}
	}
	return kept, err
}
