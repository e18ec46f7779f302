package acme

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/hookyard/hookyard/connectors"
)

// Formats is how events are written for those who expect what Radar sends.
func (Connector) Formats() []connectors.Format { return []connectors.Format{Format{}} }

// Format writes an event as an alert of Radar's.
type Format struct{}

// rule is how Radar signs.
func rule() connectors.SignatureRule {
	return connectors.SignatureRule{Header: "X-Radar-Signature", Prefix: "sha256="}
}

// Name implements connectors.Format.
func (Format) Name() string { return "acme-radar" }

// EventTypes implements connectors.Format.
func (Format) EventTypes() []connectors.EventType {
	return []connectors.EventType{connectors.FindingDiscovered}
}

// SignatureRule has the hub sign; the secret never comes here.
func (Format) SignatureRule() connectors.SignatureRule { return rule() }

// Render implements connectors.Format.
func (Format) Render(e *connectors.Event, _ connectors.RenderOptions) (connectors.Rendered, error) {
	f := e.Data.Finding
	if f == nil || e.Type != connectors.FindingDiscovered {
		return connectors.Rendered{}, &connectors.SkipError{Reason: "ACME Radar knows new findings only"}
	}
	if f.Severity == connectors.SeverityUnknown { // never invented
		return connectors.Rendered{}, &connectors.SkipError{Reason: "an alert of ACME Radar needs a severity, and that of this finding is not known"}
	}
	return written(map[string]any{"ID": f.ID, "Title": f.Title, "Severity": f.Severity, "At": e.Time, "Link": f.Link})
}

func written(v any) (connectors.Rendered, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return connectors.Rendered{}, err
	}
	return connectors.Rendered{Header: []connectors.Header{{Name: "Content-Type", Value: "application/json"}}, Body: body}, nil
}

// Required implements connectors.Challenger: nothing is sent before the address has answered.
func (Format) Required() bool { return true }

// Challenge implements connectors.Challenger.
func (Format) Challenge(c connectors.Challenge) (connectors.Rendered, error) {
	return written(map[string]any{"Ping": c.ID})
}

// Granted implements connectors.Challenger.
func (Format) Granted(c connectors.Challenge, answer *connectors.Response) (connectors.Grant, error) {
	var pong struct{ Pong string }
	switch {
	case answer.Status != http.StatusOK:
		return connectors.Grant{}, errors.New("the address did not answer the ping with 200")
	case json.Unmarshal(answer.Body, &pong) != nil || pong.Pong != c.ID:
		return connectors.Grant{}, errors.New("the address answered the ping, but not with its ID as Pong")
	}
	return connectors.Grant{}, nil
}
