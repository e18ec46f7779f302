package appscan

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

const (
	api = "/api/v4/"

	// maxAnswer is how much of an answer is read, in bytes.
	maxAnswer = 1 << 20

	// goodbye is how long logging out may take.
	goodbye = 2 * time.Second
)

// Enrich logs in by API key and fetches what the receipt names: a scan execution with its
// scan and application, or an application. What AppScan does not know is given up, all
// else is tried again.
func (Connector) Enrich(ctx context.Context, h connectors.Host, e connectors.Enrichment) (connectors.Document, error) {
	kind, id, err := subject(e.Request)
	if err != nil {
		return connectors.Document{}, permanent("The receipt names nothing to fetch: %v.", err)
	}
	s, err := login(ctx, h, e.Source)
	if err != nil {
		return connectors.Document{}, err
	}
	defer s.logout(ctx)
	var d struct {
		Execution   json.RawMessage `json:"execution,omitempty"`
		Scan        json.RawMessage `json:"scan,omitempty"`
		Application json.RawMessage `json:"application,omitempty"`
	}
	app := id
	if kind == execution {
		var x struct{ ScanID string }
		if d.Execution, err = s.get(ctx, "scan execution "+id, "Scans/Execution/"+id, &x); err != nil {
			return connectors.Document{}, err
		}
		var scan struct{ AppID string }
		if d.Scan, err = s.find(ctx, "scan", "Scans", x.ScanID, &scan); err != nil {
			return connectors.Document{}, err
		}
		app = scan.AppID
	}
	if app != "" {
		if d.Application, err = s.find(ctx, "application", "Apps", app, &struct{}{}); err != nil {
			return connectors.Document{}, err
		}
	}
	body, err := json.Marshal(d)
	if err != nil {
		return connectors.Document{}, fmt.Errorf("write down what AppScan answered: %w", err)
	}
	return connectors.Document{ContentType: "application/json", Body: body}, nil
}

// Check logs in and out again.
func (Connector) Check(ctx context.Context, h connectors.Host, e connectors.Endpoint) error {
	s, err := login(ctx, h, e)
	if err != nil {
		return err
	}
	s.logout(ctx)
	return nil
}

// session is a login at one service.
type session struct {
	client *http.Client
	base   string
	token  string
}

func login(ctx context.Context, h connectors.Host, e connectors.Endpoint) (*session, error) {
	settings := struct {
		URL   string `json:"service_url"`
		KeyID string `json:"key_id"`
	}{URL: "https://cloud.appscan.com"}
	if len(e.Settings) > 0 {
		if err := json.Unmarshal(e.Settings, &settings); err != nil {
			return nil, &connectors.Failure{Outcome: connectors.Retry, Fault: connectors.FaultSettings, Message: "The source's settings cannot be read."}
		}
	}
	if settings.KeyID == "" || e.Secrets["key_secret"] == "" {
		return nil, &connectors.Failure{Outcome: connectors.Retry, Fault: connectors.FaultSettings, Message: "The source has no API key; set key_id and key_secret."}
	}
	client, err := h.HTTPClient(e)
	if err != nil {
		return nil, &connectors.Failure{Outcome: connectors.Retry, Fault: connectors.FaultSettings, Message: fmt.Sprintf("The source's settings do not work: %v.", err)}
	}
	s := &session{client: client, base: strings.TrimSuffix(settings.URL, "/") + api}
	body, err := json.Marshal(map[string]string{"KeyId": settings.KeyID, "KeySecret": e.Secrets["key_secret"]})
	if err != nil {
		return nil, fmt.Errorf("write the login: %w", err)
	}
	var answer struct{ Token string }
	_, status, err := s.call(ctx, http.MethodPost, "Account/ApiKeyLogin", body, &answer)
	switch {
	case status == http.StatusBadRequest || status == http.StatusUnauthorized || status == http.StatusForbidden:
		return nil, &connectors.Failure{Outcome: connectors.Retry, Fault: connectors.FaultSettings,
			Message: fmt.Sprintf("AppScan refused the API key (%d). Check key_id and key_secret of the source.", status)}
	case err != nil:
		return nil, err
	case answer.Token == "":
		return nil, &connectors.Failure{Outcome: connectors.Retry, Fault: connectors.FaultTarget, Message: "AppScan's answer to the login holds no token."}
	}
	s.token = answer.Token
	return s, nil
}

