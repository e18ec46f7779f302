package auth

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/jonboulle/clockwork"
	"golang.org/x/sync/singleflight"

	"github.com/hookyard/hookyard/ent/parts"
)

// ErrCannotKnow says that an outside issuer did not answer, so that its word can be
// neither believed nor refused.
var ErrCannotKnow = errors.New("auth: an outside issuer does not answer")

// Skew is how far the clocks of an issuer and of the hub may be apart.
const Skew = time.Minute

// How long what an issuer publishes is believed. Beyond fresh it is asked for again;
// when the issuer does not answer then, what is kept holds until it is stale. It is
// never asked more often than once in pause, whoever wants to know.
const (
	freshKeys, staleKeys         = 10 * time.Minute, time.Hour
	freshMetadata, staleMetadata = time.Hour, 6 * time.Hour
	pause                        = 5 * time.Second
	fetchTime                    = 10 * time.Second
	fetchBytes                   = 1 << 20
)

// Metadata is what an issuer publishes about itself and the hub makes use of.
type Metadata struct {
	Issuer        string   `json:"issuer"`
	AuthURL       string   `json:"authorization_endpoint"`
	TokenURL      string   `json:"token_endpoint"`
	UserInfoURL   string   `json:"userinfo_endpoint"`
	KeysURL       string   `json:"jwks_uri"`
	Algorithms    []string `json:"id_token_signing_alg_values_supported"`
	TokenAuth     []string `json:"token_endpoint_auth_methods_supported"`
	NamesItself   bool     `json:"authorization_response_iss_parameter_supported"`
	ChallengeKind []string `json:"code_challenge_methods_supported"`
}

// Issuers knows outside issuers: it fetches their metadata and keys, keeps them for a
// while and checks signatures. It is safe for concurrent use.
type Issuers struct {
	client *http.Client
	clock  clockwork.Clock
	count  func(result string)
	flight singleflight.Group

	mu        sync.Mutex
	published map[string]*published // by URL
}

// published is one document as it was last fetched.
type published struct {
	value   any
	fetched time.Time // zero: never
	tried   time.Time
	err     error // of the last try
}

// NewIssuers returns an Issuers that goes out through transport, which has to keep to
// the operator's address policy. count is told "ok" or "failed" for each fetch.
func NewIssuers(transport http.RoundTripper, clock clockwork.Clock, count func(result string)) *Issuers {
	return &Issuers{
		client: &http.Client{Transport: guarded{transport}, Timeout: fetchTime,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		clock: clock, count: count, published: map[string]*published{},
	}
}

// guarded sends nothing in the clear, but to the machine itself, and reads no answer
// without end.
type guarded struct{ next http.RoundTripper }

func (g guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && (r.URL.Scheme != "http" || !parts.Loopback(r.URL.Hostname())) {
		return nil, errors.New("the address does not begin with https://")
	}
	resp, err := g.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, fetchBytes+1), resp.Body}
	return resp, nil
}

// Metadata returns what an issuer says of itself. The error wraps ErrCannotKnow.
func (i *Issuers) Metadata(ctx context.Context, issuer string) (*Metadata, error) {
	at := strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
	v, err := i.get(ctx, at, freshMetadata, staleMetadata, func(any) bool { return true }, func(b []byte) (any, error) {
		m := new(Metadata)
		if err := json.Unmarshal(b, m); err != nil {
			return nil, errors.New("the answer is not an OpenID configuration")
		}
		if m.Issuer != issuer {
			return nil, fmt.Errorf("it calls itself %.200q", m.Issuer)
		}
		if err := parts.CheckKeysURL(m.KeysURL); err != nil || m.KeysURL == "" {
			return nil, errors.New("its jwks_uri is not an https address")
		}
		return m, nil
	})
	if err != nil {
		return nil, err
	}
	return v.(*Metadata), nil
}

