package apviso

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// Receiver reads what APVISO sends: an envelope of event, timestamp and data. A
// message is known again by its event, the ID in its data and its timestamp, which retries
// repeat. An event that is not known is fine but ignored, for a refusal would only make
// APVISO send it four times more.
type Receiver struct{}

// Kind is "apviso".
func (Receiver) Kind() string { return Name }

// Verify holds the signature against the body as it came.
func (Receiver) Verify(in connectors.Inbound, secrets [][]byte) error {
	if len(secrets) == 0 {
		return nil
	}
	value := strings.TrimSpace(in.Header.Get(signatureHeader))
	if len(value) >= len(signaturePrefix) && strings.EqualFold(value[:len(signaturePrefix)], signaturePrefix) {
		value = value[len(signaturePrefix):]
	}
	got, err := hex.DecodeString(value)
	if err != nil || len(got) != sha256.Size {
		return connectors.Refuse(http.StatusUnauthorized, signatureHeader, "is missing, or is not a signature")
	}
	for _, s := range secrets {
		if hmac.Equal(got, signature(s, in.Body)) {
			return nil
		}
	}
	return connectors.Refuse(http.StatusUnauthorized, signatureHeader, "does not fit the body and this source's secret")
}

func signature(key, body []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(body)
	return mac.Sum(nil)
}

// envelope is every message.
type envelope struct {
	Event     string          `json:"event"`
	Timestamp string          `json:"timestamp"`
	Data      json.RawMessage `json:"data"`
}

// Receive turns a message into one event, or none when its kind is unknown.
func (Receiver) Receive(in connectors.Inbound) (connectors.Received, error) {
	if in.Method != "" && in.Method != http.MethodPost {
		return connectors.Received{}, connectors.Refuse(http.StatusMethodNotAllowed, "", "APVISO sends with POST, not %s", in.Method)
	}
	var e envelope
	if err := connectors.DecodeBody(in.Body, &e); err != nil {
		return connectors.Received{}, err
	}
	at, err := e.check()
	if err != nil {
		return connectors.Received{}, err
	}
	var item connectors.Incoming
	switch e.Event {
	case eventFinding, "finding.new", "finding.discovered", "finding.critical", "finding.high":
		item, err = e.finding()
	case eventStarted:
		item, err = e.scan(connectors.ScanStarted)
	case eventProgress:
		item, err = e.scan(connectors.ScanProgress)
	case eventCompleted:
		item, err = e.scan(connectors.ScanCompleted)
	case eventFailed:
		item, err = e.scan(connectors.ScanFailed)
	case eventReport, "report.generated":
		item, err = e.report()
	case eventVerification:
		return connectors.Received{Note: "APVISO asked whether this address can be reached; it can."}, nil
	default:
		return connectors.Received{Note: "No event that we know: " + quoted(e.Event) + "."}, nil
	}
	if err != nil {
		return connectors.Received{}, err
	}
	item.Time = at
	item.Key = connectors.Identity(string(item.Type), at.Format(time.RFC3339Nano), item.Key)
	item.Fields["event"] = e.Event
	return connectors.Received{Items: []connectors.Incoming{item}}, nil
}

// check refuses an envelope that is not whole.
func (e *envelope) check() (at time.Time, err error) {
	missing := func(name string) error {
		return connectors.Refuse(http.StatusUnprocessableEntity, name, "is missing")
	}
	switch {
	case e.Event == "":
		return at, missing("event")
	case e.Timestamp == "":
		return at, missing("timestamp")
	case len(e.Data) == 0 || e.Data[0] == 'n':
		return at, missing("data")
	case e.Data[0] != '{':
		return at, connectors.Refuse(http.StatusUnprocessableEntity, "data", "must be an object")
	}
	t, err := moment("timestamp", e.Timestamp)
	if err != nil {
		return at, err
	}
	return *t, nil
}

// read decodes the data; paths in refusals begin with it.
func (e *envelope) read(v any) error {
	err := connectors.DecodeBody(e.Data, v)
	if refused, ok := err.(*connectors.RefuseError); ok { //nolint:errorlint // DecodeBody makes it and wraps nothing
		refused.Field = strings.TrimSuffix("data."+refused.Field, ".")
	}
	return err
}

