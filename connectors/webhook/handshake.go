package webhook

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/hookyard/hookyard/connectors"
)

// The headers of the validation request of CloudEvents' HTTP webhooks.
const (
	headerRequestOrigin = "WebHook-Request-Origin"
	headerRequestRate   = "WebHook-Request-Rate"
	headerAllowedOrigin = "WebHook-Allowed-Origin"
	headerAllowedRate   = "WebHook-Allowed-Rate"
)

// Handshake answers the validation request of a sender: whoever knows the source's
// address may send, as often as it likes.
func (Receiver) Handshake(in connectors.Inbound) *connectors.Reply {
	origin := in.Header.Get(headerRequestOrigin)
	if in.Method != http.MethodOptions || origin == "" || len(in.Header.Values(headerRequestOrigin)) > 1 {
		return nil
	}
	h := http.Header{headerAllowedOrigin: {origin}, "Allow": {http.MethodPost}}
	if in.Header.Get(headerRequestRate) != "" {
		h[headerAllowedRate] = []string{"*"}
	}
	return &connectors.Reply{Status: http.StatusOK, Header: h}
}

// Required says that the handshake can be declined: not every receiver of CloudEvents
// knows it.
func (CloudEventsFormat) Required() bool { return false }

// Challenge is CloudEvents' validation request.
func (CloudEventsFormat) Challenge(c connectors.Challenge) (connectors.Rendered, error) {
	return connectors.Rendered{Method: http.MethodOptions, Header: []connectors.Header{{Name: headerRequestOrigin, Value: c.Origin}}}, nil
}

// Granted looks for the hub's own origin, in full: one that only begins like it is
// somebody else's.
func (CloudEventsFormat) Granted(c connectors.Challenge, answer *connectors.Response) (connectors.Grant, error) {
	switch {
	case answer == nil:
		return connectors.Grant{}, fmt.Errorf("there was no answer to the validation request (OPTIONS)")
	case answer.Status/100 != 2:
		return connectors.Grant{}, fmt.Errorf("the answer to the validation request (OPTIONS) was %d %s; it must be 2xx", answer.Status, http.StatusText(answer.Status))
	}
	var allowed []string
	var grant connectors.Grant
	for _, h := range answer.Header {
		switch {
		case strings.EqualFold(h.Name, headerAllowedOrigin):
			allowed = append(allowed, strings.TrimSpace(h.Value))
		case strings.EqualFold(h.Name, headerAllowedRate):
			grant.PerMinute, _ = strconv.Atoi(strings.TrimSpace(h.Value)) // "*" is no limit
		}
	}
	switch {
	case len(allowed) == 0:
		return connectors.Grant{}, fmt.Errorf("the answer to the validation request (OPTIONS) has no %s, so the endpoint has not agreed to get events", headerAllowedOrigin)
	case len(allowed) > 1 || allowed[0] != "*" && !strings.EqualFold(allowed[0], c.Origin):
		return connectors.Grant{}, fmt.Errorf("the endpoint allows the origin %s, and this hub is %s", quoted(strings.Join(allowed, ", ")), quoted(c.Origin))
	}
	return grant, nil
}
