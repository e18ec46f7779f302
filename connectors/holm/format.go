package holm

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

// numberKind is the space in which findings and tickets without a number of their
// own get one.
const numberKind = "ticket"

// Format writes events down as Holm Security does. Times are UTC. What is not known
// is "", and counts that are not known skip the event unless the webhook asks for zeros.
type Format struct{}

// Name is "holm".
func (Format) Name() string { return Name }

// EventTypes are what Holm tells. Findings are not among them: as tickets they would tell
// of a ticket's cause a second time.
func (Format) EventTypes() []connectors.EventType {
	return []connectors.EventType{connectors.ScanScheduled, connectors.ScanCompleted, connectors.ScanFailed,
		connectors.TicketOpened, connectors.TicketClosed}
}

// Numbers asks for a ticket number for what has none.
func (Format) Numbers(e *connectors.Event) []connectors.NumberKey {
	key := connectors.NumberKey{Kind: numberKind}
	switch f, t := e.Data.Finding, e.Data.Ticket; e.Type {
	case connectors.FindingDiscovered:
		if f != nil {
			key.ID = f.ID
		}
	case connectors.FindingChanged:
		if f != nil && f.Status == statusResolved {
			key.ID = f.ID
		}
	case connectors.TicketOpened, connectors.TicketClosed:
		if t != nil && t.Number == nil {
			key.ID = t.ID
		}
	}
	if key.ID == "" {
		return nil
	}
	return []connectors.NumberKey{key}
}

// statusResolved is the canonical status of a finding that is gone.
const statusResolved = "resolved"

type scheduledScan struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	StartsAt string `json:"starts_at"`
	Link     string `json:"link"`
}

type finishedScan struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Started  string `json:"started"`
	Finished string `json:"finished"`
	Duration string `json:"duration"`
	Status   string `json:"status"`
	Errors   string `json:"errors"`
	Critical int    `json:"critical_cnt"`
	High     int    `json:"high_cnt"`
	Medium   int    `json:"medium_cnt"`
	Low      int    `json:"low_cnt"`
	Link     string `json:"link"`
}

type ticketMessage struct {
	Number            int    `json:"number"`
	Status            string `json:"status"`
	Severity          string `json:"severity"`
	VulnerabilityName string `json:"vulnerability_name"`
	AssetName         string `json:"asset_name"`
	AssetLink         string `json:"asset_link"`
	DueDate           string `json:"due_date"`
	Owner             string `json:"owner"`
}

