package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"
)

// cloudEvent is what the bench sends: a structured CloudEvents scan.completed, padded
// to eventSize bytes.
const cloudEvent = `{"specversion":"1.0","id":"{{id}}","source":"/bench","type":"scan.completed","time":"{{time}}",` +
	`"datacontenttype":"application/json","data":{"scan":{"key":"{{id}}","name":"bench",` +
	`"counts":{"critical":1,"high":0,"medium":3,"low":0}},` +
	`"attributes":{"bench_id":"{{id}}","bench_ts":"{{ts}}","pad":"{{pad}}"}}}`

const eventSize = 1024

// pad is how much fills cloudEvent up to eventSize, for IDs of a usual length.
func pad() int {
	r := strings.NewReplacer("{{id}}", "mibnc2x1.123456", "{{time}}", "2026-01-01T00:00:00Z", "{{ts}}", "1767225600000000000", "{{pad}}", "")
	return eventSize - len(r.Replace(cloudEvent))
}

// setUp makes the layout in an empty hub through its API: an application, the sources
// mapped to it, and one global webhook (format hookyard, signed) for each endpoint.
func (s *served) setUp(ctx context.Context, lay layout, recv string, o startOptions) error {
	c := s.client
	if o.retention {
		if err := c.Do(ctx, `mutation { updateOrganization(input: {retention: {eventsDays: 1, attemptsDays: 1, payloadsDays: 1}}) { organization { id } } }`, nil, nil); err != nil {
			return fmt.Errorf("setting the retention: %w", err)
		}
	}
	var group struct {
		CreateAssetGroup struct{ AssetGroup struct{ ID string } }
	}
	if err := c.Do(ctx, `mutation { createAssetGroup(input: {name: "Bench"}) { assetGroup { id } } }`, nil, &group); err != nil {
		return fmt.Errorf("making the asset group: %w", err)
	}
	var app struct {
		CreateApplication struct{ Application struct{ ID string } }
	}
	if err := c.Do(ctx, `mutation ($g: ID!) { createApplication(input: {name: "Bench", assetGroupID: $g}) { application { id } } }`,
		map[string]any{"g": group.CreateAssetGroup.AssetGroup.ID}, &app); err != nil {
		return fmt.Errorf("making the application: %w", err)
	}
	sources := 1
	if lay.mode == "rr" {
		sources = lay.endpoints
	}
	var ids []string
	for i := range sources {
		var made struct {
			CreateSource struct {
				Source     struct{ ID string }
				InboundURL string
			}
		}
		if err := c.Do(ctx, `mutation ($n: String!, $a: ID!) { createSource(input: {name: $n, kind: "cloudevents", mapping: {defaultApplicationID: $a}}) { source { id } inboundURL } }`,
			map[string]any{"n": fmt.Sprintf("bench %d", i), "a": app.CreateApplication.Application.ID}, &made); err != nil {
			return fmt.Errorf("making a source: %w", err)
		}
		ids = append(ids, made.CreateSource.Source.ID)
		u, err := url.Parse(made.CreateSource.InboundURL)
		if err != nil {
			return fmt.Errorf("reading the source's address: %w", err)
		}
		s.targets = append(s.targets, strings.TrimPrefix(u.Path, "/"))
	}
	s.url = c.URL + "/{{target}}"
	for i := range lay.endpoints {
		var end struct {
			CreateEndpoint struct{ Endpoint struct{ ID string } }
		}
		if err := c.Do(ctx, `mutation ($n: String!, $u: String!) { createEndpoint(input: {name: $n, connector: "webhook", url: $u}) { endpoint { id } } }`,
			map[string]any{"n": fmt.Sprintf("e%d", i), "u": fmt.Sprintf("http://%s/e%d", recv, i)}, &end); err != nil {
			return fmt.Errorf("making an endpoint: %w", err)
		}
		only := ids
		if lay.mode == "rr" {
			only = ids[i : i+1]
		}
		var hook struct {
			CreateWebhook struct{ Webhook struct{ ID string } }
		}
		if err := c.Do(ctx, `mutation ($n: String!, $e: ID!, $s: [ID!]) { createWebhook(input: {name: $n, endpointID: $e, format: "hookyard", global: true, eventTypes: [SCAN_COMPLETED], sourceIDs: $s}) { webhook { id } } }`,
			map[string]any{"n": fmt.Sprintf("bench %d", i), "e": end.CreateEndpoint.Endpoint.ID, "s": only}, &hook); err != nil {
			return fmt.Errorf("making a webhook: %w", err)
		}
		s.webhooks = append(s.webhooks, hook.CreateWebhook.Webhook.ID)
	}
	return nil
}
