package plugins

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hookyard/hookyard/connectors"
	wirev1 "github.com/hookyard/hookyard/plugins/wire/v1"
)

// Everything between the contract's nouns and their form on the wire. Byte slices
// are shared, not copied: nobody changes them after they were handed over. One
// string that is not UTF-8 would end the stream, so what comes from outside (headers,
// addresses, texts) goes through valid or clip.

// withDefaults fills in the settings that are not set and have a default.
func withDefaults(e connectors.Endpoint, spec connectors.Spec) connectors.Endpoint {
	var schema struct {
		Properties map[string]struct {
			Default   json.RawMessage
			WriteOnly bool
			Format    string
		}
	}
	values := map[string]json.RawMessage{}
	raw := spec.SettingsFor(e.Role)
	if len(raw) == 0 || json.Unmarshal(raw, &schema) != nil || len(e.Settings) > 0 && json.Unmarshal(e.Settings, &values) != nil {
		return e
	}
	filled := len(e.Settings) == 0
	for name, p := range schema.Properties {
		if _, set := values[name]; !set && p.Default != nil && !p.WriteOnly && p.Format != "password" {
			if values == nil { // the settings were null
				values = map[string]json.RawMessage{}
			}
			values[name], filled = p.Default, true
		}
	}
	if filled {
		e.Settings, _ = json.Marshal(values) //nolint:errchkjson // it was JSON before
	}
	return e
}

func endpointToWire(e connectors.Endpoint) *wirev1.Endpoint {
	allow := make([]*wirev1.AllowRule, len(e.Dial.Allow))
	for i, r := range e.Dial.Allow {
		allow[i] = &wirev1.AllowRule{Host: valid(r.Host), Port: int32(r.Port), List: valid(r.List)}
	}
	secrets := make(map[string][]byte, len(e.Secrets))
	for k, v := range e.Secrets {
		secrets[valid(k)] = []byte(v)
	}
	return &wirev1.Endpoint{Ref: e.Ref, Id: e.ID, Url: valid(e.URL), Settings: e.Settings, Secrets: secrets,
		Organization: e.Organization, Role: string(e.Role), Dial: &wirev1.DialPolicy{Open: e.Dial.Open, Allow: allow}}
}

func endpointFromWire(w *wirev1.Endpoint) connectors.Endpoint {
	e := connectors.Endpoint{Ref: w.GetRef(), ID: w.GetId(), URL: w.GetUrl(), Settings: w.GetSettings(),
		Organization: w.GetOrganization(), Role: connectors.Role(w.GetRole())}
	e.Secrets = make(map[string]string, len(w.GetSecrets()))
	for k, v := range w.GetSecrets() {
		e.Secrets[k] = string(v)
	}
	e.Dial.Open = w.GetDial().GetOpen()
	for _, r := range w.GetDial().GetAllow() {
		e.Dial.Allow = append(e.Dial.Allow, connectors.AllowRule{Host: r.GetHost(), Port: int(r.GetPort()), List: r.GetList()})
	}
	return e
}

func itemToWire(token uint64, d *connectors.Delivery) *wirev1.Item {
	return &wirev1.Item{Token: token, DeliveryId: d.ID, Attempt: int32(d.Attempt), Endpoint: d.Endpoint,
		Timeout: int64(d.Timeout), Request: requestToWire(d.Request), Event: d.Event}
}

func itemFromWire(w *wirev1.Item) connectors.Delivery {
	return connectors.Delivery{ID: w.GetDeliveryId(), Attempt: int(w.GetAttempt()), Endpoint: w.GetEndpoint(),
		Timeout: time.Duration(w.GetTimeout()), Request: requestFromWire(w.GetRequest()), Event: w.GetEvent()}
}

// itemSize is about what a delivery takes on the wire.
func itemSize(d *connectors.Delivery) int {
	n := len(d.Event)
	if r := d.Request; r != nil {
		n += len(r.Body) + len(r.URL)
		for i := range r.Header {
			n += len(r.Header[i].Name) + len(r.Header[i].Value)
		}
	}
	return n
}

