package ingest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/server/flow"
)

// Errors of Send and Process; each is a flow.ErrNotFound, but for an organization that this
// node has not read yet or cannot read, which is a flow.ErrUnavailable.
var (
	ErrNoOrganization = fmt.Errorf("the organization: %w", flow.ErrUnavailable)
	ErrNoSource       = fmt.Errorf("the source: %w", flow.ErrNotFound)
	ErrNoApplication  = fmt.Errorf("the application: %w", flow.ErrNotFound)
)

// Send accepts events from the API, all or none. sender is the ID of the key or user
// that sends, and stands for the source unless source names one; flow.ErrDisabled says that
// that one takes nothing.
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
		if !src.Enabled {
			return nil, fmt.Errorf("source %s: %w", source, flow.ErrDisabled)
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

// Process reads a receipt again, with today's source and mapping. One that has given no
// event yet gives them now. One that has gives no others: an event that was unmapped and
// has an application now is told once more, to the webhooks that it did not reach. The
// receipt gets the state and the asset group of what it has become; one that cannot be read
// stays as it is. It returns the events that are new.
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
	if (installed || r.Method == flow.MethodPoll) && r.State == flow.ReceiptWaiting { // it will be, and must not be twice
		return nil, in.await(ctx, r)
	}
	given, err := in.c.Ledger.Given(ctx, r)
	if err != nil || r.State == flow.ReceiptAccepted && len(given) == 0 {
		return nil, err // another receipt's events stand for it, or retention has taken its own
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
	case len(received.Items)+len(given) == 0:
		return nil, in.c.Waiting.Settle(ctx, r.Org, r.ID, flow.ReceiptIgnored, "", received.Note)
	}
	s := &sending{Ingest: in, place: place, src: src, receipt: r}
	accepted, group, err := s.once(ctx, received.Items, given)
	if err != nil {
		return nil, err
	}
	made := slices.DeleteFunc(accepted, func(a flow.Accepted) bool { return a.Duplicate })
	if len(made) == 0 && r.State == flow.ReceiptAccepted {
		return nil, nil
	}
	return made, in.c.Waiting.Settle(ctx, r.Org, r.ID, flow.ReceiptAccepted, group, "")
}

// await has a receipt that is in the ledger enriched, or read, from now on.
func (in *Ingest) await(ctx context.Context, r *flow.Receipt) error {
	if err := in.c.Waiting.Await(ctx, r.Org, r.ID); err != nil {
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
	in = connectors.Inbound{Method: r.Method, Path: r.Path, Header: h, Query: query, Body: r.Body, ReceivedAt: r.At,
		Location: src.Location, SourceID: src.ID, ContentType: r.ContentType}
	if r.Method == flow.MethodPoll {
		in.Via, in.Method = connectors.ViaPoll, ""
	}
	return in, nil
}

// once accepts the items of a receipt that is in the ledger already. When it has given
// events these are the answer, and only those are new that tell one of them again. group is
// the asset group that the receipt belongs to from now on: that of what its items have
// become, "" for none or several.
func (s *sending) once(ctx context.Context, items []connectors.Incoming, given []flow.Given) (out []flow.Accepted, group string, err error) {
	items = slices.Clone(items)
	for i := range items {
		if items[i].Key == "" { // for two that read it at the same time
			items[i].Key = fmt.Sprintf("\x00%s/%d", s.receipt.ID, i)
		}
	}
	if len(given) == 0 {
		out, err = s.accept(ctx, items)
		return out, s.level(items), err
	}
	for i := range given {
		out = append(out, flow.Accepted{ID: given[i].ID, Duplicate: true, Unmapped: given[i].App == ""})
	}
	mapped, group := s.mapped(items, given)
	if len(mapped) == 0 {
		return out, group, nil
	}
	// What is unmapped has reached those of the whole organization.
	s.skip = func(w *flow.Webhook) bool { return w.Group == "" && w.Global }
	again, err := s.accept(ctx, mapped)
	return append(out, again...), group, err
}

// mapped are the items whose event was unmapped and has not been told again, and that have
// an application now. group is the asset group of all events; of one that is told again,
// that which it is told with.
func (s *sending) mapped(items []connectors.Incoming, given []flow.Given) (again []connectors.Incoming, group string) {
	left := make(map[fact][]flow.Given, len(given))
	for _, g := range given {
		f := factOf(g.Type, g.Subject, g.Time)
		left[f] = append(left[f], g)
	}
	take := func(f fact, fits func(flow.Given) bool) (g flow.Given) {
		if i := slices.IndexFunc(left[f], fits); i >= 0 {
			g = left[f][i]
			left[f] = slices.Delete(left[f], i, i+1)
		}
		return g
	}
	type reading struct {
		fact
		app   flow.Application
		event flow.Given // when it was told again, the later one
	}
	// The items' own events come first, in the items' order.
	read := make([]reading, len(items))
	for i := range items {
		ev := s.about(&items[i])
		s.catalogue(&ev)
		r := &read[i]
		r.fact = factOf(ev.Type, ev.Subject, ev.Time)
		r.event = take(r.fact, func(flow.Given) bool { return true })
		r.app, _ = s.place.application(s.src, &items[i])
	}
	for _, moved := range []bool{false, true} { // perhaps with another application than today's
		for i := range read {
			r := &read[i]
			if r.event.ID == "" || r.event.App != "" {
				continue
			}
			if told := take(r.fact, func(g flow.Given) bool { return moved || g.App == r.app.ID }); told.ID != "" {
				r.event = told
			}
		}
	}
	var groups []string
	for i, r := range read {
		switch item := items[i]; {
		case r.event.ID == "": // another receipt's event stands for it
			groups = append(groups, r.app.Group)
		case r.event.App != "" || r.app.ID == "":
			groups = append(groups, r.event.Group)
		default:
			groups = append(groups, r.app.Group)
			item.Key += "\x00mapped"
			again = append(again, item)
		}
	}
	for _, rest := range left {
		for _, g := range rest {
			groups = append(groups, g.Group)
		}
	}
	return again, common(groups)
}

// common is what all groups are, "" when they differ.
func common(groups []string) string {
	if len(slices.Compact(groups)) != 1 {
		return ""
	}
	return groups[0]
}

// fact is what an event says, as far as it is the same at each reading: its type and
// subject, or its time when it speaks of nothing in the catalogue.
type fact struct {
	kind    connectors.EventType
	subject string
	at      int64
}

func factOf(kind connectors.EventType, subject string, at time.Time) fact {
	if subject == "" || ids.Prefix(subject) == ids.Application { // which depends on the mapping
		return fact{kind: kind, at: at.UnixMicro()}
	}
	return fact{kind: kind, subject: subject}
}
