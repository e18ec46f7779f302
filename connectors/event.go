package connectors

import (
	"encoding/json"
	"time"
)

// EventType is one of the canonical kinds below.
type EventType string

// The canonical kinds of events.
const (
	ScanScheduled      EventType = "scan.scheduled"
	ScanStarted        EventType = "scan.started"
	ScanProgress       EventType = "scan.progress"
	ScanCompleted      EventType = "scan.completed"
	ScanFailed         EventType = "scan.failed"
	FindingDiscovered  EventType = "finding.discovered"
	FindingChanged     EventType = "finding.changed" // including resolved
	TicketOpened       EventType = "ticket.opened"
	TicketClosed       EventType = "ticket.closed"
	ReportReady        EventType = "report.ready"
	ApplicationChanged EventType = "application.changed"
)

// EventTypes lists every kind in the order in which people meet them.
func EventTypes() []EventType {
	return []EventType{ScanScheduled, ScanStarted, ScanProgress, ScanCompleted, ScanFailed,
		FindingDiscovered, FindingChanged, TicketOpened, TicketClosed, ReportReady, ApplicationChanged}
}

// Valid says whether t is one of the canonical kinds.
func (t EventType) Valid() bool {
	for _, k := range EventTypes() {
		if t == k {
			return true
		}
	}
	return false
}

// Severity is a canonical severity word, lower case; "" is unknown.
type Severity string

// The severities, mildest first.
const (
	SeverityUnknown  Severity = ""
	SeverityInfo     Severity = "info"
	SeverityLow      Severity = "low"
	SeverityMedium   Severity = "medium"
	SeverityHigh     Severity = "high"
	SeverityCritical Severity = "critical"
)

// Rank orders severities: 0 unknown, 1 info … 5 critical; -1 for any other word.
func (s Severity) Rank() int {
	switch s {
	case SeverityUnknown:
		return 0
	case SeverityInfo:
		return 1
	case SeverityLow:
		return 2
	case SeverityMedium:
		return 3
	case SeverityHigh:
		return 4
	case SeverityCritical:
		return 5
	}
	return -1
}

// Ref names a hub object: its global ID and its name at the time of the event.
type Ref struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Event is one immutable fact, CloudEvents-shaped. Its JSON is the body of the
// format "hookyard" and the document that the ledger keeps.
type Event struct {
	ID           string    `json:"id"`     // "evt_…", time-ordered
	Type         EventType `json:"type"`   //
	Source       string    `json:"source"` // CloudEvents source, a URI reference
	Subject      string    `json:"subject,omitempty"`
	Time         time.Time `json:"time"`     // when it happened, UTC
	Received     time.Time `json:"received"` // when the hub accepted it, UTC
	Organization Ref       `json:"organization"`
	AssetGroup   *Ref      `json:"assetGroup,omitempty"`
	Application  *Ref      `json:"application,omitempty"` // nil: the source's mapping found none
	Data         Data      `json:"data"`
}

// Data holds what the event speaks of: exactly one of the nouns, by the kind of
// the event, and whatever else the sender chose to pass on.
type Data struct {
	Scan        *Scan              `json:"scan,omitempty"`
	Finding     *Finding           `json:"finding,omitempty"`
	Ticket      *Ticket            `json:"ticket,omitempty"`
	Report      *Report            `json:"report,omitempty"`
	Application *ApplicationCounts `json:"application,omitempty"`
	Attributes  json.RawMessage    `json:"attributes,omitempty"` // a JSON object, passed on unread
}

// Counts are vulnerabilities by severity; nil is unknown, which is not zero.
type Counts struct {
	Critical *int `json:"critical,omitempty"`
	High     *int `json:"high,omitempty"`
	Medium   *int `json:"medium,omitempty"`
	Low      *int `json:"low,omitempty"`
	Info     *int `json:"info,omitempty"`
	Total    *int `json:"total,omitempty"`
}

// Highest is the severest counter above zero. known is false when no counter is
// known; it is true with SeverityUnknown when all known counters are zero.
func (c *Counts) Highest() (s Severity, known bool) {
	if c == nil {
		return SeverityUnknown, false
	}
	for _, k := range []struct {
		n *int
		s Severity
	}{{c.Critical, SeverityCritical}, {c.High, SeverityHigh}, {c.Medium, SeverityMedium}, {c.Low, SeverityLow}, {c.Info, SeverityInfo}} {
		if k.n != nil {
			known = true
			if *k.n > 0 {
				return k.s, true
			}
		}
	}
	return SeverityUnknown, known
}

// Actor is a person at the vendor's side.
type Actor struct {
	ID    string `json:"id,omitempty"`
	Name  string `json:"name,omitempty"`
	Email string `json:"email,omitempty"`
}

