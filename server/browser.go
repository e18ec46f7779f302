package server

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/hookyard/hookyard/server/ingest"
)

// browsers is what keeps other sites' pages, and people's browsers, from being used
// against the hub. Nothing the hub answers is trusted by a cookie alone; see docs/security.md.
type browsers struct {
	headers http.Header // on every answer
	origins []string    // of other sites' pages that may ask
	forgery *http.CrossOriginProtection
}

// The content security policies: an answer for programs may load nothing if a browser is
// made to show it, and a page only what the hub itself serves.
const (
	programPolicy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	pagePolicy    = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

func newBrowsers(cfg *Config) *browsers {
	b := &browsers{origins: cfg.CORSOrigins, forgery: http.NewCrossOriginProtection(), headers: http.Header{
		"Cache-Control":                {"no-store"},
		"Content-Security-Policy":      {programPolicy},
		"Cross-Origin-Opener-Policy":   {"same-origin"},
		"Cross-Origin-Resource-Policy": {"same-origin"},
		"Permissions-Policy":           {"camera=(), geolocation=(), microphone=(), payment=(), usb=()"},
		"Referrer-Policy":              {"no-referrer"},
		"X-Content-Type-Options":       {"nosniff"},
		"X-Frame-Options":              {"DENY"}, // for browsers without frame-ancestors
	}}
	if strings.HasPrefix(cfg.PublicURL, "https://") {
		b.headers["Strict-Transport-Security"] = []string{"max-age=31536000"}
	}
	for _, o := range b.origins {
		_ = b.forgery.AddTrustedOrigin(o) // the configuration has been checked
	}
	_ = b.forgery.AddTrustedOrigin(origin(cfg.PublicURL)) // behind a proxy that changes the Host
	// A sender is known by its address and signature, which no other site's page has.
	b.forgery.AddInsecureBypassPattern(ingest.Prefix)
	return b
}

// origin is the part of an address that browsers go by.
func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// guard sets the headers of every answer, and refuses what a page of another site has
// made a browser send.
func (b *browsers) guard(next http.Handler) http.Handler {
	checked := b.forgery.Handler(next)
	b.forgery.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusForbidden, map[string]string{"error": "pages of other sites may not ask here; --cors-origins names those that may"})
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		for name, values := range b.headers {
			head[name] = values
		}
		checked.ServeHTTP(w, r)
	})
}

// page widens the policy for what people look at.
func (b *browsers) page(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Security-Policy"] = []string{pagePolicy}
		next.ServeHTTP(w, r)
	})
}

// share lets pages of the named origins ask, with a credential that they hold themselves:
// browsers are never told to add a cookie.
func (b *browsers) share(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asks := r.Header.Get("Origin")
		if len(b.origins) > 0 {
			w.Header().Add("Vary", "Origin")
		}
		if allowed := asks != "" && slices.Contains(b.origins, asks); allowed {
			head := w.Header()
			head.Set("Access-Control-Allow-Origin", asks)
			head.Set("Access-Control-Expose-Headers", "Retry-After")
			head.Set("Cross-Origin-Resource-Policy", "cross-origin")
			if r.Method == http.MethodOptions {
				head.Set("Access-Control-Allow-Methods", "POST")
				head.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
				head.Set("Access-Control-Max-Age", "600")
			}
		}
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}