func requestToWire(r *connectors.Request) *wirev1.Request {
	if r == nil {
		return nil
	}
	w := &wirev1.Request{Method: valid(r.Method), Url: valid(r.URL), Header: headerToWire(r.Header), Body: r.Body}
	for i := range r.Header {
		if name := r.Header[i].Secret; name != "" {
			w.Secrets = append(w.Secrets, &wirev1.HeaderSecret{Line: int32(i), Secret: valid(name)})
		}
	}
	return w
}

func requestFromWire(w *wirev1.Request) *connectors.Request {
	if w == nil {
		return nil
	}
	r := &connectors.Request{Method: w.GetMethod(), URL: w.GetUrl(), Header: headerFromWire(w.GetHeader()), Body: w.GetBody()}
	for _, h := range w.GetSecrets() {
		if i := int(h.GetLine()); i >= 0 && i < len(r.Header) {
			r.Header[i].Secret = h.GetSecret()
		}
	}
	return r
}

// headerToWire writes a header as lines: a message per line costs more than all the
// rest of a delivery. A line break in a name or value would make two lines of one,
// and is a space instead.
func headerToWire(hs []connectors.Header) []byte {
	n := 0
	for i := range hs {
		n += len(hs[i].Name) + len(hs[i].Value) + len(": \n")
	}
	if n == 0 {
		return nil
	}
	out := make([]byte, 0, n)
	for i := range hs {
		out = append(appendInLine(out, hs[i].Name), ": "...)
		out = append(appendInLine(out, hs[i].Value), '\n')
	}
	return out
}

func appendInLine(to []byte, s string) []byte {
	if strings.IndexByte(s, '\n') >= 0 {
		s = strings.ReplaceAll(s, "\n", " ")
	}
	return append(to, s...)
}

func headerFromWire(b []byte) []connectors.Header {
	if len(b) == 0 {
		return nil
	}
	lines := string(b)
	out := make([]connectors.Header, 0, strings.Count(lines, "\n"))
	for lines != "" {
		var line string
		line, lines, _ = strings.Cut(lines, "\n")
		name, value, _ := strings.Cut(line, ": ")
		out = append(out, connectors.Header{Name: name, Value: value})
	}
	return out
}

// bound brings a result within the limits; both ends do it.
func bound(r *connectors.Result) {
	r.Error = clip(r.Error)
	if q := r.Request; q != nil {
		r.Request = &connectors.Request{Method: q.Method, URL: q.URL, Header: boundHeader(q.Header)}
	}
	if p := r.Response; p != nil {
		p.Header = boundHeader(p.Header)
		if len(p.Body) > connectors.MaxResponseBody {
			p.Body, p.Truncated = p.Body[:connectors.MaxResponseBody], true
		}
	}
}

// boundHeader keeps the lines that fit.
func boundHeader(hs []connectors.Header) []connectors.Header {
	n := 0
	for i := range hs {
		if n += len(hs[i].Name) + len(hs[i].Value) + len(hs[i].Secret); n > maxHeaders {
			return hs[:i]
		}
	}
	return hs
}

// clip shortens text for people to maxText, and makes it storable.
func clip(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + "…"
	}
	return storable(s)
}

// storable makes s what every database takes as text: UTF-8 without NUL.
func storable(s string) string {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	}
	return valid(s)
}

func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

func resultToWire(token uint64, r *connectors.Result) *wirev1.Result {
	w := &wirev1.Result{Token: token, Outcome: outcomeToWire(r.Outcome), Fault: faultToWire(r.Fault), RetryAfter: int64(r.RetryAfter),
		Dns: int64(r.Timing.DNS), Connect: int64(r.Timing.Connect), Tls: int64(r.Timing.TLS),
		FirstByte: int64(r.Timing.FirstByte), Total: int64(r.Timing.Total), Request: requestToWire(r.Request), Error: r.Error}
	if !r.Started.IsZero() {
		w.Started = r.Started.UnixNano()
	}
	if p := r.Response; p != nil {
		w.Response = &wirev1.Response{Status: int32(p.Status), Header: headerToWire(p.Header), Body: p.Body, Truncated: p.Truncated}
	}
	return w
}

