package ingest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/server/flow"
)

// Errors of Send and Process; each is a flow.ErrNotFound.
var (
	ErrNoOrganization = fmt.Errorf("the organization: %w", flow.ErrNotFound)
	ErrNoSource       = fmt.Errorf("the source: %w", flow.ErrNotFound)
	ErrNoApplication  = fmt.Errorf("the application: %w", flow.ErrNotFound)
)

// Send accepts events from the API, all or none. sender is the ID of the key or user
// that sends, and stands for the source unless source names one.
func (in *Ingest) Send(ctx context.Context, org, sender, source string, events []flow.Sent) ([]flow.Accepted, error) {
	place := in.c.Atlas.Place(org)
	if place == nil {
		return nil, ErrNoOrganization
	}
	src := &flow.Source{ID: sender, Name: "API", Kind: "api", Enabled: true}
	if source != "" {
		if src = place.World.Sources[source]; src == nil {
			return nil, ErrNoSource
		}
	}
	items := make([]connectors.Incoming, len(events))
	for i, e := range events {
		items[i] = e.Incoming
		if e.ID != "" {
			items[i].Key = e.ID
		}
		if e.Application == "" {
			continue
		}
		if _, ok := place.World.Applications[e.Application]; !ok {
			return nil, fmt.Errorf("event %d: %w", i, ErrNoApplication)
		}
		items[i].Fields = map[string]string{fieldApplication: e.Application}
	}
	body, err := json.Marshal(events)
	if err != nil {
		return nil, fmt.Errorf("write the receipt: %w", err)
	}
	now := in.at()
	s := &sending{Ingest: in, place: place, src: src, store: true, receipt: &flow.Receipt{
		ID: in.c.IDs.New(ids.Receipt), Org: org, Source: src.ID, At: now, Method: "GRAPHQL", Header: []byte("[]"),
		ContentType: "application/json", Body: body, State: flow.ReceiptAccepted,
	}}
	accepted, err := s.accept(ctx, items)
	outcome := "accepted"
	if err != nil {
		outcome = "unavailable"
	}
	in.c.Count(src.Kind, outcome, fresh(accepted))
	return accepted, err
}

// fieldApplication names, in Incoming.Fields, an application that the sender chose by
// its hub ID. A vendor's field cannot have this name.
const fieldApplication = "\x00application"

// Process reads a receipt again, with today's source and mapping. What it could not be
// read as before becomes events now; an event that was unmapped and has an application
// now is told once more, to the webhooks that it did not reach. It returns the events
// that are new.
func (in *Ingest) Process(ctx context.Context, r *flow.Receipt) ([]flow.Accepted, error) {
	place := in.c.Atlas.Place(r.Org)
	if place == nil {
		return nil, ErrNoOrganization
	}
	src := place.World.Sources[r.Source]
	if src == nil {
		return nil, ErrNoSource
	}
	receiver, _, installed, ok := in.reader(place, src.Kind)
	if !ok {
		return nil, fmt.Errorf("no receiver for sources of kind %s: %w", src.Kind, flow.ErrUnavailable)
	}
	if installed && r.State == flow.ReceiptWaiting { // it will be, and must not be twice
		return nil, in.await(ctx, r)
	}
	inbound, err := again(r, src)
	if err != nil {
		return nil, err
	}
	received, err := receive(receiver, inbound)
	switch {
	case unread(installed, err):
		return nil, fmt.Errorf("%w: %s", flow.ErrUnavailable, notRead(err))
	case err != nil:
		return nil, err
	case received.Enrich:
		return nil, in.await(ctx, r)
	}
	s := &sending{Ingest: in, place: place, src: src, receipt: r}
	accepted, err := s.once(ctx, received.Items)
	return slices.DeleteFunc(accepted, func(a flow.Accepted) bool { return a.Duplicate }), err
}

// await has a receipt that is in the ledger enriched, or read, from now on.
func (in *Ingest) await(ctx context.Context, r *flow.Receipt) error {
	if err := in.c.Ledger.Await(ctx, r.Org, r.ID); err != nil {
		return err
	}
	in.wake()
	return nil
}

// again is a receipt as the request that it was.
func again(r *flow.Receipt, src *flow.Source) (in connectors.Inbound, err error) {
	var header [][2]string
	if len(r.Header) > 0 {
		if err := json.Unmarshal(r.Header, &header); err != nil {
			return in, fmt.Errorf("read the receipt's headers: %w", err)
		}
	}
	h := http.Header{}
	for _, l := range header {
		h.Add(l[0], l[1])
	}
	query, err := url.ParseQuery(r.Query)
	if err != nil {
		query = url.Values{} // as it was read the first time: what does not parse is not there
	}
	return connectors.Inbound{Method: r.Method, Path: r.Path, Header: h, Query: query, Body: r.Body, ReceivedAt: r.At,
		Location: src.Location, SourceID: src.ID, ContentType: r.ContentType}, nil
}

// once accepts items of a receipt that is in the ledger already.
func (s *sending) once(ctx context.Context, items []connectors.Incoming) ([]flow.Accepted, error) {
	first, err := s.accept(ctx, items)
	if err != nil {
		return nil, err
	}
	again, err := s.mapped(ctx, items, first)
	if err != nil {
		return nil, err
	}
	return append(first, again...), nil
}

// mapped tells once more what was accepted unmapped before and has an application now.
// The key says for which application, so that it happens once; webhooks that unmapped
// events reach have had it.
func (s *sending) mapped(ctx context.Context, items []connectors.Incoming, first []flow.Accepted) ([]flow.Accepted, error) {
	var again []connectors.Incoming
	for i, item := range items {
		app, _ := s.place.application(s.src, &item)
		if app.ID == "" || item.Key == "" || !first[i].Duplicate || !first[i].Unmapped {
			continue
		}
		item.Key += "\x00" + app.ID
		again = append(again, item)
	}
	if len(again) == 0 {
		return nil, nil
	}
	remap := *s
	remap.skip = func(w *flow.Webhook) bool { return w.Group == "" && w.Global }
	return remap.accept(ctx, again)
}