func moment(field, s string) (*time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	t = t.UTC()
	if err != nil || t.Year() < 1 || t.Year() > 9999 {
		return nil, connectors.Refuse(http.StatusUnprocessableEntity, field, "must be an RFC 3339 time such as 2026-04-10T14:30:00Z")
	}
	return &t, nil
}

// optional reads a time that may be missing.
func optional(field, s string) (*time.Time, error) {
	if s == "" {
		return nil, nil //nolint:nilnil // no time is no error
	}
	return moment("data."+field, s)
}

// steps is a list of strings, or one string.
type steps []string

// UnmarshalJSON reads either.
func (s *steps) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var one string
		if err := json.Unmarshal(b, &one); err != nil {
			return err
		}
		if *s = nil; one != "" {
			*s = steps{one}
		}
		return nil
	}
	var list []string
	if json.Unmarshal(b, &list) != nil {
		return connectors.Refuse(http.StatusUnprocessableEntity, "reproduction", "must be a list of strings, or a string")
	}
	*s = list
	return nil
}

// findingData is a finding with the other names under which its parts come.
type findingData struct {
	ID           string   `json:"id"`
	ScanID       string   `json:"scanId"`
	Target       string   `json:"target"`
	Title        string   `json:"title"`
	Severity     string   `json:"severity"`
	Status       string   `json:"status"`
	Score        *float64 `json:"cvssScore"`
	Score2       *float64 `json:"cvss_score"`
	Score3       *float64 `json:"cvss"`
	Vector       string   `json:"cvssVector"`
	CWE          string   `json:"cwe"`
	CWE2         string   `json:"cweId"`
	Endpoint     string   `json:"affectedEndpoint"`
	Endpoint2    string   `json:"affected_endpoint"`
	Endpoint3    string   `json:"endpoint"`
	Description  string   `json:"description"`
	Reproduction steps    `json:"reproduction"`
	Steps2       steps    `json:"reproductionSteps"`
	Steps3       steps    `json:"reproduction_steps"`
	Remediation  string   `json:"remediation"`
	Guidance     string   `json:"remediationGuidance"`
	URL          string   `json:"url"`
}

func (e *envelope) finding() (item connectors.Incoming, err error) {
	var d findingData
	if err := e.read(&d); err != nil {
		return item, err
	}
	if err := need("id", d.ID); err != nil {
		return item, err
	}
	if err := need("title", d.Title); err != nil {
		return item, err
	}
	severity := connectors.Severity(strings.ToLower(d.Severity))
	if severity.Rank() < 0 {
		return item, connectors.Refuse(http.StatusUnprocessableEntity, "data.severity", "must be critical, high, medium, low or info")
	}
	if severity == connectors.SeverityUnknown { // some events say it in their name
		if s := connectors.Severity(strings.TrimPrefix(e.Event, "finding.")); s.Rank() > 0 {
			severity = s
		}
	}
	f := &connectors.Finding{
		Key: connectors.Identity(d.ID), ScanKey: connectors.Identity(d.ScanID), Title: d.Title, Severity: severity,
		Status: first(d.Status, "open"), CVSS3: first(d.Score, d.Score2, d.Score3), Vector: d.Vector, CWE: first(d.CWE, d.CWE2),
		Endpoint: first(d.Endpoint, d.Endpoint2, d.Endpoint3), Description: d.Description, Remediation: first(d.Remediation, d.Guidance), Link: d.URL,
	}
	for _, list := range []steps{d.Reproduction, d.Steps2, d.Steps3} {
		if len(f.Reproduction) == 0 && len(list) > 0 {
			f.Reproduction = list
		}
	}
	if f.CVSS3 != nil && (*f.CVSS3 < 0 || *f.CVSS3 > 10) {
		return item, connectors.Refuse(http.StatusUnprocessableEntity, "data.cvssScore", "must be from 0 to 10")
	}
	fields := said("id", d.ID, "scanId", d.ScanID, "title", d.Title, "severity", string(severity), "status", f.Status, "cwe", f.CWE,
		"affectedEndpoint", f.Endpoint, "target", first(d.Target, origin(f.Endpoint)))
	return connectors.Incoming{Type: connectors.FindingDiscovered, Data: connectors.Data{Finding: f}, Key: d.ID, Fields: fields, DefaultField: "target"}, nil
}

