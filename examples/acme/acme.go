// Package acme is the connector of docs/writing-a-connector.md: it exchanges alerts and
// cases with ACME Radar, a system that does not exist, and has most of the abilities there are.
package acme

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/hookyard/hookyard/connectors"
)

// Connector is ACME Radar.
type Connector struct{}

// Spec describes it.
func (Connector) Spec() connectors.Spec {
	return connectors.Spec{
		Name: "acme-radar", Title: "ACME Radar", Description: "Opens cases in ACME Radar, and reads its alerts.", Version: "0.3.0",
		Abilities: []connectors.Ability{connectors.AbilityFormat, connectors.AbilityReceive, connectors.AbilityDeliver, connectors.AbilityCheck,
			connectors.AbilityPoll, connectors.AbilityEnrich},
		Settings: json.RawMessage(`{
			"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "additionalProperties": false, "required": ["token"],
			"properties": {
				"token": {"type": "string", "title": "Token", "description": "API token of ACME Radar, from Account > API.", "writeOnly": true, "minLength": 1},
				"board": {"type": "string", "title": "Board", "description": "Where new cases go.", "default": "inbox"}
			}}`),
		SourceSettings: json.RawMessage(`{
			"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "additionalProperties": false, "required": ["address", "token"],
			"properties": {
				"address": {"type": "string", "title": "Address", "description": "Where ACME Radar is: https://radar.example.com. The package has to name it as egress.", "format": "uri"},
				"token": {"type": "string", "title": "Token", "description": "API token of ACME Radar, from Account > API.", "writeOnly": true, "minLength": 1}
			}}`),
	}
}

// address is where ACME Radar is: an endpoint has it as its own, a source among its settings.
func address(e connectors.Endpoint) string {
	if e.URL != "" {
		return e.URL
	}
	var settings struct{ Address string }
	_ = json.Unmarshal(e.Settings, &settings) // without one, the request says so
	return settings.Address
}

// ask makes one request to ACME Radar and reads the JSON of the answer into out. What went
// wrong is a *connectors.Failure.
func ask(ctx context.Context, h connectors.Outside, e connectors.Endpoint, method, path string, in, out any) error {
	client, err := h.HTTPClient(e)
	if err != nil {
		return failure(connectors.Permanent, connectors.FaultSettings, "%v", err)
	}
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(address(e), "/")+path, body)
	if err != nil {
		return failure(connectors.Permanent, connectors.FaultSettings, "the address is not one: %v", err)
	}
	req.Header.Set("Authorization", "Bearer "+e.Secrets["token"])
	resp, err := client.Do(req)
	var refused *connectors.PolicyError
	if errors.As(err, &refused) {
		return failure(connectors.Permanent, connectors.FaultPolicy, "%v", refused)
	}
	if err != nil {
		return failure(connectors.Retry, connectors.FaultTarget, "ACME Radar does not answer: %v", err)
	}
	defer resp.Body.Close()
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized:
		return failure(connectors.Retry, connectors.FaultSettings, "ACME Radar does not know the token; make a new one under Account > API")
	case code == http.StatusUnprocessableEntity, code == http.StatusNotFound:
		return failure(connectors.Permanent, connectors.FaultTarget, "ACME Radar answered %s", resp.Status)
	case code/100 != 2:
		return failure(connectors.Retry, connectors.FaultTarget, "ACME Radar answered %s", resp.Status)
	case out == nil:
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, connectors.MaxDocument)).Decode(out); err != nil {
		return failure(connectors.Retry, connectors.FaultTarget, "the answer of ACME Radar is not JSON; is the address right?")
	}
	return nil
}

func failure(o connectors.Outcome, f connectors.Fault, format string, args ...any) error {
	return &connectors.Failure{Outcome: o, Fault: f, Message: fmt.Sprintf(format, args...)}
}
