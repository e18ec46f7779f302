package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/hookyard/hookyard/server/servertest/program"
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
		if err := c.Do(ctx, `mutation { updateOrganization(input: {retentionEventsDays: 1, retentionAttemptsDays: 1, retentionPayloadsDays: 1}) { organization { id } } }`, nil, nil); err != nil {
			return fmt.Errorf("setting the retention: %w", err)
		}
	}
	group, err := c.CreateAssetGroup(ctx, "Bench")
	if err != nil {
		return fmt.Errorf("making the asset group: %w", err)
	}
	app, err := c.CreateApplication(ctx, "Bench", group)
	if err != nil {
		return fmt.Errorf("making the application: %w", err)
	}
	var sources []string
	for i := range lay.sources() {
		id, address, err := c.CreateSource(ctx, program.Input{"name": fmt.Sprintf("bench %d", i), "kind": "cloudevents", "mapping": program.Input{"default": app}})
		if err != nil {
			return fmt.Errorf("making a source: %w", err)
		}
		u, err := url.Parse(address)
		if err != nil {
			return fmt.Errorf("reading the source's address: %w", err)
		}
		sources = append(sources, id)
		s.targets = append(s.targets, strings.TrimPrefix(u.Path, "/"))
	}
	s.url = c.URL + "/{{target}}"
	for i := range lay.endpoints {
		end, err := c.CreateEndpoint(ctx, program.Input{"name": fmt.Sprintf("e%d", i), "url": fmt.Sprintf("http://%s/e%d", recv, i)})
		if err != nil {
			return fmt.Errorf("making an endpoint: %w", err)
		}
		in := program.Input{"name": fmt.Sprintf("bench %d", i), "endpointId": end, "global": true, "format": "hookyard", "eventTypes": []string{"scan.completed"}}
		if lay.mode == "rr" {
			in["sourceIds"] = sources[i : i+1]
		}
		id, _, err := c.CreateWebhook(ctx, in)
		if err != nil {
			return fmt.Errorf("making a webhook: %w", err)
		}
		s.webhooks = append(s.webhooks, id)
	}
	return nil
}

// sources is how many sources the layout has.
func (l layout) sources() int {
	if l.mode == "rr" {
		return l.endpoints
	}
	return 1
}
