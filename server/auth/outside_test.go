package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/ent/viewer"
)

// answers is a way out to issuers that answers in their place.
type answers func(*http.Request) (*http.Response, error)

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }

func says(status int, v any) (*http.Response, error) {
	b, err := json.Marshal(v)
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(string(b)))}, err
}

// outsiders trusts one issuer, and everybody whom it vouches for is a Tester.
type outsiders struct{}

func (outsiders) Trusted(_ context.Context, issuer string, audiences []string) ([]TrustedIssuer, error) {
	if issuer != "https://ci.example.com" || len(audiences) != 1 || audiences[0] != "hub" {
		return nil, nil
	}
	return []TrustedIssuer{{ID: "tri_1", Issuer: issuer, Audience: "hub", Algorithms: []string{"ES256"}, GroupsClaim: "groups"}}, nil
}

func (outsiders) Outsider(_ context.Context, issuer string, who Person) (*viewer.Viewer, error) {
	return &viewer.Viewer{ID: "out_1", Name: who.Subject, Role: viewer.Tester}, nil
}

// issuer is an outside issuer that publishes what it is told to.
type issuer struct {
	keys    atomic.Pointer[jose.JSONWebKeySet]
	down    atomic.Bool
	fetches atomic.Int64 // of keys
}

func (i *issuer) publish(keys map[string]*ecdsa.PrivateKey) {
	set := &jose.JSONWebKeySet{}
	for id, k := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.Public(), KeyID: id, Use: "sig", Algorithm: "ES256"})
	}
	i.keys.Store(set)
}

func (i *issuer) answer(r *http.Request) (*http.Response, error) {
	if i.down.Load() {
		return nil, errors.New("no route to it")
	}
	if r.URL.Path == "/.well-known/openid-configuration" {
		return says(http.StatusOK, map[string]any{"issuer": "https://ci.example.com", "jwks_uri": "https://ci.example.com/keys",
			"authorization_endpoint": "https://ci.example.com/auth", "token_endpoint": "https://ci.example.com/token"})
	}
	i.fetches.Add(1)
	return says(http.StatusOK, i.keys.Load())
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func signed(t testing.TB, k crypto.Signer, kid string, clock clockwork.Clock, life time.Duration) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"iss": "https://ci.example.com", "aud": "hub", "sub": "repo",
		"iat": clock.Now().Unix(), "exp": clock.Now().Add(life).Unix()})
	token.Header["kid"] = kid
	raw, err := token.SignedString(k)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func newOutside(t testing.TB) (*Authenticator, *issuer, *clockwork.FakeClock) {
	clock := clockwork.NewFakeClockAt(time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC))
	i := &issuer{}
	quiet := slog.New(slog.DiscardHandler)
	out := NewOutside(outsiders{}, NewIssuers(answers(i.answer), clock, func(string) {}), quiet)
	return New(Config{Keys: NewKeyring(), Issuer: "https://hub.example.com", Clock: clock, Outside: out}), i, clock
}

func TestKeysOfIssuers(t *testing.T) {
	a, i, clock := newOutside(t)
	one, two, three := newKey(t), newKey(t), newKey(t)
	check := func(what, token string, want error) {
		t.Helper()
		v, _, err := a.Authenticate(t.Context(), "Bearer "+token)
		if !errors.Is(err, want) || (v != nil) != (want == nil) {
			t.Errorf("%s: %v, %v; want %v", what, v, err, want)
		}
	}
	day := func(k *ecdsa.PrivateKey, kid string) string { return signed(t, k, kid, clock, 24*time.Hour) }
	i.down.Store(true)
	i.publish(map[string]*ecdsa.PrivateKey{"one": one})
	token := day(one, "one")
	check("an issuer that never answered", token, ErrCannotKnow)
	i.down.Store(false)
	check("too soon after that", token, ErrCannotKnow)
	clock.Advance(pause)
	check("once it answers", token, nil)
	check("again", token, nil)
	if n := i.fetches.Load(); n != 1 {
		t.Errorf("the keys were fetched %d times", n)
	}

	// A new key is found by its name, but not more than once in a pause.
	i.publish(map[string]*ecdsa.PrivateKey{"one": one, "two": two})
	for range 10 {
		check("a key that is new", day(two, "two"), ErrUnauthenticated)
	}
	clock.Advance(pause)
	check("a key that is new, later", day(two, "two"), nil)
	for range 10 {
		check("a key that is none", day(three, "three"), ErrUnauthenticated)
	}
	if n := i.fetches.Load(); n != 2 {
		t.Errorf("the keys were fetched %d times", n)
	}

	// An old key is dropped without anyone asking for a new one.
	i.publish(map[string]*ecdsa.PrivateKey{"two": two})
	clock.Advance(freshKeys)
	check("a key that is gone", day(one, "one"), ErrUnauthenticated)
	check("the one that stayed", day(two, "two"), nil)

	// An issuer that does not answer is believed for a while, for what is known of it.
	i.down.Store(true)
	clock.Advance(freshKeys)
	check("a known key of a silent issuer", day(two, "two"), nil)
	check("an unknown key of a silent issuer", day(three, "three"), ErrCannotKnow)
	clock.Advance(staleKeys)
	check("a known key of an issuer that is silent for long", day(two, "two"), ErrCannotKnow)

	// Expired is expired, whether or not it answers.
	i.down.Store(false)
	clock.Advance(pause)
	old := signed(t, two, "two", clock, time.Minute)
	check("fresh", old, nil)
	clock.Advance(time.Minute + Skew + time.Second)
	check("expired", old, ErrUnauthenticated)
}

