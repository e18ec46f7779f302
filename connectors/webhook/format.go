package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// The names of the formats.
const (
	FormatHookyard    = "hookyard"
	FormatCloudEvents = "cloudevents"
	FormatRaw         = "raw"
	FormatSlack       = "slack"
	FormatTeams       = "teams"
)

// outcomes are the kinds that tell what came of something, each fact once: not the
// steps on the way to it, nor the counters that change because of it.
func outcomes() []connectors.EventType {
	return []connectors.EventType{connectors.ScanCompleted, connectors.ScanFailed, connectors.FindingDiscovered,
		connectors.FindingChanged, connectors.TicketOpened, connectors.TicketClosed, connectors.ReportReady}
}

func post(contentType string, body []byte) connectors.Rendered {
	return connectors.Rendered{
		Method: "POST",
		Header: []connectors.Header{{Name: headerContentType, Value: contentType}},
		Body:   body,
	}
}

// signed is the rule of Standard Webhooks, which several formats share.
type signed struct{}

// Sign returns webhook-id, webhook-timestamp and, when there are keys,
// webhook-signature with one "v1,<base64>" per key, the current one first.
func (signed) Sign(keys [][]byte, deliveryID string, at time.Time, body []byte) ([]connectors.Header, error) {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	headers := make([]connectors.Header, 2, 3)
	headers[0] = connectors.Header{Name: "webhook-id", Value: deliveryID}
	headers[1] = connectors.Header{Name: "webhook-timestamp", Value: timestamp}
	if len(keys) == 0 {
		return headers, nil
	}
	prefix := make([]byte, 0, len(deliveryID)+len(timestamp)+2)
	prefix = append(prefix, deliveryID...)
	prefix = append(prefix, '.')
	prefix = append(prefix, timestamp...)
	prefix = append(prefix, '.')
	const signatureLength = len("v1,") + 44 + 1
	value := make([]byte, 0, len(keys)*signatureLength)
	var sum [sha256.Size]byte
	for i, key := range keys {
		if i > 0 {
			value = append(value, ' ')
		}
		mac := hmac.New(sha256.New, key)
		mac.Write(prefix)
		mac.Write(body)
		value = append(value, "v1,"...)
		value = base64.StdEncoding.AppendEncode(value, mac.Sum(sum[:0]))
	}
	return append(headers, connectors.Header{Name: "webhook-signature", Value: string(value)}), nil
}

// HookyardFormat is the event as the ledger keeps it: connectors.Event as JSON.
type HookyardFormat struct{ signed }

// Name is "hookyard".
func (HookyardFormat) Name() string { return FormatHookyard }

// EventTypes are the kinds that tell what came of something.
func (HookyardFormat) EventTypes() []connectors.EventType { return outcomes() }

// Render writes e down; every kind can be said.
func (HookyardFormat) Render(e *connectors.Event, _ connectors.RenderOptions) (connectors.Rendered, error) {
	body, err := connectors.AppendEvent(make([]byte, 0, 1024), e)
	if err != nil {
		return connectors.Rendered{}, &connectors.SkipError{Reason: err.Error()}
	}
	return post(jsonType, body), nil
}

// CloudEventsFormat is a structured CloudEvent 1.0 whose data is connectors.Data.
// Where the event belongs stands in the extension attributes organization, assetgroup and
// application (names) and organizationid, assetgroupid and applicationid (the hub's IDs).
type CloudEventsFormat struct{ signed }

// Name is "cloudevents".
func (CloudEventsFormat) Name() string { return FormatCloudEvents }

// EventTypes are the kinds that tell what came of something.
func (CloudEventsFormat) EventTypes() []connectors.EventType { return outcomes() }

// Render writes e down; every kind can be said.
func (CloudEventsFormat) Render(e *connectors.Event, _ connectors.RenderOptions) (connectors.Rendered, error) {
	if e.ID == "" || e.Source == "" || e.Type == "" {
		return connectors.Rendered{}, &connectors.SkipError{Reason: "a CloudEvent needs an ID, a source and a type"}
	}
	b := append(make([]byte, 0, 1024), `{"specversion":"1.0"`...)
	text := func(name, value string) {
		if value != "" {
			b = append(b, ',', '"')
			b = append(b, name...)
			b = append(b, '"', ':')
			b = connectors.AppendString(b, value)
		}
	}
	place := func(name string, r *connectors.Ref) {
		if r != nil {
			text(name, r.Name)
			text(name+"id", r.ID)
		}
	}
	text("id", e.ID)
	text("source", e.Source)
	text("type", string(e.Type))
	text("subject", e.Subject)
	if !e.Time.IsZero() {
		text("time", e.Time.UTC().Format(time.RFC3339Nano))
	}
	place("organization", &e.Organization)
	place("assetgroup", e.AssetGroup)
	place("application", e.Application)
	text("datacontenttype", jsonType)
	b = append(b, `,"data":`...)
	b, err := connectors.AppendData(b, &e.Data)
	if err != nil {
		return connectors.Rendered{}, &connectors.SkipError{Reason: err.Error()}
	}
	return post(structuredType, append(b, '}')), nil
}

// RawFormat passes on what the source sent, byte for byte, for every kind of event.
// A receipt that gave several events is sent once for each of them.
type RawFormat struct{ signed }

// Name is "raw".
func (RawFormat) Name() string { return FormatRaw }

// EventTypes are all kinds.
func (RawFormat) EventTypes() []connectors.EventType { return connectors.EventTypes() }

// Render returns the receipt's bytes and content type.
func (RawFormat) Render(_ *connectors.Event, o connectors.RenderOptions) (connectors.Rendered, error) {
	if o.Raw == nil {
		return connectors.Rendered{}, &connectors.SkipError{Reason: "there is no receipt to pass on: the event did not come from a source, or the receipt is past its retention"}
	}
	r := post(o.Raw.ContentType, o.Raw.Body)
	if o.Raw.ContentType == "" {
		r.Header = nil
	}
	return r, nil
}
