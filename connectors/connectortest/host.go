package connectortest

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/hookyard/hookyard/connectors"
)

// Host is a connectors.Host for tests. It dials whatever it is asked to dial.
type Host struct {
	*Memory
	log       *lines
	endpoints map[string]connectors.Endpoint
	clients   map[string]*http.Client
}

// NewHost makes a host that knows the endpoints by their Ref. Its idle connections
// are closed when the test ends.
func NewHost(t testing.TB, endpoints ...connectors.Endpoint) *Host {
	h := &Host{Memory: NewMemory(), log: &lines{}, endpoints: map[string]connectors.Endpoint{}, clients: map[string]*http.Client{}}
	for _, e := range endpoints {
		client := &http.Client{
			Transport:     &http.Transport{DialContext: new(net.Dialer).DialContext, MaxIdleConnsPerHost: 256, DisableCompression: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		t.Cleanup(client.CloseIdleConnections)
		h.endpoints[e.Ref], h.clients[e.Ref] = e, client
	}
	return h
}

// Endpoint implements connectors.Host.
func (h *Host) Endpoint(ref string) (connectors.Endpoint, bool) {
	e, ok := h.endpoints[ref]
	return e, ok
}

// DialContext implements connectors.Host.
func (h *Host) DialContext(ctx context.Context, _ connectors.Endpoint, network, addr string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, addr)
}

// HTTPClient implements connectors.Host. A test may change the client's Transport
// before the first delivery.
func (h *Host) HTTPClient(e connectors.Endpoint) (*http.Client, error) {
	if c, ok := h.clients[e.Ref]; ok {
		return c, nil
	}
	return nil, errors.New("the host does not know the endpoint " + e.Ref)
}

// Log implements connectors.Host; what is logged is kept for Logged.
func (h *Host) Log() *slog.Logger { return slog.New(slog.NewTextHandler(h.log, nil)) }

// Logged is what was logged so far.
func (h *Host) Logged() string {
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	return h.log.b.String()
}

func (h *Host) noSecrets(t *testing.T) {
	t.Helper()
	if all := h.Logged(); strings.Contains(all, secretMark) {
		t.Errorf("a secret is in the log: %.400s", all)
	}
}

// lines is a log that is kept, up to a bound.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len() < 1<<20 {
		l.b.Write(p)
	}
	return len(p), nil
}

// NewServer starts an HTTP server on the loopback interface for the time of the test
// and returns its address.
func NewServer(t testing.TB, handle http.HandlerFunc) string {
	s := httptest.NewServer(handle)
	t.Cleanup(func() {
		s.CloseClientConnections() // a handler that hangs until its client goes
		s.Close()
	})
	return s.URL
}
