package agent

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// What is asked of the hub's API.
const (
	askWork = `subscription($in: PresenceWorkInput!) { presenceWork(input: $in) {
	endpoints { ref id connector url settings sealedSecrets }
	deliveries { attempt deliveryId number endpoint timeout request { method url headers { name value sealed } } requestBody event }
	checks { id endpoint } } }`
	askReport = `mutation($in: ReportPresenceWorkInput!) { reportPresenceWork(input: $in) { forget } }`
)

// work is what the hub hands over.
type work struct {
	Endpoints  []endpoint
	Deliveries []delivery
	Checks     []struct{ ID, Endpoint string }
}

type endpoint struct {
	Ref, ID, Connector, URL string
	Settings                json.RawMessage
	SealedSecrets           []byte // base64 in JSON
}

type delivery struct {
	Attempt, DeliveryID string
	Number              int
	Endpoint            string
	Timeout             float64 // milliseconds
	Request             *struct {
		Method, URL string
		Headers     []struct{ Name, Value, Sealed string }
	}
	RequestBody []byte // base64 in JSON
	Event       json.RawMessage
}

// slot names the attempt by what it is, whoever handed it over.
func (d *delivery) slot() string { return slot(d.DeliveryID, d.Number) }

func slot(deliveryID string, number int) string { return fmt.Sprintf("%s#%d", deliveryID, number) }

// outcome is what came of an attempt, as it is told to the hub and kept in the journal.
type outcome struct {
	Attempt    string  `json:"attempt"`
	DeliveryID string  `json:"deliveryId"`
	Number     int     `json:"number"`
	Outcome    string  `json:"outcome"`
	Fault      string  `json:"fault,omitempty"`
	Error      string  `json:"error"`
	RetryAfter float64 `json:"retryAfter"`
	StartedAt  string  `json:"startedAt"`
	Timing     timing  `json:"timing"`
	Request    *sent   `json:"request,omitempty"`
	Response   *answer `json:"response,omitempty"`
}

type timing struct {
	DNS       float64 `json:"dns"`
	Connect   float64 `json:"connect"`
	TLS       float64 `json:"tls"`
	FirstByte float64 `json:"firstByte"`
	Total     float64 `json:"total"`
}

type sent struct {
	Method  string   `json:"method"`
	URL     string   `json:"url"`
	Headers []header `json:"headers"`
}

type answer struct {
	Status    int      `json:"status"`
	Headers   []header `json:"headers"`
	Body      string   `json:"body"` // base64
	Truncated bool     `json:"truncated"`
}

type header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// outcomeOf writes a result down. request is what was handed to the connector.
func outcomeOf(d *delivery, request *connectors.Request, r connectors.Result) *outcome {
	o := &outcome{Attempt: d.Attempt, DeliveryID: d.DeliveryID, Number: d.Number, Outcome: string(r.Outcome), Fault: string(r.Fault), Error: r.Error,
		RetryAfter: ms(r.RetryAfter), StartedAt: r.Started.UTC().Format(time.RFC3339Nano),
		Timing: timing{ms(r.Timing.DNS), ms(r.Timing.Connect), ms(r.Timing.TLS), ms(r.Timing.FirstByte), ms(r.Timing.Total)}}
	if r.Request != nil {
		request = r.Request
	}
	if request != nil {
		o.Request = &sent{request.Method, request.URL, headers(request.Header)}
	}
	if a := r.Response; a != nil {
		o.Response = &answer{a.Status, headers(a.Header), base64.StdEncoding.EncodeToString(a.Body), a.Truncated}
	}
	return o
}

// headers are written down with the names of secrets in place of their values.
func headers(list []connectors.Header) []header {
	out := make([]header, len(list))
	for i, h := range list {
		out[i] = header{h.Name, h.Value}
		if h.Secret != "" {
			out[i].Value = "[secret:" + h.Secret + "]"
		}
	}
	return out
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// size is about what the outcome takes on the wire, in bytes.
func (o *outcome) size() int {
	n := 1024
	if o.Response != nil {
		n += len(o.Response.Body)
		for _, h := range o.Response.Headers {
			n += len(h.Name) + len(h.Value)
		}
	}
	return n
}
