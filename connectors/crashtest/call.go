package crashtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/hookyard/hookyard/connectors"
)

// Call reads a request. A body that begins with "{" is a setup, whatever its content type
// says; other people's forms (deploy hooks) start a scan and are not read.
func (Trigger) Call(in connectors.Inbound, target connectors.TargetKind) (connectors.TriggerCall, error) {
	c, err := route(in)
	if err != nil || c.Verb != connectors.TriggerStart {
		return c, err
	}
	switch body := bytes.TrimSpace(in.Body); {
	case len(body) == 0:
		return c, nil
	case body[0] == '{':
		return c, setup(body, target, &c)
	case isForm(in.ContentType):
		return c, nil
	}
	return c, connectors.Refuse(http.StatusBadRequest, "", "the body is neither empty, nor a JSON object, nor a form")
}

// route reads method and path.
func route(in connectors.Inbound) (c connectors.TriggerCall, err error) {
	want := http.MethodGet
	parts := strings.Split(strings.Trim(in.Path, "/"), "/")
	switch {
	case len(parts) == 1 && parts[0] == "":
		c.Verb, want = connectors.TriggerStart, http.MethodPost
	case len(parts) == 3 && parts[0] == "scans" && parts[2] == "status":
		c.Verb = connectors.TriggerStatus
	case len(parts) == 4 && parts[0] == "scans" && parts[2] == "report" && parts[3] == "junit":
		c.Verb = connectors.TriggerReport
	default:
		return c, connectors.Refuse(http.StatusNotFound, "", "there is nothing at this address")
	}
	if in.Method != want {
		return c, connectors.Refuse(http.StatusMethodNotAllowed, "", "this address takes %s, not %s", want, in.Method)
	}
	if c.Verb != connectors.TriggerStart {
		if c.Scan, err = strconv.ParseInt(parts[1], 10, 64); err != nil || c.Scan < 0 {
			return c, connectors.Refuse(http.StatusNotFound, "", "there is no such scan")
		}
	}
	return c, nil
}

func isForm(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	return media == "application/x-www-form-urlencoded" || strings.HasPrefix(media, "multipart/")
}

// payload is the sections; one that is missing or null is not there.
type payload struct {
	System *struct {
		Basic *struct {
			Username string `json:"username"`
			Password string `json:"password"`
		} `json:"basic_auth"`
	} `json:"system_authentication"`
	Application *[]struct {
		Username string `json:"username"`
		Password string `json:"password"`
		URL      string `json:"url"`
	} `json:"application_authentication"`
	Parameters *[]struct {
		Type  string `json:"type"`
		Key   string `json:"key"`
		Value string `json:"value"`
	} `json:"parameter_authentication"`
	Specs *struct {
		API json.RawMessage `json:"api_spec"`
	} `json:"specs"`
}

// setup reads a payload into c.
func setup(body []byte, target connectors.TargetKind, c *connectors.TriggerCall) error {
	var p payload
	if err := connectors.DecodeBody(body, &p); err != nil {
		return err
	}
	if s := p.System; s != nil {
		c.Setup.Basic = &connectors.BasicAuth{} // without a user it clears what was there
		if s.Basic != nil {
			*c.Setup.Basic = connectors.BasicAuth(*s.Basic)
		}
	}
	if err := p.logins(target, c); err != nil {
		return err
	}
	if p.Parameters != nil {
		c.Setup.Parameters = []connectors.ScanParameter{}
		for i, x := range *p.Parameters {
			at := fmt.Sprintf("parameter_authentication[%d]", i)
			in := place(x.Type)
			switch {
			case in == "":
				return connectors.Refuse(http.StatusUnprocessableEntity, at+".type", "must be HEADER, COOKIE, QUERY, GET or POST")
			case x.Key == "":
				return connectors.Refuse(http.StatusUnprocessableEntity, at+".key", "is missing or empty")
			case strings.ContainsAny(x.Key+x.Value, "\r\n\x00"):
				return connectors.Refuse(http.StatusUnprocessableEntity, at, "must not have line ends")
			}
			c.Setup.Parameters = append(c.Setup.Parameters, connectors.ScanParameter{In: in, Name: x.Key, Value: x.Value})
		}
	}
	if p.Specs == nil || len(p.Specs.API) == 0 || p.Specs.API[0] == 'n' {
		return nil
	}
	if target != connectors.TargetAPI {
		return connectors.Refuse(http.StatusUnprocessableEntity, "specs", "a specification belongs to an API, and this project's target is a web application")
	}
	hosts, err := readSpec(p.Specs.API)
	if err != nil {
		return err
	}
	c.Setup.APISpec, c.Hosts = p.Specs.API, append(c.Hosts, hosts...)
	return nil
}

