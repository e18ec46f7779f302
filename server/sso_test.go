package server_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/hookyard/hookyard/server/servertest/program"
)

// browser follows redirects and keeps cookies, as people's do; it stops where stop says.
type browser struct {
	*http.Client
	stop func(*url.URL) bool
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{stop: func(u *url.URL) bool { return u.Path == "/" }}
	b.Client = &http.Client{Jar: jar, Timeout: 30 * time.Second, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if b.stop(r.URL) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	t.Cleanup(b.CloseIdleConnections)
	return b
}

// goes opens an address and returns how it ended: the status, the hub's code and words,
// and where the last redirect leads.
func (b *browser) goes(t *testing.T, address string) (status int, code, words, to string) {
	t.Helper()
	resp, err := b.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var e struct{ Code, Error string }
	_ = json.Unmarshal(body, &e)
	return resp.StatusCode, e.Code, e.Error, resp.Header.Get("Location")
}

// callback goes as far as the provider, and returns the address that it sends back to.
func (b *browser) callback(t *testing.T, address string) string {
	t.Helper()
	before := b.stop
	b.stop = func(u *url.URL) bool { return u.Path == "/auth/oidc/callback" }
	defer func() { b.stop = before }()
	status, _, words, to := b.goes(t, address)
	if status != http.StatusFound || to == "" {
		t.Fatalf("the provider sends nobody back: %d %s", status, words)
	}
	return to
}

// viewer asks the hub with the browser's session who it is.
func (b *browser) viewer(t *testing.T, h *program.Hub) (v struct {
	Role   string
	Groups []struct{ ID string }
}, ok bool) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, h.URL+"/auth/refresh", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Origin", h.URL)
	r.Header.Set("X-Hookyard-Request", "1")
	resp, err := b.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var tokens struct{ Token string }
	if err := json.NewDecoder(resp.Body).Decode(&tokens); err != nil || resp.StatusCode != http.StatusOK {
		return v, false
	}
	var out struct {
		Viewer struct{ ID string }
		Users  struct {
			Edges []struct{ Node json.RawMessage }
		}
	}
	c := &program.Client{URL: h.URL, Key: tokens.Token, HTTP: h.HTTP}
	if err := c.Do(t.Context(), `{ viewer { id } }`, nil, &out); err != nil {
		t.Fatal(err)
	}
	if err := c.Do(t.Context(), `query ($id: ID!) { users(where: {id: $id}) { edges { node { role groups { id } } } } }`, program.Input{"id": out.Viewer.ID}, &out); err != nil {
		t.Fatal(err)
	}
	if len(out.Users.Edges) != 1 {
		t.Fatalf("the viewer is %d users", len(out.Users.Edges))
	}
	if err := json.Unmarshal(out.Users.Edges[0].Node, &v); err != nil {
		t.Fatal(err)
	}
	return v, true
}

// change changes the query part of an address.
func change(t *testing.T, address string, do func(url.Values)) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	do(q)
	u.RawQuery = q.Encode()
	return u.String()
}

func group(t *testing.T, h *program.Hub, name string) string {
	t.Helper()
	var out struct {
		CreateAssetGroup struct{ AssetGroup struct{ ID string } }
	}
	if err := h.Do(t.Context(), `mutation ($n: String!) { createAssetGroup(input: {name: $n}) { assetGroup { id } } }`, program.Input{"n": name}, &out); err != nil {
		t.Fatal(err)
	}
	return out.CreateAssetGroup.AssetGroup.ID
}

