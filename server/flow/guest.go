package flow

import (
	"net/http"
	"slices"
	"strings"

	"github.com/hookyard/hookyard/connectors"
)

// Guest is a third party's reply to somebody outside, who has asked the hub: it says nothing to
// browsers and proxies in the hub's name. Of its headers those are sent that are about the
// body, or of a webhook's handshake, and it redirects nobody.
func Guest(r connectors.Reply) connectors.Reply {
	if r.Status/100 == 3 {
		r.Status = http.StatusOK
	}
	header := http.Header{}
	for name, values := range r.Header {
		if name == "Content-Type" || strings.HasPrefix(name, "Webhook-") || strings.HasPrefix(name, "X-Hook-") {
			header[name] = values
		}
	}
	r.Header = header
	return r
}

// Shown are request headers without credentials.
func Shown(h http.Header) http.Header {
	out := make(http.Header, len(h))
	for name, values := range h {
		if hidden(name) {
			values = slices.Repeat([]string{"[secret]"}, len(values))
		}
		out[name] = values
	}
	return out
}

// hidden are the headers whose values are credentials, as a rule or for some vendor.
func hidden(name string) bool {
	switch name {
	case "Authorization", "Proxy-Authorization", "Cookie", "X-Api-Key":
		return true
	}
	return strings.Contains(name, "Token") || strings.Contains(name, "Secret")
}
