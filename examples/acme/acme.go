// Package acme is the connector of docs/writing-a-connector.md: it delivers events to a
// system that does not exist.
package acme

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// Connector delivers to ACME Radar.
type Connector struct{}

// Spec describes it.
func (Connector) Spec() connectors.Spec {
	return connectors.Spec{
		Name: "acme", Title: "ACME Radar", Description: "Reports events to ACME Radar.", Version: "0.1.0",
		Abilities: []connectors.Ability{connectors.AbilityDeliver},
		Settings: json.RawMessage(`{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
			"properties": {"token": {"type": "string", "title": "Token", "description": "API token of ACME Radar.", "writeOnly": true}}}`),
	}
}

// Deliver answers every item exactly once, as soon as it is known.
func (c Connector) Deliver(ctx context.Context, h connectors.Host, items []connectors.Delivery, done func(connectors.Result)) error {
	var wg sync.WaitGroup
	for _, d := range items {
		wg.Go(func() { done(c.one(ctx, h, d)) })
	}
	wg.Wait()
	return nil
}

func (Connector) one(ctx context.Context, h connectors.Host, d connectors.Delivery) connectors.Result {
	r := connectors.Result{DeliveryID: d.ID, Started: time.Now()}
	fail := func(o connectors.Outcome, f connectors.Fault, why string) connectors.Result {
		r.Outcome, r.Fault, r.Error, r.Timing.Total = o, f, why, time.Since(r.Started)
		return r
	}
	end, ok := h.Endpoint(d.Endpoint)
	if !ok {
		return fail(connectors.Retry, connectors.FaultConnector, "the endpoint is not known here")
	}
	client, err := h.HTTPClient(end)
	if err != nil {
		return fail(connectors.Permanent, connectors.FaultSettings, err.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, end.URL, bytes.NewReader(d.Event))
	if err != nil {
		return fail(connectors.Permanent, connectors.FaultSettings, err.Error())
	}
	req.Header.Set("Authorization", "Bearer "+end.Secrets["token"])
	resp, err := client.Do(req)
	var refused *connectors.PolicyError
	if errors.As(err, &refused) {
		return fail(connectors.Retry, connectors.FaultPolicy, refused.Error())
	}
	if err != nil {
		return fail(connectors.Retry, connectors.FaultTarget, err.Error())
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, connectors.MaxResponseBody))
	r.Response = &connectors.Response{Status: resp.StatusCode, Body: body}
	switch {
	case resp.StatusCode/100 == 2:
		return fail(connectors.Done, connectors.FaultNone, "")
	case resp.StatusCode == http.StatusUnprocessableEntity:
		return fail(connectors.Permanent, connectors.FaultTarget, "ACME Radar cannot take such an event")
	default:
		return fail(connectors.Retry, connectors.FaultTarget, "ACME Radar answered "+resp.Status)
	}
}