func TestSingleSignOn(t *testing.T) {
	onEach(t, func(t *testing.T, db string) {
		h := start(t, db, "--open-targets", "127.0.0.0/8", "--stranger-rate", "0")
		p := newLoginProvider(t, "hush", h.URL+"/auth/oidc/callback")
		red, blue := group(t, h, "red"), group(t, h, "blue")
		var made struct {
			CreateIdentityProvider struct {
				IdentityProvider struct{ ID, SignInURL, RedirectURL string }
			}
		}
		rules := []program.Input{
			{"value": "leads", "role": "MANAGER", "groupIds": []string{red}},
			{"value": "blue testers", "role": "TESTER", "groupIds": []string{blue}},
			{"value": "red testers", "role": "TESTER", "groupIds": []string{red}},
		}
		if err := h.Do(t.Context(), `mutation ($in: CreateIdentityProviderInput!) { createIdentityProvider(input: $in) { identityProvider { id signInUrl redirectUrl } } }`,
			program.Input{"in": program.Input{"name": "Login", "issuer": p.server.URL, "clientId": "hookyard", "clientSecret": "hush", "mapping": rules}}, &made); err != nil {
			t.Fatal(err)
		}
		idp := made.CreateIdentityProvider.IdentityProvider
		var tested struct {
			TestIdentityProvider struct {
				OK      bool
				Message string
			}
		}
		if err := h.Do(t.Context(), `mutation ($id: ID!) { testIdentityProvider(input: {id: $id}) { ok message } }`, program.Input{"id": idp.ID}, &tested); err != nil || !tested.TestIdentityProvider.OK {
			t.Fatalf("test of the provider: %v %+v", err, tested)
		}
		refused := func(t *testing.T, b *browser, address string, status int, code string) {
			t.Helper()
			got, c, words, to := b.goes(t, address)
			if got != status || c != code || words == "" {
				t.Errorf("%d %s %q %s, want %d %s", got, c, words, to, status, code)
			}
		}
		in := func(t *testing.T, b *browser) {
			t.Helper()
			if status, code, words, to := b.goes(t, idp.SignInURL+"?return=/webhooks%3Fx=1"); status != http.StatusSeeOther || to != "/webhooks?x=1" {
				t.Fatalf("sign-in: %d %s %s %s", status, code, words, to)
			}
		}
		ann := newBrowser(t)
		ann.stop = func(u *url.URL) bool { return u.Path == "/webhooks" }

		t.Run("a first sign-in makes a user", func(t *testing.T) {
			p.person("ann", "Ann@Example.com", true, "leads", "red testers")
			in(t, ann)
			v, ok := ann.viewer(t, h)
			if !ok || v.Role != "MANAGER" || len(v.Groups) != 1 || v.Groups[0].ID != red {
				t.Errorf("viewer %+v", v)
			}
		})
		t.Run("rights follow the groups", func(t *testing.T) {
			p.person("ann", "ann@example.com", true, "red testers", "blue testers")
			in(t, ann)
			if v, ok := ann.viewer(t, h); !ok || v.Role != "TESTER" || len(v.Groups) != 2 {
				t.Errorf("viewer %+v", v)
			}
			// The link holds by subject, whatever becomes of the address.
			p.person("ann", "other@example.com", false, "leads")
			in(t, ann)
			if v, ok := ann.viewer(t, h); !ok || v.Role != "MANAGER" {
				t.Errorf("viewer %+v", v)
			}
		})
		t.Run("no group, no sign-in, and the session ends", func(t *testing.T) {
			p.person("ann", "ann@example.com", true)
			refused(t, ann, idp.SignInURL, http.StatusForbidden, "FORBIDDEN")
			if _, ok := ann.viewer(t, h); ok {
				t.Error("the session goes on")
			}
		})
		t.Run("an address that is not verified", func(t *testing.T) {
			p.person("bob", "bob@example.com", false, "leads")
			refused(t, newBrowser(t), idp.SignInURL, http.StatusForbidden, "FORBIDDEN")
		})
		t.Run("a mightier user is not taken over", func(t *testing.T) {
			var out struct {
				Users struct {
					Edges []struct{ Node struct{ Email string } }
				}
			}
			if err := h.Do(t.Context(), `{ users(where: {role: ADMINISTRATOR}) { edges { node { email } } } }`, nil, &out); err != nil {
				t.Fatal(err)
			}
			p.person("eve", out.Users.Edges[0].Node.Email, true, "leads")
			refused(t, newBrowser(t), idp.SignInURL, http.StatusForbidden, "FORBIDDEN")
		})
		t.Run("another person with a known address", func(t *testing.T) {
			p.person("ann2", "ann@example.com", true, "leads")
			refused(t, newBrowser(t), idp.SignInURL, http.StatusForbidden, "FORBIDDEN")
		})

		p.person("cid", "cid@example.com", true, "leads")
		t.Run("another state", func(t *testing.T) {
			b := newBrowser(t)
			back := b.callback(t, idp.SignInURL)
			refused(t, b, change(t, back, func(q url.Values) { q.Set("state", "another") }), http.StatusBadRequest, "BAD_USER_INPUT")
			// The sign-in is over with that.
			refused(t, b, back, http.StatusBadRequest, "BAD_USER_INPUT")
		})
		t.Run("another browser", func(t *testing.T) {
			refused(t, newBrowser(t), newBrowser(t).callback(t, idp.SignInURL), http.StatusBadRequest, "BAD_USER_INPUT")
		})
		t.Run("a code twice", func(t *testing.T) {
			b := newBrowser(t)
			back := b.callback(t, idp.SignInURL)
			at, _ := url.Parse(h.URL)
			cookies := b.Jar.Cookies(at)
			if status, code, words, _ := b.goes(t, back); status != http.StatusSeeOther {
				t.Fatalf("the first time: %d %s %s", status, code, words)
			}
			b.Jar.SetCookies(at, cookies)
			refused(t, b, back, http.StatusBadRequest, "BAD_USER_INPUT")
		})
		t.Run("a code of another sign-in", func(t *testing.T) { // PKCE
			one, two := newBrowser(t), newBrowser(t)
			stolen, _ := url.Parse(one.callback(t, idp.SignInURL))
			back := two.callback(t, idp.SignInURL)
			refused(t, two, change(t, back, func(q url.Values) { q.Set("code", stolen.Query().Get("code")) }), http.StatusBadRequest, "BAD_USER_INPUT")
		})
		t.Run("another nonce", func(t *testing.T) {
			b := newBrowser(t)
			b.stop = func(u *url.URL) bool { return strings.HasPrefix(u.String(), p.server.URL) }
			_, _, _, to := b.goes(t, idp.SignInURL)
			q, _ := url.Parse(to)
			if q.Query().Get("code_challenge_method") != "S256" || q.Query().Get("code_challenge") == "" || q.Query().Get("nonce") == "" {
				t.Errorf("the request is %s", to)
			}
			back := b.callback(t, change(t, to, func(q url.Values) { q.Set("nonce", "another") }))
			refused(t, b, back, http.StatusBadRequest, "BAD_USER_INPUT")
		})
		t.Run("an answer of another issuer", func(t *testing.T) {
			b := newBrowser(t)
			back := b.callback(t, idp.SignInURL)
			refused(t, b, change(t, back, func(q url.Values) { q.Set("iss", "https://evil.example.com") }), http.StatusBadRequest, "BAD_USER_INPUT")
		})
		t.Run("the provider says no", func(t *testing.T) {
			b := newBrowser(t)
			back := b.callback(t, idp.SignInURL)
			address := change(t, back, func(q url.Values) {
				q.Del("code")
				q.Set("error", "access_denied")
				q.Set("error_description", "<script>call 555</script>")
			})
			_, code, words, _ := b.goes(t, address)
			if code != "FORBIDDEN" || strings.Contains(words, "555") {
				t.Errorf("%s %q", code, words)
			}
		})
		t.Run("back to elsewhere", func(t *testing.T) {
			for _, to := range []string{"https://evil.example.com", "//evil.example.com", "/\\evil.example.com", "/\tevil", "javascript:alert(1)", "evil"} {
				refused(t, newBrowser(t), idp.SignInURL+"?return="+url.QueryEscape(to), http.StatusBadRequest, "BAD_USER_INPUT")
			}
		})
		t.Run("rotated keys", func(t *testing.T) {
			p.rotate(t)
			until(t, 20*time.Second, "the new key is taken", func() bool {
				status, _, _, _ := newBrowser(t).goes(t, idp.SignInURL)
				return status == http.StatusSeeOther
			})
		})
		t.Run("a secret that is not right", func(t *testing.T) {
			set := func(secret string) {
				if err := h.Do(t.Context(), `mutation ($id: ID!, $s: String!) { updateIdentityProvider(input: {id: $id, clientSecret: $s}) { identityProvider { id } } }`,
					program.Input{"id": idp.ID, "s": secret}, nil); err != nil {
					t.Fatal(err)
				}
			}
			set("not hush")
			refused(t, newBrowser(t), idp.SignInURL, http.StatusBadGateway, "UNAVAILABLE")
			set("hush")
		})
		t.Run("disabled", func(t *testing.T) {
			set := func(on bool) {
				if err := h.Do(t.Context(), `mutation ($id: ID!, $on: Boolean!) { updateIdentityProvider(input: {id: $id, enabled: $on}) { identityProvider { id } } }`,
					program.Input{"id": idp.ID, "on": on}, nil); err != nil {
					t.Fatal(err)
				}
			}
			b := newBrowser(t)
			back := b.callback(t, idp.SignInURL)
			set(false)
			refused(t, b, back, http.StatusNotFound, "NOT_FOUND")
			refused(t, b, idp.SignInURL, http.StatusNotFound, "NOT_FOUND")
			set(true)
		})
		t.Run("the provider is down", func(t *testing.T) {
			b := newBrowser(t)
			back := b.callback(t, idp.SignInURL)
			p.server.CloseClientConnections()
			p.server.Close()
			refused(t, b, back, http.StatusServiceUnavailable, "UNAVAILABLE")
		})
	})
}

