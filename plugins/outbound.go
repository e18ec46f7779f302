package plugins

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"syscall"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// Outbound is the way out of a plugin: it implements connectors.Host. It knows the
// endpoints that it was given and keeps one HTTP client for each.
type Outbound struct {
	connectors.Memory
	log    *slog.Logger
	dialer net.Dialer
	hub    *asker // makes the connections instead; nil outside of the sandbox

	mu    sync.Mutex
	known map[string]*endpoint // by Ref
}

// endpoint is one known endpoint; what is not yet needed is made at first use.
type endpoint struct {
	connectors.Endpoint
	users     int // calls that still need it
	forgotten bool

	policyOnce sync.Once
	policy     *policy
	policyErr  error

	clientOnce sync.Once
	client     *http.Client
	clientErr  error
}

// NewOutbound makes an Outbound that knows no endpoint yet. A nil resolver is Go's
// default; tests give one that lies.
func NewOutbound(log *slog.Logger, resolver *net.Resolver) *Outbound {
	return &Outbound{Memory: noMemory{}, log: log, known: map[string]*endpoint{}, dialer: newDialer(resolver)}
}

func newDialer(resolver *net.Resolver) net.Dialer {
	return net.Dialer{Timeout: 30 * time.Second, KeepAlive: 15 * time.Second, Resolver: resolver}
}

// Put makes an endpoint known by its Ref.
func (o *Outbound) Put(e connectors.Endpoint) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if k := o.known[e.Ref]; k != nil {
		k.forgotten = false
		return
	}
	o.known[e.Ref] = &endpoint{Endpoint: e}
}

// Forget closes what is kept for a Ref, once the calls that use it have ended.
func (o *Outbound) Forget(ref string) {
	o.mu.Lock()
	k := o.known[ref]
	if k != nil {
		k.forgotten = true
	}
	o.dropLocked(ref, k)
	o.mu.Unlock()
}

// hold keeps a Ref from being forgotten until release.
func (o *Outbound) hold(ref string) {
	o.mu.Lock()
	if k := o.known[ref]; k != nil {
		k.users++
	}
	o.mu.Unlock()
}

func (o *Outbound) release(ref string) {
	o.mu.Lock()
	k := o.known[ref]
	if k != nil {
		k.users--
	}
	o.dropLocked(ref, k)
	o.mu.Unlock()
}

func (o *Outbound) dropLocked(ref string, k *endpoint) {
	if k == nil || !k.forgotten || k.users > 0 {
		return
	}
	delete(o.known, ref)
	// A client that is still being made belongs to a call that breaks the contract
	// by outliving its list; its connections end by their idle limit.
	if k.client != nil {
		k.client.CloseIdleConnections()
	}
}

// Close closes idle connections and forgets everything.
func (o *Outbound) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for ref, k := range o.known {
		k.users, k.forgotten = 0, true
		o.dropLocked(ref, k)
	}
}

// Endpoint implements connectors.Host.
func (o *Outbound) Endpoint(ref string) (connectors.Endpoint, bool) {
	k := o.lookup(ref)
	if k == nil {
		return connectors.Endpoint{}, false
	}
	return k.Endpoint, true
}

// Log implements connectors.Host.
func (o *Outbound) Log() *slog.Logger { return o.log }

// DialContext implements connectors.Host. A refusal is a *connectors.PolicyError.
func (o *Outbound) DialContext(ctx context.Context, e connectors.Endpoint, network, addr string) (net.Conn, error) {
	k := o.lookup(e.Ref)
	if k == nil {
		return nil, unknownRef(e.Ref)
	}
	return o.dial(ctx, k, network, addr)
}

// HTTPClient implements connectors.Host. It reads two of the endpoint's settings:
// "ca_bundle" (PEM) and "forward_proxy" (a URL); both may be secrets instead.
func (o *Outbound) HTTPClient(e connectors.Endpoint) (*http.Client, error) {
	k := o.lookup(e.Ref)
	if k == nil {
		return nil, unknownRef(e.Ref)
	}
	k.clientOnce.Do(func() {
		client, err := o.newClient(k)
		o.mu.Lock()
		k.client, k.clientErr = client, err
		o.mu.Unlock()
	})
	return k.client, k.clientErr
}

func (o *Outbound) lookup(ref string) *endpoint {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.known[ref]
}

func unknownRef(ref string) error {
	return fmt.Errorf("endpoint %q is not known to this process", ref)
}

func (o *Outbound) dial(ctx context.Context, k *endpoint, network, addr string) (net.Conn, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return nil, fmt.Errorf("dial %s: only TCP leads out, not %q", addr, network)
	}
	if o.hub != nil {
		return o.hub.dial(ctx, k.Ref, addr)
	}
	k.policyOnce.Do(func() { k.policy, k.policyErr = newPolicy(k.Dial) })
	if k.policyErr != nil {
		return nil, k.policyErr
	}
	return dialChecked(ctx, o.dialer, k.policy, network, addr)
}

// dialChecked dials what the policy allows; a refusal is a *connectors.PolicyError.
func dialChecked(ctx context.Context, d net.Dialer, p *policy, network, addr string) (net.Conn, error) {
	named, err := p.before(addr)
	if err != nil {
		return nil, err
	}
	// Control sees each address that the name was resolved to, just before the
	// connection to it is made; there is no second resolution to be lied to by.
	d.Control = func(_, address string, _ syscall.RawConn) error { return p.at(addr, address, named) }
	conn, err := d.DialContext(ctx, network, addr)
	var refused *connectors.PolicyError
	if errors.As(err, &refused) {
		return nil, refused
	}
	return conn, err
}

// httpSettings are the settings of any connector that Outbound itself reads.
type httpSettings struct {
	CABundle     string `json:"ca_bundle"`
	ForwardProxy string `json:"forward_proxy"`
}

func readHTTPSettings(e *connectors.Endpoint) (s httpSettings, err error) {
	if len(e.Settings) > 0 {
		if err := json.Unmarshal(e.Settings, &s); err != nil {
			return s, fmt.Errorf("read the endpoint's settings: %w", err)
		}
	}
	if v, ok := e.Secrets["ca_bundle"]; ok {
		s.CABundle = v
	}
	if v, ok := e.Secrets["forward_proxy"]; ok {
		s.ForwardProxy = v
	}
	return s, nil
}

func (o *Outbound) newClient(k *endpoint) (*http.Client, error) {
	s, err := readHTTPSettings(&k.Endpoint)
	if err != nil {
		return nil, err
	}
	t := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return o.dial(ctx, k, network, addr)
		},
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    10 * time.Second,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
		DisableCompression:     true, // the record shows what was sent and what came
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        90 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 256 << 10,
	}
	if s.CABundle != "" {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM([]byte(s.CABundle)) {
			return nil, errors.New("the setting ca_bundle holds no certificate in PEM form")
		}
		t.TLSClientConfig.RootCAs = pool
	}
	if s.ForwardProxy != "" {
		u, err := url.Parse(s.ForwardProxy)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" {
			return nil, errors.New("the setting forward_proxy must be an address like http://proxy.example.com:3128") // not shown: it may hold a password
		}
		t.Proxy = http.ProxyURL(u)
	}
	return &http.Client{Transport: t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}
