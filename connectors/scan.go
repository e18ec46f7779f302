package connectors

import (
	"context"
	"encoding/json"
	"time"
)

// Scanner is the ability to run scans. It runs in the plugin's process.
type Scanner interface {
	// Scan runs one scan to its end and tells what happens as it does, in order, from one
	// goroutine. tell returns when the hub has kept the news, so it may wait; an
	// error of it means that the hub does not want the scan any more. The last news is
	// ScanDone; Scan returns after it. When ctx ends (the scan was cancelled or ran out of
	// time) the scan must be ended at the other side too, and Scan returns within ten
	// seconds. An error, or a return without ScanDone, is a scan that failed; scans are never
	// started again by themselves.
	Scan(ctx context.Context, h Host, job ScanJob, tell func(ScanNews) error) error
}

// ScanJob is one scan to run.
type ScanJob struct {
	Scanner Endpoint // the scanner's address, settings and secrets, valid against Spec.ScanSettings
	ID      string   // the hub's ID of the scan, "scn_…"
	Name    string   // of the project, for people
	Target  Target
	Setup   ScanSetup
	Timeout time.Duration
}

// Target is what is scanned. A scan must not leave its origins.
type Target struct {
	Kind    TargetKind
	URL     string
	Origins []string // "https://app.example.com": where requests may go
}

// TargetKind is what sort of thing is scanned.
type TargetKind string

// The kinds of targets.
const (
	TargetWeb TargetKind = "WEB"
	TargetAPI TargetKind = "API"
)

// ScanSetup is how a scanner gets into its target. Each part may be unset, which is not
// the same as empty: see Over.
type ScanSetup struct {
	Basic      *BasicAuth      `json:"basic,omitempty"`
	Logins     []Login         `json:"logins,omitzero"`
	Parameters []ScanParameter `json:"parameters,omitzero"`
	APISpec    json.RawMessage `json:"apiSpec,omitempty"` // a whole Swagger or OpenAPI document as JSON
}

// Over is the setup of which each part is s's where that has it, else old's. An empty
// list is a part, and clears.
func (s ScanSetup) Over(old ScanSetup) ScanSetup {
	if s.Basic == nil {
		s.Basic = old.Basic
	}
	if s.Logins == nil {
		s.Logins = old.Logins
	}
	if s.Parameters == nil {
		s.Parameters = old.Parameters
	}
	if s.APISpec == nil {
		s.APISpec = old.APISpec
	}
	return s
}

// BasicAuth is a user for HTTP's own authentication.
type BasicAuth struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// Login is a user for a form.
type Login struct {
	URL      string `json:"url"` // of the form; "": the scanner finds it
	Username string `json:"username"`
	Password string `json:"password"`
}

// ScanParameter is sent with each request.
type ScanParameter struct {
	In    string `json:"in"` // "HEADER", "COOKIE", "QUERY" or "BODY"
	Name  string `json:"name"`
	Value string `json:"value"`
}

// ScanNews is one thing that happened.
type ScanNews struct {
	Kind    ScanNewsKind
	Time    time.Time
	Percent int         // ScanProgressed: 0..100
	Note    string      // one sentence for people; may be empty
	Checks  []ScanCheck // ScanFound: what was looked for, and what came of it
	End     ScanState   // ScanDone: ScanFinished, ScanBroken or ScanStopped; Note says why
}

// ScanNewsKind is what happened.
type ScanNewsKind string

// The kinds of news, in their order; those in the middle as often as wanted.
const (
	ScanBegan      ScanNewsKind = "BEGAN"
	ScanProgressed ScanNewsKind = "PROGRESSED"
	ScanFound      ScanNewsKind = "FOUND"
	ScanDone       ScanNewsKind = "DONE"
)

// ScanCheck is one thing that a scan looked for: a test case of the report. Without a
// finding it passed. The same Key told again replaces what was told before.
type ScanCheck struct {
	Key     string   `json:"key"`   // unique within the scan
	Class   string   `json:"class"` // "xss", "sqlinjection", "ssl", …; lower case
	Title   string   `json:"title"` // for people
	Finding *Finding `json:"finding,omitempty"`
}

// ScanState is how far a scan is.
type ScanState string

// The states of a scan; the last three are ends.
const (
	ScanQueued   ScanState = "QUEUED"
	ScanRunning  ScanState = "RUNNING"
	ScanFinished ScanState = "FINISHED"
	ScanBroken   ScanState = "FAILED"
	ScanStopped  ScanState = "STOPPED"
)

// Ended says whether nothing more happens.
func (s ScanState) Ended() bool { return s == ScanFinished || s == ScanBroken || s == ScanStopped }

// ScanReport is all that became of a scan.
type ScanReport struct {
	Scan     int64 // the number by which callers know it
	State    ScanState
	Started  time.Time
	Finished time.Time
	Checks   []ScanCheck // in the order of their keys
}
