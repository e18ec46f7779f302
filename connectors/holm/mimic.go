package holm

import (
	"embed"
	"fmt"
	"net/http"
	"strconv"

	"github.com/hookyard/hookyard/connectors"
)

//go:embed testdata/finished_scan.wire.json testdata/scheduled_scan.json testdata/ticket_*.json
var samples embed.FS

// sampleFile is where a sample is, "" for a name that is none.
func sampleFile(name string) string {
	switch name {
	case kindFinished:
		return "testdata/finished_scan.wire.json" // the document's own bytes
	case kindScheduled, "ticket_opened", "ticket_closed":
		return "testdata/" + name + ".json"
	}
	return ""
}

// Samples are the kinds of messages; a ticket's twice, for it is opened and closed.
func (Connector) Samples() []string {
	return []string{kindFinished, kindScheduled, "ticket_opened", "ticket_closed"}
}

// Sample is a POST with the headers of Holm's script, the misspelled ones too.
func (Connector) Sample(name string, m connectors.Mimicry) (connectors.Request, error) {
	file, body := sampleFile(name), m.Body
	if file == "" {
		return connectors.Request{}, fmt.Errorf("Holm sends no %q", name) //nolint:staticcheck // a name
	}
	if body == nil {
		var err error
		if body, err = samples.ReadFile(file); err != nil {
			return connectors.Request{}, fmt.Errorf("read the sample of %s: %w", name, err)
		}
	}
	return connectors.Request{Method: http.MethodPost, URL: m.URL, Body: body, Header: []connectors.Header{
		{Name: "User-Agent", Value: "python-requests/2.8.1"}, {Name: "Accept", Value: "*/*"}, {Name: "Content-Type", Value: "application/json"},
		{Name: "Content_Type", Value: "application/json"}, {Name: "Content_Length", Value: strconv.Itoa(len(body))},
	}}, nil
}
