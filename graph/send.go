package graph

import (
	"context"
	"fmt"
	"strings"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen/application"
	"github.com/hookyard/hookyard/ent/gen/source"
	"github.com/hookyard/hookyard/ent/viewer"
	graphgen "github.com/hookyard/hookyard/graph/gen"
	"github.com/hookyard/hookyard/server/flow"
)

// maxEvents is how many events one call may send.
const maxEvents = 500

// send accepts events, all or none. at names the place of each in the input.
func (r *Resolver) send(ctx context.Context, in []*graphgen.SendEventInput, at func(int) string) ([]*flow.Accepted, error) {
	if len(in) == 0 || len(in) > maxEvents {
		return nil, badInput("input.events", "Send 1 to %d events at a time.", maxEvents)
	}
	v := viewer.FromContext(ctx)
	sourceID := or(in[0].SourceID)
	events := make([]flow.Sent, len(in))
	places := map[string]string{} // of applications
	for i, e := range in {
		var err error
		if events[i], err = incoming(e, at(i)); err != nil {
			return nil, err
		}
		app := events[i].Application
		switch {
		case or(e.SourceID) != sourceID:
			return nil, badInput(at(i)+".sourceId", "The events of one call are all of one source.")
		case app == "" && sourceID == "" && !v.All():
			return nil, badInput(at(i)+".applicationId", "Name an application or a source: an event without either belongs to the organization, and you do not have access to all of it.")
		case app != "":
			places[app] = at(i) + ".applicationId"
		}
	}
	if sourceID != "" {
		switch ok, err := r.DB.Client.Source.Query().Where(source.ID(sourceID)).Exist(ctx); {
		case err != nil:
			return nil, err
		case !ok:
			return nil, badInput(at(0)+".sourceId", "There is no source %q here.", sourceID)
		}
	}
	if err := r.applicationsExist(ctx, places); err != nil {
		return nil, err
	}
	accepted, err := r.Sender.Send(ctx, v.Organization, v.ID, sourceID, events)
	if err != nil {
		return nil, err
	}
	return pointers(accepted), nil
}

// applicationsExist looks applications up, each with its place in the input.
func (r *Resolver) applicationsExist(ctx context.Context, places map[string]string) error {
	if len(places) == 0 {
		return nil
	}
	ids := make([]string, 0, len(places))
	for id := range places {
		ids = append(ids, id)
	}
	found, err := r.DB.Client.Application.Query().Where(application.IDIn(ids...)).IDs(ctx)
	if err != nil {
		return err
	}
	for _, id := range found {
		delete(places, id)
	}
	for id, at := range places {
		return badInput(at, "There is no application %q here.", id)
	}
	return nil
}

// incoming checks one event and puts it into the words of the contract.
func incoming(in *graphgen.SendEventInput, at string) (flow.Sent, error) {
	out := flow.Sent{ID: or(in.ID), Application: or(in.ApplicationID), Incoming: connectors.Incoming{Type: connectors.EventType(in.Type), Time: or(in.Time)}}
	if !out.Type.Valid() {
		return out, badInput(at+".type", "%q is no kind of events; see eventTypes.", in.Type)
	}
	if len(out.ID) > 1024 {
		return out, badInput(at+".id", "An ID has at most 1,024 bytes.")
	}
	out.Data = connectors.Data{Scan: in.Scan, Finding: in.Finding, Ticket: in.Ticket, Report: in.Report, Application: in.Application}
	noun, _, _ := strings.Cut(in.Type, ".")
	given := map[string]bool{"scan": in.Scan != nil, "finding": in.Finding != nil, "ticket": in.Ticket != nil, "report": in.Report != nil, "application": in.Application != nil}
	for name, is := range given {
		if is != (name == noun) {
			return out, badInput(at+"."+name, "An event %s has %q, and no other noun.", in.Type, noun)
		}
	}
	for name, key := range map[string]*string{"scan": key(in.Scan, func(x *connectors.Scan) *string { return &x.Key }), "finding": key(in.Finding, func(x *connectors.Finding) *string { return &x.Key }),
		"ticket": key(in.Ticket, func(x *connectors.Ticket) *string { return &x.Key }), "report": key(in.Report, func(x *connectors.Report) *string { return &x.Key })} {
		if key != nil && *key == "" {
			return out, badInput(at+"."+name+".key", "A key cannot be empty.")
		}
	}
	if len(in.Attributes) > 0 && string(in.Attributes) != "null" {
		if in.Attributes[0] != '{' {
			return out, badInput(at+".attributes", "The attributes are a JSON object.")
		}
		out.Data.Attributes = in.Attributes
	}
	if len(in.Fields) > 0 {
		out.Fields = make(map[string]string, len(in.Fields))
		for i, f := range in.Fields {
			if f.Name == "" || strings.ContainsRune(f.Name, 0) {
				return out, badInput(fmt.Sprintf("%s.fields[%d].name", at, i), "A field needs a name.")
			}
			out.Fields[f.Name] = f.Value
		}
	}
	return out, nil
}

func key[T any](noun *T, of func(*T) *string) *string {
	if noun == nil {
		return nil
	}
	return of(noun)
}