// TestIssuersKeepToTheAddressPolicy: an issuer is no way round the operator's policy.
func TestIssuersKeepToTheAddressPolicy(t *testing.T) {
	h := start(t, "")
	closed, touched := tap(t)
	var made struct {
		CreateIdentityProvider struct {
			IdentityProvider struct{ ID, SignInURL string }
		}
	}
	if err := h.Do(t.Context(), `mutation ($in: CreateIdentityProviderInput!) { createIdentityProvider(input: $in) { identityProvider { id signInUrl } } }`,
		program.Input{"in": program.Input{"name": "Inside", "issuer": "http://" + closed, "clientId": "hookyard", "mapping": []program.Input{{"value": "*", "role": "TESTER"}}}}, &made); err != nil {
		t.Fatal(err)
	}
	if status, code, words, _ := newBrowser(t).goes(t, made.CreateIdentityProvider.IdentityProvider.SignInURL); status != http.StatusServiceUnavailable || strings.Contains(words, closed) {
		t.Errorf("%d %s %s", status, code, words)
	}
	var tested struct{ TestIdentityProvider struct{ Message string } }
	if err := h.Do(t.Context(), `mutation ($id: ID!) { testIdentityProvider(input: {id: $id}) { message } }`,
		program.Input{"id": made.CreateIdentityProvider.IdentityProvider.ID}, &tested); err != nil || !strings.Contains(tested.TestIdentityProvider.Message, "open-targets") && !strings.Contains(tested.TestIdentityProvider.Message, "allow-private-targets") {
		t.Errorf("the test says %v %+v", err, tested)
	}
	select {
	case <-touched:
		t.Error("a closed address was connected to")
	default:
	}
}

