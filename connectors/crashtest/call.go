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
		c.Setup.Basic = &connectors.BasicAuth{} // an empty section clears what was there
		if s.Basic != nil {
			if s.Basic.Username == "" {
				return connectors.Refuse(http.StatusUnprocessableEntity, "system_authentication.basic_auth.username", "is missing or empty")
			}
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
	switch {
	case p.Specs == nil:
		return nil
	case target != connectors.TargetAPI:
		return connectors.Refuse(http.StatusUnprocessableEntity, "specs", "a specification belongs to an API, and this project's target is a web application")
	case len(p.Specs.API) == 0, p.Specs.API[0] == 'n':
		return nil
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
	if base, ok := spec["basePath"].(string); spec["basePath"] != nil && (!ok || !isBase(base)) {
		return nil, connectors.Refuse(http.StatusUnprocessableEntity, at+".basePath", "must be a path that begins with one /") // it is put behind the host
	}
	if err := named(spec, at, maxDepth, &hosts); err != nil {
		return nil, err
	}
	slices.SortFunc(hosts, func(a, b connectors.NamedHost) int { return strings.Compare(a.Field+a.Host, b.Field+b.Host) })
	return hosts, nil
}

func isBase(path string) bool {
	return path == "" || path[0] == '/' && !strings.HasPrefix(path, "//") && !strings.ContainsFunc(path, strange)
}

// strange says whether a character has no place in an address: readers of addresses do
// not agree on what it means there.
func strange(r rune) bool { return r <= ' ' || r == '\\' || r == 0x7f }

// maxDepth is how deep a specification may be nested.
const maxDepth = 100

// named walks v and lists the addresses of servers, and of parts of the document that are
// elsewhere.
func named(v any, at string, depth int, hosts *[]connectors.NamedHost) error {
	if depth == 0 {
		return connectors.Refuse(http.StatusUnprocessableEntity, "specs.api_spec", "is nested deeper than %d levels", maxDepth)
	}
	switch v := v.(type) {
	case []any:
		for i, x := range v {
			if err := named(x, fmt.Sprintf("%s[%d]", at, i), depth-1, hosts); err != nil {
				return err
			}
		}
	case map[string]any:
		for name, x := range v {
			if err := namedBy(name, x, at+"."+name, hosts); err != nil {
				return err
			}
			if err := named(x, at+"."+name, depth-1, hosts); err != nil {
				return err
			}
		}
	}
	return nil
}

// namedBy lists what one member of an object names by itself.
func namedBy(name string, x any, field string, hosts *[]connectors.NamedHost) error {
	switch name {
	case "servers":
		list, _ := x.([]any)
		for i, server := range list {
			if err := namedBy("server", server, fmt.Sprintf("%s[%d]", field, i), hosts); err != nil {
				return err
			}
		}
	case "server":
		if m, ok := x.(map[string]any); ok {
			s, _ := m["url"].(string)
			return address(s, field+".url", hosts)
		}
	case "$ref", "$dynamicRef", "$id", "operationRef", "externalValue", // parts of the document
		"tokenUrl", "authorizationUrl", "refreshUrl", "deviceAuthorizationUrl", "openIdConnectUrl": // where tokens come from
		if s, ok := x.(string); ok {
			return address(s, field, hosts)
		}
	}
	return nil
}

// address adds the place that an address names; a relative one names none. What could be
// read as either is refused: the scanner may read it in the other way.
func address(s, field string, hosts *[]connectors.NamedHost) error {
	s, _, _ = strings.Cut(s, "#") // what follows is in there
	scheme, rest, absolute := "", s, false
	if i := strings.IndexAny(s, ":/?"); i >= 0 && s[i] == ':' {
		scheme, rest, absolute = s[:i], s[i+1:], true
	}
	host, far := strings.CutPrefix(rest, "//")
	variable := strings.IndexByte(s, '{')
	switch {
	case strings.ContainsFunc(s, strange):
		return connectors.Refuse(http.StatusUnprocessableEntity, field, "must not have blanks, control characters or backslashes")
	case absolute && !far:
		return connectors.Refuse(http.StatusUnprocessableEntity, field, "must be an http or https address, or a relative one")
	case !far && variable >= 0 && (s[0] != '/' || variable < 2):
		return connectors.Refuse(http.StatusUnprocessableEntity, field, "must not begin with a variable, which could name any host")
	case !far:
		return nil
	}
	if i := strings.IndexAny(host, "/?"); i >= 0 {
		host = host[:i]
	}
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		host = host[i+1:]
	}
	if absolute {
		host = scheme + "://" + host
	}
	*hosts = append(*hosts, connectors.NamedHost{Host: host, Field: field})
	return nil
}
