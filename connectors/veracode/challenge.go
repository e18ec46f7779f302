package veracode

import (
	"fmt"
	"net/http"

	"github.com/hookyard/hookyard/connectors"
)

// Required says that nothing is sent before the handshake.
func (Format) Required() bool { return true }

// Challenge is a HEAD, with which Veracode finds out whether an address exists.
func (Format) Challenge(connectors.Challenge) (connectors.Rendered, error) {
	return connectors.Rendered{Method: http.MethodHead}, nil
}

// Granted takes any 2xx for a yes, and nothing else: the address must accept HEAD.
func (Format) Granted(_ connectors.Challenge, answer *connectors.Response) (connectors.Grant, error) {
	switch {
	case answer == nil:
		return connectors.Grant{}, fmt.Errorf("there was no answer to HEAD")
	case answer.Status == http.StatusMethodNotAllowed:
		return connectors.Grant{}, fmt.Errorf("the address does not accept HEAD requests (405), as receivers of Veracode's webhooks must")
	case answer.Status/100 != 2:
		return connectors.Grant{}, fmt.Errorf("the answer to HEAD was %d %s; it must be 2xx", answer.Status, http.StatusText(answer.Status))
	}
	return connectors.Grant{}, nil
}