func TestBadAnswersOfIssuers(t *testing.T) {
	good := map[string]any{"issuer": "https://ci.example.com", "jwks_uri": "https://ci.example.com/keys"}
	for name, answer := range map[string]answers{
		"another issuer": func(*http.Request) (*http.Response, error) {
			return says(http.StatusOK, map[string]any{"issuer": "https://evil.example.com", "jwks_uri": "https://evil.example.com/keys"})
		},
		"keys in the clear": func(*http.Request) (*http.Response, error) {
			return says(http.StatusOK, map[string]any{"issuer": "https://ci.example.com", "jwks_uri": "http://ci.example.com/keys"})
		},
		"no JSON":    func(*http.Request) (*http.Response, error) { return says(http.StatusOK, "<html>") },
		"an error":   func(*http.Request) (*http.Response, error) { return says(http.StatusInternalServerError, good) },
		"a redirect": func(*http.Request) (*http.Response, error) { return says(http.StatusFound, good) },
		"without end": func(*http.Request) (*http.Response, error) {
			return says(http.StatusOK, strings.Repeat("x", 2*fetchBytes))
		},
		"keys that are none": func(r *http.Request) (*http.Response, error) {
			if strings.HasPrefix(r.URL.Path, "/.well") {
				return says(http.StatusOK, good)
			}
			return says(http.StatusOK, map[string]any{"error": "secret of the issuer"})
		},
	} {
		clock := clockwork.NewFakeClock()
		i := NewIssuers(answer, clock, func(string) {})
		_, err := i.verify(t.Context(), signed(t, newKey(t), "one", clock, time.Hour), expected{issuer: "https://ci.example.com", audience: "hub", algorithms: []string{"ES256"}})
		if !errors.Is(err, ErrCannotKnow) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A secret key among the public ones, or a weak one, makes nobody a forger.
func TestOnlyPublicKeysCount(t *testing.T) {
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: []byte("0123456789abcdef0123456789abcdef"), KeyID: "shared"}, {Key: newKey(t), KeyID: "private"},
		{Key: newKey(t).Public(), KeyID: "encrypts", Use: "enc"}, {Key: newKey(t).Public(), KeyID: "good"}}})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := readKeys(b)
	if list := keys.([]jose.JSONWebKey); err != nil || len(list) != 1 || list[0].KeyID != "good" {
		t.Errorf("%v %v", keys, err)
	}
}

