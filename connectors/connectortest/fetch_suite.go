package connectortest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// farEnds are outside systems that no call may stumble over; the last one hangs until its
// client goes, and says on entered that somebody has come.
func farEnds(t *testing.T) (urls map[string]string, hanging string, entered <-chan struct{}) {
	urls = map[string]string{}
	for name, body := range map[string]string{"empty": "", "null": "null", "list": "[]", "object": "{}", "html": "<html>", "half": `{"a":`,
		"deep": strings.Repeat("[", 50_000), "long": `{"a":"` + strings.Repeat("x", 2<<20) + `"}`} {
		urls[name] = NewServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
	}
	for _, code := range []int{301, 401, 403, 404, 429, 500} {
		urls[http.StatusText(code)] = NewServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://elsewhere.invalid/")
			w.Header().Set("Retry-After", "x")
			w.WriteHeader(code)
		})
	}
	urls["closed"] = "http://127.0.0.1:1"
	urls["none"] = "::no address"
	came := make(chan struct{}, 64)
	hanging = NewServer(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		came <- struct{}{}
		<-r.Context().Done()
	})
	return urls, hanging, came
}

// decent says that an error of a call is one that people and the hub can use.
func decent(t *testing.T, what string, err error) {
	t.Helper()
	var f *connectors.Failure
	switch {
	case err == nil:
	case err.Error() == "" || strings.Contains(err.Error(), "panic"):
		t.Errorf("%s: the error is %q", what, err)
	case strings.Contains(err.Error(), secretMark):
		t.Errorf("%s: a secret is in the error: %.300v", what, err)
	case errors.As(err, &f) && f.Outcome != "" && f.Outcome != connectors.Retry && f.Outcome != connectors.Permanent:
		t.Errorf("%s: a call that failed is tried again or not, but %q", what, f.Outcome)
	}
}

// each makes the call of each far end, and cancels the one of the one that hangs.
func (s *suite) each(t *testing.T, role connectors.Role, call func(ctx context.Context, h *Host, e connectors.Endpoint) error) {
	urls, hanging, entered := farEnds(t)
	for name, url := range urls {
		e := s.endpoint("end_"+strings.ToLower(strings.ReplaceAll(name, " ", "_")), role, url)
		h := NewHost(t, e)
		decent(t, name, call(t.Context(), h, e))
		h.noSecrets(t)
	}
	e := s.endpoint("end_hanging", role, hanging)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- call(ctx, NewHost(t, e), e) }()
	select {
	case <-entered:
	case err := <-ended: // it does not speak HTTP, or asks nothing
		decent(t, "hanging", err)
		return
	}
	cancel()
	select {
	case err := <-ended:
		decent(t, "hanging", err)
	case <-time.After(15 * time.Second): // the contract says one, ten for a scan; machines that test are busy
		t.Fatal("the call did not return when its context had ended")
	}
}

func (s *suite) testChecker(t *testing.T, k connectors.Checker) {
	for _, role := range roles() {
		if len(s.spec.SettingsFor(role)) > 0 {
			s.each(t, role, func(ctx context.Context, h *Host, e connectors.Endpoint) error { return k.Check(ctx, h, e) })
		}
	}
}

// kinds are those of the connector's receivers.
func (s *suite) kinds() (list []string) {
	if p, ok := s.c.(connectors.ReceiverProvider); ok {
		for _, r := range p.Receivers() {
			list = append(list, r.Kind())
		}
	}
	return list
}

func (s *suite) testPoller(t *testing.T, p connectors.Poller) {
	kinds := s.kinds()
	if len(kinds) == 0 {
		t.Error("what is polled is read by a Receiver, and the connector has none")
	}
	for _, kind := range kinds {
		for _, cursor := range [][]byte{nil, []byte("junk\x00\xff")} {
			s.each(t, connectors.RoleSource, func(ctx context.Context, h *Host, e connectors.Endpoint) error {
				got, err := p.Poll(ctx, h, connectors.Poll{Source: e, Kind: kind, Cursor: cursor, Since: Moment(), Limit: 10})
				if err == nil {
					documents(t, got.Documents...)
					if len(got.Cursor) > connectors.MaxState {
						t.Errorf("the cursor has %d bytes", len(got.Cursor))
					}
				}
				return err
			})
		}
	}
}

func (s *suite) testEnricher(t *testing.T, n connectors.Enricher) {
	kinds := s.kinds()
	if len(kinds) == 0 {
		t.Error("what is enriched is read by a Receiver, and the connector has none")
	}
	for _, kind := range kinds {
		for _, body := range junk()[:9] {
			s.each(t, connectors.RoleSource, func(ctx context.Context, h *Host, e connectors.Endpoint) error {
				got, err := n.Enrich(ctx, h, connectors.Enrichment{Source: e, Kind: kind, Receipt: "rcp_1", Attempt: 1,
					Request: connectors.Inbound{Method: http.MethodPost, Header: http.Header{}, Body: body, ReceivedAt: Moment(), Location: time.UTC, SourceID: "src_1"}})
				if err == nil {
					documents(t, got)
				}
				return err
			})
		}
	}
}

func documents(t *testing.T, list ...connectors.Document) {
	t.Helper()
	for _, d := range list {
		if len(d.Body) > connectors.MaxDocument || len(d.Key) > connectors.MaxKey {
			t.Errorf("document %.40q has %d bytes", d.Key, len(d.Body))
		}
	}
}

func (s *suite) testScanner(t *testing.T, x connectors.Scanner) {
	s.each(t, connectors.RoleScanner, func(ctx context.Context, h *Host, e connectors.Endpoint) error {
		var told []connectors.ScanNews
		inside := false
		err := x.Scan(ctx, h, connectors.ScanJob{Scanner: e, ID: "scn_1", Name: "Shop", Timeout: time.Minute,
			Target: connectors.Target{Kind: connectors.TargetWeb, URL: e.URL, Origins: []string{e.URL}},
			Setup:  connectors.ScanSetup{Basic: &connectors.BasicAuth{Username: "ann", Password: secretMark + "password"}}}, func(n connectors.ScanNews) error {
			if inside {
				t.Error("news are told one after the other, and these were told at once")
			}
			inside = true
			defer func() { inside = false }()
			told = append(told, n)
			return nil
		})
		news(t, told, err)
		return err
	})
}

// news says that what a scan told is a story with an end.
func news(t *testing.T, told []connectors.ScanNews, err error) {
	t.Helper()
	order := map[connectors.ScanNewsKind]int{connectors.ScanBegan: 1, connectors.ScanProgressed: 2, connectors.ScanFound: 2, connectors.ScanDone: 3}
	last := 0
	for _, n := range told {
		at := order[n.Kind]
		if at == 0 || at < last || last == 3 {
			t.Errorf("%q is told at the wrong place", n.Kind)
		}
		last = at
		if strings.Contains(n.Note, secretMark) {
			t.Errorf("a secret is in the news: %.200s", n.Note)
		}
		if n.Kind == connectors.ScanDone && !n.End.Ended() {
			t.Errorf("the scan ended as %q", n.End)
		}
		for _, c := range n.Checks {
			if c.Key == "" || c.Class == "" || c.Title == "" {
				t.Errorf("a check needs a key, a class and a title: %+v", c)
			}
		}
	}
	if err == nil && last != 3 {
		t.Error("the scan ended without an error and without ScanDone")
	}
}
