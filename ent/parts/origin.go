package parts

import (
	"net/url"
	"strings"
)

// Origin is the origin of an address of the web as browsers write it,
// "https://app.example.com": in lower case, and without the port that everybody knows. ok is
// false for what is no such address, or has a user, a fragment or a placeholder in its host.
func Origin(address string) (origin string, ok bool) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" || strings.ContainsAny(u.Host, "{}") {
		return "", false
	}
	var usual string
	switch u.Scheme {
	case "http":
		usual = ":80"
	case "https":
		usual = ":443"
	default:
		return "", false
	}
	host := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(u.Host), usual), ":")
	return u.Scheme + "://" + host, true
}
