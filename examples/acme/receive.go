package acme

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// Receivers is how Radar's alerts become events.
func (Connector) Receivers() []connectors.Receiver { return []connectors.Receiver{Receiver{}} }

// Receiver reads alerts. Radar only tells that there is one; what it says has to be fetched.
type Receiver struct{}

// Kind implements connectors.Receiver.
func (Receiver) Kind() string { return "acme-radar" }

// SignatureRule has the hub check what comes in.
func (Receiver) SignatureRule() connectors.SignatureRule { return rule() }

// Handshake answers the question that Radar asks when a webhook is set up there.
func (Receiver) Handshake(in connectors.Inbound) *connectors.Reply {
	question := url.Values(in.Query).Get("challenge")
	if in.Method != http.MethodGet || question == "" {
		return nil
	}
	return &connectors.Reply{Status: http.StatusOK, Header: http.Header{"Content-Type": {"text/plain"}}, Body: []byte(question)}
}

// alert is one of Radar's, whole.
type alert struct {
	ID       string
	App      string
	Title    string
	Severity connectors.Severity
	At       time.Time
	Link     string
}

// Receive implements connectors.Receiver.
func (Receiver) Receive(in connectors.Inbound) (connectors.Received, error) {
	if in.Via == connectors.ViaRequest {
		var notice struct{ Alert string }
		if err := json.Unmarshal(in.Body, &notice); err != nil {
			return connectors.Received{}, connectors.Refuse(http.StatusBadRequest, "", "the body is not JSON")
		}
		if notice.Alert == "" {
			return connectors.Received{Note: "it names no alert"}, nil
		}
		return connectors.Received{Enrich: true, Reply: &connectors.Reply{Status: http.StatusAccepted}}, nil
	}
	var a alert
	if err := json.Unmarshal(in.Body, &a); err != nil || a.ID == "" {
		return connectors.Received{}, connectors.Refuse(http.StatusUnprocessableEntity, "ID", "this is not an alert of ACME Radar")
	}
	if a.Severity.Rank() < 0 {
		a.Severity = connectors.SeverityUnknown
	}
	return connectors.Received{Items: []connectors.Incoming{{
		Type: connectors.FindingDiscovered, Time: a.At, Key: a.ID,
		Data:   connectors.Data{Finding: &connectors.Finding{Key: a.ID, Title: a.Title, Severity: a.Severity, Status: "open", Link: a.Link}},
		Fields: map[string]string{"app": a.App}, DefaultField: "app",
	}}}, nil
}

// Enrich fetches the alert that a notice names.
func (Connector) Enrich(ctx context.Context, h connectors.Host, e connectors.Enrichment) (connectors.Document, error) {
	var notice struct{ Alert string }
	if err := json.Unmarshal(e.Request.Body, &notice); err != nil {
		return connectors.Document{}, failure(connectors.Permanent, connectors.FaultTarget, "the receipt is not JSON")
	}
	var whole json.RawMessage
	if err := ask(ctx, h, e.Source, http.MethodGet, "/alerts/"+url.PathEscape(notice.Alert), nil, &whole); err != nil {
		return connectors.Document{}, err
	}
	return connectors.Document{ContentType: "application/json", Body: whole}, nil
}

// Poll fetches the alerts after the last one that was fetched.
func (Connector) Poll(ctx context.Context, h connectors.Host, p connectors.Poll) (connectors.Polled, error) {
	q := url.Values{"after": {string(p.Cursor)}, "limit": {strconv.Itoa(p.Limit)}}
	if p.Cursor == nil {
		q = url.Values{"since": {p.Since.Format(time.RFC3339)}, "limit": {strconv.Itoa(p.Limit)}}
	}
	var page struct {
		Alerts []json.RawMessage
		Last   string
		More   bool
	}
	if err := ask(ctx, h, p.Source, http.MethodGet, "/alerts?"+q.Encode(), nil, &page); err != nil {
		return connectors.Polled{}, err
	}
	out := connectors.Polled{Cursor: p.Cursor, More: page.More}
	if page.Last != "" {
		out.Cursor = []byte(page.Last)
	}
	for _, raw := range page.Alerts {
		var a alert
		if err := json.Unmarshal(raw, &a); err != nil {
			return connectors.Polled{}, failure(connectors.Retry, connectors.FaultTarget, "ACME Radar told something that is not an alert")
		}
		out.Documents = append(out.Documents, connectors.Document{Key: a.ID, ContentType: "application/json", Body: raw})
	}
	return out, nil
}