// FuzzOutsideToken: whatever is sent, nobody is let in who has no token that the issuer signed.
func FuzzOutsideToken(f *testing.F) {
	a, i, clock := newOutside(f)
	key := newKey(f)
	i.publish(map[string]*ecdsa.PrivateKey{"one": key})
	good := signed(f, key, "one", clock, time.Hour)
	head, rest, _ := strings.Cut(good, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	write := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	f.Add(good)
	f.Add(write(`{"alg":"none"}`) + "." + payload + ".")
	f.Add(write(`{"alg":"HS256","kid":"one"}`) + "." + payload + "." + signature)
	f.Add(write(`{"alg":"ES256","kid":"one","crit":["x"],"x":1}`) + "." + payload + "." + signature)
	f.Add(write(`{"alg":"ES256","jwk":{"kty":"oct","k":"AA"}}`) + "." + payload + "." + signature)
	f.Add(head + "." + write(`{"iss":"https://ci.example.com","ISS":"x","aud":["hub"],"sub":"a","exp":1e300}`) + "." + signature)
	f.Add(head + "." + write(`{"iss":"https://hub.example.com","aud":"hookyard","sub":"usr_1","exp":99999999999}`) + "." + signature)
	f.Add(`{"payload":"` + payload + `","protected":"` + head + `","signature":"` + signature + `"}`)
	f.Add("..")
	f.Fuzz(func(t *testing.T, raw string) {
		v, _, err := a.Authenticate(t.Context(), "Bearer "+raw)
		if err == nil && v != nil && strings.TrimSpace(raw) != good {
			// An ECDSA signature may be written in other bytes of base64 only if they mean the same.
			h, p, ok := strings.Cut(strings.TrimSpace(raw), ".")
			p, _, _ = strings.Cut(p, ".")
			if !ok || h != head || p != payload {
				t.Errorf("let in: %q", raw)
			}
		}
		if err == nil && v == nil || err != nil && !errors.Is(err, ErrUnauthenticated) && !errors.Is(err, ErrCannotKnow) {
			t.Errorf("%q: %v %v", raw, v, err)
		}
	})
}

// locker seals by a mark: what a browser cannot have made is what the tests have sealed.
type locker struct{}

func (locker) Seal(id, field string, plain []byte) ([]byte, error) {
	return append([]byte(id+field+"|"), plain...), nil
}

func (locker) Unseal(id, field string, sealed []byte) ([]byte, error) {
	plain, ok := strings.CutPrefix(string(sealed), id+field+"|")
	if !ok {
		return nil, errors.New("not sealed")
	}
	return []byte(plain), nil
}

// doorway is one provider that admits everybody.
type doorway struct{ admitted *atomic.Int64 }

func (doorway) Provider(_ context.Context, id string) (*Provider, error) {
	if id != "idp_1" {
		return nil, nil
	}
	return &Provider{ID: id, Issuer: "https://ci.example.com", ClientID: "hub", ClientSecret: "hush", GroupsClaim: "groups"}, nil
}

func (d doorway) Admit(context.Context, string, Person) (string, error) {
	d.admitted.Add(1)
	return "usr_1", nil
}

// newDoor is single sign-on at a provider that answers every code with a token that has
// the nonce; tokens that carry another one are not taken.
func newDoor(t testing.TB, nonce func() string) (*SingleSignOn, *atomic.Int64, *clockwork.FakeClock) {
	clock := clockwork.NewFakeClockAt(time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC))
	i, key := &issuer{}, newKey(t)
	i.publish(map[string]*ecdsa.PrivateKey{"one": key})
	way := answers(func(r *http.Request) (*http.Response, error) {
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			return says(http.StatusOK, map[string]any{"issuer": "https://ci.example.com", "jwks_uri": "https://ci.example.com/keys", "id_token_signing_alg_values_supported": []string{"ES256", "HS256", "none"},
				"authorization_endpoint": "https://ci.example.com/auth", "token_endpoint": "https://ci.example.com/token"})
		case "/token":
			token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"iss": "https://ci.example.com", "aud": "hub", "sub": "ann", "nonce": nonce(),
				"iat": clock.Now().Unix(), "exp": clock.Now().Add(time.Hour).Unix()})
			token.Header["kid"] = "one"
			raw, err := token.SignedString(key)
			if err != nil {
				return nil, err
			}
			return says(http.StatusOK, map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": raw})
		}
		return i.answer(r)
	})
	admitted := &atomic.Int64{}
	quiet := slog.New(slog.DiscardHandler)
	return NewSingleSignOn(SingleSignOnConfig{Providers: doorway{admitted}, Issuers: NewIssuers(way, clock, func(string) {}), Sealer: locker{},
		Begin: func(http.ResponseWriter, *http.Request, string) error { return nil }, PublicURL: "https://hub.example.com", Clock: clock, Log: quiet, Count: func(string) {}}), admitted, clock
}

