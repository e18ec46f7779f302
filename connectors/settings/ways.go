package settings

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Ways are the settings, secret ones too, that decide where a connector connects to and whom
// it believes there: by name, what of the value does. They are what is written as an address,
// of which scheme, host and port count; what has a format of hosts or addresses; ports by
// their names, and "ca_bundle". A default counts as set. Settings with equal Ways lead to the same places.
func (s *Schema) Ways(plain map[string]any, secrets map[string]string) map[string]string {
	all := map[string]any{}
	for name, p := range s.properties {
		all[name] = p.Default
	}
	maps.Copy(all, plain)
	for name, v := range secrets {
		all[name] = v
	}
	ways := map[string]string{}
	for name, v := range all {
		p := s.properties[name]
		way := strings.Join(p.places(v), " ")
		if v != nil && (name == "ca_bundle" || name == "port" || strings.HasSuffix(name, "_port")) {
			way = strings.TrimSpace(fmt.Sprint(v))
		}
		if way != "" {
			ways[name] = way
		}
	}
	return ways
}

// places are those that a value names.
func (p *property) places(v any) (out []string) {
	switch v := v.(type) {
	case string:
		switch p.Format {
		case "hostname", "idn-hostname", "ipv4", "ipv6", "uri", "uri-reference", "iri", "iri-reference":
			return []string{place(v, true)}
		}
		if to := place(v, false); to != "" {
			return []string{to}
		}
	case []any:
		item := inner(p.Items)
		for _, x := range v {
			out = append(out, item.places(x)...)
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			part := inner(p.Properties[name])
			for _, to := range part.places(v[name]) {
				out = append(out, name+"="+to)
			}
		}
	}
	return out
}

// inner is a property's part; one that is no object says nothing.
func inner(raw json.RawMessage) (p property) {
	_ = json.Unmarshal(raw, &p)
	return p
}

// Place is the scheme, host and port of an address; any other text stands for itself.
func Place(address string) string { return place(address, true) }

// place is the scheme, host and port that a text names, or all of it when it names one in a
// way that is not understood, or has to name one; "" when it is no address.
func place(s string, has bool) string {
	s = strings.TrimSpace(s)
	if u, err := url.Parse(s); err == nil && u.Host != "" {
		port := u.Port()
		if usual := map[string]string{"http": "80", "https": "443", "ws": "80", "wss": "443", "socks5": "1080"}[u.Scheme]; port == usual {
			port = ""
		}
		return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
	}
	host, port, _ := net.SplitHostPort(s)
	_, err := strconv.ParseUint(port, 10, 16)
	if has || strings.Contains(s, "://") || err == nil && (net.ParseIP(host) != nil || strings.ContainsFunc(host, unicode.IsLetter)) {
		return strings.ToLower(s)
	}
	return ""
}