// keyServer publishes the keys of an issuer of JWTs.
type keyServer struct {
	*httptest.Server
	mu   sync.Mutex
	keys map[string]crypto.PublicKey
}

func newKeyServer(t *testing.T) *keyServer {
	k := &keyServer{keys: map[string]crypto.PublicKey{}}
	k.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		k.mu.Lock()
		defer k.mu.Unlock()
		var set jose.JSONWebKeySet
		for id, key := range k.keys {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: key, KeyID: id, Use: "sig"})
		}
		_ = json.NewEncoder(w).Encode(set)
	}))
	t.Cleanup(k.Close)
	return k
}

func (k *keyServer) publish(keys map[string]crypto.PublicKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = keys
}

func TestOutsideTokens(t *testing.T) {
	first, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	second, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	onEach(t, func(t *testing.T, db string) {
		h := start(t, db, "--open-targets", "127.0.0.0/8", "--stranger-rate", "0")
		keys := newKeyServer(t)
		keys.publish(map[string]crypto.PublicKey{"one": first.Public()})
		red := group(t, h, "red")
		trust := func(name, audience, actsAs string, rules ...program.Input) {
			t.Helper()
			if err := h.Do(t.Context(), `mutation ($in: CreateTrustedIssuerInput!) { createTrustedIssuer(input: $in) { trustedIssuer { id } } }`,
				program.Input{"in": program.Input{"name": name, "issuer": "https://ci.example.com", "audience": audience, "keysUrl": keys.URL, "actsAs": actsAs,
					"groupsClaim": "repository", "mapping": rules}}, nil); err != nil {
				t.Fatal(err)
			}
		}
		trust("CI", "hub", "ROLES", program.Input{"value": "acme/shop", "role": "TESTER", "groupIds": []string{red}})
		trust("People", "people", "USERS")
		var who struct {
			Users struct {
				Edges []struct{ Node struct{ Email string } }
			}
		}
		if err := h.Do(t.Context(), `{ users { edges { node { email } } } }`, nil, &who); err != nil {
			t.Fatal(err)
		}
		address := who.Users.Edges[0].Node.Email

		good := jwt.MapClaims{"iss": "https://ci.example.com", "aud": "hub", "sub": "repo:acme/shop", "repository": "acme/shop",
			"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
		with := func(more jwt.MapClaims) jwt.MapClaims {
			c := maps.Clone(good)
			for k, v := range more {
				if v == nil {
					delete(c, k)
				} else {
					c[k] = v
				}
			}
			return c
		}
		sign := func(method jwt.SigningMethod, key any, kid string, c jwt.MapClaims) string {
			t.Helper()
			token := jwt.NewWithClaims(method, c)
			token.Header["kid"] = kid
			token.Header["jku"] = "https://evil.example.com/keys" // is nobody's business
			raw, err := token.SignedString(key)
			if err != nil {
				t.Fatal(err)
			}
			return raw
		}
		rs := func(more jwt.MapClaims) string { return sign(jwt.SigningMethodRS256, first, "one", with(more)) }
		ask := func(token string) (role string, code string) {
			t.Helper()
			var out struct{ Viewer struct{ Role string } }
			err := (&program.Client{URL: h.URL, Key: token, HTTP: h.HTTP}).Do(t.Context(), `{ viewer { role } }`, nil, &out)
			var e *program.Error
			if errors.As(err, &e) {
				return "", e.Extensions.Code
			}
			if err != nil {
				t.Fatal(err)
			}
			return out.Viewer.Role, ""
		}
		der, err := x509.MarshalPKIXPublicKey(first.Public())
		if err != nil {
			t.Fatal(err)
		}
		public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		for name, c := range map[string]struct{ token, role, code string }{
			"as it should be":            {rs(nil), "TESTER", ""},
			"several audiences":          {rs(jwt.MapClaims{"aud": []string{"other", "hub"}}), "TESTER", ""},
			"a little late":              {rs(jwt.MapClaims{"exp": time.Now().Add(-20 * time.Second).Unix()}), "TESTER", ""},
			"expired":                    {rs(jwt.MapClaims{"exp": time.Now().Add(-2 * time.Minute).Unix()}), "", "UNAUTHENTICATED"},
			"without an end":             {rs(jwt.MapClaims{"exp": nil}), "", "UNAUTHENTICATED"},
			"not begun":                  {rs(jwt.MapClaims{"nbf": time.Now().Add(2 * time.Minute).Unix()}), "", "UNAUTHENTICATED"},
			"issued in the future":       {rs(jwt.MapClaims{"iat": time.Now().Add(2 * time.Minute).Unix()}), "", "UNAUTHENTICATED"},
			"another audience":           {rs(jwt.MapClaims{"aud": "other"}), "", "UNAUTHENTICATED"},
			"audiences of two issuers":   {rs(jwt.MapClaims{"aud": []string{"people", "hub"}}), "", "UNAUTHENTICATED"},
			"another issuer":             {rs(jwt.MapClaims{"iss": "https://evil.example.com"}), "", "UNAUTHENTICATED"},
			"the hub itself":             {rs(jwt.MapClaims{"iss": h.URL}), "", "UNAUTHENTICATED"},
			"no rule fits":               {rs(jwt.MapClaims{"repository": "evil/shop"}), "", "UNAUTHENTICATED"},
			"no subject":                 {rs(jwt.MapClaims{"sub": nil}), "", "UNAUTHENTICATED"},
			"no algorithm":               {sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "one", good), "", "UNAUTHENTICATED"},
			"HS256 with the public key":  {sign(jwt.SigningMethodHS256, public, "one", good), "", "UNAUTHENTICATED"},
			"HS256 with its DER":         {sign(jwt.SigningMethodHS256, der, "one", good), "", "UNAUTHENTICATED"},
			"RS512, which is not chosen": {sign(jwt.SigningMethodRS512, first, "one", good), "", "UNAUTHENTICATED"},
			"a key that is not known":    {sign(jwt.SigningMethodES256, second, "two", good), "", "UNAUTHENTICATED"},
			"another key of that name":   {sign(jwt.SigningMethodES256, second, "one", good), "", "UNAUTHENTICATED"},
			"without its signature":      {rs(nil)[:strings.LastIndex(rs(nil), ".")+1], "", "UNAUTHENTICATED"},
			"a user":                     {rs(jwt.MapClaims{"aud": "people", "email": address, "email_verified": true}), "ADMINISTRATOR", ""},
			"a user, not verified":       {rs(jwt.MapClaims{"aud": "people", "email": address}), "", "UNAUTHENTICATED"},
			"nobody's address":           {rs(jwt.MapClaims{"aud": "people", "email": "no@example.com", "email_verified": true}), "", "UNAUTHENTICATED"},
		} {
			t.Run(name, func(t *testing.T) {
				if role, code := ask(c.token); role != c.role || code != c.code {
					t.Errorf("%q %q, want %q %q", role, code, c.role, c.code)
				}
			})
		}
		t.Run("the audit log tells an outsider from a user", func(t *testing.T) {
			member := trustedAs(t, h, keys.URL)
			c := h.As(rs(jwt.MapClaims{"aud": member}))
			if err := c.Do(t.Context(), `mutation { createAssetGroup(input: {name: "by an outsider"}) { assetGroup { id } } }`, nil, nil); err != nil {
				t.Fatal(err)
			}
			if err := h.As(rs(jwt.MapClaims{"aud": "people", "email": address, "email_verified": true})).
				Do(t.Context(), `mutation { createAssetGroup(input: {name: "by a user"}) { assetGroup { id } } }`, nil, nil); err != nil {
				t.Fatal(err)
			}
			var got struct {
				AuditLog struct {
					Edges []struct {
						Node struct{ ActorKind, ActorID, ActorName, ObjectName string }
					}
				}
			}
			if err := h.Do(t.Context(), `{ auditLog(first: 2, filter: {nouns: ["AssetGroup"]}) { edges { node { actorKind actorId actorName objectName } } } }`, nil, &got); err != nil {
				t.Fatal(err)
			}
			user, outsider := got.AuditLog.Edges[0].Node, got.AuditLog.Edges[1].Node
			if user.ActorKind != "USER" || user.ActorName != address {
				t.Errorf("a user whom an issuer vouches for: %+v", user)
			}
			if outsider.ActorKind != "OUTSIDER" || outsider.ActorName != "Builders: repo:acme/shop" || !strings.HasPrefix(outsider.ActorID, "out_") {
				t.Errorf("an outsider: %+v", outsider)
			}
			if err := h.Do(t.Context(), `{ auditLog(first: 1, filter: {actorKinds: [OUTSIDER]}) { edges { node { actorKind actorId actorName objectName } } } }`, nil, &got); err != nil ||
				len(got.AuditLog.Edges) != 1 || got.AuditLog.Edges[0].Node != outsider {
				t.Errorf("by kind: %+v, %v", got, err)
			}
		})
		t.Run("is not exchanged for a token of the hub", func(t *testing.T) {
			r, _ := http.NewRequest(http.MethodPost, h.URL+"/auth/token", nil)
			r.Header.Set("Authorization", "Bearer "+rs(nil))
			resp, err := h.HTTP.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("%d", resp.StatusCode)
			}
		})
		t.Run("rotated keys", func(t *testing.T) {
			keys.publish(map[string]crypto.PublicKey{"two": second.Public()})
			fresh := sign(jwt.SigningMethodES256, second, "two", good)
			until(t, 20*time.Second, "the new key is taken", func() bool { role, _ := ask(fresh); return role == "TESTER" })
			if _, code := ask(rs(nil)); code != "UNAUTHENTICATED" {
				t.Errorf("a token of the old key: %q", code)
			}
		})
		t.Run("the issuer is down", func(t *testing.T) {
			keys.CloseClientConnections()
			keys.Close()
			if role, code := ask(sign(jwt.SigningMethodES256, second, "two", good)); role != "TESTER" {
				t.Errorf("a known key: %q %q", role, code)
			}
			until(t, 20*time.Second, "it is not said to be wrong", func() bool {
				_, code := ask(sign(jwt.SigningMethodRS256, first, "three", good))
				return code == "UNAVAILABLE"
			})
		})
	})
}

// trustedAs trusts the issuer of the tests for another audience, with the role of a Manager.
func trustedAs(t *testing.T, h *program.Hub, keys string) (audience string) {
	t.Helper()
	if err := h.Do(t.Context(), `mutation ($in: CreateTrustedIssuerInput!) { createTrustedIssuer(input: $in) { trustedIssuer { id } } }`,
		program.Input{"in": program.Input{"name": "Builders", "issuer": "https://ci.example.com", "audience": "builders", "keysUrl": keys, "actsAs": "ROLES",
			"groupsClaim": "repository", "mapping": []program.Input{{"value": "acme/shop", "role": "MANAGER", "allGroups": true}}}}, nil); err != nil {
		t.Fatal(err)
	}
	return "builders"
}
