package plugins

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/hookyard/hookyard/connectors"
	wirev1 "github.com/hookyard/hookyard/plugins/wire/v1"
)

// The nouns of all abilities but Deliver and Check, between the contract and the wire.
// What comes from a plugin is bounded here.

const (
	maxReply   = 1 << 20 // bytes of an answer to a source
	maxReport  = 8 << 20 // of one to CI
	maxSetup   = 4 << 20 // of what CI brings for a scan
	maxHosts   = 10_000  // that it names
	maxItems   = 10_000  // events of one receipt
	maxFields  = 64      // of an event, for mapping rules
	maxChecks  = 10_000  // of one News
	maxSnippet = 64 << 10
)

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func moment(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

func inboundToWire(kind string, in *connectors.Inbound) *wirev1.Inbound {
	w := &wirev1.Inbound{Kind: kind, Via: string(in.Via), Method: valid(in.Method), Path: valid(in.Path), Header: linesToWire(in.Header),
		Query: valid(url.Values(in.Query).Encode()), Body: in.Body, ReceivedAt: nanos(in.ReceivedAt), SourceId: in.SourceID, ContentType: valid(in.ContentType)}
	if in.Location != nil {
		w.Zone = in.Location.String()
	}
	return w
}

func inboundFromWire(w *wirev1.Inbound) connectors.Inbound {
	in := connectors.Inbound{Via: connectors.Via(w.GetVia()), Method: w.GetMethod(), Path: w.GetPath(), Header: linesFromWire(w.GetHeader()),
		Body: w.GetBody(), ReceivedAt: moment(w.GetReceivedAt()), SourceID: w.GetSourceId(), ContentType: w.GetContentType(), Location: time.UTC}
	in.Query, _ = url.ParseQuery(w.GetQuery())
	if zone, err := time.LoadLocation(w.GetZone()); err == nil {
		in.Location = zone
	}
	return in
}

// linesToWire writes an HTTP header in the form of all headers on the wire.
func linesToWire(h http.Header) []byte {
	list := make([]connectors.Header, 0, len(h))
	for name, values := range h {
		for _, v := range values {
			list = append(list, connectors.Header{Name: name, Value: v})
		}
	}
	return headerToWire(list)
}

func linesFromWire(b []byte) http.Header {
	h := http.Header{}
	for _, line := range headerFromWire(b) {
		h.Add(line.Name, line.Value)
	}
	return h
}

func receivedToWire(r *connectors.Received) (*wirev1.Received, error) {
	w := &wirev1.Received{Enrich: r.Enrich, Note: r.Note, Reply: replyToWire(r.Reply)}
	for i := range r.Items {
		x := &r.Items[i]
		data, err := connectors.AppendData(nil, &x.Data)
		if err != nil {
			return nil, err
		}
		fields := make(map[string]string, len(x.Fields))
		for k, v := range x.Fields {
			fields[valid(k)] = valid(v)
		}
		w.Items = append(w.Items, &wirev1.Incoming{Type: string(x.Type), Time: nanos(x.Time), Source: valid(x.Source), Data: data,
			Key: valid(x.Key), State: valid(x.State), Fields: fields, DefaultField: valid(x.DefaultField), NameField: valid(x.NameField)})
	}
	return w, nil
}

func receivedFromWire(w *wirev1.Received) (connectors.Received, error) {
	r := connectors.Received{Enrich: w.GetEnrich(), Note: clip(w.GetNote()), Reply: replyFromWire(w.GetReply(), maxReply)}
	if len(w.GetItems()) > maxItems {
		return r, fmt.Errorf("it made %d events of one receipt; %d is the most", len(w.GetItems()), maxItems)
	}
	for i, x := range w.GetItems() {
		in := connectors.Incoming{Type: connectors.EventType(x.GetType()), Time: moment(x.GetTime()), Source: storable(x.GetSource()), Key: storable(x.GetKey()),
			State: storable(x.GetState()), DefaultField: storable(x.GetDefaultField()), NameField: storable(x.GetNameField())}
		if !in.Type.Valid() {
			return r, fmt.Errorf("event %d has the type %q, which there is not", i, clip(x.GetType()))
		}
		if err := json.Unmarshal(x.GetData(), &in.Data); err != nil {
			return r, fmt.Errorf("event %d: its data cannot be read: %w", i, err)
		}
		if len(x.GetFields()) > maxFields {
			return r, fmt.Errorf("event %d has more than %d fields for mapping", i, maxFields)
		}
		for k, v := range x.GetFields() {
			if in.Fields == nil {
				in.Fields = map[string]string{}
			}
			in.Fields[storable(k)] = storable(v)
		}
		r.Items = append(r.Items, in)
	}
	return r, nil
}

func replyToWire(r *connectors.Reply) *wirev1.Reply {
	if r == nil {
		return nil
	}
	return &wirev1.Reply{Status: int32(r.Status), Header: linesToWire(r.Header), Body: r.Body}
}

// replyFromWire makes nil of an answer that HTTP does not know.
func replyFromWire(w *wirev1.Reply, most int) *connectors.Reply {
	if w.GetStatus() < 200 || w.GetStatus() > 599 || len(w.GetBody()) > most || len(w.GetHeader()) > maxHeaders {
		return nil
	}
	return &connectors.Reply{Status: int(w.GetStatus()), Header: linesFromWire(w.GetHeader()), Body: w.GetBody()}
}

func refusalToWire(e *connectors.RefuseError) *wirev1.Refusal {
	if e == nil {
		return nil
	}
	return &wirev1.Refusal{Status: int32(e.Status), Field: clip(e.Field), Message: clip(e.Message)}
}

func refusalFromWire(w *wirev1.Refusal) *connectors.RefuseError {
	if w == nil {
		return nil
	}
	e := &connectors.RefuseError{Status: int(w.GetStatus()), Field: clip(w.GetField()), Message: clip(w.GetMessage())}
	if e.Status < 400 || e.Status > 599 {
		e.Status = http.StatusUnprocessableEntity
	}
	return e
}

func renderToWire(format string, event []byte, o connectors.RenderOptions) *wirev1.Render {
	w := &wirev1.Render{Format: format, Event: event, UnknownCounts: string(o.UnknownCounts), PublicUrl: o.PublicURL}
	for k, n := range o.Numbers {
		w.Numbers = append(w.Numbers, &wirev1.Number{Kind: k.Kind, Id: k.ID, Number: n})
	}
	if o.Raw != nil {
		w.Raw, w.RawContentType, w.RawBody = true, valid(o.Raw.ContentType), o.Raw.Body
	}
	return w
}

func renderFromWire(w *wirev1.Render) (*connectors.Event, connectors.RenderOptions, error) {
	var e connectors.Event
	if err := json.Unmarshal(w.GetEvent(), &e); err != nil {
		return nil, connectors.RenderOptions{}, fmt.Errorf("read the event: %w", err)
	}
	o := connectors.RenderOptions{UnknownCounts: connectors.UnknownCounts(w.GetUnknownCounts()), PublicURL: w.GetPublicUrl()}
	for _, n := range w.GetNumbers() {
		if o.Numbers == nil {
			o.Numbers = map[connectors.NumberKey]int32{}
		}
		o.Numbers[connectors.NumberKey{Kind: n.GetKind(), ID: n.GetId()}] = n.GetNumber()
	}
	if w.GetRaw() {
		o.Raw = &connectors.RawReceipt{ContentType: w.GetRawContentType(), Body: w.GetRawBody()}
	}
	return &e, o, nil
}

func renderedToWire(r connectors.Rendered) *wirev1.Rendered {
	return &wirev1.Rendered{Method: valid(r.Method), TargetSuffix: valid(r.TargetSuffix), Header: headerToWire(r.Header), Body: r.Body}
}

func renderedFromWire(w *wirev1.Rendered) connectors.Rendered {
	r := connectors.Rendered{Method: storable(w.GetMethod()), TargetSuffix: storable(w.GetTargetSuffix()), Header: boundHeader(headerFromWire(w.GetHeader())), Body: w.GetBody()}
	makeStorable(r.Header)
	return r
}

func challengeToWire(format string, c connectors.Challenge) *wirev1.Challenge {
	return &wirev1.Challenge{Format: format, Id: c.ID, Webhook: c.Webhook, Time: nanos(c.Time), Origin: c.Origin, PublicUrl: c.PublicURL}
}

func challengeFromWire(w *wirev1.Challenge) connectors.Challenge {
	return connectors.Challenge{ID: w.GetId(), Webhook: w.GetWebhook(), Time: moment(w.GetTime()), Origin: w.GetOrigin(), PublicURL: w.GetPublicUrl()}
}

func responseToWire(p *connectors.Response) *wirev1.Response {
	return &wirev1.Response{Status: int32(p.Status), Header: headerToWire(p.Header), Body: p.Body, Truncated: p.Truncated}
}

func responseFromWire(p *wirev1.Response) *connectors.Response {
	return &connectors.Response{Status: int(p.GetStatus()), Header: headerFromWire(p.GetHeader()), Body: p.GetBody(), Truncated: p.GetTruncated()}
}

func triggerCallToWire(c connectors.TriggerCall) *wirev1.TriggerCall {
	w := &wirev1.TriggerCall{Verb: string(c.Verb), Scan: c.Scan}
	w.Setup, _ = json.Marshal(c.Setup) //nolint:errchkjson // an APISpec that is no JSON is none
	for _, h := range c.Hosts {
		w.Hosts = append(w.Hosts, &wirev1.NamedHost{Host: valid(h.Host), Field: valid(h.Field)})
	}
	return w
}

func triggerCallFromWire(w *wirev1.TriggerCall) (connectors.TriggerCall, error) {
	c := connectors.TriggerCall{Verb: connectors.TriggerVerb(w.GetVerb()), Scan: w.GetScan()}
	if len(w.GetSetup()) > maxSetup || len(w.GetHosts()) > maxHosts {
		return c, fmt.Errorf("the setup has more than %d bytes, or names more than %d hosts", maxSetup, maxHosts)
	}
	if b := w.GetSetup(); len(b) > 0 {
		if err := json.Unmarshal(b, &c.Setup); err != nil {
			return c, fmt.Errorf("the setup cannot be read: %w", err)
		}
	}
	for _, h := range w.GetHosts() {
		c.Hosts = append(c.Hosts, connectors.NamedHost{Host: h.GetHost(), Field: clip(h.GetField())})
	}
	return c, nil
}

func answerTriggerToWire(kind string, c connectors.TriggerCall, r connectors.TriggerResult) *wirev1.AnswerTrigger {
	return &wirev1.AnswerTrigger{Kind: kind, Call: triggerCallToWire(c), Refused: refusalToWire(r.Refused), Reason: string(r.Reason), Scan: r.Report.Scan,
		State: string(r.Report.State), Started: nanos(r.Report.Started), Finished: nanos(r.Report.Finished), Checks: checksToWire(r.Report.Checks)}
}

func answerTriggerFromWire(w *wirev1.AnswerTrigger) (c connectors.TriggerCall, r connectors.TriggerResult, err error) {
	if c, err = triggerCallFromWire(w.GetCall()); err != nil {
		return c, r, err
	}
	r = connectors.TriggerResult{Refused: refusalFromWire(w.GetRefused()), Reason: connectors.TriggerReason(w.GetReason()),
		Report: connectors.ScanReport{Scan: w.GetScan(), State: connectors.ScanState(w.GetState()), Started: moment(w.GetStarted()), Finished: moment(w.GetFinished())}}
	r.Report.Checks, err = checksFromWire(w.GetChecks())
	return c, r, err
}

func checksToWire(list []connectors.ScanCheck) []byte {
	if len(list) == 0 {
		return nil
	}
	b, err := json.Marshal(list)
	if err != nil { // a score that is not a number; the finding is worth more than that
		list = slices.Clone(list)
		for i := range list {
			if f := list[i].Finding; f != nil {
				c := *f
				c.CVSS2, c.CVSS3 = nil, nil
				list[i].Finding = &c
			}
		}
		b, _ = json.Marshal(list) //nolint:errchkjson // nothing is left that could fail
	}
	return b
}

func checksFromWire(b []byte) (list []connectors.ScanCheck, err error) {
	if len(b) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("its checks cannot be read: %w", err)
	}
	if len(list) > maxChecks {
		return nil, fmt.Errorf("it told %d checks at once; %d is the most", len(list), maxChecks)
	}
	return list, nil
}