// Render writes e down.
func (Format) Render(e *connectors.Event, o connectors.RenderOptions) (connectors.Rendered, error) {
	var message any
	var err error
	d := &e.Data
	kind := kindTicket
	switch e.Type {
	case connectors.ScanScheduled:
		if d.Scan == nil {
			return missing("scan")
		}
		kind = kindScheduled
		message = scheduledScan{Name: d.Scan.Name, Type: scanType(d.Scan.Type), StartsAt: minute(d.Scan.StartsAt),
			Link: link(d.Scan.Link, o, "scans", d.Scan.ID)}
	case connectors.ScanCompleted, connectors.ScanFailed:
		if d.Scan == nil {
			return missing("scan")
		}
		kind = kindFinished
		message, err = finished(e, o)
	case connectors.FindingDiscovered:
		if d.Finding == nil {
			return missing("finding")
		}
		message, err = findingTicket(e, o, statusOpen)
	case connectors.FindingChanged:
		if d.Finding == nil {
			return missing("finding")
		}
		if d.Finding.Status != statusResolved {
			return skip("Holm's format has no message for a finding that changed and is still open")
		}
		message, err = findingTicket(e, o, statusClosed)
	case connectors.TicketOpened, connectors.TicketClosed:
		if d.Ticket == nil {
			return missing("ticket")
		}
		message, err = ticket(e, o)
	default:
		return skip("Holm's format has no message for %s", e.Type)
	}
	if err != nil {
		return connectors.Rendered{}, err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(map[string]any{kind: message}); err != nil {
		return connectors.Rendered{}, fmt.Errorf("writing %s in Holm's format: %w", e.ID, err)
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

func missing(noun string) (connectors.Rendered, error) { return skip("the event holds no %s", noun) }

func finished(e *connectors.Event, o connectors.RenderOptions) (any, error) {
	scan := e.Data.Scan
	counts := scan.Counts
	if counts == nil {
		counts = &connectors.Counts{}
	}
	known := counts.Critical != nil && counts.High != nil && counts.Medium != nil && counts.Low != nil
	if !known && o.UnknownCounts != connectors.UnknownCountsZero {
		return nil, &connectors.SkipError{Reason: "Holm's format demands the numbers of critical, high, medium and low vulnerabilities, and they are not all known"}
	}
	errors := append([]string(nil), scan.Errors...)
	m := finishedScan{
		Name: scan.Name, Type: scanType(scan.Type), Status: statusCompleted,
		Started: minute(scan.StartedAt), Finished: minute(scan.FinishedAt), Duration: duration(scan),
		Critical: number(counts.Critical), High: number(counts.High), Medium: number(counts.Medium), Low: number(counts.Low),
		Link: link(scan.Link, o, "scans", scan.ID),
	}
	if m.Finished == "" && !e.Time.IsZero() {
		m.Finished = minute(&e.Time) // a scan's end is what these events tell of
	}
	if e.Type == connectors.ScanFailed {
		m.Status = statusFailed
		if len(errors) == 0 {
			errors = append(errors, failure(scan.Status))
		}
	}
	if !known && counts.Total != nil {
		errors = append(errors, fmt.Sprintf("%d vulnerabilities in total; how they divide into severities is not known.", *counts.Total))
	}
	m.Errors = strings.Join(errors, errorSeparator)
	return m, nil
}

// failure is the reason of a failed scan whose source gave none.
func failure(status string) string {
	if status == "" || strings.EqualFold(status, statusFailed) {
		return "The scan failed; no reason was given."
	}
	return "The scan ended with the status " + status + "."
}

func findingTicket(e *connectors.Event, o connectors.RenderOptions, status string) (any, error) {
	f := e.Data.Finding
	n, ok := o.Numbers[connectors.NumberKey{Kind: numberKind, ID: f.ID}]
	if !ok {
		return nil, &connectors.SkipError{Reason: "Holm's format demands a ticket number, and the finding has none"}
	}
	at := f.AssetLink
	if at == "" {
		at = link(f.Link, o, "findings", f.ID)
	}
	return ticketMessage{Number: int(n), Status: status, Severity: severityWord(f.Severity),
		VulnerabilityName: f.Title, AssetName: asset(e), AssetLink: at}, nil
}

func ticket(e *connectors.Event, o connectors.RenderOptions) (any, error) {
	t := e.Data.Ticket
	m := ticketMessage{Status: statusOpen, Severity: severityWord(t.Severity), VulnerabilityName: t.Title,
		AssetName: t.Asset, AssetLink: t.AssetLink, DueDate: t.DueDate, Owner: t.Owner}
	if e.Type == connectors.TicketClosed {
		if strings.HasPrefix(t.Status, "Closed (") && t.Status != statusClosed {
			return nil, &connectors.SkipError{Reason: fmt.Sprintf("Holm's format knows closed tickets as %q only, and this one is %q", statusClosed, t.Status)}
		}
		m.Status = statusClosed
	}
	if t.Number != nil {
		m.Number = *t.Number
	} else if n, ok := o.Numbers[connectors.NumberKey{Kind: numberKind, ID: t.ID}]; ok {
		m.Number = int(n)
	} else {
		return nil, &connectors.SkipError{Reason: "Holm's format demands a ticket number, and the ticket has none"}
	}
	if m.AssetLink == "" {
		m.AssetLink = link(t.Link, o, "tickets", t.ID)
	}
	return m, nil
}

// asset is the name of what a finding was found on: as given, else the host that it
// affects, else the application.
func asset(e *connectors.Event) string {
	f := e.Data.Finding
	if f.Asset != "" {
		return f.Asset
	}
	if u, err := url.Parse(f.Endpoint); err == nil && u.Host != "" {
		return u.Hostname()
	}
	if f.Endpoint != "" {
		return f.Endpoint
	}
	if e.Application != nil {
		return e.Application.Name
	}
	return ""
}

// scanType is one of Holm's two words, or "".
func scanType(t string) string {
	switch t = strings.ToLower(t); t {
	case "network", "web application":
		return t
	}
	return ""
}

// link is the vendor's own link, or ours, or "".
func link(given string, o connectors.RenderOptions, noun, id string) string {
	if given != "" || o.PublicURL == "" || id == "" {
		return given
	}
	return o.PublicURL + "/" + noun + "/" + id
}

func minute(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(minuteLayout)
}

// duration is written as hours and minutes; hours go on beyond 24.
func duration(s *connectors.Scan) string {
	var seconds int
	switch {
	case s.Duration != nil:
		seconds = *s.Duration
	case s.StartedAt != nil && s.FinishedAt != nil:
		seconds = int(s.FinishedAt.Sub(*s.StartedAt) / time.Second)
	default:
		return ""
	}
	if seconds < 0 {
		return ""
	}
	return fmt.Sprintf("%02d:%02d", seconds/3600, seconds/60%60)
}

func number(n *int) int {
	if n == nil {
		return 0
	}
	return *n
}
