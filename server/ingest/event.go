package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/server/flow"
)

// sending is one receipt on its way in, with all that its items share.
type sending struct {
	*Ingest
	place   *Place
	src     *flow.Source
	receipt *flow.Receipt
	// store is false for a receipt that is in the ledger already.
	store bool
	// skip names webhooks that have told this fact before.
	skip func(*flow.Webhook) bool
	// seen are the keys of the findings that its items so far speak of, when it has several.
	seen map[string]bool
}

// due is a delivery that was reserved, to be handed over once it is durable.
type due struct {
	event   int // index into the events
	webhook *flow.Webhook
	flow.Due
}

// accept makes events of the items, finds what they are due to, commits everything and
// hands the reserved deliveries over.
func (s *sending) accept(ctx context.Context, items []connectors.Incoming) ([]flow.Accepted, error) {
	events := make([]flow.NewEvent, len(items))
	var dues []due
	grown := false
	if len(items) > 1 {
		s.seen = map[string]bool{}
	}
	for i := range items {
		var err error
		if dues, err = s.event(ctx, &events[i], i, &items[i], len(items) == 1, dues); err != nil {
			s.giveBack(dues, nil)
			return nil, err
		}
		grown = grown || events[i].NewApplication != nil
	}
	receipt := s.receipt
	if !s.store {
		receipt = nil
	}
	accepted, err := s.c.Ledger.Accept(ctx, receipt, events)
	if err != nil {
		if !errors.Is(err, flow.ErrBusy) {
			s.disown(dues)
		}
		s.giveBack(dues, nil)
		return nil, err
	}
	s.handOver(dues, accepted)
	for i := range accepted {
		if accepted[i].Conflict {
			s.c.Log.Warn("a known key came with other bytes; the first event was kept", "source", s.src.ID, "receipt", s.receipt.ID, "event", accepted[i].ID)
		}
	}
	if grown {
		s.c.Atlas.Grown(s.place.World.Organization.ID)
	}
	return accepted, nil
}

// disown is for a commit that may have happened although it was told otherwise. The sender
// sends again and gets the event that was made; its deliveries must not stay behind.
func (s *sending) disown(dues []due) {
	deliveries := make([]string, len(dues))
	for i := range dues {
		deliveries[i] = dues[i].ID
	}
	s.c.Dispatcher.Disown(deliveries...)
}

// giveBack returns the credit of deliveries that were not made.
func (s *sending) giveBack(dues []due, accepted []flow.Accepted) {
	for i := range dues {
		if accepted == nil || accepted[dues[i].event].Duplicate {
			s.c.Dispatcher.Unreserve(dues[i].webhook, 1)
		}
	}
}

func (s *sending) handOver(dues []due, accepted []flow.Accepted) {
	s.giveBack(dues, accepted)
	hand := make([]*flow.Due, 0, len(dues))
	for i := range dues {
		if a := &accepted[dues[i].event]; !a.Duplicate {
			dues[i].Lease = a.Lease
			hand = append(hand, &dues[i].Due)
		}
	}
	if len(hand) > 0 {
		s.c.Dispatcher.Hand(hand...)
	}
}

// event fills e from an item and appends its reserved deliveries to dues.
func (s *sending) event(ctx context.Context, e *flow.NewEvent, index int, item *connectors.Incoming, only bool, dues []due) ([]due, error) {
	w := s.place.World
	org := w.Organization.ID
	app, fresh := s.place.application(s.src, item)
	ev := s.about(item)
	ev.ID = s.c.IDs.New(ids.Event)
	if app.ID != "" {
		ev.Application = &connectors.Ref{ID: app.ID, Name: app.Name}
		if g, ok := w.Groups[app.Group]; ok {
			ev.AssetGroup = &connectors.Ref{ID: g.ID, Name: g.Name}
		}
	}
	var err error
	if e.Digest, err = s.digest(item, only); err != nil {
		return dues, err
	}
	e.Catalogue = s.catalogue(&ev)
	isNew, err := s.firstSight(ctx, &ev)
	if err != nil {
		return dues, err
	}
	e.ID, e.Org, e.Source, e.Receipt = ev.ID, org, s.src.ID, s.receipt.ID
	e.Type, e.Time, e.Received, e.Subject = ev.Type, ev.Time, ev.Received, ev.Subject
	e.Group, e.App, e.NewApplication = app.Group, app.ID, fresh
	e.Key, e.State = item.Key, item.State
	severity, has := ev.Data.Severity(ev.Type)
	e.Severity = severity
	if e.Document, err = connectors.AppendEvent(nil, &ev); err != nil {
		return dues, fmt.Errorf("write event %s down: %w", ev.ID, err)
	}
	facts := flow.Facts{Type: ev.Type, Group: app.Group, App: app.ID, Source: s.src.ID, Severity: severity, HasSeverity: has, New: isNew}
	return s.deliveries(ctx, e, index, &ev, facts, dues)
}

