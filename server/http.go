package server

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/auth"
	"github.com/hookyard/hookyard/server/ingest"
	"github.com/hookyard/hookyard/server/trigger"
)

// address is one path that the hub answers.
type address struct {
	pattern string // of http.ServeMux
	handler http.Handler
	open    bool // to other sites' pages, when the configuration names them
	page    bool // for people's browsers to show; the rest is for programs
}

// addresses is every address that the hub answers.
func (h *Hub) addresses() []address {
	return []address{
		{pattern: ingest.Prefix, handler: deadline(30*time.Second, h.ingest)},
		{pattern: trigger.Prefix, handler: deadline(30*time.Second, h.triggers)},
		{pattern: "/graphql", handler: while(h.live, h.api), open: true},
		{pattern: "POST /auth/token", handler: h.early(h.token), open: true},
		{pattern: "POST /auth/login", handler: h.early(h.doors.Login)},
		{pattern: "POST /auth/refresh", handler: h.early(h.doors.Refresh)},
		{pattern: "POST /auth/logout", handler: h.early(h.doors.Logout)},
		{pattern: "POST /auth/link", handler: h.early(h.doors.Link)},
		{pattern: "GET " + auth.SignInPrefix + "{provider}/start", handler: h.early(h.sso.Start)},
		{pattern: "GET " + auth.SignInPrefix + "callback", handler: h.early(h.sso.Callback)},
		{pattern: "GET /healthz", handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
		})},
		{pattern: "GET /readyz", handler: http.HandlerFunc(h.ready)},
		{pattern: "GET /metrics", handler: h.guardMetrics(promhttp.HandlerFor(h.registry, promhttp.HandlerOpts{}))},
		{pattern: "GET /{$}", handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, http.StatusOK, map[string]string{"hookyard": h.cfg.Version, "graphql": h.cfg.PublicURL + "/graphql", "health": h.cfg.PublicURL + "/readyz"})
		})},
	}
}

func (h *Hub) routes() http.Handler {
	b := newBrowsers(&h.cfg)
	mux := http.NewServeMux()
	for _, r := range h.addresses() {
		handler := r.handler
		if r.open {
			handler = b.share(handler)
			if method, path, ok := strings.Cut(r.pattern, " "); ok && method != http.MethodOptions {
				mux.Handle(http.MethodOptions+" "+path, handler)
			}
		}
		if r.page {
			handler = b.page(handler)
		}
		mux.Handle(r.pattern, handler)
	}
	return behind(h.cfg.TrustedProxies, fromWhere(b.guard(mux)))
}

// fromWhere says in the context where the request came from.
func fromWhere(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from := r.RemoteAddr
		if host, _, err := net.SplitHostPort(from); err == nil {
			from = host
		}
		next.ServeHTTP(w, r.WithContext(viewer.WithOrigin(r.Context(), from)))
	})
}

// early is for what people and programs ask before there is a viewer: in bounded time,
// and so often from one place.
func (h *Hub) early(next http.HandlerFunc) http.Handler {
	return deadline(10*time.Second, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if wait, ok := h.strangers.Take(viewer.Origin(r.Context())); !ok {
			seconds := int((wait + time.Second - 1) / time.Second)
			w.Header().Set("Retry-After", strconv.Itoa(seconds))
			writeJSON(w, http.StatusTooManyRequests, map[string]any{"error": "too much at once from where you are; wait a moment", "code": "LIMITED", "limit": "rate", "retryAfter": seconds})
			return
		}
		next(w, r)
	}))
}

// deadline bounds how long one exchange may take, a slow sender's body included.
func deadline(d time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		_ = c.SetReadDeadline(time.Now().Add(d))
		_ = c.SetWriteDeadline(time.Now().Add(2 * d))
		next.ServeHTTP(w, r)
		_ = c.SetReadDeadline(time.Time{})
		_ = c.SetWriteDeadline(time.Time{})
	})
}

// token gives a bearer of an API key a short-lived token for the same rights. A token does
// not do: it could be renewed for ever.
func (h *Hub) token(w http.ResponseWriter, r *http.Request) {
	credential := r.Header.Get("Authorization")
	v, _, err := h.auth.Authenticate(r.Context(), credential)
	if err != nil || !auth.IsKey(credential) {
		writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "send Authorization: Bearer and a valid API key"})
		return
	}
	raw, expires, err := h.auth.Token(v, 15*time.Minute)
	if err != nil {
		h.log.Error("sign a token", "err", err)
		writeJSON(w, http.StatusInternalServerError, map[string]string{"error": "the token could not be made; try again"})
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"token": raw, "expiresAt": expires.UTC()})
}

// ready says whether this node can take and deliver events.
func (h *Hub) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 3*time.Second)
	defer cancel()
	status, answer := http.StatusOK, map[string]any{"status": "ready"}
	if err := h.db.Ping(ctx); err != nil {
		status, answer = http.StatusServiceUnavailable, map[string]any{"status": "the database does not answer"}
	} else if h.draining.Load() {
		status, answer = http.StatusServiceUnavailable, map[string]any{"status": "shutting down"}
	} else if stranded, err := h.shelf.stranded(ctx); err == nil && len(stranded) > 0 {
		answer["endpointsWithoutConnector"] = stranded // they wait; everything else goes on
	}
	writeJSON(w, status, answer)
}

func (h *Hub) guardMetrics(next http.Handler) http.Handler {
	if h.cfg.MetricsToken == "" {
		return next
	}
	want := []byte("Bearer " + h.cfg.MetricsToken)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), want) != 1 {
			writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "send Authorization: Bearer and the metrics token"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// listen opens the address, with TLS when the configuration has a certificate.
func (h *Hub) listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", h.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", h.cfg.Listen, err)
	}
	if h.cfg.TLSCert == "" {
		return ln, nil
	}
	cert, err := newCertificate(h.cfg.TLSCert, h.cfg.TLSKey, func(err error) {
		h.log.Error("the TLS files changed and cannot be used; the old certificate stays", "err", err)
	})
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return tls.NewListener(ln, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: cert.get, NextProtos: []string{"h2", "http/1.1"}}), nil
}
