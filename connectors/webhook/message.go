package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/hookyard/hookyard/connectors"
)

// message is an event in words for people, before it takes the shape of a chat.
type message struct {
	title string // one line
	text  string // a paragraph, "" for none
	facts []fact
	link  string // http or https, "" for none
	grave bool   // worth a warning colour
}

type fact struct{ name, value string }

// Chats cut or refuse what is longer.
const (
	maxTitle = 140
	maxText  = 1500
	maxFact  = 300
	maxLink  = 2000
)

// describe puts e into words; nothing that is unknown is mentioned.
func describe(e *connectors.Event, o connectors.RenderOptions) (m message, err error) {
	add := func(name, value string) {
		if value != "" {
			m.facts = append(m.facts, fact{name, shorten(value, maxFact)})
		}
	}
	if s, has := e.Data.Severity(e.Type); has && s != connectors.SeverityUnknown {
		add("Severity", capital(string(s)))
		m.grave = s.Rank() >= connectors.SeverityHigh.Rank()
	}
	if e.Application != nil {
		add("Application", e.Application.Name)
	}
	if e.AssetGroup != nil {
		add("Asset group", e.AssetGroup.Name)
	}
	name, noun, id := "", "", ""
	switch d := &e.Data; {
	case d.Scan != nil:
		s := d.Scan
		name, m.link, noun, id = s.Name, s.Link, "scans", s.ID
		add("Target", s.Target)
		add("Type", s.Type)
		if e.Type == connectors.ScanProgress && s.Progress != nil {
			add("Progress", strconv.Itoa(*s.Progress)+" %")
		}
		if e.Type == connectors.ScanScheduled && s.StartsAt != nil {
			add("Starts", s.StartsAt.UTC().Format("2006-01-02 15:04 UTC"))
		}
		add("Found", counts(s.Counts))
		add("Duration", hours(s.Duration))
		m.text = strings.Join(s.Errors, "\n")
	case d.Finding != nil:
		f := d.Finding
		name, m.link, noun, id = f.Title, f.Link, "findings", f.ID
		add("Status", f.Status)
		add("CVSS", score(f))
		add("CVE", f.CVE)
		add("CWE", f.CWE)
		add("Asset", f.Asset)
		add("Affected", f.Endpoint)
		m.text = f.Description
	case d.Ticket != nil:
		t := d.Ticket
		name, m.link, noun, id = t.Title, t.Link, "tickets", t.ID
		if m.link == "" {
			m.link = t.AssetLink
		}
		if t.Number != nil {
			add("Number", strconv.Itoa(*t.Number))
		}
		add("Asset", t.Asset)
		add("Due", t.DueDate)
		add("Owner", t.Owner)
	case d.Report != nil:
		name, m.link, noun, id = d.Report.Format, d.Report.Link, "reports", d.Report.ID
		if m.link == "" {
			m.link = d.Report.DownloadURL
		}
	case d.Application != nil:
		name, m.link = d.Application.Name, d.Application.Link
		add("Status", d.Application.Status)
		add("Open", counts(d.Application.Counts))
	}
	what := headline(e)
	if what == "" {
		return m, &connectors.SkipError{Reason: fmt.Sprintf("there are no words for %q", string(e.Type))}
	}
	if name != "" {
		what += ": " + name
	}
	m.title = shorten(strings.Join(strings.Fields(what), " "), maxTitle)
	m.text = shorten(strings.TrimSpace(m.text), maxText)
	if m.link == "" && o.PublicURL != "" && id != "" {
		m.link = o.PublicURL + "/" + noun + "/" + id
	}
	if !strings.HasPrefix(m.link, "https://") && !strings.HasPrefix(m.link, "http://") || len(m.link) > maxLink || strings.ContainsAny(m.link, " <>|\"\n\r\t") {
		m.link = ""
	}
	return m, nil
}

func headline(e *connectors.Event) string {
	switch e.Type {
	case connectors.ScanScheduled:
		return "Scan scheduled"
	case connectors.ScanStarted:
		return "Scan started"
	case connectors.ScanProgress:
		return "Scan in progress"
	case connectors.ScanCompleted:
		return "Scan completed"
	case connectors.ScanFailed:
		return "Scan failed"
	case connectors.FindingDiscovered:
		return "New finding"
	case connectors.FindingChanged:
		if e.Data.Finding != nil && e.Data.Finding.Status == "resolved" {
			return "Finding resolved"
		}
		return "Finding changed"
	case connectors.TicketOpened:
		return "Ticket opened"
	case connectors.TicketClosed:
		return "Ticket closed"
	case connectors.ReportReady:
		return "Report ready"
	case connectors.ApplicationChanged:
		return "Application changed"
	}
	return ""
}

