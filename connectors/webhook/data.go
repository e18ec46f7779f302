package webhook

import (
	"encoding/json"
	"math"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// maxKey is how long a source's own ID of a noun may be, in bytes.
const maxKey = 512

// data reads the canonical data of an event of kind t. Exactly the noun that the
// kind speaks of must be there, with its key and its name or title. The members "id", which
// only a hub sets, are read over, so that one hub can send to another.
func (r *reader) data(t connectors.EventType) (d connectors.Data) {
	noun := nounOf(t)
	if r.err == nil && r.peek() == 'n' {
		r.refuse("is missing; %s needs %s", t, noun)
	}
	r.object(func(name []byte) {
		switch n := string(name); n {
		case "attributes":
			if r.null() {
				return
			}
			if r.peek() != '{' {
				r.wrong("an object")
				return
			}
			d.Attributes = json.RawMessage(r.raw())
		case "scan", "finding", "ticket", "report", "application":
			if r.null() {
				return
			}
			if n != noun {
				r.refuse("does not belong to %s, which needs %s", t, noun)
				return
			}
			switch n {
			case "scan":
				d.Scan = r.scan()
			case "finding":
				d.Finding = r.finding()
			case "ticket":
				d.Ticket = r.ticket()
			case "report":
				d.Report = r.report()
			case "application":
				d.Application = r.application()
			}
		default:
			r.unknown()
		}
	})
	if d.Scan == nil && d.Finding == nil && d.Ticket == nil && d.Report == nil && d.Application == nil {
		r.refuseAt(noun, "is missing; %s needs it", t)
	}
	return d
}

// nounOf is the member of the data that events of kind t speak of.
func nounOf(t connectors.EventType) string {
	switch t {
	case connectors.FindingDiscovered, connectors.FindingChanged:
		return "finding"
	case connectors.TicketOpened, connectors.TicketClosed:
		return "ticket"
	case connectors.ReportReady:
		return "report"
	case connectors.ApplicationChanged:
		return "application"
	}
	return "scan"
}

func (r *reader) unknown() {
	r.refuse("is not a member that we know; pass on what is your own in data.attributes")
}

// must refuses a mandatory member that is missing or empty.
func (r *reader) must(member, value string) {
	if value == "" {
		r.refuseAt(member, "is missing or empty")
	}
}

// key reads the source's own ID of something.
func (r *reader) key() string {
	s := r.string()
	if len(s) > maxKey {
		r.refuse("must not be longer than %d bytes", maxKey)
	}
	return s
}

func (r *reader) severity() connectors.Severity {
	s := connectors.Severity(r.string())
	if s.Rank() < 0 {
		r.refuse("must be info, low, medium, high or critical")
	}
	return s
}

func (r *reader) scan() *connectors.Scan {
	s := &connectors.Scan{}
	r.object(func(name []byte) {
		switch string(name) {
		case "id":
			r.string()
		case "key":
			s.Key = r.key()
		case "name":
			s.Name = r.string()
		case "type":
			s.Type = r.string()
		case "status":
			s.Status = r.string()
		case "target":
			s.Target = r.string()
		case "startsAt":
			s.StartsAt = r.time()
		case "startedAt":
			s.StartedAt = r.time()
		case "finishedAt":
			s.FinishedAt = r.time()
		case "durationSeconds":
			s.Duration = r.int(math.MaxInt32)
		case "progressPercent":
			s.Progress = r.int(100)
		case "counts":
			s.Counts = r.counts()
		case "errors":
			s.Errors = r.strings()
		case "link":
			s.Link = r.string()
		case "actor":
			s.Actor = r.actor()
		case "commit":
			s.Commit = r.string()
		case "branch":
			s.Branch = r.string()
		case "tag":
			s.Tag = r.string()
		case "outOfDateCount":
			s.OutOfDate = r.int(math.MaxInt32)
		case "licenceCount":
			s.Licence = r.int(math.MaxInt32)
		default:
			r.unknown()
		}
	})
	r.must("key", s.Key)
	r.must("name", s.Name)
	return s
}

func (r *reader) actor() *connectors.Actor {
	if r.null() {
		return nil
	}
	a := &connectors.Actor{}
	r.object(func(name []byte) {
		switch string(name) {
		case "id":
			a.ID = r.string()
		case "name":
			a.Name = r.string()
		case "email":
			a.Email = r.string()
		default:
			r.unknown()
		}
	})
	return a
}

func (r *reader) counts() *connectors.Counts {
	if r.null() {
		return nil
	}
	c := &connectors.Counts{}
	r.object(func(name []byte) {
		switch string(name) {
		case "critical":
			c.Critical = r.int(math.MaxInt32)
		case "high":
			c.High = r.int(math.MaxInt32)
		case "medium":
			c.Medium = r.int(math.MaxInt32)
		case "low":
			c.Low = r.int(math.MaxInt32)
		case "info":
			c.Info = r.int(math.MaxInt32)
		case "total":
			c.Total = r.int(math.MaxInt32)
		default:
			r.unknown()
		}
	})
	return c
}

func (r *reader) finding() *connectors.Finding {
	f := &connectors.Finding{}
	r.object(func(name []byte) {
		switch string(name) {
		case "id":
			r.string()
		case "key":
			f.Key = r.key()
		case "scanKey":
			f.ScanKey = r.key()
		case "title":
			f.Title = r.string()
		case "severity":
			f.Severity = r.severity()
		case "status":
			f.Status = r.string()
		case "new":
			f.New = r.bool()
		case "cvss2":
			f.CVSS2 = r.score()
		case "cvss3":
			f.CVSS3 = r.score()
		case "cvssVector":
			f.Vector = r.string()
		case "cwe":
			f.CWE = r.string()
		case "cve":
			f.CVE = r.string()
		case "vulnerabilityTypes":
			f.Types = r.strings()
		case "affectedEndpoint":
			f.Endpoint = r.string()
		case "asset":
			f.Asset = r.string()
		case "assetLink":
			f.AssetLink = r.string()
		case "description":
			f.Description = r.string()
		case "reproduction":
			f.Reproduction = r.strings()
		case "remediation":
			f.Remediation = r.string()
		case "hasExploits":
			f.HasExploits = r.bool()
		case "link":
			f.Link = r.string()
		default:
			r.unknown()
		}
	})
	r.must("key", f.Key)
	r.must("title", f.Title)
	return f
}

func (r *reader) ticket() *connectors.Ticket {
	t := &connectors.Ticket{}
	r.object(func(name []byte) {
		switch string(name) {
		case "id":
			r.string()
		case "key":
			t.Key = r.key()
		case "number":
			t.Number = r.int(math.MaxInt32)
		case "title":
			t.Title = r.string()
		case "status":
			t.Status = r.string()
		case "severity":
			t.Severity = r.severity()
		case "asset":
			t.Asset = r.string()
		case "assetLink":
			t.AssetLink = r.string()
		case "dueDate":
			t.DueDate = r.date()
		case "owner":
			t.Owner = r.string()
		case "link":
			t.Link = r.string()
		default:
			r.unknown()
		}
	})
	r.must("key", t.Key)
	r.must("title", t.Title)
	return t
}

func (r *reader) date() string {
	s := r.string()
	if _, err := time.Parse(time.DateOnly, s); s != "" && err != nil {
		r.refuse("must be a date such as 2026-04-10")
	}
	return s
}

func (r *reader) report() *connectors.Report {
	p := &connectors.Report{}
	r.object(func(name []byte) {
		switch string(name) {
		case "id":
			r.string()
		case "key":
			p.Key = r.key()
		case "scanKey":
			p.ScanKey = r.key()
		case "format":
			p.Format = r.string()
		case "downloadUrl":
			p.DownloadURL = r.string()
		case "link":
			p.Link = r.string()
		default:
			r.unknown()
		}
	})
	r.must("key", p.Key)
	return p
}

func (r *reader) application() *connectors.ApplicationCounts {
	a := &connectors.ApplicationCounts{}
	r.object(func(name []byte) {
		switch string(name) {
		case "key":
			a.Key = r.key()
		case "name":
			a.Name = r.string()
		case "status":
			a.Status = r.string()
		case "counts":
			a.Counts = r.counts()
		case "link":
			a.Link = r.string()
		default:
			r.unknown()
		}
	})
	if a.Key == "" {
		r.must("name", a.Name)
	}
	return a
}