// Scan is one execution of something named and repeatable.
type Scan struct {
	ID         string     `json:"id,omitempty"`     // the hub's ID, "scn_…"; set by the hub
	Key        string     `json:"key"`              // the source's own ID of this execution; unique within the source
	Name       string     `json:"name"`             //
	Type       string     `json:"type,omitempty"`   // "network", "web application", …, as the source says it
	Status     string     `json:"status,omitempty"` // as the source says it
	Target     string     `json:"target,omitempty"`
	StartsAt   *time.Time `json:"startsAt,omitempty"`
	StartedAt  *time.Time `json:"startedAt,omitempty"`
	FinishedAt *time.Time `json:"finishedAt,omitempty"`
	Duration   *int       `json:"durationSeconds,omitempty"`
	Progress   *int       `json:"progressPercent,omitempty"` // 0..100
	Counts     *Counts    `json:"counts,omitempty"`
	Errors     []string   `json:"errors,omitempty"`
	Link       string     `json:"link,omitempty"`
	Actor      *Actor     `json:"actor,omitempty"`
	Commit     string     `json:"commit,omitempty"`
	Branch     string     `json:"branch,omitempty"`
	Tag        string     `json:"tag,omitempty"`
	OutOfDate  *int       `json:"outOfDateCount,omitempty"`
	Licence    *int       `json:"licenceCount,omitempty"`
}

// Finding is one weakness that a scan or a research team found.
type Finding struct {
	ID           string   `json:"id,omitempty"` // the hub's ID, "fnd_…"; set by the hub
	Key          string   `json:"key"`          // the source's own ID; unique within the source
	ScanKey      string   `json:"scanKey,omitempty"`
	Title        string   `json:"title"`
	Severity     Severity `json:"severity,omitempty"`
	Status       string   `json:"status,omitempty"` // "open", "resolved", or as given
	New          *bool    `json:"new,omitempty"`    // first sight of it; set by the hub when the source does not say
	CVSS2        *float64 `json:"cvss2,omitempty"`
	CVSS3        *float64 `json:"cvss3,omitempty"`
	Vector       string   `json:"cvssVector,omitempty"`
	CWE          string   `json:"cwe,omitempty"`
	CVE          string   `json:"cve,omitempty"`
	Types        []string `json:"vulnerabilityTypes,omitempty"`
	Endpoint     string   `json:"affectedEndpoint,omitempty"`
	Asset        string   `json:"asset,omitempty"`
	AssetLink    string   `json:"assetLink,omitempty"`
	Description  string   `json:"description,omitempty"`
	Reproduction []string `json:"reproduction,omitempty"`
	Remediation  string   `json:"remediation,omitempty"`
	HasExploits  *bool    `json:"hasExploits,omitempty"`
	Link         string   `json:"link,omitempty"`
}

// Ticket is a work item at the vendor's side.
type Ticket struct {
	ID        string   `json:"id,omitempty"` // the hub's ID, "tkt_…"; set by the hub
	Key       string   `json:"key"`          // the source's own ID; unique within the source
	Number    *int     `json:"number,omitempty"`
	Title     string   `json:"title"`
	Status    string   `json:"status,omitempty"` // "open", "closed", or as given
	Severity  Severity `json:"severity,omitempty"`
	Asset     string   `json:"asset,omitempty"`
	AssetLink string   `json:"assetLink,omitempty"`
	DueDate   string   `json:"dueDate,omitempty"` // YYYY-MM-DD
	Owner     string   `json:"owner,omitempty"`   // an e-mail address, as a rule
	Link      string   `json:"link,omitempty"`
}

// Report is a document that a source has made ready.
type Report struct {
	ID          string `json:"id,omitempty"` // the hub's ID, "rpt_…"; set by the hub
	Key         string `json:"key"`          // the source's own ID; unique within the source
	ScanKey     string `json:"scanKey,omitempty"`
	Format      string `json:"format,omitempty"`
	DownloadURL string `json:"downloadUrl,omitempty"`
	Link        string `json:"link,omitempty"`
}

// ApplicationCounts is what application.changed tells.
type ApplicationCounts struct {
	Key    string  `json:"key,omitempty"` // the source's own ID of the application
	Name   string  `json:"name,omitempty"`
	Status string  `json:"status,omitempty"`
	Counts *Counts `json:"counts,omitempty"`
	Link   string  `json:"link,omitempty"`
}

// Severity is the severity that the event speaks of. has is false for kinds that
// have none (a started scan, a report); it is true with SeverityUnknown where
// one belongs but is not known or nothing was found.
func (d *Data) Severity(t EventType) (s Severity, has bool) {
	switch {
	case d.Finding != nil:
		return d.Finding.Severity, true
	case d.Ticket != nil:
		return d.Ticket.Severity, true
	case d.Scan != nil && t == ScanCompleted:
		s, _ = d.Scan.Counts.Highest()
		return s, true
	}
	return SeverityUnknown, false
}