// begin is the first half of a sign-in: what the browser keeps, and what the provider is asked.
func begin(t testing.TB, s *SingleSignOn) (cookie *http.Cookie, asked url.Values) {
	t.Helper()
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/auth/oidc/idp_1/start?return=/x", nil)
	r.SetPathValue("provider", "idp_1")
	s.Start(w, r)
	to, err := url.Parse(w.Header().Get("Location"))
	if err != nil || w.Code != http.StatusFound || len(w.Result().Cookies()) != 1 {
		t.Fatalf("start: %d %s", w.Code, w.Body)
	}
	return w.Result().Cookies()[0], to.Query()
}

func back(s *SingleSignOn, query string, cookie *http.Cookie) *httptest.ResponseRecorder {
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/auth/oidc/callback", nil)
	r.URL.RawQuery = query
	if cookie != nil {
		r.AddCookie(cookie)
	}
	s.Callback(w, r)
	return w
}

func TestNonceBindsTheTokenToTheBrowser(t *testing.T) {
	nonce := ""
	s, admitted, clock := newDoor(t, func() string { return nonce })
	cookie, asked := begin(t, s)
	if !cookie.HttpOnly || !cookie.Secure || cookie.SameSite != http.SameSiteLaxMode || !strings.HasPrefix(cookie.Name, "__Host-") || cookie.MaxAge != 600 {
		t.Errorf("the cookie is %v", cookie)
	}
	query := url.Values{"code": {"c"}, "state": {asked.Get("state")}}.Encode()
	for _, nonce = range []string{"", "another"} {
		if w := back(s, query, cookie); w.Code != http.StatusBadRequest || admitted.Load() != 0 {
			t.Errorf("nonce %q: %d %s", nonce, w.Code, w.Body)
		}
	}
	nonce = asked.Get("nonce")
	if w := back(s, query, cookie); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/x" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	clock.Advance(signInTime)
	if w := back(s, query, cookie); w.Code != http.StatusBadRequest || admitted.Load() != 1 {
		t.Errorf("after its time: %d %s", w.Code, w.Body)
	}
}

// FuzzCallback: only the browser that began a sign-in ends it, and nothing that is sent
// is shown again or leads elsewhere.
func FuzzCallback(f *testing.F) {
	nonce := ""
	s, admitted, _ := newDoor(f, func() string { return nonce })
	cookie, asked := begin(f, s)
	nonce = asked.Get("nonce")
	f.Add("code=c&state="+asked.Get("state"), cookie.Value)
	f.Add("code=c&state=other", cookie.Value)
	f.Add("error=access_denied&error_description=marker-marker&state="+asked.Get("state"), cookie.Value)
	f.Add("code=c&iss=https://evil.example.com&state="+asked.Get("state"), cookie.Value)
	f.Add("code=c&state=", "")
	f.Add("%zz;&=", "c2lnbi1pbnBlbmRpbmd8e30")
	f.Fuzz(func(t *testing.T, query, value string) {
		before := admitted.Load()
		c := *cookie
		c.Value = value
		w := back(s, query, &c)
		q, _ := url.ParseQuery(query)
		switch {
		case w.Code == http.StatusSeeOther:
			if to, ok := localPath(w.Header().Get("Location")); !ok {
				t.Errorf("leads to %q", to)
			}
		case admitted.Load() != before || w.Code < 400:
			t.Errorf("%q: admitted with %d", query, w.Code)
		case strings.Contains(query, "marker-marker") && strings.Contains(w.Body.String(), "marker-marker"):
			t.Errorf("%q is shown: %s", query, w.Body)
		}
		if value == cookie.Value && q.Get("state") != asked.Get("state") && admitted.Load() != before {
			t.Errorf("admitted with the state %q", q.Get("state"))
		}
	})
}

func TestLocalPath(t *testing.T) {
	for s, want := range map[string]bool{"/": true, "/a?b=/c": true, "/a%2Fb": true, "//a": false, "/\\a": false, "\\/a": false, "/\ta": false, "http://a": false,
		"a": false, "": false, "/a\r\nb": false, "/%2F": true, "/a#b": true, "///a": false, "/" + strings.Repeat("a", 3000): false} {
		if _, ok := localPath(s); ok != want {
			t.Errorf("%q: %v", s, ok)
		}
	}
}