// about is an item as an event without an ID, an application or a subject.
func (s *sending) about(item *connectors.Incoming) connectors.Event {
	org := &s.place.World.Organization
	ev := connectors.Event{
		Type:         item.Type,
		Source:       item.Source,
		Time:         item.Time.UTC(),
		Received:     s.receipt.At,
		Organization: connectors.Ref{ID: org.ID, Name: org.Name},
		Data:         item.Data,
	}
	if ev.Source == "" {
		ev.Source = "/sources/" + s.src.ID
	}
	if item.Time.IsZero() {
		ev.Time = s.receipt.At
	}
	return ev
}

// digest tells a repeat from a conflict: equal bytes, equal digest. A receipt with a
// single item is its own proof; of a batch each item is.
func (s *sending) digest(item *connectors.Incoming, only bool) ([]byte, error) {
	body := s.receipt.Body
	if !only {
		var err error
		if body, err = json.Marshal(item.Data); err != nil {
			return nil, fmt.Errorf("write an item down: %w", err)
		}
	}
	sum := sha256.Sum256(body)
	return sum[:16], nil
}

// catalogue gives the subject its hub ID and returns the row that makes it known.
func (s *sending) catalogue(ev *connectors.Event) *flow.CatalogueRow {
	id := func(prefix, key string) string {
		return ids.Of(prefix, ev.Organization.ID, s.src.ID, key)
	}
	switch d := &ev.Data; {
	case d.Scan != nil:
		scan := *d.Scan
		scan.ID = id(ids.Scan, scan.Key)
		d.Scan, ev.Subject = &scan, scan.ID
		return &flow.CatalogueRow{Scan: &scan}
	case d.Finding != nil:
		finding := *d.Finding
		finding.ID = id(ids.Finding, finding.Key)
		d.Finding, ev.Subject = &finding, finding.ID
		return &flow.CatalogueRow{Finding: &finding}
	case d.Ticket != nil:
		ticket := *d.Ticket
		ticket.ID = id(ids.Ticket, ticket.Key)
		d.Ticket, ev.Subject = &ticket, ticket.ID
		return &flow.CatalogueRow{Ticket: &ticket}
	case d.Report != nil:
		report := *d.Report
		report.ID = id(ids.Report, report.Key)
		d.Report, ev.Subject = &report, report.ID
		return &flow.CatalogueRow{Report: &report}
	}
	if ev.Application != nil {
		ev.Subject = ev.Application.ID
	}
	return nil
}

// firstSight says whether a finding is new: what the source says, else whether neither
// the catalogue nor an earlier item of the same request knows it. Two requests at the same
// moment may both find it new.
func (s *sending) firstSight(ctx context.Context, ev *connectors.Event) (bool, error) {
	f := ev.Data.Finding
	if f == nil {
		return false, nil
	}
	known := s.seen[f.Key]
	if s.seen != nil {
		s.seen[f.Key] = true
	}
	if ev.Type != connectors.FindingDiscovered {
		return false, nil
	}
	if f.New == nil {
		if !known {
			var err error
			if known, err = s.c.Ledger.FindingKnown(ctx, ev.Organization.ID, s.src.ID, f.Key); err != nil {
				return false, fmt.Errorf("look a finding up: %w", err)
			}
		}
		fresh := !known
		f.New = &fresh
	}
	return *f.New, nil
}

