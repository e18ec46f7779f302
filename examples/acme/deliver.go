package acme

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// Deliver answers every item exactly once, as soon as it is known.
func (Connector) Deliver(ctx context.Context, h connectors.Host, items []connectors.Delivery, done func(connectors.Result)) error {
	var wg sync.WaitGroup
	for _, d := range items {
		wg.Go(func() {
			r := connectors.Result{DeliveryID: d.ID, Outcome: connectors.Done, Started: time.Now()}
			ctx, cancel := context.WithTimeout(ctx, d.Timeout)
			defer cancel()
			if err := deliver(ctx, h, &d); err != nil {
				decide(&r, err)
			}
			r.Timing.Total = time.Since(r.Started)
			done(r)
		})
	}
	wg.Wait()
	return nil
}

// decide makes an outcome of an error.
func decide(r *connectors.Result, err error) {
	r.Outcome, r.Fault, r.Error = connectors.Retry, connectors.FaultConnector, err.Error()
	var f *connectors.Failure
	var skip *connectors.SkipError
	switch {
	case errors.As(err, &f):
		r.Outcome, r.Fault, r.RetryAfter = f.Outcome, f.Fault, f.RetryAfter
	case errors.As(err, &skip):
		r.Outcome, r.Fault, r.Error = connectors.Skipped, connectors.FaultNone, skip.Reason
	}
}

// deliver opens a case for a finding, or adds a note to the one that it has. The link
// between the two is what keeps a repeated delivery from opening a second case.
func deliver(ctx context.Context, h connectors.Host, d *connectors.Delivery) error {
	end, ok := h.Endpoint(d.Endpoint)
	if !ok {
		return errors.New("the endpoint is not known here")
	}
	var e connectors.Event
	if err := json.Unmarshal(d.Event, &e); err != nil {
		return err
	}
	f := e.Data.Finding
	if f == nil {
		return ask(ctx, h, end, http.MethodPost, "/news", map[string]any{"type": e.Type, "id": e.ID}, nil)
	}
	link, err := h.Link(ctx, end, "case", f.ID)
	if err != nil {
		return err
	}
	if link.Theirs != "" {
		return ask(ctx, h, end, http.MethodPost, "/cases/"+url.PathEscape(link.Theirs)+"/notes", map[string]any{"id": d.ID, "status": f.Status}, nil)
	}
	var settings struct{ Board string }
	if err := json.Unmarshal(end.Settings, &settings); err != nil {
		return failure(connectors.Permanent, connectors.FaultSettings, "the settings cannot be read")
	}
	var made struct{ ID, URL string }
	// Radar takes a second case under the same key for the first one.
	if err := ask(ctx, h, end, http.MethodPost, "/cases", map[string]any{"key": f.ID, "title": f.Title, "severity": f.Severity, "board": settings.Board}, &made); err != nil {
		return err
	}
	link.Theirs, link.URL = made.ID, made.URL
	if err := h.SetLink(ctx, end, link); err != nil && !errors.Is(err, connectors.ErrConflict) { // a repeat was quicker, with the same case
		return err
	}
	h.Log().Info("opened a case", "case", made.ID, "finding", f.ID)
	return nil
}

// Check is the "test connection" button.
func (Connector) Check(ctx context.Context, h connectors.Host, e connectors.Endpoint) error {
	return ask(ctx, h, e, http.MethodGet, "/me", nil, nil)
}
