package connectors

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// AppendEvent appends e as JSON: the document that the ledger keeps and the body of
// the format "hookyard". It is the only writer of that document. Members come in
// the order of the structs, without white space and without HTML escapes, so equal
// events give equal bytes; encoding/json reads them back. It fails for what JSON cannot hold:
// a year beyond 9999, a score that is not a number, Attributes that are not JSON.
func AppendEvent(dst []byte, e *Event) ([]byte, error) {
	w := writer{b: dst}
	w.open()
	w.text("id", e.ID)
	w.text("type", string(e.Type))
	w.text("source", e.Source)
	w.word("subject", e.Subject)
	w.time("time", e.Time)
	w.time("received", e.Received)
	w.ref("organization", &e.Organization)
	w.ref("assetGroup", e.AssetGroup)
	w.ref("application", e.Application)
	w.name("data")
	w.data(&e.Data)
	w.close()
	if w.err != nil {
		return dst, fmt.Errorf("writing event %s as JSON: %w", e.ID, w.err)
	}
	return w.b, nil
}

// AppendData appends d as JSON, as AppendEvent does within an event.
func AppendData(dst []byte, d *Data) ([]byte, error) {
	w := writer{b: dst}
	w.data(d)
	if w.err != nil {
		return dst, fmt.Errorf("writing data as JSON: %w", w.err)
	}
	return w.b, nil
}

// AppendString appends s as a JSON string; bytes that are not UTF-8 become U+FFFD.
func AppendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		size := 1
		var escaped string
		switch {
		case c == '"':
			escaped = `\"`
		case c == '\\':
			escaped = `\\`
		case c == '\n':
			escaped = `\n`
		case c == '\r':
			escaped = `\r`
		case c == '\t':
			escaped = `\t`
		case c < ' ':
			dst = append(dst, s[start:i]...)
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			i++
			start = i
			continue
		default:
			var r rune
			if r, size = utf8.DecodeRuneInString(s[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
			escaped = "\uFFFD"
		}
		dst = append(dst, s[start:i]...)
		dst = append(dst, escaped...)
		i += size
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// writer appends JSON and keeps the first error. It is written by hand because this
// is on the path of every event; a test holds it to encoding/json.
type writer struct {
	b   []byte
	err error
}

func (w *writer) open()  { w.b = append(w.b, '{') }
func (w *writer) close() { w.b = append(w.b, '}') }

func (w *writer) name(n string) {
	if w.b[len(w.b)-1] != '{' {
		w.b = append(w.b, ',')
	}
	w.b = append(w.b, '"')
	w.b = append(w.b, n...)
	w.b = append(w.b, '"', ':')
}

func (w *writer) text(n, v string) {
	w.name(n)
	w.b = AppendString(w.b, v)
}

func (w *writer) word(n, v string) {
	if v != "" {
		w.text(n, v)
	}
}

func (w *writer) words(n string, v []string) {
	if len(v) == 0 {
		return
	}
	w.name(n)
	for i, s := range v {
		if i == 0 {
			w.b = append(w.b, '[')
		} else {
			w.b = append(w.b, ',')
		}
		w.b = AppendString(w.b, s)
	}
	w.b = append(w.b, ']')
}

func (w *writer) int(n string, v *int) {
	if v != nil {
		w.name(n)
		w.b = strconv.AppendInt(w.b, int64(*v), 10)
	}
}

func (w *writer) bool(n string, v *bool) {
	if v != nil {
		w.name(n)
		w.b = strconv.AppendBool(w.b, *v)
	}
}

func (w *writer) score(n string, v *float64) {
	if v == nil {
		return
	}
	if math.IsNaN(*v) || math.IsInf(*v, 0) {
		w.fail("%s is not a number", n)
		return
	}
	w.name(n)
	w.b = strconv.AppendFloat(w.b, *v, 'f', -1, 64)
}

func (w *writer) time(n string, t time.Time) {
	t = t.UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		w.fail("%s is in the year %d", n, y)
		return
	}
	w.name(n)
	w.b = append(w.b, '"')
	w.b = t.AppendFormat(w.b, time.RFC3339Nano)
	w.b = append(w.b, '"')
}

func (w *writer) timeIf(n string, t *time.Time) {
	if t != nil {
		w.time(n, *t)
	}
}

func (w *writer) ref(n string, r *Ref) {
	if r == nil {
		return
	}
	w.name(n)
	w.open()
	w.text("id", r.ID)
	w.text("name", r.Name)
	w.close()
}

func (w *writer) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
}

