package agent

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/hookyard/hookyard/connectors"
)

// AllowSetting is what a refusal names: the setting with the targets that may be called.
const AllowSetting = "--allow of hookyard presence (HOOKYARD_ALLOW)"

// ParseAllow reads one line of the list of targets: a host name, "*.example.com" for all
// below it, an address or a CIDR, each with ":port" behind it or without, for any port.
func ParseAllow(s string) (connectors.AllowRule, error) {
	rule := connectors.AllowRule{Host: s, List: AllowSetting}
	if !isAddress(s) {
		if i := strings.LastIndexByte(s, ':'); i >= 0 {
			port, err := strconv.ParseUint(s[i+1:], 10, 16)
			if err != nil || port == 0 {
				return rule, fmt.Errorf("%q: %q is not a port", s, s[i+1:])
			}
			rule.Host, rule.Port = s[:i], int(port)
		}
	}
	rule.Host = strings.ToLower(strings.Trim(rule.Host, "[]"))
	if name := strings.TrimPrefix(rule.Host, "*."); !isAddress(rule.Host) && (name == "" || strings.ContainsAny(name, "*/: \t")) {
		return rule, fmt.Errorf("%q is neither a host name, nor an address, nor a CIDR", s)
	}
	return rule, nil
}

func isAddress(s string) bool {
	_, addr := netip.ParseAddr(s)
	_, prefix := netip.ParsePrefix(s)
	return addr == nil || prefix == nil
}

// policy is the address policy of every endpoint here: whatever is in the list, be it
// private or not, and nothing else.
func (a *Agent) policy() connectors.DialPolicy {
	return connectors.DialPolicy{Open: []string{"0.0.0.0/0", "::/0"}, Allow: a.c.Allow}
}

// refused says why nothing may be called for an endpoint, nil if the list is to decide.
func (a *Agent) refused(e *connectors.Endpoint) error {
	if len(a.c.Allow) == 0 { // for the policy an empty list would be no list
		return &connectors.PolicyError{Target: target(e), Reason: "this Presence allows no target yet", Setting: AllowSetting}
	}
	var s struct {
		ForwardProxy string `json:"forward_proxy"`
	}
	_ = json.Unmarshal(e.Settings, &s) // whatever else is in there is for the connector
	if s.ForwardProxy != "" || e.Secrets["forward_proxy"] != "" {
		return &connectors.PolicyError{Target: target(e), Reason: "through a proxy of the endpoint's choice the list could not be kept", Setting: "forward_proxy of the endpoint"}
	}
	return nil
}

func target(e *connectors.Endpoint) string {
	if e.URL != "" {
		return e.URL
	}
	return "the endpoint " + e.ID
}
