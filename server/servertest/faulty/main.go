// Command faulty is a third party's connector that fails as its arguments say. Tests of a
// whole hub install it.
//
//	faulty NAME VERSION [FAULT]
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/plugins"
)

// connector posts events to the endpoint's address, and asks the address of a source's settings.
type connector struct {
	name, version, fault string
	turn                 *sync.Mutex // of "tenth": it takes one item after the other
	items                *atomic.Int64
}

func main() {
	c := connector{name: os.Args[1], version: os.Args[2], turn: &sync.Mutex{}, items: &atomic.Int64{}}
	if len(os.Args) > 3 {
		c.fault = os.Args[3]
	}
	plugins.Serve(c)
}

// Spec implements connectors.Connector. The fault "strict" is no fault but a version whose
// settings do not fit to those of the others.
func (c connector) Spec() connectors.Spec {
	settings := `{"type": "object", "properties": {"token": {"type": "string", "title": "Token", "description": "A secret.", "writeOnly": true},
		"team": {"type": "string", "title": "Team", "description": "Who it is for."}}, "additionalProperties": false}`
	scan := `{"type": "object", "properties": {"token": {"type": "string", "title": "Token", "description": "A secret.", "writeOnly": true},
		"beside": {"type": "string", "title": "Beside", "description": "An address that it tries to reach, too."}}, "additionalProperties": false}`
	abilities := []connectors.Ability{connectors.AbilityFormat, connectors.AbilityReceive, connectors.AbilityTrigger, connectors.AbilityDeliver, connectors.AbilityPoll, connectors.AbilityScan}
	switch c.fault {
	case "deaf":
		abilities = abilities[:5]
	case "strict":
		scan = `{"type": "object", "properties": {}, "additionalProperties": false}`
		settings = `{"type": "object", "properties": {"token": {"type": "string", "title": "Token", "description": "A secret.", "writeOnly": true},
			"team": {"type": "string", "title": "Team", "description": "Who it is for."}}, "required": ["team"], "additionalProperties": false}`
	}
	return connectors.Spec{Name: c.name, Title: "Faulty", Description: "Fails as it is told.", Version: c.version,
		Abilities: abilities, Settings: json.RawMessage(settings), ScanSettings: json.RawMessage(scan),
		SourceSettings: json.RawMessage(`{"type": "object", "properties": {"token": {"type": "string", "title": "Token", "description": "A secret.", "writeOnly": true},
			"address": {"type": "string", "title": "Address", "description": "Who is asked."}}, "additionalProperties": false}`)}
}

// Receivers implements connectors.ReceiverProvider. The fault "deaf" is no fault but a
// version that reads, writes and scans nothing.
func (c connector) Receivers() []connectors.Receiver {
	if c.fault == "deaf" {
		return nil
	}
	return []connectors.Receiver{receiver{c}}
}

// receiver reads {"n": 1}.
type receiver struct{ connector }

// Kind implements connectors.Receiver.
func (receiver) Kind() string { return "numbers" }

// SignatureRule has the hub verify.
func (receiver) SignatureRule() connectors.SignatureRule {
	return connectors.SignatureRule{Header: "X-Signature"}
}

// Receive implements connectors.Receiver.
func (r receiver) Receive(in connectors.Inbound) (connectors.Received, error) {
	var m struct{ N int }
	if err := json.Unmarshal(in.Body, &m); err != nil || m.N == 0 {
		return connectors.Received{}, connectors.Refuse(http.StatusUnprocessableEntity, "n", "there is no number")
	}
	if in.Header.Get("Authorization") == "Bearer agreed" {
		return connectors.Received{}, errors.New("a secret came along")
	}
	n := strconv.Itoa(m.N)
	item := connectors.Incoming{Type: connectors.ScanCompleted, Key: n, Data: connectors.Data{Scan: &connectors.Scan{Key: n, Name: r.version}, Attributes: json.RawMessage(`{"n":` + n + `}`)}}
	switch r.fault {
	case "nonsense":
		item.Type = "nonsense"
	case "hang":
		select {}
	}
	return connectors.Received{Items: []connectors.Incoming{item}}, nil
}

