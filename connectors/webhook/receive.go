package webhook

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hookyard/hookyard/connectors"
)

// ReceiverKind is the kind of sources that send CloudEvents.
const ReceiverKind = "cloudevents"

// MaxBatch is how many events one batch may hold.
const MaxBatch = 1000

const (
	structuredType = "application/cloudevents+json"
	batchType      = "application/cloudevents-batch+json"
	jsonType       = "application/json"
)

// Receiver reads CloudEvents 1.0 in the HTTP binding: structured, binary and batched.
// The data is connectors.Data as JSON; a member that it does not know is refused
// with its path. A batch is accepted or refused whole. An event of a type that is not
// canonical is fine but ignored.
type Receiver struct{}

// Kind is "cloudevents".
func (Receiver) Kind() string { return ReceiverKind }

// Receive turns a request into as many events as it holds.
func (Receiver) Receive(in connectors.Inbound) (connectors.Received, error) {
	if in.Method != "" && in.Method != http.MethodPost {
		return connectors.Received{}, connectors.Refuse(http.StatusMethodNotAllowed, "", "events are sent with POST, not %s", in.Method)
	}
	contentType := in.ContentType
	if contentType == "" {
		contentType = in.Header.Get("Content-Type")
	}
	media, ok := mediaType(contentType)
	if !ok {
		return connectors.Received{}, connectors.Refuse(http.StatusUnsupportedMediaType, "Content-Type", "the character set must be UTF-8")
	}
	if !utf8.Valid(in.Body) {
		return connectors.Received{}, connectors.Refuse(http.StatusBadRequest, "", "not JSON: the body is not UTF-8")
	}
	r := reader{b: in.Body, path: make([]byte, 0, 64)}
	var out connectors.Received
	var ignored []string
	add := func(e *envelope) {
		if r.err != nil {
			return
		}
		if e.unknownType {
			ignored = append(ignored, e.eventType)
			return
		}
		out.Items = append(out.Items, e.incoming())
	}
	switch {
	case media == structuredType:
		var e envelope
		r.envelope(&e)
		r.end()
		add(&e)
	case media == batchType:
		r.array(func(i int) {
			if i == MaxBatch {
				r.err = connectors.Refuse(http.StatusRequestEntityTooLarge, "", "a batch holds at most %d events", MaxBatch)
				return
			}
			var e envelope
			r.envelope(&e)
			add(&e)
		})
		r.end()
	case strings.HasPrefix(media, "application/cloudevents"):
		return connectors.Received{}, connectors.Refuse(http.StatusUnsupportedMediaType, "Content-Type", "%s is not read here; send %s", media, structuredType)
	case len(in.Header["Ce-Specversion"]) > 0 || len(in.Header["Ce-Id"]) > 0 || len(in.Header["Ce-Type"]) > 0:
		var e envelope
		r.binary(&e, in.Header, media)
		add(&e)
	default:
		return connectors.Received{}, connectors.Refuse(http.StatusUnsupportedMediaType, "Content-Type",
			"not a CloudEvent: send %s, %s, or ce- headers with a JSON body", structuredType, batchType)
	}
	if r.err != nil {
		return connectors.Received{}, r.err
	}
	out.Note = note(ignored, len(out.Items))
	return out, nil
}

// note says what was ignored; "" when nothing was.
func note(ignored []string, accepted int) string {
	switch {
	case len(ignored) == 0 && accepted == 0:
		return "The batch is empty."
	case len(ignored) == 0:
		return ""
	case len(ignored) == 1:
		return "No type of event that we know: " + quoted(ignored[0]) + "."
	}
	return fmt.Sprintf("%d events are of types that we do not know, the first is %s.", len(ignored), quoted(ignored[0]))
}

func quoted(s string) string {
	const longest = 80
	if r := []rune(s); len(r) > longest {
		s = string(r[:longest]) + "…"
	}
	return strconv.Quote(s)
}

// mediaType is the type without its parameters, in lower case; ok is false when they
// name a character set that is not UTF-8.
func mediaType(header string) (media string, ok bool) {
	media, parameters, _ := strings.Cut(header, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	for parameters != "" {
		var p string
		p, parameters, _ = strings.Cut(parameters, ";")
		name, value, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.TrimSpace(name), "charset") {
			value = strings.Trim(strings.TrimSpace(value), `"`)
			if !strings.EqualFold(value, "utf-8") && !strings.EqualFold(value, "utf8") && !strings.EqualFold(value, "us-ascii") {
				return media, false
			}
		}
	}
	return media, true
}

