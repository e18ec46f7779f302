// Package simulated is a scanner that scans nothing: it plays a scan for demonstrations and
// tests, with the findings that its settings give.
//
// Place: where a real scanner would be, in a process of its own. With the setting script it
// plays what an address on the target says, step by step, and shows that address the job:
// so tests see what a scanner gets.
package simulated

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// Name is the name of the connector.
const Name = "simulated"

// Connector is the simulated scanner. Its zero value is ready for use.
type Connector struct{}

// Spec describes the connector.
func (Connector) Spec() connectors.Spec {
	return connectors.Spec{
		Name: Name, Title: "Simulated scanner", Version: "1.0.0",
		Description:  "Plays a scan, for demonstrations and tests. It does not look at the target.",
		Abilities:    []connectors.Ability{connectors.AbilityScan},
		Settings:     json.RawMessage(`{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{},"additionalProperties":false}`),
		ScanSettings: json.RawMessage(schema),
	}
}

const schema = `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","additionalProperties":false,"properties":{
"seconds":{"type":"number","title":"Duration","description":"How long a scan takes, in seconds.","minimum":0,"maximum":86400,"default":3},
"fail":{"type":"string","title":"Failure","description":"Why the scan fails at its end; leave it out for one that succeeds."},
"checks":{"type":"array","title":"Checks","description":"What the scan looks for, and finds. Leave it out for a cross-site scripting and an SQL injection among four.","items":{"type":"object","additionalProperties":false,"required":["class","title"],"properties":{
"key":{"type":"string","title":"Key","description":"By which the same check is known in the next scan; the class when left out."},
"class":{"type":"string","title":"Class","description":"For example xss, sqlinjection, xxe, ssl."},
"title":{"type":"string","title":"Title","description":"What is looked for."},
"severity":{"type":"string","title":"Severity","description":"Of what is found; leave it out for a check that passes.","enum":["info","low","medium","high","critical"]},
"message":{"type":"string","title":"Message","description":"What is found, in a sentence."},
"url":{"type":"string","title":"Address","description":"Where it is found."}}}},
"script":{"type":"string","title":"Script","description":"An address on the target that is shown the job and says what happens, step by step. For tests.","maxLength":2048}}}`

type settings struct {
	Seconds *float64 `json:"seconds"`
	Fail    string   `json:"fail"`
	Checks  []check  `json:"checks"`
	Script  string   `json:"script"`
}

type check struct {
	Key      string              `json:"key"`
	Class    string              `json:"class"`
	Title    string              `json:"title"`
	Severity connectors.Severity `json:"severity"`
	Message  string              `json:"message"`
	URL      string              `json:"url"`
}

// of is the check as a scan tells of it.
func (c check) of() connectors.ScanCheck {
	out := connectors.ScanCheck{Key: c.Key, Class: strings.ToLower(c.Class), Title: c.Title}
	if out.Key == "" {
		out.Key = out.Class
	}
	if c.Severity != "" {
		out.Finding = &connectors.Finding{Key: out.Key, Title: c.Title, Severity: c.Severity, Description: c.Message, Endpoint: c.URL}
	}
	return out
}

func usual(target string) []check {
	return []check{
		{Class: "xss", Title: "Cross-Site Scripting (XSS) (1)", Severity: connectors.SeverityHigh, Message: "Found reflected XSS in GET parameter 'q'", URL: target},
		{Class: "sqlinjection", Title: "SQL Injection (1)", Severity: connectors.SeverityCritical, Message: "Found SQL injection in GET parameter 'sort'", URL: target},
		{Class: "xxe", Title: "XML External Entity (XXE) (1)"},
		{Class: "ssl", Title: "Transport Layer Security (TLS/SSL) (1)"},
	}
}

// Scan plays the scan.
func (Connector) Scan(ctx context.Context, h connectors.Host, job connectors.ScanJob, tell func(connectors.ScanNews) error) error {
	var s settings
	if err := json.Unmarshal(job.Scanner.Settings, &s); err != nil {
		return fmt.Errorf("read the settings: %w", err)
	}
	if s.Script != "" {
		return play(ctx, h, job, s.Script, tell)
	}
	if s.Checks == nil {
		s.Checks = usual(job.Target.URL)
	}
	length := 3 * time.Second
	if s.Seconds != nil {
		length = time.Duration(*s.Seconds * float64(time.Second))
	}
	say := func(n connectors.ScanNews) error {
		n.Time = time.Now()
		return tell(n)
	}
	if err := say(connectors.ScanNews{Kind: connectors.ScanBegan}); err != nil {
		return err
	}
	steps := len(s.Checks) + 1
	for i := range steps {
		if err := wait(ctx, length/time.Duration(steps)); err != nil {
			return err
		}
		if i == len(s.Checks) {
			break
		}
		if err := say(connectors.ScanNews{Kind: connectors.ScanFound, Checks: []connectors.ScanCheck{s.Checks[i].of()}}); err != nil {
			return err
		}
		if err := say(connectors.ScanNews{Kind: connectors.ScanProgressed, Percent: (i + 1) * 100 / steps}); err != nil {
			return err
		}
	}
	if s.Fail != "" {
		return say(connectors.ScanNews{Kind: connectors.ScanDone, End: connectors.ScanBroken, Note: s.Fail})
	}
	return say(connectors.ScanNews{Kind: connectors.ScanDone, End: connectors.ScanFinished})
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Job is what a script is shown, once per step.
type Job struct {
	Scan   string               `json:"scan"` // the hub's ID
	Step   int                  `json:"step"` // 1, 2, …
	Name   string               `json:"name"`
	Target connectors.Target    `json:"target"`
	Setup  connectors.ScanSetup `json:"setup"`
}

// Step is what a script answers: what happens next.
type Step struct {
	Kind    connectors.ScanNewsKind `json:"kind"`
	Percent int                     `json:"percent,omitempty"`
	Note    string                  `json:"note,omitempty"`
	Checks  []connectors.ScanCheck  `json:"checks,omitempty"`
	End     connectors.ScanState    `json:"end,omitempty"`
}

// play asks the script for each step. It is shown credentials, so it has to be where they
// may go.
func play(ctx context.Context, h connectors.Host, job connectors.ScanJob, script string, tell func(connectors.ScanNews) error) error {
	if !slices.ContainsFunc(job.Target.Origins, func(o string) bool { return strings.HasPrefix(script, o+"/") }) {
		return errors.New("the script is not on an origin that is approved for the project")
	}
	client, err := h.HTTPClient(job.Scanner)
	if err != nil {
		return err
	}
	for step := 1; ; step++ {
		next, err := ask(ctx, client, script, Job{Scan: job.ID, Step: step, Name: job.Name, Target: job.Target, Setup: job.Setup})
		if err != nil {
			return err
		}
		if err := tell(connectors.ScanNews{Kind: next.Kind, Time: time.Now(), Percent: next.Percent, Note: next.Note, Checks: next.Checks, End: next.End}); err != nil {
			return err
		}
		if next.Kind == connectors.ScanDone {
			return nil
		}
	}
}

func ask(ctx context.Context, client *http.Client, script string, job Job) (next Step, err error) {
	b, err := json.Marshal(job)
	if err != nil {
		return next, fmt.Errorf("write the job down: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, script, bytes.NewReader(b))
	if err != nil {
		return next, fmt.Errorf("ask the script: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return next, fmt.Errorf("ask the script: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return next, fmt.Errorf("the script answered %s", resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&next); err != nil {
		return next, fmt.Errorf("read the script's answer: %w", err)
	}
	return next, nil
}