func documentToWire(d connectors.Document) *wirev1.Document {
	return &wirev1.Document{Key: valid(d.Key), ContentType: valid(d.ContentType), Body: d.Body}
}

func documentFromWire(w *wirev1.Document) (connectors.Document, error) {
	d := connectors.Document{Key: storable(w.GetKey()), ContentType: storable(w.GetContentType()), Body: w.GetBody()}
	if len(d.Body) > connectors.MaxDocument || len(d.Key) > connectors.MaxKey {
		return d, fmt.Errorf("it fetched a document of %d bytes; %d is the most, and %d for its key", len(d.Body), connectors.MaxDocument, connectors.MaxKey)
	}
	return d, nil
}

func polledToWire(p connectors.Polled) *wirev1.Polled {
	w := &wirev1.Polled{Cursor: p.Cursor, More: p.More, After: int64(p.After)}
	for _, d := range p.Documents {
		w.Documents = append(w.Documents, documentToWire(d))
	}
	return w
}

func polledFromWire(w *wirev1.Polled) (connectors.Polled, error) {
	p := connectors.Polled{Cursor: w.GetCursor(), More: w.GetMore(), After: max(0, time.Duration(w.GetAfter()))}
	if len(p.Cursor) > connectors.MaxState {
		return p, fmt.Errorf("its cursor has %d bytes; %d is the most", len(p.Cursor), connectors.MaxState)
	}
	for _, x := range w.GetDocuments() {
		d, err := documentFromWire(x)
		if err != nil {
			return p, err
		}
		p.Documents = append(p.Documents, d)
	}
	return p, nil
}