// Poll implements connectors.Poller: it asks for the numbers after the last one.
func (connector) Poll(ctx context.Context, h connectors.Host, p connectors.Poll) (connectors.Polled, error) {
	fail := func(o connectors.Outcome, f connectors.Fault, why string) (connectors.Polled, error) {
		return connectors.Polled{}, &connectors.Failure{Outcome: o, Fault: f, Message: why}
	}
	var s struct{ Address string }
	if err := json.Unmarshal(p.Source.Settings, &s); err != nil || s.Address == "" {
		return fail(connectors.Permanent, connectors.FaultSettings, "The source has no address.")
	}
	client, err := h.HTTPClient(p.Source)
	if err != nil {
		return connectors.Polled{}, err
	}
	q := url.Values{"after": {string(p.Cursor)}, "limit": {strconv.Itoa(p.Limit)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Address+"?"+q.Encode(), nil)
	if err != nil {
		return connectors.Polled{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return connectors.Polled{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusGone:
		return fail(connectors.Permanent, connectors.FaultTarget, "It is gone, with "+p.Source.Secrets["token"]+".")
	default:
		return fail(connectors.Retry, connectors.FaultTarget, "It answers "+resp.Status+".")
	}
	var page struct {
		Numbers []int
		Last    string
		More    bool
	}
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		return connectors.Polled{}, err
	}
	out := connectors.Polled{Cursor: []byte(page.Last), More: page.More}
	for _, n := range page.Numbers {
		out.Documents = append(out.Documents, connectors.Document{Key: strconv.Itoa(n), ContentType: "application/json", Body: []byte(`{"n":` + strconv.Itoa(n) + `}`)})
	}
	return out, nil
}

// Formats implements connectors.FormatProvider.
func (c connector) Formats() []connectors.Format {
	if c.fault == "deaf" {
		return nil
	}
	return []connectors.Format{format{c}}
}

// format writes {"data": {"attributes": …}, "by": VERSION}.
type format struct{ connector }

// Name implements connectors.Format.
func (format) Name() string { return "lines" }

// EventTypes implements connectors.Format.
func (format) EventTypes() []connectors.EventType {
	return []connectors.EventType{connectors.ScanCompleted}
}

// SignatureRule has the hub sign.
func (format) SignatureRule() connectors.SignatureRule {
	return connectors.SignatureRule{Header: "X-Signature"}
}

// Render implements connectors.Format.
func (f format) Render(e *connectors.Event, _ connectors.RenderOptions) (connectors.Rendered, error) {
	if f.fault == "hang" {
		select {}
	}
	body, err := json.Marshal(map[string]any{"data": map[string]any{"attributes": e.Data.Attributes}, "by": f.version})
	return connectors.Rendered{Body: body}, err
}

// Triggers implements connectors.TriggerProvider.
func (c connector) Triggers() []connectors.Trigger {
	if c.fault == "deaf" {
		return nil
	}
	return []connectors.Trigger{calls{c}}
}

// calls speaks JSON, but for the report: POST "" starts a scan, GET "/1" is how it is and
// GET "/1/junit" what it found.
type calls struct{ connector }

// Kind implements connectors.Trigger.
func (calls) Kind() string { return "calls" }

// Call implements connectors.Trigger.
func (t calls) Call(in connectors.Inbound, _ connectors.TargetKind) (c connectors.TriggerCall, err error) {
	if t.fault == "hang" {
		select {}
	}
	if in.Header.Get("Authorization") == "Bearer agreed" {
		return c, errors.New("a secret came along")
	}
	path := strings.Split(in.Path, "/")
	if in.Method == http.MethodPost {
		c.Verb = connectors.TriggerStart
		if len(in.Body) > 0 && json.Unmarshal(in.Body, &c.Setup) != nil {
			return c, connectors.Refuse(http.StatusUnprocessableEntity, "body", "this is no setup")
		}
		return c, nil
	}
	if len(path) < 2 {
		return c, connectors.Refuse(http.StatusNotFound, "", "there is nothing here")
	}
	if c.Scan, err = strconv.ParseInt(path[1], 10, 64); err != nil {
		return c, connectors.Refuse(http.StatusNotFound, "", "this is no scan")
	}
	c.Verb = connectors.TriggerStatus
	if len(path) > 2 {
		c.Verb = connectors.TriggerReport
	}
	return c, nil
}

// Answer implements connectors.Trigger. The fault "mute" ends the process instead of saying
// that a scan begins.
func (t calls) Answer(c connectors.TriggerCall, r connectors.TriggerResult) connectors.Reply {
	reply := connectors.Reply{Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}, "Set-Cookie": {"a=b"}}}
	say := func(what any) connectors.Reply {
		reply.Body, _ = json.Marshal(what) // strings and numbers
		return reply
	}
	switch {
	case r.Refused != nil:
		reply.Status = r.Refused.Status
		return say(map[string]string{"no": r.Refused.Message, "reason": string(r.Reason)})
	case c.Verb == connectors.TriggerStart && t.fault == "mute":
		os.Exit(4)
	case c.Verb == connectors.TriggerReport:
		failures := 0
		for _, x := range r.Report.Checks {
			if x.Finding != nil {
				failures++
			}
		}
		reply.Header.Set("Content-Type", "application/xml")
		reply.Body = fmt.Appendf(nil, `<testsuites tests="%d" failures="%d"></testsuites>`, len(r.Report.Checks), failures)
		return reply
	}
	return say(map[string]any{"scan": r.Report.Scan, "state": r.Report.State})
}