// deliveries routes the event and appends what it is due to.
func (s *sending) deliveries(ctx context.Context, e *flow.NewEvent, index int, ev *connectors.Event, facts flow.Facts, dues []due) ([]due, error) {
	matched := s.place.Router.Match(facts, nil)
	if len(matched) == 0 {
		return dues, nil
	}
	r := renderer{sending: s, ctx: ctx, event: ev, into: e}
	e.Deliveries = make([]flow.NewDelivery, 0, len(matched))
	for _, w := range matched {
		if s.skip != nil && s.skip(w) {
			continue
		}
		endpoint := s.place.World.Endpoints[w.Endpoint]
		d := flow.NewDelivery{ID: s.c.IDs.New(ids.Delivery), Webhook: w.ID, Endpoint: w.Endpoint, Level: w.Group, State: flow.Pending}
		rendering, key, err := r.render(w)
		var skip *connectors.SkipError
		switch {
		case errors.As(err, &skip):
			d.Reason = skip.Reason
		case err != nil:
			return dues, err
		case w.State == flow.WebhookDisabled:
			d.Reason = "the webhook is disabled"
		case w.State == flow.WebhookUnverified:
			d.Reason = "the webhook's endpoint is not verified"
		case endpoint == nil:
			d.Reason = "the webhook's endpoint does not exist any more"
		}
		d.Rendering = key
		if d.Reason != "" {
			d.State = flow.SkippedState
		} else if d.Lease = endpoint.Enabled && s.c.Dispatcher.Reserve(w); d.Lease {
			dues = append(dues, due{event: index, webhook: w, Due: flow.Due{
				ID: d.ID, Org: e.Org, Event: e.ID, Webhook: w.ID, Endpoint: w.Endpoint, Level: w.Group, App: e.App,
				Type: e.Type, Created: e.Received, Rendering: rendering, Document: e.Document,
			}})
		}
		e.Deliveries = append(e.Deliveries, d)
	}
	return dues, nil
}

// renderer writes an event down once per format and options.
type renderer struct {
	*sending
	ctx   context.Context
	event *connectors.Event
	into  *flow.NewEvent
	done  []rendered
}

type rendered struct {
	key string
	r   *flow.Rendering
	err error
}

// render returns the rendering that the webhook wants, nil for the document itself.
func (r *renderer) render(w *flow.Webhook) (*flow.Rendering, string, error) {
	if w.Format == "hookyard" {
		return nil, w.Format, nil
	}
	key := renderingKey(w)
	if flow.Provider(w.Format) != "" {
		return &flow.Rendering{Event: r.event.ID, Key: key, Open: true}, key, nil
	}
	for i := range r.done {
		if d := &r.done[i]; d.key == key {
			return d.r, key, d.err
		}
	}
	out, err := r.write(w, key)
	r.done = append(r.done, rendered{key, out, err})
	if err == nil && w.Format != "raw" {
		r.into.Renderings = append(r.into.Renderings, *out)
	}
	return out, key, err
}

func (r *renderer) write(w *flow.Webhook, key string) (*flow.Rendering, error) {
	f, ok := r.c.Connectors.Format(w.Format)
	if !ok {
		return nil, &connectors.SkipError{Reason: "this hub has no format " + strconv.Quote(w.Format)}
	}
	o := w.Options
	o.PublicURL = r.c.PublicURL
	o.Raw = &connectors.RawReceipt{ContentType: r.receipt.ContentType, Body: r.receipt.Body}
	if n, ok := f.(connectors.Numberer); ok {
		if keys := n.Numbers(r.event); len(keys) > 0 {
			numbers, err := r.c.Ledger.Numbers(r.ctx, r.event.Organization.ID, keys)
			if err != nil {
				return nil, fmt.Errorf("assign numbers for format %s: %w", w.Format, err)
			}
			o.Numbers = numbers
		}
	}
	out, err := f.Render(r.event, o)
	if err != nil {
		var skip *connectors.SkipError
		if errors.As(err, &skip) {
			return nil, skip
		}
		// A format that breaks must not cost the sender its event.
		r.c.Log.Error("format failed", "format", w.Format, "event", r.event.ID, "err", err)
		return nil, &connectors.SkipError{Reason: "the format " + w.Format + " could not write this event down"}
	}
	return &flow.Rendering{Event: r.event.ID, Key: key, Rendered: out}, nil
}

// renderingKey is equal for webhooks that share a rendering.
func renderingKey(w *flow.Webhook) string {
	if u := w.Options.UnknownCounts; u != "" && u != connectors.UnknownCountsSkip {
		return w.Format + "+" + string(u)
	}
	return w.Format
}
