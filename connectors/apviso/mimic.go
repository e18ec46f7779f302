package apviso

import (
	"embed"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

//go:embed testdata/finding_created.json testdata/scan_*.json testdata/report_ready.json testdata/webhook_verification.json
var samples embed.FS

// Samples are the events as APVISO names them.
func (Connector) Samples() []string {
	return []string{eventFinding, eventStarted, eventProgress, eventCompleted, eventFailed, eventReport, eventVerification}
}

// Sample is a POST, signed when there is a secret.
func (c Connector) Sample(name string, m connectors.Mimicry) (connectors.Request, error) {
	if !slices.Contains(c.Samples(), name) {
		return connectors.Request{}, fmt.Errorf("APVISO sends no %q", name)
	}
	body := m.Body
	if body == nil {
		var err error
		if body, err = samples.ReadFile("testdata/" + strings.ReplaceAll(name, ".", "_") + ".json"); err != nil {
			return connectors.Request{}, fmt.Errorf("read the sample of %s: %w", name, err)
		}
	}
	r := connectors.Request{Method: http.MethodPost, URL: m.URL, Body: body, Header: []connectors.Header{{Name: "Content-Type", Value: "application/json"}}}
	if m.Secret != nil {
		signed, err := Format{}.SignatureRule().Sign([][]byte{m.Secret}, "", time.Time{}, body)
		if err != nil {
			return r, fmt.Errorf("sign the sample of %s: %w", name, err)
		}
		r.Header = append(r.Header, signed...)
	}
	return r, nil
}
