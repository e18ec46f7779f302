package apviso

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// Format writes events down as APVISO does. What is not known is null; a completed scan
// whose counts are not known is skipped unless the webhook asks for zeros. IDs are those of
// the source, so that scanId names the scan that came before.
type Format struct{}

// Name is "apviso".
func (Format) Name() string { return Name }

// EventTypes are all that APVISO tells. A ticket is not among them: it would tell a
// finding a second time.
func (Format) EventTypes() []connectors.EventType {
	return []connectors.EventType{connectors.ScanStarted, connectors.ScanProgress, connectors.ScanCompleted, connectors.ScanFailed,
		connectors.FindingDiscovered, connectors.ReportReady}
}

// HTTPSOnly says that APVISO calls no other addresses.
func (Format) HTTPSOnly() {}

// TextKeys says that the key is the secret as people see it.
func (Format) TextKeys() {}

// SignatureRule is X-APVISO-Signature, which has room for one signature. A retry is signed
// as the first attempt was.
func (Format) SignatureRule() connectors.SignatureRule {
	return connectors.SignatureRule{Header: signatureHeader, Prefix: signaturePrefix}
}

type message struct {
	Event     string `json:"event"`
	Timestamp string `json:"timestamp"`
	Data      any    `json:"data"`
}

type findingMessage struct {
	ID           string   `json:"id"`
	ScanID       *string  `json:"scanId"`
	Title        string   `json:"title"`
	Severity     *string  `json:"severity"`
	Score        *float64 `json:"cvssScore"`
	Vector       *string  `json:"cvssVector"`
	CWE          *string  `json:"cwe"`
	Endpoint     *string  `json:"affectedEndpoint"`
	Description  *string  `json:"description"`
	Reproduction []string `json:"reproduction"`
	Remediation  *string  `json:"remediation"`
	URL          string   `json:"url"`
}

type scanMessage struct {
	ID          string          `json:"id"`
	Target      string          `json:"target"`
	Status      string          `json:"status"`
	Progress    *int            `json:"progress,omitempty"`
	StartedAt   *string         `json:"startedAt"`
	CompletedAt *string         `json:"completedAt,omitempty"`
	Summary     *summaryMessage `json:"summary,omitempty"`
	Error       *errorText      `json:"error,omitempty"`
	URL         string          `json:"url"`
}

// errorText is null when there is no text.
type errorText string

// MarshalJSON writes it.
func (e errorText) MarshalJSON() ([]byte, error) { return json.Marshal(null(string(e))) }

type summaryMessage struct {
	Critical int `json:"critical"`
	High     int `json:"high"`
	Medium   int `json:"medium"`
	Low      int `json:"low"`
	Info     int `json:"info"`
	Total    int `json:"total"`
}

type reportMessage struct {
	ID          string  `json:"id"`
	ScanID      *string `json:"scanId"`
	Format      *string `json:"format"`
	DownloadURL *string `json:"downloadUrl"`
	URL         string  `json:"url"`
}

// Render writes e down.
func (Format) Render(e *connectors.Event, o connectors.RenderOptions) (connectors.Rendered, error) {
	m := message{Timestamp: e.Time.UTC().Format(timeLayout)}
	var err error
	switch d := &e.Data; e.Type {
	case connectors.ScanStarted, connectors.ScanProgress, connectors.ScanCompleted, connectors.ScanFailed:
		if d.Scan == nil {
			return skip("the event holds no scan")
		}
		m.Event = string(e.Type) // APVISO has the same four names
		m.Data, err = scan(e, o)
	case connectors.FindingDiscovered:
		if d.Finding == nil {
			return skip("the event holds no finding")
		}
		m.Event, m.Data = eventFinding, finding(e, o)
	case connectors.TicketOpened:
		if d.Ticket == nil {
			return skip("the event holds no ticket")
		}
		m.Event, m.Data = eventFinding, ticket(e, o)
	case connectors.ReportReady:
		r := d.Report
		if r == nil {
			return skip("the event holds no report")
		}
		m.Event = eventReport
		m.Data = reportMessage{ID: r.Key, ScanID: null(r.ScanKey), Format: null(strings.ToLower(r.Format)), DownloadURL: null(r.DownloadURL), URL: link(r.Link, o, "reports", r.ID)}
	case connectors.FindingChanged:
		return skip("APVISO's format tells of new findings only, not of those that changed")
	default:
		return skip("APVISO's format has no message for %s", e.Type)
	}
	if err != nil {
		return connectors.Rendered{}, err
	}
	return write(m)
}