func scanToWire(j *connectors.ScanJob) *wirev1.Scan {
	w := &wirev1.Scan{Scanner: j.Scanner.Ref, Id: j.ID, Name: valid(j.Name), TargetKind: string(j.Target.Kind), TargetUrl: valid(j.Target.URL),
		Timeout: int64(j.Timeout)}
	for _, o := range j.Target.Origins {
		w.Origins = append(w.Origins, valid(o))
	}
	w.Setup, _ = json.Marshal(j.Setup) //nolint:errchkjson // an APISpec that is no JSON is none
	return w
}

func scanFromWire(w *wirev1.Scan, scanner connectors.Endpoint) (connectors.ScanJob, error) {
	j := connectors.ScanJob{Scanner: scanner, ID: w.GetId(), Name: w.GetName(), Timeout: time.Duration(w.GetTimeout()),
		Target: connectors.Target{Kind: connectors.TargetKind(w.GetTargetKind()), URL: w.GetTargetUrl(), Origins: w.GetOrigins()}}
	if err := json.Unmarshal(w.GetSetup(), &j.Setup); err != nil {
		return j, fmt.Errorf("read the scan's setup: %w", err)
	}
	return j, nil
}

func newsToWire(token uint64, n connectors.ScanNews) *wirev1.News {
	return &wirev1.News{Token: token, Kind: string(n.Kind), Time: nanos(n.Time), Percent: int32(n.Percent), Note: clip(n.Note), Checks: checksToWire(n.Checks), End: string(n.End)}
}

