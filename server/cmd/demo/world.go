package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/hookyard/hookyard/server/servertest/program"
)

// world is the demo's customer, as far as the senders need it.
type world struct {
	hub     *program.Client
	holm    string            // address of the network scanner's source
	ci      string            // address of the CloudEvents source
	apps    map[string]string // IDs of the applications, by name
	started int64             // makes keys of this run unlike those of another
}

// build makes two asset groups, three applications, two sources, and five webhooks in
// as many shapes, one of them to a receiver that fails more often than not.
func build(ctx context.Context, hub *program.Client, recv string) (*world, error) {
	w := &world{hub: hub, apps: map[string]string{}, started: time.Now().Unix()}
	shop, err := hub.CreateAssetGroup(ctx, "Web shop")
	if err != nil {
		return nil, err
	}
	office, err := hub.CreateAssetGroup(ctx, "Office network")
	if err != nil {
		return nil, err
	}
	for name, group := range map[string]string{"checkout": shop, "catalogue": shop, "Weekly office scan": office} {
		if w.apps[name], err = hub.CreateApplication(ctx, name, group); err != nil {
			return nil, err
		}
	}
	if _, w.holm, err = hub.CreateSource(ctx, program.Input{"name": "Holm", "kind": "holm", "assetGroupId": office, "mapping": program.Input{"create": true}}); err != nil {
		return nil, err
	}
	if _, w.ci, err = hub.CreateSource(ctx, program.Input{"name": "CI pipeline", "kind": "cloudevents", "assetGroupId": shop, "mapping": program.Input{"create": true}}); err != nil {
		return nil, err
	}
	for _, h := range []struct {
		path, name, format, group string
		more                      program.Input
	}{
		{"platform", "Data platform", "cloudevents", "", program.Input{"handshake": false}},
		{"siem", "SIEM", "hookyard", "", nil},
		{"chat", "Security chat", "slack", "", program.Input{"minSeverity": "high"}},
		{"tickets", "Office tickets", "holm", office, nil},
		{"flaky", "Flaky partner", "hookyard", shop, program.Input{"retryOffsetsSeconds": []int{3, 10, 30, 60}}},
	} {
		end := program.Input{"name": h.name, "url": recv + "/" + h.path}
		hook := program.Input{"name": h.name, "format": h.format, "global": true}
		if h.group != "" {
			end["assetGroupId"], hook["assetGroupId"] = h.group, h.group
		}
		for k, v := range h.more {
			hook[k] = v
		}
		if hook["endpointId"], err = hub.CreateEndpoint(ctx, end); err != nil {
			return nil, fmt.Errorf("endpoint %s: %w", h.name, err)
		}
		if _, _, err := hub.CreateWebhook(ctx, hook); err != nil {
			return nil, fmt.Errorf("webhook %s: %w", h.name, err)
		}
	}
	return w, nil
}

// send lets the next of the senders speak.
func (w *world) send(ctx context.Context, n int) error {
	now := time.Now().UTC()
	key := fmt.Sprintf("%d-%d", w.started, n)
	app := []string{"checkout", "catalogue"}[n/3%2]
	switch n % 3 {
	case 0: // the network scanner, in its vendor's own shape
		return post(ctx, w.holm, "application/json", fmt.Sprintf(`{"finished_scan": {"status": "Completed", "low_cnt": %d, "critical_cnt": %d, "started": "%s", "finished": "%s", `+
			`"link": "https://sc.example.com/scans/scans/view/%d", "duration": "00:57", "errors": "", "name": "Weekly office scan", "high_cnt": %d, "medium_cnt": 3, "type": "network"}}`,
			n%5, n%2, now.Add(-57*time.Minute).Format("2006-01-02 15:04"), now.Format("2006-01-02 15:04"), n, n%4))
	case 1: // a CI job, as CloudEvents
		return post(ctx, w.ci, "application/cloudevents+json", fmt.Sprintf(`{"specversion":"1.0","id":"%s","source":"/ci","subject":"%s","type":"scan.completed","time":"%s",`+
			`"datacontenttype":"application/json","data":{"scan":{"key":"%s","name":"%s","type":"sast","branch":"main","counts":{"critical":0,"high":%d,"medium":2,"low":7}}}}`,
			key, app, now.Format(time.RFC3339), key, app, n%3))
	}
	// a program, through the API
	return w.hub.Do(ctx, `mutation ($in: SendEventInput!) { sendEvent(input: $in) { result { eventId } } }`, program.Input{"in": program.Input{
		"id": key, "type": "finding.discovered", "applicationId": w.apps[app],
		"finding": program.Input{"key": key, "title": "SQL injection in the search form", "severity": []string{"medium", "high", "critical"}[n/3%3], "cwe": "CWE-89",
			"affectedEndpoint": "/search", "status": "open"},
	}}, nil)
}

func post(ctx context.Context, address, contentType, body string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return err
}