func isJSON(media string) bool {
	return media == jsonType || media == "text/json" || strings.HasSuffix(media, "+json")
}

// envelope is one CloudEvent on its way to become an Incoming.
type envelope struct {
	specVersion, id, source, eventType string
	subject, dataContentType, time     string
	at                                 time.Time
	data                               connectors.Data
	hasData, unknownType               bool
	extensions                         []extension
}

type extension struct{ name, value string }

// envelope reads a structured event.
func (r *reader) envelope(e *envelope) {
	later := -1 // where the data stands, if it came before the type
	var encoded *string
	seen := 0
	r.object(func(name []byte) {
		if bit := attributeBit(name); seen&bit != 0 {
			r.refuse("is given twice")
			return
		} else {
			seen |= bit
		}
		switch string(name) {
		case "specversion":
			e.specVersion = r.string()
		case "id":
			e.id = r.string()
		case "source":
			e.source = r.string()
		case "type":
			e.eventType = r.string()
		case "subject":
			e.subject = r.string()
		case "time":
			e.time = r.string()
		case "datacontenttype":
			e.dataContentType = r.string()
		case "dataschema":
			r.string()
		case "data":
			e.hasData = true
			if t := connectors.EventType(e.eventType); t.Valid() {
				e.data = r.data(t)
			} else {
				r.peek()
				later = r.i
				r.skip(0)
			}
		case "data_base64":
			if !r.null() {
				s := r.string()
				encoded = &s
			}
		default:
			if v, ok := r.attribute(name); ok {
				e.extensions = append(e.extensions, extension{string(name), v})
			}
		}
	})
	r.check(e)
	if r.err != nil || e.unknownType {
		return
	}
	t := connectors.EventType(e.eventType)
	switch {
	case encoded != nil && e.hasData:
		r.refuseAt("data_base64", "must not come together with data")
	case encoded != nil:
		r.encoded(e, t, *encoded)
	case later >= 0:
		at, n := r.i, r.enter("data")
		r.i = later
		e.data = r.data(t)
		r.i, r.path = at, r.path[:n]
	case !e.hasData:
		r.refuseAt("data", "is missing; %s needs %s", t, nounOf(t))
	}
}

// attributeBit tells the members apart that may be given once; 0 for all others. A
// second type, above all, must not join the data that was read for the first.
func attributeBit(name []byte) int {
	for i, n := range [...]string{"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data", "data_base64"} {
		if string(name) == n {
			return 1 << i
		}
	}
	return 0
}

// encoded reads data that came as base64.
func (r *reader) encoded(e *envelope, t connectors.EventType, s string) {
	defer func(n int) { r.path = r.path[:n] }(r.enter("data_base64"))
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || !utf8.Valid(b) {
		r.refuse("must be JSON in base64")
		return
	}
	inner := reader{b: b, path: r.path}
	e.data = inner.data(t)
	inner.end()
	r.err = inner.err
}

// attribute reads the value of an extension attribute; ok is false for null.
func (r *reader) attribute(name []byte) (value string, ok bool) {
	if !validAttribute(name) {
		r.refuse("is not the name of an attribute: they are lower-case letters and digits")
		return "", false
	}
	switch c := r.peek(); {
	case c == 'n':
		r.literal("null")
		return "", false
	case c == '"':
		return r.string(), true
	case c == '{' || c == '[':
		r.wrong("a string, a number, true or false")
		return "", false
	}
	return string(r.raw()), true
}

func validAttribute(name []byte) bool {
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return len(name) > 0
}

// check refuses an envelope without what CloudEvents demands.
func (r *reader) check(e *envelope) {
	if r.err != nil {
		return
	}
	if e.specVersion != "1.0" {
		r.refuseAt("specversion", `must be "1.0"`)
	}
	r.must("id", e.id)
	r.must("source", e.source)
	r.must("type", e.eventType)
	if e.time != "" {
		var ok bool
		if e.at, ok = parseTime(e.time); !ok {
			r.refuseAt("time", "must be an RFC 3339 time such as 2026-04-10T14:30:00Z")
		}
	}
	e.unknownType = !connectors.EventType(e.eventType).Valid()
	if e.dataContentType != "" && !e.unknownType {
		if media, ok := mediaType(e.dataContentType); !ok || !isJSON(media) {
			r.refuseAt("datacontenttype", "must be %s", jsonType)
		}
	}
}