func (w *writer) data(d *Data) {
	w.open()
	if d.Scan != nil {
		w.name("scan")
		w.scan(d.Scan)
	}
	if d.Finding != nil {
		w.name("finding")
		w.finding(d.Finding)
	}
	if d.Ticket != nil {
		w.name("ticket")
		w.ticket(d.Ticket)
	}
	if r := d.Report; r != nil {
		w.name("report")
		w.open()
		w.word("id", r.ID)
		w.text("key", r.Key)
		w.word("scanKey", r.ScanKey)
		w.word("format", r.Format)
		w.word("downloadUrl", r.DownloadURL)
		w.word("link", r.Link)
		w.close()
	}
	if a := d.Application; a != nil {
		w.name("application")
		w.open()
		w.word("key", a.Key)
		w.word("name", a.Name)
		w.word("status", a.Status)
		w.counts(a.Counts)
		w.word("link", a.Link)
		w.close()
	}
	if len(d.Attributes) > 0 {
		w.name("attributes")
		b := bytes.NewBuffer(w.b)
		if err := json.Compact(b, d.Attributes); err != nil {
			w.fail("attributes: %w", err)
		} else {
			w.b = b.Bytes()
		}
	}
	w.close()
}

func (w *writer) scan(s *Scan) {
	w.open()
	w.word("id", s.ID)
	w.text("key", s.Key)
	w.text("name", s.Name)
	w.word("type", s.Type)
	w.word("status", s.Status)
	w.word("target", s.Target)
	w.timeIf("startsAt", s.StartsAt)
	w.timeIf("startedAt", s.StartedAt)
	w.timeIf("finishedAt", s.FinishedAt)
	w.int("durationSeconds", s.Duration)
	w.int("progressPercent", s.Progress)
	w.counts(s.Counts)
	w.words("errors", s.Errors)
	w.word("link", s.Link)
	if a := s.Actor; a != nil {
		w.name("actor")
		w.open()
		w.word("id", a.ID)
		w.word("name", a.Name)
		w.word("email", a.Email)
		w.close()
	}
	w.word("commit", s.Commit)
	w.word("branch", s.Branch)
	w.word("tag", s.Tag)
	w.int("outOfDateCount", s.OutOfDate)
	w.int("licenceCount", s.Licence)
	w.close()
}

func (w *writer) finding(f *Finding) {
	w.open()
	w.word("id", f.ID)
	w.text("key", f.Key)
	w.word("scanKey", f.ScanKey)
	w.text("title", f.Title)
	w.word("severity", string(f.Severity))
	w.word("status", f.Status)
	w.bool("new", f.New)
	w.score("cvss2", f.CVSS2)
	w.score("cvss3", f.CVSS3)
	w.word("cvssVector", f.Vector)
	w.word("cwe", f.CWE)
	w.word("cve", f.CVE)
	w.words("vulnerabilityTypes", f.Types)
	w.word("affectedEndpoint", f.Endpoint)
	w.word("asset", f.Asset)
	w.word("assetLink", f.AssetLink)
	w.word("description", f.Description)
	w.words("reproduction", f.Reproduction)
	w.word("remediation", f.Remediation)
	w.bool("hasExploits", f.HasExploits)
	w.word("link", f.Link)
	w.close()
}

func (w *writer) ticket(t *Ticket) {
	w.open()
	w.word("id", t.ID)
	w.text("key", t.Key)
	w.int("number", t.Number)
	w.text("title", t.Title)
	w.word("status", t.Status)
	w.word("severity", string(t.Severity))
	w.word("asset", t.Asset)
	w.word("assetLink", t.AssetLink)
	w.word("dueDate", t.DueDate)
	w.word("owner", t.Owner)
	w.word("link", t.Link)
	w.close()
}

func (w *writer) counts(c *Counts) {
	if c == nil {
		return
	}
	w.name("counts")
	w.open()
	w.int("critical", c.Critical)
	w.int("high", c.High)
	w.int("medium", c.Medium)
	w.int("low", c.Low)
	w.int("info", c.Info)
	w.int("total", c.Total)
	w.close()
}