// counts are the known numbers, severest first: "1 critical, 3 medium".
func counts(c *connectors.Counts) string {
	if c == nil {
		return ""
	}
	var parts []string
	known := false
	for _, k := range [...]struct {
		n    *int
		word string
	}{{c.Critical, "critical"}, {c.High, "high"}, {c.Medium, "medium"}, {c.Low, "low"}, {c.Info, "info"}} {
		if k.n == nil {
			continue
		}
		known = true
		if *k.n > 0 {
			parts = append(parts, strconv.Itoa(*k.n)+" "+k.word)
		}
	}
	switch {
	case len(parts) > 0:
		return strings.Join(parts, ", ")
	case c.Total != nil && (!known || *c.Total > 0):
		return strconv.Itoa(*c.Total) + " in total"
	case known && c.Critical != nil && c.High != nil && c.Medium != nil && c.Low != nil:
		return "nothing"
	}
	return "" // some counters are unknown: "nothing" would read as an all-clear
}

func hours(seconds *int) string {
	switch {
	case seconds == nil || *seconds < 0:
		return ""
	case *seconds < 60:
		return fmt.Sprintf("%d s", *seconds)
	case *seconds < 3600:
		return fmt.Sprintf("%d min", *seconds/60)
	}
	return fmt.Sprintf("%d h %d min", *seconds/3600, *seconds/60%60)
}

func score(f *connectors.Finding) string {
	switch {
	case f.CVSS3 != nil:
		return strconv.FormatFloat(*f.CVSS3, 'f', -1, 64)
	case f.CVSS2 != nil:
		return strconv.FormatFloat(*f.CVSS2, 'f', -1, 64) + " (v2)"
	}
	return ""
}

func capital(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// shorten cuts s to at most most characters.
func shorten(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "…"
}

// object is JSON whose members are sorted by name, which makes it deterministic.
type object map[string]any

func chat(m object) (connectors.Rendered, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		return connectors.Rendered{}, fmt.Errorf("writing a chat message: %w", err)
	}
	return post(jsonType, bytes.TrimSuffix(b.Bytes(), []byte{'\n'})), nil
}

// SlackFormat is a message for a Slack incoming webhook, which works with services that
// take the same shape (Mattermost, Rocket.Chat: the text).
type SlackFormat struct{}

// Name is "slack".
func (SlackFormat) Name() string { return FormatSlack }

// EventTypes are the kinds that tell what came of something.
func (SlackFormat) EventTypes() []connectors.EventType { return outcomes() }

// Render writes e as text, for notifications, and as blocks.
func (SlackFormat) Render(e *connectors.Event, o connectors.RenderOptions) (connectors.Rendered, error) {
	m, err := describe(e, o)
	if err != nil {
		return connectors.Rendered{}, err
	}
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace
	text := escape(m.title)
	if m.grave {
		text = ":rotating_light: " + text
	}
	line := text
	if m.link != "" {
		line = strings.Replace(text, escape(m.title), "<"+escape(m.link)+"|"+escape(m.title)+">", 1)
	}
	markdown := func(s string) object { return object{"type": "mrkdwn", "text": s} }
	blocks := []object{{"type": "section", "text": markdown("*" + line + "*")}}
	const perSection = 10
	for facts := m.facts; len(facts) > 0; {
		n := min(perSection, len(facts))
		fields := make([]object, n)
		for i, f := range facts[:n] {
			fields[i] = markdown("*" + f.name + "*\n" + escape(f.value))
		}
		blocks = append(blocks, object{"type": "section", "fields": fields})
		facts = facts[n:]
	}
	if m.text != "" {
		blocks = append(blocks, object{"type": "section", "text": object{"type": "plain_text", "text": m.text}})
	}
	return chat(object{"text": text, "blocks": blocks})
}

// TeamsFormat is a message with an Adaptive Card, for a Teams workflow or incoming
// webhook.
type TeamsFormat struct{}

// Name is "teams".
func (TeamsFormat) Name() string { return FormatTeams }

// EventTypes are the kinds that tell what came of something.
func (TeamsFormat) EventTypes() []connectors.EventType { return outcomes() }

// Render writes e as an Adaptive Card.
func (TeamsFormat) Render(e *connectors.Event, o connectors.RenderOptions) (connectors.Rendered, error) {
	m, err := describe(e, o)
	if err != nil {
		return connectors.Rendered{}, err
	}
	// Cards read a little Markdown; what came from outside must not become a link.
	escape := strings.NewReplacer(`\`, `\\`, `[`, `\[`, `]`, `\]`, `*`, `\*`, "`", "\\`").Replace
	title := object{"type": "TextBlock", "text": escape(m.title), "weight": "Bolder", "size": "Medium", "wrap": true}
	if m.grave {
		title["color"] = "Attention"
	}
	body := []object{title}
	if len(m.facts) > 0 {
		facts := make([]object, len(m.facts))
		for i, f := range m.facts {
			facts[i] = object{"title": f.name, "value": escape(f.value)}
		}
		body = append(body, object{"type": "FactSet", "facts": facts})
	}
	if m.text != "" {
		body = append(body, object{"type": "TextBlock", "text": escape(m.text), "wrap": true})
	}
	card := object{
		"$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
		"type":    "AdaptiveCard",
		"version": "1.4",
		"msteams": object{"width": "Full"},
		"body":    body,
	}
	if m.link != "" {
		card["actions"] = []object{{"type": "Action.OpenUrl", "title": "Open", "url": m.link}}
	}
	return chat(object{
		"type":        "message",
		"attachments": []object{{"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": nil, "content": card}},
	})
}
