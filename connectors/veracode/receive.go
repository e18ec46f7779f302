package veracode

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"

	"github.com/hookyard/hookyard/connectors"
)

// Receiver reads what Veracode SCA sends. A scan is known again by its ID; an issue's
// event is a repeat only when it equals the last state of that issue. Messages carry no
// time, so events happen when they are received. An event that is not known is fine but ignored.
type Receiver struct{}

// Kind is "veracode-sca".
func (Receiver) Kind() string { return Name }

// Handshake answers the HEAD with which Veracode finds out whether an address exists.
func (Receiver) Handshake(in connectors.Inbound) *connectors.Reply {
	if in.Method != http.MethodHead {
		return nil
	}
	return &connectors.Reply{Status: http.StatusOK}
}

type named struct {
	ID   *int64 `json:"id"`
	Name string `json:"name"`
}

type payload struct {
	Event        string  `json:"event"`
	Organization *named  `json:"organization"`
	Workspace    *named  `json:"workspace"`
	User         *named  `json:"user"`
	Project      *named  `json:"project"`
	Scan         *scan   `json:"scan"`
	Issues       *issues `json:"issues"`
}

type scan struct {
	ID        *int64  `json:"id"`
	Commit    *string `json:"commit"`
	Branch    *string `json:"branch"`
	Tag       *string `json:"tag"`
	Report    string  `json:"reportLink"`
	Issues    *int    `json:"vulnIssuesCount"`
	OutOfDate *int    `json:"outofDateIssuesCount"`
	Licence   *int    `json:"licenseIssuesCount"`
}

// issues are read only as far as a hub can take them, so that a list without end costs
// little more than its bytes; it is refused for what is one too many.
type issues []issue

const mostIssues = 2000

// UnmarshalJSON implements json.Unmarshaler.
func (l *issues) UnmarshalJSON(b []byte) error {
	var each []json.RawMessage
	if err := json.Unmarshal(b, &each); err != nil {
		return err
	}
	*l = make(issues, min(len(each), mostIssues+1))
	for i := range *l {
		err := json.Unmarshal(each[i], &(*l)[i])
		if of := (*json.UnmarshalTypeError)(nil); errors.As(err, &of) {
			of.Field = "issues." + of.Field
		}
		if err != nil {
			return err
		}
	}
	return nil
}

type issue struct {
	ID     *int64 `json:"id"`
	Status string `json:"status"`
	URL    string `json:"issueUrl"`
	Vuln   *vuln  `json:"vuln"`
}

type vuln struct {
	ID             *int64   `json:"id"`
	Title          string   `json:"title"`
	Score          *float64 `json:"cvssScore"`
	Score3         *float64 `json:"cvss3Score"`
	CVE            *string  `json:"cve"`
	CVEStatus      string   `json:"cveStatus"`
	Stage          string   `json:"stage"`
	DisclosureDate *string  `json:"disclosureDate"`
	HasExploits    *bool    `json:"hasExploits"`
	Types          []string `json:"vulnerabilityTypes"`
	Overview       *string  `json:"overview"`
}

// Receive turns a message into one event, or one for each of its issues.
func (Receiver) Receive(in connectors.Inbound) (connectors.Received, error) {
	if in.Method != "" && in.Method != http.MethodPost {
		return connectors.Received{}, connectors.Refuse(http.StatusMethodNotAllowed, "", "Veracode sends with POST, not %s", in.Method)
	}
	var p payload
	if err := connectors.DecodeBody(in.Body, &p); err != nil {
		return connectors.Received{}, err
	}
	var out connectors.Received
	var err error
	switch p.Event {
	case "":
		return out, missing("event")
	case eventScan:
		out.Items, err = p.scan()
	case eventDiscovered:
		out.Items, err = p.issues(connectors.FindingDiscovered)
	case eventChanged:
		out.Items, err = p.issues(connectors.FindingChanged)
	default:
		event := p.Event
		if r := []rune(event); len(r) > 80 {
			event = string(r[:80]) + "…"
		}
		out.Note = fmt.Sprintf("No event that we know: %q.", event)
	}
	if err != nil {
		return connectors.Received{}, err
	}
	if len(out.Items) == 0 && out.Note == "" {
		out.Note = "The message lists no issues."
	}
	return out, nil
}

func missing(field string) error {
	return connectors.Refuse(http.StatusUnprocessableEntity, field, "is missing")
}

// check refuses a message without what each of them has, or with an ID that is none.
func (p *payload) check() error {
	for _, n := range []struct {
		field string
		named *named
		must  bool
	}{{"organization", p.Organization, false}, {"workspace", p.Workspace, false}, {"user", p.User, false}, {"project", p.Project, true}} {
		switch {
		case n.named == nil && n.must:
			return missing(n.field)
		case n.named == nil:
		case n.named.ID == nil:
			return missing(n.field + ".id")
		case *n.named.ID < 0:
			return connectors.Refuse(http.StatusUnprocessableEntity, n.field+".id", "must not be negative")
		}
	}
	return nil
}