// binary reads an event whose attributes are headers and whose data is the body.
func (r *reader) binary(e *envelope, header http.Header, media string) {
	for _, name := range slices.Sorted(maps.Keys(header)) { // sorted, so that the same request gets the same answer
		attribute, ok := strings.CutPrefix(strings.ToLower(name), "ce-")
		values := header[name]
		if !ok || len(values) == 0 {
			continue
		}
		n := r.enter("ce-" + attribute)
		value, valid := headerValue(values[0])
		switch {
		case len(values) > 1:
			r.refuse("must be given once")
		case !validAttribute([]byte(attribute)):
			r.refuse("is not the name of an attribute: they are lower-case letters and digits")
		case !valid || strings.IndexByte(value, 0) >= 0:
			r.refuse("must be percent-encoded UTF-8")
		}
		r.path = r.path[:n]
		switch attribute {
		case "specversion":
			e.specVersion = value
		case "id":
			e.id = value
		case "source":
			e.source = value
		case "type":
			e.eventType = value
		case "subject":
			e.subject = value
		case "time":
			e.time = value
		case "dataschema", "datacontenttype":
		default:
			e.extensions = append(e.extensions, extension{attribute, value})
		}
	}
	e.dataContentType = media
	r.path = append(r.path[:0], "ce-"...)
	r.check(e)
	r.path = r.path[:0]
	if r.err != nil || e.unknownType {
		return
	}
	r.path = append(r.path, "data"...)
	e.data = r.data(connectors.EventType(e.eventType))
	r.end()
}

// headerValue undoes the binding's encoding: percent-encoded UTF-8, perhaps quoted.
func headerValue(s string) (string, bool) {
	if len(s) > 1 && s[0] == '"' && s[len(s)-1] == '"' {
		s = strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(s[1 : len(s)-1])
	}
	if strings.IndexByte(s, '%') >= 0 {
		decoded, err := url.PathUnescape(s)
		if err != nil {
			return s, false
		}
		s = decoded
	}
	return s, utf8.ValidString(s)
}

// incoming is the event as the hub takes it. Its key is its source and ID, so that
// the same event sent again is one event.
func (e *envelope) incoming() connectors.Incoming {
	in := connectors.Incoming{
		Type:   connectors.EventType(e.eventType),
		Time:   e.at,
		Source: e.source,
		Data:   e.data,
		Key:    eventKey(e.source, e.id),
	}
	f := make(map[string]string, 8)
	for _, x := range e.extensions {
		f[x.name] = x.value
	}
	put := func(name, value string) {
		if value != "" {
			f[name] = value
		}
	}
	put("source", e.source)
	put("subject", e.subject)
	put("type", e.eventType)
	target := ""
	switch d := &e.data; {
	case d.Scan != nil:
		put("key", d.Scan.Key)
		put("name", d.Scan.Name)
		put("target", d.Scan.Target)
		target = "target"
	case d.Finding != nil:
		put("key", d.Finding.Key)
		put("name", d.Finding.Title)
		put("asset", d.Finding.Asset)
		target = "asset"
	case d.Ticket != nil:
		put("key", d.Ticket.Key)
		put("name", d.Ticket.Title)
		put("asset", d.Ticket.Asset)
		target = "asset"
	case d.Report != nil:
		put("key", d.Report.Key)
	case d.Application != nil:
		put("key", d.Application.Key)
		put("name", d.Application.Name)
		target = "name"
	}
	in.Fields = f
	for _, name := range [...]string{"application", "subject", target} {
		if f[name] != "" {
			in.DefaultField = name
			break
		}
	}
	return in
}

// eventKey joins source and ID so that no two pairs give the same key, as a JSON
// array; a long one is replaced by its digest, to fit any index.
func eventKey(source, id string) string {
	b := make([]byte, 0, len(source)+len(id)+8)
	b = append(b, '[')
	b = connectors.AppendString(b, source)
	b = append(b, ',')
	b = connectors.AppendString(b, id)
	b = append(b, ']')
	if len(b) > maxKey {
		return connectors.Digest(b)
	}
	return string(b)
}