// logout is a courtesy; the token ends by itself too.
func (s *session) logout(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	_, _, _ = s.call(ctx, http.MethodGet, "Account/Logout", nil, nil)
}

// get fetches one object; what it is called is for people.
func (s *session) get(ctx context.Context, what, path string, v any) (json.RawMessage, error) {
	b, status, err := s.call(ctx, http.MethodGet, path, nil, v)
	if status == http.StatusNotFound || status == http.StatusBadRequest {
		return nil, permanent("AppScan knows no %s, or the API key's user may not see it (%d).", what, status)
	}
	return b, err
}

// find fetches the one object of a list that has the ID.
func (s *session) find(ctx context.Context, what, list, id string, v any) (json.RawMessage, error) {
	if id == "" || len(id) > maxID || strings.ContainsFunc(id, strange) {
		return nil, &connectors.Failure{Outcome: connectors.Retry, Fault: connectors.FaultTarget, Message: "AppScan's answer does not name the " + what + "."}
	}
	var found struct{ Items []json.RawMessage }
	if _, err := s.get(ctx, what+" "+id, list+"?$filter=Id%20eq%20"+id, &found); err != nil {
		return nil, err
	}
	if len(found.Items) == 0 {
		return nil, permanent("AppScan knows no %s %s, or the API key's user may not see it.", what, id)
	}
	for _, item := range found.Items {
		var is struct{ ID string }
		if json.Unmarshal(item, &is) == nil && strings.EqualFold(is.ID, id) {
			if json.Unmarshal(item, v) != nil {
				return nil, garbled()
			}
			return item, nil
		}
	}
	return nil, &connectors.Failure{Outcome: connectors.Retry, Fault: connectors.FaultTarget, Message: "AppScan answered with another " + what + " than the one that was asked for."}
}

func permanent(format string, args ...any) error {
	return &connectors.Failure{Outcome: connectors.Permanent, Fault: connectors.FaultTarget, Message: fmt.Sprintf(format, args...)}
}

func garbled() error {
	return &connectors.Failure{Outcome: connectors.Retry, Fault: connectors.FaultTarget, Message: "AppScan's answer is not the JSON that its API documents."}
}

// call makes one request and reads the answer into v. status is 0 when there was none.
func (s *session) call(ctx context.Context, method, path string, body []byte, v any) (raw []byte, status int, err error) {
	req, err := http.NewRequestWithContext(ctx, method, s.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, 0, &connectors.Failure{Outcome: connectors.Retry, Fault: connectors.FaultSettings, Message: "The address of the service is not an http or https URL."}
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, 0, unreachable(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, resp.StatusCode, unreachable(err)
	case resp.StatusCode/100 != 2:
		return nil, resp.StatusCode, &connectors.Failure{Outcome: connectors.Retry, Fault: connectors.FaultTarget, RetryAfter: retryAfter(resp.Header),
			Message: fmt.Sprintf("AppScan answered %d to %s.", resp.StatusCode, strings.SplitN(path, "?", 2)[0])}
	case v != nil && (len(raw) > maxAnswer || json.Unmarshal(raw, v) != nil):
		return nil, resp.StatusCode, garbled()
	}
	return raw, resp.StatusCode, nil
}

// unreachable puts a failed request into words, without its address.
func unreachable(err error) error {
	f := &connectors.Failure{Outcome: connectors.Retry, Fault: connectors.FaultTarget}
	var policy *connectors.PolicyError
	var wrapped *url.Error
	switch {
	case errors.As(err, &policy):
		f.Fault = connectors.FaultPolicy
		err = policy
	case errors.As(err, &wrapped):
		err = wrapped.Err
	}
	f.Message = fmt.Sprintf("AppScan could not be reached: %v.", err)
	return f
}

// retryAfter reads the seconds that AppScan asks to wait, an hour at most.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return min(time.Duration(n)*time.Second, time.Hour)
}
