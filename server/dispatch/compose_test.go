package dispatch

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/server/flow"
)

// pen writes what it is told: a *flow.Rendering or an error.
type pen chan any

func (p pen) Write(context.Context, *flow.World, *flow.Due) (*flow.Rendering, error) {
	switch o := (<-p).(type) {
	case *flow.Rendering:
		return o, nil
	case error:
		return nil, o
	}
	panic("told nonsense")
}

// A third party's format writes a delivery down when it is sent, as soon as it answers.
func TestFormatsThatWriteLate(t *testing.T) {
	b := start(t, always(arrived))
	p := make(pen, 2)
	b.cfg.Writer = p
	open := func(id string) {
		b.Reserve(b.webhook("h0"))
		b.Hand(b.ledger.insert(flow.Due{ID: id, Org: "org", Event: "evt", Webhook: "h0", Endpoint: "e0", Created: b.clock.Now(), Document: []byte("doc"),
			Rendering: &flow.Rendering{Event: "evt", Key: "acme/x", Open: true}}, true))
	}
	written := &flow.Rendering{Event: "evt", Key: "acme/x", Rendered: connectors.Rendered{Body: []byte("written")}}
	arrives := func(id string) {
		t.Helper()
		if d := b.next().delivery; d.ID != id || string(d.Request.Body) != "written" {
			t.Errorf("handed over %+v, want %s", d, id)
		}
	}

	p <- written
	open("dlv_1")
	arrives("dlv_1")
	b.recorded(1)

	p <- &connectors.SkipError{Reason: "it has no words for this"}
	open("dlv_2")
	b.recorded(2)
	if r := b.ledger.of("dlv_2")[0]; r.State != flow.SkippedState || r.Reason != "it has no words for this" {
		t.Errorf("recorded %+v", r)
	}

	p <- errors.New("its process ended") // a broken connector: tried again
	open("dlv_3")
	b.recorded(3)
	if r := b.ledger.of("dlv_3")[0]; r.State != flow.Retrying || r.Result.Fault != connectors.FaultConnector {
		t.Errorf("recorded %+v", r)
	}
	p <- written
	b.clock.Advance(time.Second)
	arrives("dlv_3")
	b.recorded(4)

	p <- fmt.Errorf("keep it: %w", flow.ErrUnavailable) // nobody has tried: it goes back
	p <- written
	open("dlv_4")
	arrives("dlv_4")
	b.recorded(5)
	if s := b.Stats(); s.Bytes != 0 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
}
