package connectortest

import (
	"encoding/json"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// Moment is when the sample events happen.
func Moment() time.Time { return time.Date(2026, time.April, 10, 14, 30, 0, 0, time.UTC) }

// Event is a sample event of kind t in which every member is known.
func Event(t connectors.EventType) *connectors.Event {
	e := &connectors.Event{
		ID:           "evt_01jrfz3w9g0000000000000001",
		Type:         t,
		Source:       "https://scanner.example.com/",
		Time:         Moment(),
		Received:     Moment().Add(1500 * time.Millisecond),
		Organization: connectors.Ref{ID: "org_01jrfz3w9g0000000000000002", Name: "Acme"},
		AssetGroup:   &connectors.Ref{ID: "grp_01jrfz3w9g0000000000000003", Name: "Shops"},
		Application:  &connectors.Ref{ID: "app_01jrfz3w9g0000000000000004", Name: `Shop <&> "Söhne"`},
	}
	e.Data.Attributes = json.RawMessage(`{"ticket":{"open":true},"list":[1,2.5,null]}`)
	switch t {
	case connectors.FindingDiscovered, connectors.FindingChanged:
		e.Data.Finding = finding()
		e.Subject = e.Data.Finding.ID
		if t == connectors.FindingChanged {
			e.Data.Finding.Status = "resolved"
			e.Data.Finding.New = ptr(false)
		}
	case connectors.TicketOpened, connectors.TicketClosed:
		e.Data.Ticket = ticket()
		e.Subject = e.Data.Ticket.ID
		if t == connectors.TicketClosed {
			e.Data.Ticket.Status = "closed"
		}
	case connectors.ReportReady:
		e.Data.Report = &connectors.Report{ID: "rpt_01jrfz3w9g0000000000000008", Key: "report-5", ScanKey: "scan-123", Format: "PDF",
			DownloadURL: "https://scanner.example.com/reports/5.pdf", Link: "https://scanner.example.com/reports/5"}
		e.Subject = e.Data.Report.ID
	case connectors.ApplicationChanged:
		e.Data.Application = &connectors.ApplicationCounts{Key: "shop", Name: "Shop", Status: "In progress", Counts: counts(),
			Link: "https://scanner.example.com/apps/shop"}
		e.Subject = e.Application.ID
	default:
		e.Data.Scan = scan()
		e.Subject = e.Data.Scan.ID
		if t == connectors.ScanFailed {
			e.Data.Scan.Status = "Aborted"
			e.Data.Scan.Errors = []string{"no route to shop.example.com", "gave up after 3 tries"}
		}
	}
	return e
}

// Sparse is a sample event of kind t that holds nothing but what every event has.
func Sparse(t connectors.EventType) *connectors.Event {
	e := Event(t)
	e.AssetGroup, e.Application = nil, nil
	d := &e.Data
	d.Attributes = nil
	switch {
	case d.Scan != nil:
		d.Scan = &connectors.Scan{ID: d.Scan.ID, Key: d.Scan.Key, Name: d.Scan.Name}
	case d.Finding != nil:
		d.Finding = &connectors.Finding{ID: d.Finding.ID, Key: d.Finding.Key, Title: d.Finding.Title}
	case d.Ticket != nil:
		d.Ticket = &connectors.Ticket{ID: d.Ticket.ID, Key: d.Ticket.Key, Title: d.Ticket.Title}
	case d.Report != nil:
		d.Report = &connectors.Report{ID: d.Report.ID, Key: d.Report.Key}
	case d.Application != nil:
		d.Application = &connectors.ApplicationCounts{Key: d.Application.Key}
	}
	return e
}

func ptr[T any](v T) *T { return &v }

func counts() *connectors.Counts {
	return &connectors.Counts{Critical: ptr(1), High: ptr(0), Medium: ptr(3), Low: ptr(0), Info: ptr(7), Total: ptr(11)}
}

func scan() *connectors.Scan {
	return &connectors.Scan{
		ID: "scn_01jrfz3w9g0000000000000005", Key: "scan-123", Name: "Daily scan", Type: "network", Status: "Completed",
		Target:   "shop.example.com",
		StartsAt: ptr(Moment().Add(-2 * time.Hour)), StartedAt: ptr(Moment().Add(-57 * time.Minute)), FinishedAt: ptr(Moment()),
		Duration: ptr(3420), Progress: ptr(100), Counts: counts(), Link: "https://scanner.example.com/scans/123?a=1&b=2",
		Actor:  &connectors.Actor{ID: "7", Name: "John Smith", Email: "john@example.com"},
		Commit: "2bedd63b8e3019121c89108bfccb2421b08e28e9", Branch: "main", Tag: "v1.2.3", OutOfDate: ptr(9), Licence: ptr(0),
	}
}

func finding() *connectors.Finding {
	return &connectors.Finding{
		ID: "fnd_01jrfz3w9g0000000000000006", Key: "finding-9", ScanKey: "scan-123", Title: "SQL Injection in /api/users",
		Severity: connectors.SeverityCritical, Status: "open", New: ptr(true), CVSS2: ptr(7.5), CVSS3: ptr(9.8),
		Vector: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", CWE: "CWE-89", CVE: "CVE-2026-0001", Types: []string{"Injection"},
		Endpoint: "https://shop.example.com/api/users", Asset: "shop.example.com", AssetLink: "https://scanner.example.com/assets/88",
		Description:  "The sort parameter is concatenated into a SQL statement.\n<script>alert(1)</script>",
		Reproduction: []string{"Send GET /api/users?sort=name' OR 1=1--", "Observe that every user record is returned"},
		Remediation:  "Use parameterised queries.", HasExploits: ptr(true), Link: "https://scanner.example.com/findings/9",
	}
}

func ticket() *connectors.Ticket {
	return &connectors.Ticket{
		ID: "tkt_01jrfz3w9g0000000000000007", Key: "4211", Number: ptr(4211), Title: "SQL Injection in /api/users", Status: "open",
		Severity: connectors.SeverityCritical, Asset: "shop.example.com", AssetLink: "https://scanner.example.com/assets/88",
		DueDate: "2026-05-01", Owner: "owner@example.com", Link: "https://scanner.example.com/tickets/4211",
	}
}
