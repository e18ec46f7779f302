package webhook

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

const (
	headerAuthorization = "Authorization"
	headerUserAgent     = "User-Agent"
	headerContentType   = "Content-Type"

	// userAgent is sent when the request names none.
	userAgent = "Hookyard/" + Version

	// drain is how much of an answer beyond what is kept is read and thrown away, so
	// that the connection can be used again.
	drain = 64 << 10

	// What is kept of an answer's headers.
	maxHeaders     = 100
	maxHeaderBytes = 16 << 10

	// longestRetryAfter is as long as a Retry-After is believed.
	longestRetryAfter = 30 * 24 * time.Hour

	// defaultTimeout holds where a delivery brings none.
	defaultTimeout = 10 * time.Second
)

// Deliver makes one request per item, all at the same time.
func (Connector) Deliver(ctx context.Context, h connectors.Host, items []connectors.Delivery, done func(connectors.Result)) error {
	if len(items) == 0 {
		return nil
	}
	var wg sync.WaitGroup
	for i := range items[1:] {
		wg.Add(1)
		go func(d *connectors.Delivery) {
			defer wg.Done()
			done(attempt(ctx, h, d))
		}(&items[i+1])
	}
	done(attempt(ctx, h, &items[0])) // a list of one needs no goroutine
	wg.Wait()
	return nil
}

// attempt makes one request and says what came of it.
func attempt(ctx context.Context, h connectors.Host, d *connectors.Delivery) connectors.Result {
	res := connectors.Result{DeliveryID: d.ID, Started: time.Now()}
	timeout := d.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	p := &phases{start: res.Started}
	req, client, failed := request(httptrace.WithClientTrace(limited, p.trace()), h, d, &res)
	if failed != nil {
		return *failed
	}
	resp, err := client.Do(req)
	if err == nil {
		res.Response, err = read(resp)
		conceal(res.Response, req.Header, res.Request)
	}
	res.Timing = p.timing()
	switch {
	case err != nil && ctx.Err() != nil:
		res.Outcome, res.Fault = connectors.Retry, connectors.FaultConnector
		res.Error = "The attempt was broken off because the connector was stopped."
	case err != nil:
		res.Outcome, res.Fault, res.Error = p.explain(err, req.URL, timeout, res.Response != nil)
	case resp.StatusCode/100 == 2:
		res.Outcome = connectors.Done
	default:
		res.Outcome, res.Fault = connectors.Retry, connectors.FaultTarget
		res.Error = answered(resp.StatusCode)
		res.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	return res
}

// request makes the HTTP request of a delivery and finds the client that sends it.
// failed is the result when that is not possible.
func request(ctx context.Context, h connectors.Host, d *connectors.Delivery, res *connectors.Result) (req *http.Request, client *http.Client, failed *connectors.Result) {
	fail := func(o connectors.Outcome, f connectors.Fault, format string, args ...any) (*http.Request, *http.Client, *connectors.Result) {
		res.Outcome, res.Fault, res.Error = o, f, fmt.Sprintf(format, args...)
		res.Timing.Total = time.Since(res.Started)
		return nil, nil, res
	}
	e, ok := h.Endpoint(d.Endpoint)
	if !ok {
		return fail(connectors.Retry, connectors.FaultConnector, "The connector was not told of the endpoint.")
	}
	if d.Request == nil {
		return fail(connectors.Permanent, connectors.FaultConnector, "The delivery holds no request to send.")
	}
	client, err := h.HTTPClient(e)
	if err != nil {
		return fail(connectors.Permanent, connectors.FaultSettings, "The endpoint's settings do not work: %v.", err)
	}
	auth, err := authorization(e)
	if err != nil {
		return fail(connectors.Permanent, connectors.FaultSettings, "The endpoint's settings do not work: %v.", err)
	}
	method := d.Request.Method
	if method == "" {
		method = http.MethodPost
	}
	req, err = http.NewRequestWithContext(ctx, method, d.Request.URL, bytes.NewReader(d.Request.Body))
	if err != nil || req.URL.Host == "" || req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return fail(connectors.Permanent, connectors.FaultSettings, "The address is not an http or https URL.")
	}
	var named string // the header that is not fit to be sent
	req.Header, named = headers(req, d.Request.Header)
	if named != "" {
		return fail(connectors.Permanent, connectors.FaultSettings, "The header %s cannot be sent: it holds characters that headers may not hold.", strconv.Quote(named))
	}
	var added [2]connectors.Header
	n := 0
	if req.Header[headerUserAgent] == nil {
		added[n] = connectors.Header{Name: headerUserAgent, Value: userAgent}
		n++
	}
	if auth.Name != "" && req.Header[headerAuthorization] == nil {
		added[n] = auth
		n++
	}
	if n > 0 {
		for _, a := range added[:n] {
			req.Header[a.Name] = []string{a.Value}
		}
		res.Request = record(d.Request, method, added[:n])
	}
	return req, client, nil
}