// Snippets implements connectors.Trigger.
func (calls) Snippets(url string) []connectors.Snippet {
	return []connectors.Snippet{{Name: "curl", Text: "curl -X POST " + url + " && curl " + url + "/1"}}
}

// Scan implements connectors.Scanner. It asks the target, which takes its time, and finds
// what that says. It should not reach what is beside the target.
func (c connector) Scan(ctx context.Context, h connectors.Host, job connectors.ScanJob, tell func(connectors.ScanNews) error) error {
	h.Log().Warn("a careless line with " + job.Scanner.Secrets["token"])
	if err := tell(connectors.ScanNews{Kind: connectors.ScanBegan}); err != nil {
		return err
	}
	found := connectors.ScanCheck{Key: "xss", Class: "xss", Title: "Cross-site scripting"}
	said, err := get(ctx, h, job.Scanner, job.Target.URL)
	if err != nil {
		return err
	}
	found.Finding = &connectors.Finding{Title: said, Severity: connectors.SeverityHigh}
	beside := connectors.ScanCheck{Key: "beside", Class: "beside", Title: "Beside"}
	var s struct{ Beside string }
	if err := json.Unmarshal(job.Scanner.Settings, &s); err != nil {
		return err
	}
	if s.Beside != "" {
		var refused *connectors.PolicyError
		if _, err := get(ctx, h, job.Scanner, s.Beside); !errors.As(err, &refused) {
			beside.Finding = &connectors.Finding{Title: fmt.Sprint("reached: ", err), Severity: connectors.SeverityCritical}
		}
	}
	if err := tell(connectors.ScanNews{Kind: connectors.ScanFound, Checks: []connectors.ScanCheck{found, beside}}); err != nil {
		return err
	}
	return tell(connectors.ScanNews{Kind: connectors.ScanDone, End: connectors.ScanFinished})
}

func get(ctx context.Context, h connectors.Host, e connectors.Endpoint, url string) (string, error) {
	client, err := h.HTTPClient(e)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1000))
	return string(b), err
}

// Deliver implements connectors.Deliverer.
func (c connector) Deliver(ctx context.Context, h connectors.Host, items []connectors.Delivery, done func(connectors.Result)) error {
	var all sync.WaitGroup
	for _, d := range items {
		all.Go(func() { c.one(ctx, h, d, done) })
	}
	all.Wait()
	return nil
}

func (c connector) one(ctx context.Context, h connectors.Host, d connectors.Delivery, done func(connectors.Result)) {
	switch c.fault {
	case "tenth":
		c.turn.Lock()
		defer c.turn.Unlock()
		if c.items.Add(1) == 10 {
			os.Exit(3)
		}
	case "hang":
		select {}
	case "late": // the first time it says that it has delivered, and has not, when it was given up
		if d.Attempt == 1 {
			<-ctx.Done()
			done(connectors.Result{DeliveryID: d.ID, Outcome: connectors.Done, Started: time.Now(), Response: &connectors.Response{Status: http.StatusOK}})
			return
		}
	case "poison":
		if bytes.Contains(d.Event, []byte(`"n":13}`)) {
			os.Exit(3)
		}
	}
	r := c.post(ctx, h, d)
	done(r)
	if c.fault == "twice" {
		done(r)
	}
}

func (c connector) post(ctx context.Context, h connectors.Host, d connectors.Delivery) connectors.Result {
	r := connectors.Result{DeliveryID: d.ID, Started: time.Now(), Outcome: connectors.Retry, Fault: connectors.FaultTarget}
	end, ok := h.Endpoint(d.Endpoint)
	if !ok {
		r.Fault, r.Error = connectors.FaultConnector, "the endpoint is not known here"
		return r
	}
	if token := end.Secrets["token"]; token != "" {
		h.Log().Warn("a careless line with " + token)
	}
	client, err := h.HTTPClient(end)
	if err != nil {
		r.Error = err.Error()
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, end.URL, bytes.NewReader(d.Event))
	if err != nil {
		r.Error = err.Error()
		return r
	}
	req.Header.Set("X-Version", c.version)
	resp, err := client.Do(req)
	if err != nil {
		r.Error = err.Error()
		return r
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, connectors.MaxResponseBody))
	r.Response = &connectors.Response{Status: resp.StatusCode, Body: body}
	if resp.StatusCode/100 == 2 {
		r.Outcome, r.Fault = connectors.Done, connectors.FaultNone
	} else {
		r.Error = resp.Status
	}
	return r
}
