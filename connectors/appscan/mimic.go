package appscan

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/hookyard/hookyard/connectors"
)

// The events as AppScan names them, and the IDs that its documents give as examples.
const (
	eventExecution   = "ScanExecutionCompleted"
	eventApplication = "ApplicationCountersChanged"

	sampleExecution   = "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b"
	sampleApplication = "5b1c2f6e-0d4a-4b0f-9a53-4d8d5e0f7a11"
)

// Samples are the two events.
func (Connector) Samples() []string { return []string{eventExecution, eventApplication} }

// Sample is a GET of the address with its {SubjectId} replaced; an address without one, a
// source's own, is completed first. The body is the ID to send in place of the sample's.
func (Connector) Sample(name string, m connectors.Mimicry) (connectors.Request, error) {
	var id string
	switch name {
	case eventExecution:
		id = sampleExecution
	case eventApplication:
		id = sampleApplication
	default:
		return connectors.Request{}, fmt.Errorf("AppScan sends no %q", name)
	}
	if m.Body != nil {
		id = strings.TrimSpace(string(m.Body))
	}
	address := m.URL
	if !strings.Contains(address, placeholder) {
		address = strings.TrimSuffix(address, "/") + "/" + name + "/" + placeholder
	}
	address, err := Format{}.Address(address, id)
	return connectors.Request{Method: http.MethodGet, URL: address}, err
}
