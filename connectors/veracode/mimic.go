package veracode

import (
	"embed"
	"fmt"
	"net/http"
	"strings"

	"github.com/hookyard/hookyard/connectors"
)

//go:embed testdata/scan_success.json testdata/vuln_issues_*.json
var samples embed.FS

// sampleHead is the request with which Veracode finds out whether an address exists.
const sampleHead = "HEAD"

// Samples are the events as Veracode names them, and the HEAD before them.
func (Connector) Samples() []string {
	return []string{eventScan, eventDiscovered, eventChanged, sampleHead}
}

// Sample is a POST, or the HEAD. Veracode does not sign.
func (Connector) Sample(name string, m connectors.Mimicry) (connectors.Request, error) {
	r := connectors.Request{Method: http.MethodPost, URL: m.URL, Body: m.Body, Header: []connectors.Header{{Name: "Content-Type", Value: "application/json"}}}
	switch name {
	case sampleHead:
		return connectors.Request{Method: http.MethodHead, URL: m.URL}, nil
	case eventScan, eventDiscovered, eventChanged:
	default:
		return r, fmt.Errorf("Veracode sends no %q", name) //nolint:staticcheck // a name
	}
	if r.Body == nil {
		var err error
		if r.Body, err = samples.ReadFile("testdata/" + strings.ToLower(name) + ".json"); err != nil {
			return r, fmt.Errorf("read the sample of %s: %w", name, err)
		}
	}
	return r, nil
}
