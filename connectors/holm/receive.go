package holm

import (
	"encoding/json"
	"math"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// Receiver reads what Holm Security sends.
//
// A message is a JSON object with one top-level key. A scan's ID is in no field, so a
// scan is told from others by its link and times, and a ticket by its number; a ticket is a
// repeat only when it equals the last state of that number. Times carry no zone:
// Inbound.Location applies. The headers Content_Type and Content_Length, which Holm's
// script adds by mistake, are never looked at.
type Receiver struct{}

// Kind is "holm".
func (Receiver) Kind() string { return Name }

// Receive turns a message into one event, or none when its kind is unknown.
func (Receiver) Receive(in connectors.Inbound) (connectors.Received, error) {
	if in.Method != "" && in.Method != http.MethodPost {
		return connectors.Received{}, connectors.Refuse(http.StatusMethodNotAllowed, "", "Holm sends with POST, not %s", in.Method)
	}
	if !json.Valid(in.Body) {
		return connectors.Received{}, connectors.Refuse(http.StatusBadRequest, "", "the body is not JSON")
	}
	var message map[string]json.RawMessage
	if err := json.Unmarshal(in.Body, &message); err != nil || len(message) == 0 {
		return connectors.Received{}, connectors.Refuse(http.StatusUnprocessableEntity, "",
			"the body must be a JSON object with one of the keys %s, %s and %s", kindScheduled, kindFinished, kindTicket)
	}
	kind := ""
	for _, k := range []string{kindScheduled, kindFinished, kindTicket} {
		if _, ok := message[k]; !ok {
			continue
		}
		if kind != "" {
			return connectors.Received{}, connectors.Refuse(http.StatusUnprocessableEntity, k, "a message has one kind, this one has also %s", kind)
		}
		kind = k
	}
	if kind == "" {
		return connectors.Received{Note: "No kind of message that we know: " + listKeys(message) + "."}, nil
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(message[kind], &values); err != nil || values == nil {
		return connectors.Received{}, connectors.Refuse(http.StatusUnprocessableEntity, kind, "must be an object")
	}
	f := fields{kind: kind, values: values, location: in.Location}
	if f.location == nil {
		f.location = time.UTC
	}
	var item connectors.Incoming
	switch kind {
	case kindScheduled:
		item = f.scheduled()
	case kindFinished:
		item = f.finished()
	default:
		item = f.ticket()
	}
	if f.err != nil {
		return connectors.Received{}, f.err
	}
	item.Fields = f.all()
	return connectors.Received{Items: []connectors.Incoming{item}}, nil
}

// listKeys names a few keys of m for people.
func listKeys(m map[string]json.RawMessage) string {
	const most, longest = 5, 40
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	if len(keys) > most {
		keys = append(keys[:most], "…")
	}
	for i, k := range keys {
		if r := []rune(k); len(r) > longest {
			k = string(r[:longest]) + "…"
		}
		if k != "…" {
			keys[i] = strconv.Quote(k)
		}
	}
	return strings.Join(keys, ", ")
}

// fields reads the flat dictionary of a message and keeps the first refusal.
type fields struct {
	kind     string
	values   map[string]json.RawMessage
	location *time.Location
	err      error
}

func (f *fields) refuse(name, format string, args ...any) {
	if f.err == nil {
		f.err = connectors.Refuse(http.StatusUnprocessableEntity, f.kind+"."+name, format, args...)
	}
}

func (f *fields) scheduled() connectors.Incoming {
	scan := &connectors.Scan{
		Name:     f.need("name"),
		Type:     f.text("type"),
		Link:     f.need("link"),
		Status:   "Scheduled",
		StartsAt: f.time("starts_at"),
	}
	item := connectors.Incoming{Type: connectors.ScanScheduled, Data: connectors.Data{Scan: scan}, DefaultField: "name"}
	if f.err == nil {
		scan.Key = bounded(scan.Link + "@" + f.wall(scan.StartsAt))
		item.Key = bounded(kindScheduled + " " + f.wall(scan.StartsAt) + " " + scan.Link)
	}
	return item
}

func (f *fields) finished() connectors.Incoming {
	scan := &connectors.Scan{
		Name:       f.need("name"),
		Type:       f.text("type"),
		Link:       f.need("link"),
		Status:     f.need("status"),
		StartedAt:  f.time("started"),
		FinishedAt: f.time("finished"),
		Duration:   f.duration("duration"),
		Errors:     f.messages("errors"),
		Counts: &connectors.Counts{
			Critical: f.count("critical_cnt"),
			High:     f.count("high_cnt"),
			Medium:   f.count("medium_cnt"),
			Low:      f.count("low_cnt"),
		},
	}
	item := connectors.Incoming{Type: connectors.ScanFailed, Data: connectors.Data{Scan: scan}, DefaultField: "name"}
	if scan.Status == statusCompleted {
		item.Type = connectors.ScanCompleted
	}
	if f.err == nil {
		item.Time = *scan.FinishedAt
		scan.Key = bounded(scan.Link + "@" + f.wall(scan.StartedAt))
		item.Key = bounded(kindFinished + " " + f.wall(scan.FinishedAt) + " " + scan.Link)
	}
	return item
}

func (f *fields) ticket() connectors.Incoming {
	number := f.int("number", true)
	ticket := &connectors.Ticket{
		Number:    number,
		Title:     f.need("vulnerability_name"),
		Severity:  f.severity("severity"),
		Asset:     f.text("asset_name"),
		AssetLink: f.text("asset_link"),
		DueDate:   f.date("due_date"),
		Owner:     f.text("owner"),
	}
	item := connectors.Incoming{Type: connectors.TicketOpened, Data: connectors.Data{Ticket: ticket}, DefaultField: "asset_name"}
	switch status := f.need("status"); {
	case status == statusClosed:
		item.Type = connectors.TicketClosed
		ticket.Status = "closed"
	case strings.HasPrefix(status, "Closed"): // not because it is fixed: that must not be lost
		item.Type = connectors.TicketClosed
		ticket.Status = status
	case status == statusOpen:
		ticket.Status = "open"
	default: // whatever is not closed is open
		ticket.Status = status
	}
	if f.err != nil {
		return item
	}
	ticket.Key = strconv.Itoa(*number)
	item.Key = kindTicket + " " + ticket.Key
	item.State = f.state()
	return item
}

// raw returns the value of a field; nil when it is missing or null.
func (f *fields) raw(name string) json.RawMessage {
	v := f.values[name]
	if len(v) == 0 || v[0] == 'n' {
		return nil
	}
	return v
}

// text reads an optional string.
func (f *fields) text(name string) string {
	v := f.raw(name)
	if v == nil {
		return ""
	}
	var s string
	if v[0] != '"' || json.Unmarshal(v, &s) != nil {
		f.refuse(name, "must be a string")
		return ""
	}
	if strings.IndexByte(s, 0) >= 0 {
		f.refuse(name, "must not hold a NUL character")
		return ""
	}
	return s
}

// need reads a mandatory string.
func (f *fields) need(name string) string {
	s := f.text(name)
	if s == "" {
		f.refuse(name, "is missing or empty")
	}
	return s
}

// time reads a mandatory timestamp of the source's zone.
func (f *fields) time(name string) *time.Time {
	s := f.need(name)
	t, err := time.ParseInLocation(minuteLayout, s, f.location)
	if err != nil {
		t, err = time.ParseInLocation(secondLayout, s, f.location)
	}
	t = t.UTC()
	if err != nil || t.Year() < 1 || t.Year() > 9999 {
		f.refuse(name, "must be a time such as 2018-08-21 12:02")
		return nil
	}
	return &t
}

// wall writes t as the sender's clock showed it: a key must not change when somebody
// corrects the source's zone.
func (f *fields) wall(t *time.Time) string { return t.In(f.location).Format(secondLayout) }

// date reads an optional date.
func (f *fields) date(name string) string {
	s := f.text(name)
	if s == "" {
		return ""
	}
	if _, err := time.Parse(dateLayout, s); err != nil {
		f.refuse(name, "must be a date such as 2018-09-01")
	}
	return s
}

// severity reads an optional severity word.
func (f *fields) severity(name string) connectors.Severity {
	word := f.text(name)
	s := connectors.Severity(strings.ToLower(word))
	if s.Rank() < 0 {
		f.refuse(name, "must be Info, Low, Medium, High or Critical")
		return connectors.SeverityUnknown
	}
	return s
}

// int reads a whole number in 0..2147483647; text that looks like one is refused.
func (f *fields) int(name string, mandatory bool) *int {
	v := f.raw(name)
	if v == nil {
		if mandatory {
			f.refuse(name, "is missing")
		}
		return nil
	}
	n, err := strconv.ParseInt(string(v), 10, 32)
	if err != nil || n < 0 {
		f.refuse(name, "must be a whole number from 0 to %d, written as a JSON number", math.MaxInt32)
		return nil
	}
	i := int(n)
	return &i
}

func (f *fields) count(name string) *int { return f.int(name, false) }

// messages reads the errors of a scan: none, or some with an empty line between.
func (f *fields) messages(name string) []string {
	var list []string
	for _, s := range strings.Split(f.text(name), errorSeparator) {
		if s = strings.TrimSpace(s); s != "" {
			list = append(list, s)
		}
	}
	return list
}

// duration reads "HH:MM", "H:MM:SS" and "N day(s), H:MM:SS", in seconds.
func (f *fields) duration(name string) *int {
	s := f.text(name)
	if s == "" {
		return nil
	}
	seconds, ok := parseDuration(s)
	if !ok {
		f.refuse(name, "must be a duration such as 00:57, 1:02:03 or 2 days, 1:02:03")
		return nil
	}
	return &seconds
}

func parseDuration(s string) (seconds int, ok bool) {
	var days int64
	if d, rest, found := strings.Cut(s, ","); found {
		d, isDays := strings.CutSuffix(strings.TrimSuffix(d, "s"), " day")
		if days, ok = digits(d); !ok || !isDays {
			return 0, false
		}
		s = strings.TrimPrefix(rest, " ")
	}
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return 0, false
	}
	if len(parts) == 3 { // Python writes fractions of a second after a dot
		whole, fraction, has := strings.Cut(parts[2], ".")
		if _, isNumber := digits(fraction); has && !isNumber {
			return 0, false
		}
		parts[2] = whole
	}
	units := [3]int64{3600, 60, 1}
	total := days * 86400
	for i, p := range parts {
		n, isNumber := digits(p)
		if !isNumber || i > 0 && n > 59 {
			return 0, false
		}
		total += n * units[i]
	}
	return int(total), total <= math.MaxInt32
}

// digits reads a number of at most nine digits and nothing but digits.
func digits(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return int64(n), err == nil && len(s) <= 9
}

// all returns the scalar values under Holm's names, for mapping rules.
func (f *fields) all() map[string]string {
	out := make(map[string]string, len(f.values)+1)
	for name, v := range f.values {
		var s string
		switch {
		case len(v) == 0 || v[0] == '{' || v[0] == '[' || v[0] == 'n':
			continue
		case v[0] != '"':
			s = string(v)
		case json.Unmarshal(v, &s) != nil:
			continue
		}
		if strings.IndexByte(s, 0) < 0 {
			out[name] = s
		}
	}
	out["kind"] = f.kind
	return out
}

// state is what a ticket was said to be: a digest of all its values.
func (f *fields) state() string {
	b, err := json.Marshal(f.all()) // sorted, so the order of the keys does not matter
	if err != nil {
		f.refuse("", "cannot be written as JSON: %v", err)
		return ""
	}
	return connectors.Digest(b)
}

// bounded keeps a key short enough for any index.
func bounded(key string) string {
	const longest = 512
	if len(key) > longest {
		return connectors.Digest([]byte(key))
	}
	return key
}
