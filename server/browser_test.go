package server

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hookyard/hookyard/connectors"
)

// openHub opens a hub that is not run.
func openHub(t *testing.T, cfg Config) *Hub {
	t.Helper()
	cfg.DataDir, cfg.Listen = t.TempDir(), "127.0.0.1:0"
	cfg.Organization, cfg.Administrator = "Default", "admin@localhost"
	h, err := Open(t.Context(), cfg, Options{Log: slog.New(slog.DiscardHandler), Connectors: []connectors.Connector{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return h
}

// Every address that there is answers with every header, whatever it answers; one that
// is added here needs nothing but to be in the table.
func TestEveryAnswerHasItsHeaders(t *testing.T) {
	h := openHub(t, Config{PublicURL: "https://hub.example.com", MetricsToken: "secret"})
	routes := h.routes()
	addresses := append(h.addresses(), address{pattern: "GET /nowhere"})
	for _, a := range addresses {
		method, path, ok := strings.Cut(a.pattern, " ")
		if !ok {
			method, path = http.MethodPost, a.pattern
		}
		path = strings.TrimSuffix(strings.NewReplacer("{$}", "", "{", "", "}", "").Replace(path), "...")
		for _, m := range []string{method, http.MethodGet, http.MethodDelete, http.MethodOptions} {
			rec := httptest.NewRecorder()
			routes.ServeHTTP(rec, httptest.NewRequest(m, path, http.NoBody))
			policy := programPolicy
			if a.page && m == method {
				policy = pagePolicy
			}
			for name, want := range map[string]string{
				"Content-Security-Policy": policy, "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
				"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store",
				"Strict-Transport-Security": "max-age=31536000", "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
				"Access-Control-Allow-Origin": "", "Access-Control-Allow-Credentials": "",
			} {
				if got := rec.Header().Get(name); got != want {
					t.Errorf("%s %s: %d with %s: %q, want %q", m, path, rec.Code, name, got, want)
				}
			}
			if kind := rec.Header().Get("Content-Type"); strings.Contains(kind, "html") && !a.page {
				t.Errorf("%s %s answers %s", m, path, kind)
			}
		}
	}
	for _, cfg := range []Config{{PublicURL: "http://hub.example.com"}, {}} {
		rec := httptest.NewRecorder()
		openHub(t, cfg).routes().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/", http.NoBody))
		if rec.Header().Get("Strict-Transport-Security") != "" {
			t.Error("a hub without TLS asks for it")
		}
	}
}

// A page of another site gets nothing, unless it is named; then it gets answers, but no
// cookies.
func TestOtherSites(t *testing.T) {
	h := openHub(t, Config{PublicURL: "https://hub.example.com", CORSOrigins: []string{"https://app.example.com"}})
	routes := h.routes()
	ask := func(method, path, from, site, kind string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(`{"query": "{ held }"}`))
		r.Header.Set("Origin", from)
		r.Header.Set("Sec-Fetch-Site", site)
		r.Header.Set("Content-Type", kind)
		r.Header.Set("Access-Control-Request-Method", "POST")
		rec := httptest.NewRecorder()
		routes.ServeHTTP(rec, r)
		return rec
	}
	const json = "application/json"
	for what, c := range map[string]struct {
		rec    *httptest.ResponseRecorder
		status int
		shared string
	}{
		"the hub's own page":            {ask("POST", "/graphql", "https://hub.example.com", "same-origin", json), 401, ""},
		"the own page, an old browser":  {ask("POST", "/graphql", "https://hub.example.com", "", json), 401, ""},
		"another site":                  {ask("POST", "/graphql", "https://evil.example", "cross-site", json), 403, ""},
		"another site, an old browser":  {ask("POST", "/graphql", "https://evil.example", "", json), 403, ""},
		"another site asks first":       {ask("OPTIONS", "/graphql", "https://evil.example", "cross-site", json), 204, ""},
		"a name that begins alike":      {ask("POST", "/graphql", "https://app.example.com.evil.example", "cross-site", json), 403, ""},
		"a sandbox":                     {ask("POST", "/graphql", "null", "cross-site", json), 403, ""},
		"a sandbox signs in":            {ask("POST", "/auth/token", "null", "cross-site", json), 403, ""},
		"a named site":                  {ask("POST", "/graphql", "https://app.example.com", "cross-site", json), 401, "https://app.example.com"},
		"a named site asks first":       {ask("OPTIONS", "/graphql", "https://app.example.com", "cross-site", json), 204, "https://app.example.com"},
		"a named site asks for a token": {ask("OPTIONS", "/auth/token", "https://app.example.com", "cross-site", json), 204, "https://app.example.com"},
		"a named site asks for metrics": {ask("GET", "/metrics", "https://app.example.com", "cross-site", json), 200, ""},
		"a sender's page":               {ask("POST", "/in/unknown", "https://evil.example", "cross-site", json), 404, ""},
	} {
		if got := c.rec.Header().Get("Access-Control-Allow-Origin"); c.rec.Code != c.status || got != c.shared {
			t.Errorf("%s: %d shared with %q, want %d, %q", what, c.rec.Code, got, c.status, c.shared)
		}
		if c.rec.Header().Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: with cookies", what)
		}
		if c.shared != "" && c.rec.Header().Get("Vary") != "Origin" {
			t.Errorf("%s: a cache would mix it up", what)
		}
	}
	// With a credential, what a form can send is refused all the same.
	for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""} {
		key := adminKey(t, h)
		r := httptest.NewRequest(http.MethodPost, "/graphql", strings.NewReader(`{"query": "{ held }"}`))
		r.Header.Set("Authorization", "Bearer "+key)
		r.Header.Set("Content-Type", kind)
		rec := httptest.NewRecorder()
		if routes.ServeHTTP(rec, r); rec.Code != http.StatusBadRequest || !strings.Contains(rec.Body.String(), "Content-Type") {
			t.Errorf("%q: %d %s", kind, rec.Code, rec.Body)
		}
	}
}

// Who has no credential yet may not ask too often from one place; an address elsewhere
// does not suffer.
func TestStrangersAreThrottled(t *testing.T) {
	h := openHub(t, Config{StrangerRate: 0.1})
	routes := h.routes()
	for _, path := range []string{"/auth/token", "/graphql"} {
		var last *httptest.ResponseRecorder
		for range 3 {
			r := httptest.NewRequest(http.MethodPost, path, http.NoBody)
			r.RemoteAddr = "192.0.2.7:1"
			last = httptest.NewRecorder()
			routes.ServeHTTP(last, r)
		}
		body, _ := io.ReadAll(last.Body)
		if last.Code != http.StatusTooManyRequests || last.Header().Get("Retry-After") == "" || !strings.Contains(string(body), `"LIMITED"`) || !strings.Contains(string(body), `"retryAfter"`) {
			t.Errorf("%s: %d %v %s", path, last.Code, last.Header(), body)
		}
		r := httptest.NewRequest(http.MethodPost, path, http.NoBody)
		r.RemoteAddr = "192.0.2.8:1"
		last = httptest.NewRecorder()
		if routes.ServeHTTP(last, r); path == "/auth/token" && last.Code != http.StatusUnauthorized {
			t.Errorf("%s from elsewhere: %d", path, last.Code)
		}
	}
}

// adminKey is the key of the first Administrator.
func adminKey(t *testing.T, h *Hub) string {
	t.Helper()
	access, err := (&Operator{db: h.db, secrets: h.cfg.secrets(), now: h.clock.Now, by: byOperator}).ResetUser(t.Context(), "", "admin@localhost")
	if err != nil {
		t.Fatal(err)
	}
	return access.APIKey
}