// keys returns the keys of a JWKS; one that fits when there is one, even if it has to be
// fetched for that.
func (i *Issuers) keys(ctx context.Context, at string, fits func(jose.JSONWebKey) bool) ([]jose.JSONWebKey, error) {
	v, err := i.get(ctx, at, freshKeys, staleKeys, func(v any) bool { return slices.ContainsFunc(v.([]jose.JSONWebKey), fits) }, readKeys)
	if err != nil {
		return nil, err
	}
	return v.([]jose.JSONWebKey), nil
}

// readKeys reads the keys of a JWKS that can check signatures. Secret ones are left out:
// an issuer that publishes one must not make forgers of its readers.
func readKeys(b []byte) (any, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil || set.Keys == nil {
		return nil, errors.New("the answer is not a JWKS")
	}
	keys := []jose.JSONWebKey{}
	for _, raw := range set.Keys[:min(len(set.Keys), 100)] {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) != nil || !k.Valid() || !k.IsPublic() || k.Use != "" && k.Use != "sig" {
			continue // of a kind that we do not know, or for another use
		}
		if r, ok := k.Key.(*rsa.PublicKey); ok && r.N.BitLen() < 2048 {
			continue // too weak to believe
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// get returns a document, out of what is kept when that is fresh and satisfies.
func (i *Issuers) get(ctx context.Context, at string, fresh, stale time.Duration, satisfies func(any) bool, read func([]byte) (any, error)) (any, error) {
	for first := true; ; first = false {
		i.mu.Lock()
		p, now := i.published[at], i.clock.Now()
		if p != nil {
			p := *p
			i.mu.Unlock()
			age := now.Sub(p.fetched)
			known := !p.fetched.IsZero() && age < stale
			switch resting := now.Sub(p.tried) < pause; {
			case known && age < fresh && satisfies(p.value), (resting || !first) && p.err == nil:
				return p.value, nil
			case (resting || !first) && known && satisfies(p.value):
				return p.value, nil // it does not answer now, but did not long ago
			case resting || !first:
				return nil, fmt.Errorf("%w: %w", ErrCannotKnow, p.err)
			}
		} else {
			i.mu.Unlock()
		}
		// Whoever wants it waits for one fetch, which goes on when a waiter gives up.
		done := i.flight.DoChan(at, func() (any, error) {
			i.fetch(context.WithoutCancel(ctx), at, read)
			return nil, nil
		})
		select {
		case <-done:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrCannotKnow, ctx.Err())
		}
	}
}

// fetch gets a document and keeps what came of it.
func (i *Issuers) fetch(ctx context.Context, at string, read func([]byte) (any, error)) {
	var value any
	b, err := i.body(ctx, at)
	if err == nil {
		value, err = read(b)
	}
	result := "ok"
	if err != nil {
		result, err = "failed", fmt.Errorf("get %s: %w", at, err)
	}
	i.count(result)
	i.mu.Lock()
	defer i.mu.Unlock()
	p := i.published[at]
	if p == nil {
		if len(i.published) >= 1000 { // addresses that were configured once and are no more
			clear(i.published)
		}
		p = &published{}
		i.published[at] = p
	}
	p.tried, p.err = i.clock.Now(), err
	if err == nil {
		p.value, p.fetched = value, p.tried
	}
}

func (i *Issuers) body(ctx context.Context, at string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	resp, err := i.client.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the address is told already
		}
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %d", resp.StatusCode)
	}
	b, err := io.ReadAll(resp.Body)
	if err == nil && len(b) > fetchBytes {
		err = fmt.Errorf("the answer is longer than %d bytes", fetchBytes)
	}
	return b, err
}

// expected is what a token has to be.
type expected struct {
	issuer, audience string
	keysURL          string // "" is where the issuer says
	algorithms       []string
}

// vouched is a token that is all that was expected.
type vouched struct {
	subject string
	nonce   string
	expires time.Time
	claims  said
}