func resultFromWire(id string, w *wirev1.Result) connectors.Result {
	r := connectors.Result{DeliveryID: id, Outcome: outcomeFromWire(w.GetOutcome()), Fault: faultFromWire(w.GetFault()),
		RetryAfter: time.Duration(w.GetRetryAfter()), Request: requestFromWire(w.GetRequest()), Error: w.GetError(),
		Timing: connectors.Timing{DNS: time.Duration(w.GetDns()), Connect: time.Duration(w.GetConnect()), TLS: time.Duration(w.GetTls()),
			FirstByte: time.Duration(w.GetFirstByte()), Total: time.Duration(w.GetTotal())}}
	if ns := w.GetStarted(); ns != 0 {
		r.Started = time.Unix(0, ns).UTC()
	}
	if p := w.GetResponse(); p != nil {
		r.Response = &connectors.Response{Status: int(p.GetStatus()), Header: headerFromWire(p.GetHeader()), Body: p.GetBody(), Truncated: p.GetTruncated()}
	}
	if r.Outcome == "" {
		r.Outcome, r.Fault, r.Error = connectors.Retry, connectors.FaultConnector, "the connector gave an outcome that this hub does not know"
	}
	bound(&r)
	if q := r.Request; q != nil {
		q.Method, q.URL = storable(q.Method), storable(q.URL)
		makeStorable(q.Header)
	}
	if p := r.Response; p != nil {
		makeStorable(p.Header)
	}
	return r
}

func makeStorable(hs []connectors.Header) {
	for i := range hs {
		hs[i].Name, hs[i].Value, hs[i].Secret = storable(hs[i].Name), storable(hs[i].Value), storable(hs[i].Secret)
	}
}

func outcomeToWire(o connectors.Outcome) wirev1.Outcome {
	switch o {
	case connectors.Done:
		return wirev1.Outcome_OUTCOME_DONE
	case connectors.Retry:
		return wirev1.Outcome_OUTCOME_RETRY
	case connectors.Permanent:
		return wirev1.Outcome_OUTCOME_PERMANENT
	case connectors.Skipped:
		return wirev1.Outcome_OUTCOME_SKIPPED
	}
	return wirev1.Outcome_OUTCOME_UNSPECIFIED
}

func outcomeFromWire(o wirev1.Outcome) connectors.Outcome {
	switch o {
	case wirev1.Outcome_OUTCOME_DONE:
		return connectors.Done
	case wirev1.Outcome_OUTCOME_RETRY:
		return connectors.Retry
	case wirev1.Outcome_OUTCOME_PERMANENT:
		return connectors.Permanent
	case wirev1.Outcome_OUTCOME_SKIPPED:
		return connectors.Skipped
	}
	return ""
}

func faultToWire(f connectors.Fault) wirev1.Fault {
	switch f {
	case connectors.FaultTarget:
		return wirev1.Fault_FAULT_TARGET
	case connectors.FaultConnector:
		return wirev1.Fault_FAULT_CONNECTOR
	case connectors.FaultPolicy:
		return wirev1.Fault_FAULT_POLICY
	case connectors.FaultSettings:
		return wirev1.Fault_FAULT_SETTINGS
	}
	return wirev1.Fault_FAULT_UNSPECIFIED
}

func faultFromWire(f wirev1.Fault) connectors.Fault {
	switch f {
	case wirev1.Fault_FAULT_TARGET:
		return connectors.FaultTarget
	case wirev1.Fault_FAULT_CONNECTOR:
		return connectors.FaultConnector
	case wirev1.Fault_FAULT_POLICY:
		return connectors.FaultPolicy
	case wirev1.Fault_FAULT_SETTINGS:
		return connectors.FaultSettings
	}
	return connectors.FaultNone
}
