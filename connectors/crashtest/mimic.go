package crashtest

import (
	"embed"
	"fmt"
	"net/http"

	"github.com/hookyard/hookyard/connectors"
)

//go:embed testdata/trigger_payload_web.json testdata/trigger_payload_api.json testdata/trigger_payload_jwt.json
var samples embed.FS

// Samples are the calls that start a scan: without a body, and with the setup of a web
// application, of an API, and of a token alone.
func (Connector) Samples() []string { return []string{"start", "start-web", "start-api", "start-jwt"} }

// Sample is a POST as curl makes it: whatever the body, it is said to be a form.
func (Connector) Sample(name string, m connectors.Mimicry) (connectors.Request, error) {
	r := connectors.Request{Method: http.MethodPost, URL: m.URL, Body: m.Body, Header: []connectors.Header{{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}}}
	var file string
	switch name {
	case "start":
		return r, nil
	case "start-web":
		file = "testdata/trigger_payload_web.json"
	case "start-api":
		file = "testdata/trigger_payload_api.json"
	case "start-jwt":
		file = "testdata/trigger_payload_jwt.json"
	default:
		return r, fmt.Errorf("clients of Crashtest send no %q", name)
	}
	if r.Body == nil {
		var err error
		if r.Body, err = samples.ReadFile(file); err != nil {
			return r, fmt.Errorf("read the sample of %s: %w", name, err)
		}
	}
	return r, nil
}