// verify checks a token's signature, issuer, audience and times. The error is
// ErrUnauthenticated with the reason for the log, or wraps ErrCannotKnow.
func (i *Issuers) verify(ctx context.Context, raw string, want expected) (*vouched, error) {
	if want.keysURL == "" {
		m, err := i.Metadata(ctx, want.issuer)
		if err != nil {
			return nil, err
		}
		want.keysURL = m.KeysURL
	}
	now := i.clock.Now()
	signed := &signature{issuers: i, want: want}
	// Expiry is taken a little late; the beginning is looked at below.
	token, err := oidc.NewVerifier(want.issuer, signed, &oidc.Config{ClientID: want.audience, SupportedSigningAlgs: want.algorithms,
		Now: func() time.Time { return now.Add(-Skew) }}).Verify(ctx, raw)
	if errors.Is(signed.err, ErrCannotKnow) {
		return nil, signed.err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	v := &vouched{subject: token.Subject, nonce: token.Nonce, expires: token.Expiry}
	if err := token.Claims(&v.claims); err != nil {
		return nil, fmt.Errorf("%w: read the claims: %w", ErrUnauthenticated, err)
	}
	for _, name := range []string{"iat", "nbf"} {
		if seconds, ok := v.claims[name].(float64); ok && seconds > float64(now.Add(Skew).Unix()) {
			return nil, fmt.Errorf("%w: its %s is in the future", ErrUnauthenticated, name)
		}
	}
	if v.subject == "" || len(v.subject) > 255 || strings.ContainsFunc(v.subject, unicode.IsControl) {
		return nil, fmt.Errorf("%w: its sub is empty, longer than 255 bytes or no text", ErrUnauthenticated)
	}
	return v, nil
}

// signature checks that of one token. It implements oidc.KeySet.
type signature struct {
	issuers *Issuers
	want    expected
	err     error // of the check; go-oidc does not wrap it
}

// VerifySignature returns the payload of a token that one of the issuer's keys has signed.
// Which keys there are is never up to the token, only which of them is tried.
func (s *signature) VerifySignature(ctx context.Context, raw string) (payload []byte, err error) {
	defer func() { s.err = err }()
	algorithms := make([]jose.SignatureAlgorithm, len(s.want.algorithms))
	for i, a := range s.want.algorithms {
		algorithms[i] = jose.SignatureAlgorithm(a)
	}
	token, err := jose.ParseSignedCompact(raw, algorithms)
	if err != nil {
		return nil, err
	}
	header := token.Signatures[0].Protected
	fits := func(k jose.JSONWebKey) bool {
		return (header.KeyID == "" || k.KeyID == header.KeyID) && (k.Algorithm == "" || k.Algorithm == header.Algorithm)
	}
	keys, err := s.issuers.keys(ctx, s.want.keysURL, fits)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if !fits(k) {
			continue
		}
		if payload, err := token.Verify(k.Key); err == nil {
			return payload, nil
		}
	}
	return nil, errors.New("none of the issuer's keys has signed it")
}

// said is what an issuer says of somebody: the claims of a token.
type said map[string]any

// text is a claim that is a text, "" for any other.
func (c said) text(name string) string {
	s, _ := c[name].(string)
	return s
}

// values is what a claim holds, as texts: one or a list. The name is the claim's own,
// or a path of names with dots.
func (c said) values(name string) []string {
	v, ok := c[name]
	if !ok {
		v = map[string]any(c)
		for step := range strings.SplitSeq(name, ".") {
			inner, _ := v.(map[string]any)
			v = inner[step]
		}
	}
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, e := range v {
			if s, ok := e.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// has says whether there is such a claim at all; see values.
func (c said) has(name string) bool {
	_, ok := c[name]
	return ok || c.values(name) != nil
}

// email is the e-mail address, "" unless the issuer says that it has verified it.
func (c said) email() string {
	if v := c["email_verified"]; v != true && v != "true" {
		return ""
	}
	address := c.text("email")
	if at := strings.LastIndexByte(address, '@'); at < 1 || at == len(address)-1 || len(address) > 320 || strings.ContainsAny(address, " <>") || strings.ContainsFunc(address, unicode.IsControl) {
		return ""
	}
	return strings.ToLower(address)
}

func anyKey(jose.JSONWebKey) bool { return true }
