package apviso

import (
	"fmt"
	"net/http"

	"github.com/hookyard/hookyard/connectors"
)

type verificationMessage struct {
	ID  string `json:"id"`
	URL string `json:"url"`
}

// Required says that nothing is sent before the handshake.
func (Format) Required() bool { return true }

// Challenge is a verification request: the normal envelope, signed like everything else.
func (Format) Challenge(c connectors.Challenge) (connectors.Rendered, error) {
	return write(message{Event: eventVerification, Timestamp: c.Time.UTC().Format(timeLayout),
		Data: verificationMessage{ID: c.Webhook, URL: link("", connectors.RenderOptions{PublicURL: c.PublicURL}, "webhooks", c.Webhook)}})
}

// Granted takes any 2xx for a yes.
func (Format) Granted(_ connectors.Challenge, answer *connectors.Response) (connectors.Grant, error) {
	if answer == nil {
		return connectors.Grant{}, fmt.Errorf("there was no answer to the verification request")
	}
	if answer.Status/100 != 2 {
		return connectors.Grant{}, fmt.Errorf("the answer to the verification request was %d %s; it must be 2xx", answer.Status, http.StatusText(answer.Status))
	}
	return connectors.Grant{}, nil
}