// origin is the part of an address that names its target: scheme and host.
func origin(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme == "" || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

type scanData struct {
	ID          string       `json:"id"`
	Target      string       `json:"target"`
	Status      string       `json:"status"`
	Progress    *int         `json:"progress"`
	StartedAt   string       `json:"startedAt"`
	CompletedAt string       `json:"completedAt"`
	Summary     *summaryData `json:"summary"`
	Error       string       `json:"error"`
	URL         string       `json:"url"`
}

type summaryData struct {
	Critical *int `json:"critical"`
	High     *int `json:"high"`
	Medium   *int `json:"medium"`
	Low      *int `json:"low"`
	Info     *int `json:"info"`
	Total    *int `json:"total"`
}

func (e *envelope) scan(t connectors.EventType) (item connectors.Incoming, err error) {
	var d scanData
	if err := e.read(&d); err != nil {
		return item, err
	}
	if err := need("id", d.ID); err != nil {
		return item, err
	}
	status := statusRunning
	switch t {
	case connectors.ScanCompleted:
		status = statusCompleted
	case connectors.ScanFailed:
		status = statusFailed
	}
	s := &connectors.Scan{Key: connectors.Identity(d.ID), Name: first(d.Target, d.ID), Target: d.Target, Status: first(d.Status, status), Link: d.URL}
	if s.StartedAt, err = optional("startedAt", d.StartedAt); err != nil {
		return item, err
	}
	if s.FinishedAt, err = optional("completedAt", d.CompletedAt); err != nil {
		return item, err
	}
	if n := d.Progress; n != nil && (*n < 0 || *n > 100) {
		return item, connectors.Refuse(http.StatusUnprocessableEntity, "data.progress", "must be from 0 to 100")
	}
	s.Progress = d.Progress
	if d.Error != "" {
		s.Errors = []string{d.Error}
	}
	if n := d.Summary; n != nil {
		s.Counts = (*connectors.Counts)(n)
		for name, v := range map[string]*int{"critical": n.Critical, "high": n.High, "medium": n.Medium, "low": n.Low, "info": n.Info, "total": n.Total} {
			if v != nil && (*v < 0 || *v > 1<<31-1) {
				return item, connectors.Refuse(http.StatusUnprocessableEntity, "data.summary."+name, "must be a count")
			}
		}
	}
	progress := ""
	if t == connectors.ScanProgress && d.Progress != nil {
		progress = strconv.Itoa(*d.Progress)
	}
	return connectors.Incoming{Type: t, Data: connectors.Data{Scan: s}, Key: strings.TrimSpace(d.ID + " " + progress),
		Fields: said("id", d.ID, "target", d.Target, "status", s.Status), DefaultField: "target"}, nil
}

type reportData struct {
	ID          string `json:"id"`
	ScanID      string `json:"scanId"`
	Target      string `json:"target"`
	Format      string `json:"format"`
	DownloadURL string `json:"downloadUrl"`
	URL         string `json:"url"`
}

func (e *envelope) report() (item connectors.Incoming, err error) {
	var d reportData
	if err := e.read(&d); err != nil {
		return item, err
	}
	if err := need("id", d.ID); err != nil {
		return item, err
	}
	r := &connectors.Report{Key: connectors.Identity(d.ID), ScanKey: connectors.Identity(d.ScanID), Format: d.Format, DownloadURL: d.DownloadURL, Link: d.URL}
	return connectors.Incoming{Type: connectors.ReportReady, Data: connectors.Data{Report: r}, Key: d.ID,
		Fields: said("id", d.ID, "scanId", d.ScanID, "format", d.Format, "target", d.Target), DefaultField: "target"}, nil
}

func need(field, value string) error {
	if value == "" {
		return connectors.Refuse(http.StatusUnprocessableEntity, "data."+field, "is missing or empty")
	}
	return nil
}

// said lists names and values, without what was not said.
func said(pairs ...string) map[string]string {
	m := make(map[string]string, len(pairs)/2+1)
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			m[pairs[i]] = pairs[i+1]
		}
	}
	return m
}

// first is the first of the values that is there.
func first[T comparable](values ...T) (none T) {
	for _, v := range values {
		if v != none {
			return v
		}
	}
	return none
}

func quoted(s string) string {
	const longest = 80
	if r := []rune(s); len(r) > longest {
		s = string(r[:longest]) + "…"
	}
	return fmt.Sprintf("%q", s)
}