// logins reads the login forms, which only web applications have.
func (p *payload) logins(target connectors.TargetKind, c *connectors.TriggerCall) error {
	switch {
	case p.Application == nil, target == connectors.TargetAPI && len(*p.Application) == 0:
		return nil
	case target == connectors.TargetAPI:
		return connectors.Refuse(http.StatusUnprocessableEntity, "application_authentication", "a login form cannot be used with an API")
	}
	c.Setup.Logins = []connectors.Login{}
	for i, x := range *p.Application {
		c.Setup.Logins = append(c.Setup.Logins, connectors.Login{URL: x.URL, Username: x.Username, Password: x.Password})
		if x.URL == "" {
			continue
		}
		at := fmt.Sprintf("application_authentication[%d].url", i)
		u, err := url.Parse(x.URL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return connectors.Refuse(http.StatusUnprocessableEntity, at, "must be an http or https address")
		}
		c.Hosts = append(c.Hosts, connectors.NamedHost{Host: u.Scheme + "://" + u.Host, Field: at})
	}
	return nil
}

// place is where a parameter is sent; "" for a word that is not known.
func place(word string) string {
	switch strings.ToUpper(word) {
	case "HEADER":
		return "HEADER"
	case "COOKIE":
		return "COOKIE"
	case "QUERY", "GET":
		return "QUERY"
	case "POST":
		return "BODY"
	}
	return ""
}

// readSpec checks that a document is a specification and lists every place that it names.
func readSpec(raw json.RawMessage) ([]connectors.NamedHost, error) {
	const at = "specs.api_spec"
	var spec map[string]any
	if json.Unmarshal(raw, &spec) != nil {
		return nil, connectors.Refuse(http.StatusUnprocessableEntity, at, "must be an object")
	}
	if _, swagger := spec["swagger"]; !swagger && spec["openapi"] == nil {
		return nil, connectors.Refuse(http.StatusUnprocessableEntity, at, "must be a Swagger or OpenAPI document: it has neither swagger nor openapi")
	}
	var hosts []connectors.NamedHost
	if host, ok := spec["host"].(string); ok && host != "" {
		hosts = append(hosts, connectors.NamedHost{Host: host, Field: at + ".host"})
	} else if v := spec["host"]; !ok && v != nil {
		return nil, connectors.Refuse(http.StatusUnprocessableEntity, at+".host", "must be a string")
	}
	if !named(spec, at, maxDepth, &hosts) {
		return nil, connectors.Refuse(http.StatusUnprocessableEntity, at, "is nested deeper than %d levels", maxDepth)
	}
	slices.SortFunc(hosts, func(a, b connectors.NamedHost) int { return strings.Compare(a.Field+a.Host, b.Field+b.Host) })
	return hosts, nil
}

// maxDepth is how deep a specification may be nested.
const maxDepth = 100

// named walks v and lists the addresses of servers, and of parts of the document that are
// elsewhere; it says no when v is too deep.
func named(v any, at string, depth int, hosts *[]connectors.NamedHost) bool {
	if depth == 0 {
		return false
	}
	switch v := v.(type) {
	case []any:
		for i, x := range v {
			if !named(x, fmt.Sprintf("%s[%d]", at, i), depth-1, hosts) {
				return false
			}
		}
	case map[string]any:
		for name, x := range v {
			field := at + "." + name
			if s, ok := x.(string); ok && leads(name) {
				address(s, field, hosts)
			}
			if list, ok := x.([]any); ok && name == "servers" {
				for i, server := range list {
					if m, ok := server.(map[string]any); ok {
						s, _ := m["url"].(string)
						address(s, fmt.Sprintf("%s[%d].url", field, i), hosts)
					}
				}
			}
			if !named(x, field, depth-1, hosts) {
				return false
			}
		}
	}
	return true
}

// leads says whether a string of this name is an address that a scanner goes to: other
// parts of the document, or where it gets tokens.
func leads(name string) bool {
	switch name {
	case "$ref", "tokenUrl", "authorizationUrl", "refreshUrl", "openIdConnectUrl":
		return true
	}
	return false
}

// address adds the place that an address names; a relative one names none.
func address(s, field string, hosts *[]connectors.NamedHost) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		if rest, ok = strings.CutPrefix(s, "//"); !ok {
			return
		}
	}
	host := rest
	if i := strings.IndexAny(rest, `/?#\`); i >= 0 {
		host = rest[:i]
	}
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		host = host[i+1:]
	}
	if scheme != "" && scheme != s {
		host = scheme + "://" + host
	}
	*hosts = append(*hosts, connectors.NamedHost{Host: host, Field: field})
}
