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
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/plugins"
)

// connector posts events to the endpoint's address.
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
	if c.fault == "strict" {
		settings = `{"type": "object", "properties": {"token": {"type": "string", "title": "Token", "description": "A secret.", "writeOnly": true},
			"team": {"type": "string", "title": "Team", "description": "Who it is for."}}, "required": ["team"], "additionalProperties": false}`
	}
	return connectors.Spec{Name: c.name, Title: "Faulty", Description: "Fails as it is told.", Version: c.version,
		Abilities: []connectors.Ability{connectors.AbilityFormat, connectors.AbilityReceive, connectors.AbilityDeliver}, Settings: json.RawMessage(settings)}
}

// Receivers implements connectors.ReceiverProvider. The fault "deaf" is no fault but a
// version that reads and writes nothing.
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