func write(m message) (connectors.Rendered, error) {
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

func scan(e *connectors.Event, o connectors.RenderOptions) (any, error) {
	s := e.Data.Scan
	m := scanMessage{ID: s.Key, Target: first(s.Target, s.Name), Status: statusRunning, StartedAt: clock(s.StartedAt), URL: link(s.Link, o, "scans", s.ID)}
	switch e.Type {
	case connectors.ScanProgress:
		m.Progress = s.Progress
	case connectors.ScanCompleted:
		m.Status, m.CompletedAt = statusCompleted, clock(s.FinishedAt)
		if m.CompletedAt == nil {
			m.CompletedAt = clock(&e.Time) // a scan's end is what the event tells of
		}
		sum, known := summary(s.Counts)
		if !known && o.UnknownCounts != connectors.UnknownCountsZero {
			return nil, &connectors.SkipError{Reason: "APVISO's format demands the numbers of critical, high, medium and low findings, and they are not all known"}
		}
		m.Summary = &sum
	case connectors.ScanFailed:
		m.Status = statusFailed
		reason := errorText(strings.Join(s.Errors, "; "))
		if reason == "" && s.Status != "" && !strings.EqualFold(s.Status, statusFailed) {
			reason = errorText("The scan ended with the status " + s.Status + ".")
		}
		m.Error = &reason
	}
	return m, nil
}

// summary takes what is unknown for 0, and says whether that is more than findings for
// information, which not everybody counts.
func summary(c *connectors.Counts) (sum summaryMessage, known bool) {
	if c == nil {
		return sum, false
	}
	known = c.Critical != nil && c.High != nil && c.Medium != nil && c.Low != nil
	for _, n := range []struct {
		from *int
		to   *int
	}{{c.Critical, &sum.Critical}, {c.High, &sum.High}, {c.Medium, &sum.Medium}, {c.Low, &sum.Low}, {c.Info, &sum.Info}} {
		if n.from != nil {
			*n.to = *n.from
			sum.Total += *n.from
		}
	}
	if c.Total != nil {
		sum.Total = *c.Total
	}
	return sum, known
}

func finding(e *connectors.Event, o connectors.RenderOptions) any {
	f := e.Data.Finding
	return findingMessage{
		ID: f.Key, ScanID: null(f.ScanKey), Title: f.Title, Severity: null(string(f.Severity)), Score: first(f.CVSS3, f.CVSS2), Vector: null(f.Vector),
		CWE: null(first(f.CWE, weakness(f.Types))), Endpoint: null(first(f.Endpoint, f.Asset)), Description: null(f.Description),
		Reproduction: append([]string{}, f.Reproduction...), Remediation: null(f.Remediation), URL: link(f.Link, o, "findings", f.ID),
	}
}

// weakness is the first of the types that is a number of the CWE list.
func weakness(types []string) string {
	for _, t := range types {
		if n, ok := strings.CutPrefix(t, "CWE-"); ok && n != "" && strings.Trim(n, "0123456789") == "" {
			return t
		}
	}
	return ""
}

// ticket is a ticket that was opened, told as the finding that it is about.
func ticket(e *connectors.Event, o connectors.RenderOptions) any {
	t := e.Data.Ticket
	return findingMessage{ID: t.Key, Title: t.Title, Severity: null(string(t.Severity)), Endpoint: null(t.Asset), Reproduction: []string{},
		URL: link(first(t.Link, t.AssetLink), o, "tickets", t.ID)}
}

// null is nil for "".
func null(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func clock(t *time.Time) *string {
	if t == nil {
		return nil
	}
	return null(t.UTC().Format(timeLayout))
}

// link is the vendor's own link, or ours, or "".
func link(given string, o connectors.RenderOptions, noun, id string) string {
	if given != "" || o.PublicURL == "" || id == "" {
		return given
	}
	return o.PublicURL + "/" + noun + "/" + url.PathEscape(id)
}
