package appscan

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/hookyard/hookyard/connectors"
)

// placeholder stands in an address for the ID of the event's subject.
const placeholder = "{SubjectId}"

// Format calls an address and tells nothing but an ID: AppScan's own for what came from
// AppScan, else the one by which the hub's API answers.
type Format struct{}

// Name is "appscan".
func (Format) Name() string { return Name }

// EventTypes is the end of a scan. An application's change can be said as well, but not so
// that a receiver could tell the two apart; and a failed scan, for those who ask for it.
func (Format) EventTypes() []connectors.EventType {
	return []connectors.EventType{connectors.ScanCompleted}
}

// Render gives the ID as TargetSuffix, for Address, and no body.
func (Format) Render(e *connectors.Event, _ connectors.RenderOptions) (connectors.Rendered, error) {
	var x extras
	if len(e.Data.Attributes) > 0 && json.Unmarshal(e.Data.Attributes, &x) != nil || x.AppScan == nil {
		x.AppScan = &identities{}
	}
	var id string
	switch e.Type {
	case connectors.ScanCompleted, connectors.ScanFailed:
		if id = x.AppScan.ExecutionID; id == "" && e.Data.Scan != nil {
			id = e.Data.Scan.ID
		}
	case connectors.ApplicationChanged:
		if id = x.AppScan.ApplicationID; id == "" && e.Application != nil {
			id = e.Application.ID
		}
	default:
		return skip("AppScan's format has no call for %s", e.Type)
	}
	switch id {
	case "":
		return skip("AppScan's format tells an ID, and the event's subject has none")
	case ".", "..":
		return skip("the ID %q means something else in an address", id)
	}
	return connectors.Rendered{Method: http.MethodGet, TargetSuffix: id}, nil
}

func skip(format string, args ...any) (connectors.Rendered, error) {
	return connectors.Rendered{}, &connectors.SkipError{Reason: fmt.Sprintf(format, args...)}
}

// Address puts the ID in place of each {SubjectId} in path and query. Whatever else stands
// in braces stays, encoded as addresses demand it.
func (Format) Address(address, id string) (string, error) {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return "", fmt.Errorf("%q is not an address", address)
	}
	host, target := rest, "/"
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		host, target = rest[:i], rest[i:]
	}
	if target[0] == '?' {
		target = "/" + target
	}
	switch strings.ToLower(scheme) { // the Host header names the default port no more than AppScan does
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	}
	target = strings.ReplaceAll(target, placeholder, escape(id))
	return scheme + "://" + host + strings.NewReplacer("{", "%7B", "}", "%7D").Replace(target), nil
}

// escape writes s as one component: only what RFC 3986 calls unreserved stays.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; strange(rune(c)) && c != '.' && c != '~' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
