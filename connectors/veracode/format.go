package veracode

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/hookyard/hookyard/connectors"
)

// Format writes events down as Veracode SCA does. Every ID is a number of the hub's; what
// is not known is null. A scan whose number of vulnerabilities is not known is skipped
// unless the webhook asks for zeros.
type Format struct{}

// Name is "veracode-sca".
func (Format) Name() string { return Name }

// EventTypes are what Veracode tells. Tickets are not among them: they would tell a
// finding a second time.
func (Format) EventTypes() []connectors.EventType {
	return []connectors.EventType{connectors.ScanCompleted, connectors.FindingDiscovered, connectors.FindingChanged}
}

// The spaces of numbers.
const (
	numberOrganization  = "organization"
	numberWorkspace     = "workspace"
	numberProject       = "project"
	numberUser          = "user"
	numberScan          = "scan"
	numberIssue         = "issue"
	numberVulnerability = "vulnerability"
)

// keys name the objects that a message numbers; a zero key is an object that it has not.
type keys struct{ organization, workspace, project, user, subject, vulnerability connectors.NumberKey }

// keysOf names the objects of e; ok is false when the format has no message for it.
func keysOf(e *connectors.Event) (k keys, ok bool) {
	key := func(kind string, id ...string) connectors.NumberKey {
		return connectors.NumberKey{Kind: kind, ID: connectors.Identity(id...)}
	}
	k.organization = key(numberOrganization, e.Organization.ID)
	k.workspace = key(numberWorkspace, e.Organization.ID) // what is in no asset group is the organization's
	if e.AssetGroup != nil {
		k.workspace = key(numberWorkspace, e.AssetGroup.ID)
	}
	k.project = key(numberProject, e.Source, projectName(e)) // what is mapped to no application is known by name
	if e.Application != nil {
		k.project = key(numberProject, e.Application.ID)
	}
	switch d := &e.Data; e.Type {
	case connectors.ScanCompleted:
		if d.Scan == nil {
			return k, false
		}
		k.subject = key(numberScan, d.Scan.ID)
		if a := d.Scan.Actor; a != nil {
			k.user = key(numberUser, e.Source, a.ID, a.Email, a.Name)
		}
	case connectors.FindingDiscovered, connectors.FindingChanged:
		f := d.Finding
		if f == nil {
			return k, false
		}
		k.subject, k.vulnerability = key(numberIssue, f.ID), key(numberVulnerability, f.ID)
		if f.CVE != "" {
			k.vulnerability = key(numberVulnerability, f.CVE)
		} else if v := known(e); v.ID != "" {
			k.vulnerability = key(numberVulnerability, e.Source, v.ID)
		}
	case connectors.TicketOpened, connectors.TicketClosed:
		if d.Ticket == nil {
			return k, false
		}
		k.subject, k.vulnerability = key(numberIssue, d.Ticket.ID), key(numberVulnerability, d.Ticket.ID)
	default:
		return k, false
	}
	return k, true
}

// Numbers asks for a number for every object of the message.
func (Format) Numbers(e *connectors.Event) []connectors.NumberKey {
	k, ok := keysOf(e)
	if !ok {
		return nil
	}
	list := []connectors.NumberKey{k.organization, k.workspace, k.project, k.subject}
	for _, more := range []connectors.NumberKey{k.user, k.vulnerability} {
		if more.Kind != "" {
			list = append(list, more)
		}
	}
	return list
}

// known is what the source, if it is Veracode itself, told of a vulnerability and no
// other noun has room for.
func known(e *connectors.Event) (v vulnerability) {
	var x extras
	if len(e.Data.Attributes) > 0 && json.Unmarshal(e.Data.Attributes, &x) == nil && x.Veracode != nil {
		v = *x.Veracode
	}
	return v
}

// projectName is the application's name, or that of what was scanned.
func projectName(e *connectors.Event) string {
	switch {
	case e.Application != nil:
		return e.Application.Name
	case e.Data.Scan != nil:
		return e.Data.Scan.Name
	}
	return ""
}

type organizationMessage struct {
	ID       int32  `json:"id"`
	Name     string `json:"name"`
	PlanType string `json:"planType"`
}

type namedMessage struct {
	ID   int32  `json:"id"`
	Name string `json:"name"`
}

// message has either a scan or issues, as its event has it; the other key is not there at all.
type message struct {
	Event        string              `json:"event"`
	Organization organizationMessage `json:"organization"`
	Workspace    namedMessage        `json:"workspace"`
	User         *namedMessage       `json:"user"`
	Scan         *scanMessage        `json:"scan,omitempty"`
	Issues       []issueMessage      `json:"issues,omitempty"`
	Project      namedMessage        `json:"project"`
}

type scanMessage struct {
	ID        int32   `json:"id"`
	Commit    *string `json:"commit"`
	Branch    *string `json:"branch"`
	Tag       *string `json:"tag"`
	Report    string  `json:"reportLink"`
	Issues    int     `json:"vulnIssuesCount"`
	OutOfDate int     `json:"outofDateIssuesCount"`
	Licence   int     `json:"licenseIssuesCount"`
}

type issueMessage struct {
	ID     int32       `json:"id"`
	Status string      `json:"status"`
	URL    string      `json:"issueUrl"`
	Vuln   vulnMessage `json:"vuln"`
}

type vulnMessage struct {
	ID             int32    `json:"id"`
	Title          string   `json:"title"`
	Score          *float64 `json:"cvssScore"`
	Score3         *float64 `json:"cvss3Score"`
	CVE            *string  `json:"cve"`
	CVEStatus      string   `json:"cveStatus"`
	Stage          string   `json:"stage"`
	DisclosureDate *string  `json:"disclosureDate"`
	HasExploits    bool     `json:"hasExploits"`
	Types          []string `json:"vulnerabilityTypes"`
	Overview       *string  `json:"overview"`
}