func newsFromWire(w *wirev1.News) (connectors.ScanNews, error) {
	n := connectors.ScanNews{Kind: connectors.ScanNewsKind(w.GetKind()), Time: moment(w.GetTime()), Percent: min(max(int(w.GetPercent()), 0), 100),
		Note: clip(w.GetNote()), End: connectors.ScanState(w.GetEnd())}
	if n.Kind == connectors.ScanDone && !n.End.Ended() {
		return n, fmt.Errorf("it ended as %q, which is no end", clip(w.GetEnd()))
	}
	var err error
	n.Checks, err = checksFromWire(w.GetChecks())
	return n, err
}

func failureToWire(f *connectors.Failure) *wirev1.Failure {
	return &wirev1.Failure{Outcome: outcomeToWire(f.Outcome), Fault: faultToWire(f.Fault), RetryAfter: int64(f.RetryAfter), Message: clip(f.Message)}
}

func failureFromWire(w *wirev1.Failure) *connectors.Failure {
	f := &connectors.Failure{Outcome: outcomeFromWire(w.GetOutcome()), Fault: faultFromWire(w.GetFault()), RetryAfter: max(0, time.Duration(w.GetRetryAfter())),
		Message: clip(w.GetMessage())}
	if f.Outcome != connectors.Permanent {
		f.Outcome = connectors.Retry
	}
	return f
}

func linkToWire(l connectors.Link) *wirev1.Link {
	return &wirev1.Link{Kind: valid(l.Kind), Ours: valid(l.Ours), Theirs: valid(l.Theirs), Url: valid(l.URL), Note: l.Note, Version: l.Version}
}

func linkFromWire(w *wirev1.Link) connectors.Link {
	return connectors.Link{Kind: w.GetKind(), Ours: w.GetOurs(), Theirs: w.GetTheirs(), URL: w.GetUrl(), Note: w.GetNote(), Version: w.GetVersion()}
}

func stateToWire(s connectors.State) *wirev1.State {
	return &wirev1.State{Key: valid(s.Key), Value: s.Value, Version: s.Version}
}

func stateFromWire(w *wirev1.State) connectors.State {
	return connectors.State{Key: w.GetKey(), Value: w.GetValue(), Version: w.GetVersion()}
}
