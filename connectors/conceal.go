package connectors

import (
	"bytes"
	"strings"
)

// shortSecret is the length below which a secret may be any word.
const shortSecret = 8

// Conceal writes "[secret:name]" in place of each of the endpoint's secrets that a text
// holds: outside systems repeat what they were sent.
func (e Endpoint) Conceal(text string) string {
	for name, value := range e.Secrets {
		if len(value) >= shortSecret && strings.Contains(text, value) {
			text = strings.ReplaceAll(text, value, "[secret:"+name+"]")
		}
	}
	return text
}

// ConcealIn conceals in what came back from an attempt.
func (e Endpoint) ConcealIn(r *Result) {
	if len(e.Secrets) == 0 {
		return
	}
	r.Error = e.Conceal(r.Error)
	if r.Response == nil {
		return
	}
	for i := range r.Response.Header {
		r.Response.Header[i].Value = e.Conceal(r.Response.Header[i].Value)
	}
	for name, value := range e.Secrets {
		if len(value) >= shortSecret && bytes.Contains(r.Response.Body, []byte(value)) {
			r.Response.Body = bytes.ReplaceAll(r.Response.Body, []byte(value), []byte("[secret:"+name+"]"))
		}
	}
	if len(r.Response.Body) > MaxResponseBody {
		r.Response.Body, r.Response.Truncated = r.Response.Body[:MaxResponseBody], true
	}
}