// headers turns the list into the request's headers, names as they are given. Those
// that the connection itself decides are left out. bad names a line that cannot be sent.
func headers(req *http.Request, list []connectors.Header) (h http.Header, bad string) {
	h = make(http.Header, len(list)+2)
	values := make([]string, len(list)) // one allocation for all
	for i, line := range list {
		name := line.Name
		if !sendable(line) {
			return nil, name
		}
		switch {
		case strings.EqualFold(name, "Host"):
			req.Host = line.Value
			continue
		case strings.EqualFold(name, "Content-Length"), strings.EqualFold(name, "Transfer-Encoding"),
			strings.EqualFold(name, "Connection"), strings.EqualFold(name, "Trailer"):
			continue
		case strings.EqualFold(name, headerUserAgent):
			name = headerUserAgent
		case strings.EqualFold(name, headerAuthorization):
			name = headerAuthorization
		}
		if before := h[name]; before != nil {
			h[name] = append(before, line.Value)
			continue
		}
		values[i] = line.Value
		h[name] = values[i : i+1 : i+1]
	}
	return h, ""
}

// sendable says whether a line is fit for HTTP: a token, and no control characters.
func sendable(line connectors.Header) bool {
	for i := 0; i < len(line.Name); i++ {
		c := line.Name[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	for i := 0; i < len(line.Value); i++ {
		if c := line.Value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return line.Name != ""
}

// record is the request as it was sent, but for its body and its secrets.
func record(given *connectors.Request, method string, added []connectors.Header) *connectors.Request {
	list := make([]connectors.Header, 0, len(given.Header)+len(added))
	for _, part := range [2][]connectors.Header{given.Header, added} {
		for _, line := range part {
			if line.Secret != "" {
				line.Value = "[secret:" + line.Secret + "]"
			}
			list = append(list, line)
		}
	}
	return &connectors.Request{Method: method, URL: given.URL, Header: list}
}

// authorization is the header that the endpoint's own credentials make; its zero value
// means that there are none.
func authorization(e connectors.Endpoint) (connectors.Header, error) {
	var user string
	if bytes.Contains(e.Settings, []byte(`"`+settingBasicUser+`"`)) {
		var s struct {
			User string `json:"basic_user"`
		}
		if err := json.Unmarshal(e.Settings, &s); err != nil {
			return connectors.Header{}, fmt.Errorf("%s cannot be read", settingBasicUser)
		}
		user = s.User
	}
	token := e.Secrets[secretBearerToken]
	switch {
	case token != "" && user != "":
		return connectors.Header{}, errors.New("there is a Bearer token and a Basic user; keep one of them")
	case token != "":
		h := connectors.Header{Name: headerAuthorization, Value: "Bearer " + token, Secret: secretBearerToken}
		if !sendable(h) {
			return connectors.Header{}, errors.New("the Bearer token holds characters that headers may not hold")
		}
		return h, nil
	case user != "":
		both := base64.StdEncoding.EncodeToString([]byte(user + ":" + e.Secrets[secretBasicPassword]))
		return connectors.Header{Name: headerAuthorization, Value: "Basic " + both, Secret: secretBasicPassword}, nil
	}
	return connectors.Header{}, nil
}

// read takes what is kept of an answer and closes it. The response is given together with
// an error when its body broke off.
func read(resp *http.Response) (*connectors.Response, error) {
	defer resp.Body.Close()
	out := &connectors.Response{Status: resp.StatusCode, Header: kept(resp.Header)}
	var err error
	if n := resp.ContentLength; n >= 0 && n <= connectors.MaxResponseBody {
		if n > 0 {
			out.Body = make([]byte, n)
			var got int
			got, err = io.ReadFull(resp.Body, out.Body)
			out.Body = out.Body[:got]
		}
		return out, err
	}
	out.Body, err = io.ReadAll(io.LimitReader(resp.Body, connectors.MaxResponseBody+1))
	if len(out.Body) > connectors.MaxResponseBody {
		out.Body, out.Truncated = out.Body[:connectors.MaxResponseBody:connectors.MaxResponseBody], true
		_, _ = io.CopyN(io.Discard, resp.Body, drain) // only for the connection's sake
	}
	return out, err
}

// conceal takes an Authorization that we have made of secrets out of an answer that
// repeats it; the host does so with the secrets as they are.
func conceal(r *connectors.Response, sent http.Header, recorded *connectors.Request) {
	if recorded == nil {
		return // we have made none
	}
	for _, h := range recorded.Header {
		if h.Name != headerAuthorization || h.Secret == "" {
			continue
		}
		_, made, _ := strings.Cut(sent.Get(headerAuthorization), " ")
		if made == "" {
			return
		}
		if bytes.Contains(r.Body, []byte(made)) {
			r.Body = bytes.ReplaceAll(r.Body, []byte(made), []byte(h.Value))
		}
		for i := range r.Header {
			r.Header[i].Value = strings.ReplaceAll(r.Header[i].Value, made, h.Value)
		}
	}
}

// kept lists an answer's headers by name, within limits.
func kept(h http.Header) []connectors.Header {
	list := make([]connectors.Header, 0, len(h))
	for name, values := range h {
		for _, v := range values {
			list = append(list, connectors.Header{Name: name, Value: v})
		}
	}
	slices.SortStableFunc(list, func(a, b connectors.Header) int { return strings.Compare(a.Name, b.Name) })
	size := 0
	for i, line := range list {
		if size += len(line.Name) + len(line.Value); i == maxHeaders || size > maxHeaderBytes {
			return list[:i:i]
		}
	}
	return list
}

// retryAfter reads a Retry-After: seconds or a date; 0 when there is none.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(value, 10, 63); err == nil {
		return time.Duration(min(seconds, uint64(longestRetryAfter/time.Second))) * time.Second
	} else if errors.Is(err, strconv.ErrRange) {
		return longestRetryAfter
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), longestRetryAfter)
}

// Check asks the endpoint for its headers only. Any answer shows that it can be
// reached; that it does not want to know us is worth telling.
func (Connector) Check(ctx context.Context, h connectors.Host, e connectors.Endpoint) error {
	d := &connectors.Delivery{Endpoint: e.Ref, Request: &connectors.Request{Method: http.MethodHead, URL: e.URL}}
	res := attempt(ctx, h, d)
	switch {
	case res.Response == nil && res.Error != "":
		return errors.New(res.Error)
	case res.Response == nil:
		return nil
	}
	switch status := res.Response.Status; status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return fmt.Errorf("%s Check the endpoint's credentials.", answered(status)) //nolint:staticcheck // a sentence for people
	}
	return nil
}