// number reads an ID.
func number(field string, id *int64) (string, error) {
	switch {
	case id == nil:
		return "", missing(field)
	case *id < 0:
		return "", connectors.Refuse(http.StatusUnprocessableEntity, field, "must not be negative")
	}
	return strconv.FormatInt(*id, 10), nil
}

// fields are the names that mapping rules may look at.
func (p *payload) fields() map[string]string {
	f := map[string]string{"event": p.Event}
	for name, n := range map[string]*named{"organization": p.Organization, "workspace": p.Workspace, "project": p.Project, "user": p.User} {
		if n == nil {
			continue
		}
		f[name+".id"] = strconv.FormatInt(*n.ID, 10)
		if n.Name != "" {
			f[name] = n.Name
		}
	}
	return f
}

func (p *payload) scan() ([]connectors.Incoming, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if p.Scan == nil {
		return nil, missing("scan")
	}
	id, err := number("scan.id", p.Scan.ID)
	if err != nil {
		return nil, err
	}
	for field, n := range map[string]*int{"vulnIssuesCount": p.Scan.Issues, "outofDateIssuesCount": p.Scan.OutOfDate, "licenseIssuesCount": p.Scan.Licence} {
		if n != nil && (*n < 0 || *n > math.MaxInt32) {
			return nil, connectors.Refuse(http.StatusUnprocessableEntity, "scan."+field, "must be a count")
		}
	}
	s := &connectors.Scan{Key: id, Name: p.Project.Name, Status: eventScan, Link: p.Scan.Report,
		Commit: text(p.Scan.Commit), Branch: text(p.Scan.Branch), Tag: text(p.Scan.Tag), OutOfDate: p.Scan.OutOfDate, Licence: p.Scan.Licence}
	if p.Scan.Issues != nil {
		s.Counts = &connectors.Counts{Total: p.Scan.Issues}
	}
	if u := p.User; u != nil {
		s.Actor = &connectors.Actor{ID: strconv.FormatInt(*u.ID, 10), Name: u.Name}
	}
	f := p.fields()
	for name, v := range map[string]string{"commit": s.Commit, "branch": s.Branch, "tag": s.Tag} {
		if v != "" {
			f[name] = v
		}
	}
	return []connectors.Incoming{{Type: connectors.ScanCompleted, Data: connectors.Data{Scan: s}, Key: "scan " + id, Fields: f, DefaultField: "project"}}, nil
}

func (p *payload) issues(t connectors.EventType) ([]connectors.Incoming, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if p.Issues == nil {
		return nil, missing("issues")
	}
	items := make([]connectors.Incoming, 0, len(*p.Issues))
	for i := range *p.Issues {
		item, err := (*p.Issues)[i].finding(fmt.Sprintf("issues[%d]", i))
		if err != nil {
			return nil, err
		}
		item.Type, item.DefaultField = t, "project"
		item.Fields = p.fields()
		item.Fields["status"], item.Fields["severity"] = (*p.Issues)[i].Status, string(item.Data.Finding.Severity)
		items = append(items, item)
	}
	return items, nil
}

// finding is one issue; at is its path.
func (n *issue) finding(at string) (item connectors.Incoming, err error) {
	id, err := number(at+".id", n.ID)
	if err != nil {
		return item, err
	}
	v := n.Vuln
	if v == nil {
		return item, missing(at + ".vuln")
	}
	vulnID, err := number(at+".vuln.id", v.ID)
	if err != nil {
		return item, err
	}
	if v.Title == "" {
		return item, connectors.Refuse(http.StatusUnprocessableEntity, at+".vuln.title", "is missing or empty")
	}
	f := &connectors.Finding{Key: id, Title: v.Title, Severity: severity(v.Score3, v.Score), Status: status(n.Status), CVSS2: v.Score, CVSS3: v.Score3,
		CVE: text(v.CVE), Types: v.Types, Description: text(v.Overview), HasExploits: v.HasExploits, Link: n.URL}
	more, err := json.Marshal(extras{&vulnerability{ID: vulnID, CVEStatus: v.CVEStatus, Stage: v.Stage, DisclosureDate: v.DisclosureDate}})
	if err != nil {
		return item, fmt.Errorf("write down what only Veracode tells: %w", err)
	}
	state, err := json.Marshal(n)
	if err != nil {
		return item, fmt.Errorf("write an issue's state down: %w", err)
	}
	return connectors.Incoming{Data: connectors.Data{Finding: f, Attributes: more}, Key: "issue " + id, State: connectors.Digest(state)}, nil
}

func status(s string) string {
	switch s {
	case statusNew:
		return open
	case statusResolved:
		return resolved
	}
	return s
}

// severity follows the score of version 3, else that of version 2, which knows no critical.
func severity(v3, v2 *float64) connectors.Severity {
	score, top := v3, connectors.SeverityCritical
	if score == nil {
		score, top = v2, connectors.SeverityHigh
	}
	switch {
	case score == nil:
		return connectors.SeverityUnknown
	case *score >= 9:
		return top
	case *score >= 7:
		return connectors.SeverityHigh
	case *score >= 4:
		return connectors.SeverityMedium
	case *score > 0:
		return connectors.SeverityLow
	}
	return connectors.SeverityInfo
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