// Render writes e down.
func (Format) Render(e *connectors.Event, o connectors.RenderOptions) (connectors.Rendered, error) {
	k, ok := keysOf(e)
	switch {
	case ok:
	case e.Type == connectors.ScanFailed:
		return skip("Veracode's format tells of successful scans only")
	default:
		return skip("Veracode's format has no message for %s", e.Type)
	}
	n := numbers{o.Numbers, nil}
	m := message{
		Organization: organizationMessage{n.of(k.organization), e.Organization.Name, planType},
		Workspace:    namedMessage{ID: n.of(k.workspace)},
		Project:      namedMessage{n.of(k.project), projectName(e)},
	}
	if e.AssetGroup != nil {
		m.Workspace.Name = e.AssetGroup.Name
	}
	if err := m.fill(e, o, &n, k); err != nil {
		return connectors.Rendered{}, err
	}
	if n.missing != nil {
		return skip("Veracode's format demands a number for the %s, and there is none", n.missing.Kind)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		return skip("it cannot be written as JSON: %v", err)
	}
	return connectors.Rendered{
		Method: http.MethodPost,
		Header: []connectors.Header{{Name: "Content-Type", Value: "application/json"}},
		Body:   bytes.TrimSuffix(b.Bytes(), []byte{'\n'}),
	}, nil
}

func skip(format string, args ...any) (connectors.Rendered, error) {
	return connectors.Rendered{}, &connectors.SkipError{Reason: fmt.Sprintf(format, args...)}
}

// numbers finds what was assigned, and remembers the first that was not.
type numbers struct {
	assigned map[connectors.NumberKey]int32
	missing  *connectors.NumberKey
}

func (n *numbers) of(k connectors.NumberKey) int32 {
	v, ok := n.assigned[k]
	if !ok && n.missing == nil {
		n.missing = &k
	}
	return v
}

// fill writes what the kind of the event has of its own.
func (m *message) fill(e *connectors.Event, o connectors.RenderOptions, n *numbers, k keys) error {
	switch d := &e.Data; e.Type {
	case connectors.ScanCompleted:
		s := d.Scan
		m.Event = eventScan
		if s.Actor != nil {
			m.User = &namedMessage{n.of(k.user), s.Actor.Name}
		}
		issues, ok := total(s.Counts)
		if !ok && o.UnknownCounts != connectors.UnknownCountsZero {
			return &connectors.SkipError{Reason: "Veracode's format demands the number of vulnerabilities, and it is not known"}
		}
		m.Scan = &scanMessage{ID: n.of(k.subject), Commit: null(s.Commit), Branch: null(s.Branch), Tag: null(s.Tag), Report: link(s.Link, o, "scans", s.ID),
			Issues: issues, OutOfDate: count(s.OutOfDate), Licence: count(s.Licence)}
	case connectors.FindingDiscovered, connectors.FindingChanged:
		f, v := d.Finding, known(e)
		m.Event = eventDiscovered
		if e.Type == connectors.FindingChanged {
			m.Event = eventChanged
		}
		types := append([]string{}, f.Types...)
		if f.CWE != "" && !slices.Contains(types, f.CWE) {
			types = append(types, f.CWE)
		}
		m.Issues = []issueMessage{{ID: n.of(k.subject), Status: statusWord(f.Status), URL: link(f.Link, o, "findings", f.ID), Vuln: vulnMessage{
			ID: n.of(k.vulnerability), Title: f.Title, Score: f.CVSS2, Score3: f.CVSS3, CVE: null(f.CVE), CVEStatus: or(v.CVEStatus, cveStatus),
			Stage: or(v.Stage, stage), DisclosureDate: v.DisclosureDate, HasExploits: f.HasExploits != nil && *f.HasExploits, Types: types, Overview: null(f.Description),
		}}}
	case connectors.TicketOpened, connectors.TicketClosed:
		t := d.Ticket
		m.Event = eventDiscovered
		i := issueMessage{ID: n.of(k.subject), Status: statusNew, URL: link(or(t.Link, t.AssetLink), o, "tickets", t.ID),
			Vuln: vulnMessage{ID: n.of(k.vulnerability), Title: t.Title, CVEStatus: cveStatus, Stage: stage, Types: []string{}}}
		if e.Type == connectors.TicketClosed {
			m.Event, i.Status = eventChanged, statusResolved
		}
		m.Issues = []issueMessage{i}
	}
	return nil
}

// total is how many vulnerabilities a scan found. Findings for information need not be counted.
func total(c *connectors.Counts) (n int, known bool) {
	switch {
	case c == nil:
		return 0, false
	case c.Total != nil:
		return *c.Total, true
	}
	return count(c.Critical) + count(c.High) + count(c.Medium) + count(c.Low) + count(c.Info),
		c.Critical != nil && c.High != nil && c.Medium != nil && c.Low != nil
}

// statusWord is Veracode's word for a status; what it has no word for stays as it is.
func statusWord(s string) string {
	switch s {
	case "", open:
		return statusNew
	case resolved:
		return statusResolved
	}
	return s
}

func count(n *int) int {
	if n == nil {
		return 0
	}
	return *n
}

func null(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func or(s, other string) string {
	if s != "" {
		return s
	}
	return other
}

// link is the vendor's own link, or ours, or "".
func link(given string, o connectors.RenderOptions, noun, id string) string {
	if given != "" || o.PublicURL == "" || id == "" {
		return given
	}
	return o.PublicURL + "/" + noun + "/" + id
}
