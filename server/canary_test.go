package server_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"

	"github.com/hookyard/hookyard/server/servertest/program"
)

// canaries are secrets that are recognised wherever they turn up.
type canaries struct {
	t *testing.T

	mu    sync.Mutex
	forms map[string]map[string]string // by what it is: the forms that it could turn up in, each with its text
	said  []utterance                  // what came out of the hub
	shown map[string]int               // which utterance a secret was made known by
}

// utterance is something that came out of the hub, and what it answers.
type utterance struct{ to, text string }

func newCanaries(t *testing.T) *canaries {
	return &canaries{t: t, forms: map[string]map[string]string{}, shown: map[string]int{}}
}

// set makes a secret that we choose.
func (c *canaries) set(what string) string {
	return c.know(what, "canary-"+strings.ReplaceAll(what, " ", "-")+"-"+rand.Text())
}

// know has a secret looked for, as it is and in base64.
func (c *canaries) know(what, value string) string {
	c.t.Helper()
	if len(value) < 8 {
		c.t.Fatalf("%s is too short to be recognised: %q", what, value)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forms[what] = map[string]string{"as it is": value, "in base64": base64.StdEncoding.EncodeToString([]byte(value))}
	return value
}

// alias adds another form of a secret.
func (c *canaries) alias(what, form, value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forms[what][form] = value
}

// learn has a secret looked for that the hub has made, which the last answer to a question
// with the words has shown, and nothing else may.
func (c *canaries) learn(what, value, words string) string {
	c.t.Helper()
	c.know(what, value)
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.said) - 1; i >= 0; i-- {
		if strings.Contains(c.said[i].to, words) && strings.Contains(c.said[i].text, value) {
			c.shown[what] = i
			return value
		}
	}
	c.t.Fatalf("%s was shown by no answer to %q", what, words)
	return ""
}

func (c *canaries) hear(to, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, utterance{to, text})
}

// check reports every secret that turns up in a text.
func (c *canaries) check(where, text string) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for what, forms := range c.forms {
		for form, value := range forms {
			if at := strings.Index(text, value); at >= 0 {
				c.t.Errorf("%s, %s, is in %s:\n…%s…", what, form, where, text[max(at-200, 0):min(at+len(value)+100, len(text))])
			}
		}
	}
}

// checkSaid reports every secret that an answer has told, but for the one that made it known.
func (c *canaries) checkSaid() {
	c.t.Helper()
	for i, u := range c.said {
		for what, forms := range c.forms {
			if at, made := c.shown[what]; made && at == i {
				continue
			}
			for form, value := range forms {
				if strings.Contains(u.text, value) {
					c.t.Errorf("%s, %s, is in the answer to\n%.1500s\n\n%.1500s", what, form, u.to, u.text)
				}
			}
		}
	}
}

// RoundTrip implements http.RoundTripper: it overhears what the hub answers, headers
// included.
func (c *canaries) RoundTrip(r *http.Request) (*http.Response, error) {
	var asked []byte
	if r.Body != nil {
		var err error
		if asked, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(asked))
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(answer))
	var head strings.Builder
	_ = resp.Header.Write(&head)
	c.hear(r.URL.Path+" "+string(asked), resp.Status+"\n"+head.String()+"\n"+string(answer))
	return resp, nil
}

// overhear reads a subscription to its end.
func (c *canaries) overhear(ctx context.Context, client *program.Client, query string) (done func()) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	s, err := client.Subscribe(ctx, query, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := s.NextRaw(ctx); err != nil {
		c.t.Fatal(err)
	}
	var reading sync.WaitGroup
	n := 0
	reading.Go(func() {
		for {
			b, err := s.NextRaw(ctx)
			if err != nil {
				return
			}
			n++
			c.hear(query, string(b))
		}
	})
	return func() {
		cancel()
		_ = s.Close()
		reading.Wait()
		if n == 0 {
			c.t.Errorf("nothing was heard of %s", query)
		}
	}
}

// echo is a receiver that repeats what it was sent: in its answer's body and headers, with a
// status by the path.
func echo(t *testing.T) (address string, heard func(path string) http.Header) {
	t.Helper()
	var mu sync.Mutex
	last := map[string]http.Header{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		mu.Lock()
		last[r.URL.Path] = r.Header.Clone()
		mu.Unlock()
		for name, values := range r.Header {
			w.Header()["X-Echo-"+name] = values
		}
		switch {
		case strings.HasPrefix(r.URL.Path, "/fails"):
			w.WriteHeader(http.StatusInternalServerError)
		case strings.HasPrefix(r.URL.Path, "/gone"):
			w.WriteHeader(http.StatusUnauthorized)
		}
		_ = json.NewEncoder(w).Encode(r.Header)
	}))
	t.Cleanup(s.Close)
	return s.URL, func(path string) http.Header {
		mu.Lock()
		defer mu.Unlock()
		return last[path]
	}
}

// TestSecretsStaySecret gives everything that takes a secret one that is recognised, has the
// hub make its own, and drives them through success, failure, retries, refused input, a
// connector that crashes, restarts and the operator's commands, with the log at its most
// talkative. Then it looks for them everywhere: in the log, in each answer of the API and
// the doors, live and not, in the metrics, in what commands print, in the whole database and
// in a backup. A secret is in the one answer that makes it known, and nowhere else.
func TestSecretsStaySecret(t *testing.T) {
	onEach(t, func(t *testing.T, dbURL string) {
		ctx := t.Context()
		c := newCanaries(t)
		if dbURL != "" {
			dbURL = owned(t)
			u, err := url.Parse(dbURL)
			if err != nil {
				t.Fatal(err)
			}
			password, _ := u.User.Password()
			c.know("the database's password", password)
		}
		dir := t.TempDir()
		h, log := startLogged(t, dir, dbURL, "--allow-private-targets", "--stranger-rate", "0", "--log-level", "debug", "--metrics-token", c.set("metrics token"))
		c.know("the first key", h.Key)
		h.HTTP.Transport = c
		// The file has one line for both of what is in it; it is the operator's to take away.
		var first struct{ Link string }
		b, err := os.ReadFile(filepath.Join(dir, "admin.json"))
		if err == nil {
			err = json.Unmarshal(b, &first)
		}
		if err != nil {
			t.Fatal(err)
		}
		_, link, _ := strings.Cut(first.Link, "#")
		c.know("the first link", link)

		var stop []func()
		stop = append(stop, c.overhear(ctx, h.Client, `subscription { auditLog { cursor entries { actorKind actorName origin action noun objectName changes { field before after hidden } } } }`))
		stop = append(stop, c.overhear(ctx, h.Client, `subscription { deliveryLog { cursor entries { id state error httpStatus } } }`))

		// do asks and wants an answer; wrong wants it refused.
		do := func(query string, in program.Input, into any) {
			t.Helper()
			if err := h.Do(ctx, query, in, into); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
		}
		wrong := func(query string, in program.Input) {
			t.Helper()
			var refusal *program.Error
			if err := h.Do(ctx, query, in, nil); !errors.As(err, &refusal) {
				t.Errorf("%s: %v, want it refused", query, err)
			}
		}

		// People: links, passwords, second factors, sessions, keys.
		password, next := c.set("password"), c.set("new password")
		var invited struct {
			InviteUser struct {
				User struct{ ID string }
				Link struct{ URL string }
			}
		}
		do(`mutation { inviteUser(input: {user: {email: "ann@example.com", role: TESTER, allGroups: true}}) { user { id } link { url } } }`, nil, &invited)
		ann := invited.InviteUser.User.ID
		_, secret, _ := strings.Cut(invited.InviteUser.Link.URL, "#")
		c.learn("one-time link", secret, "inviteUser")
		for _, body := range []program.Input{
			{"link": invited.InviteUser.Link.URL, "password": c.set("x")[:11]}, // too short
			{"link": invited.InviteUser.Link.URL + "x", "password": password},
			{"link": invited.InviteUser.Link.URL, "password": []string{password}},
			{"link": invited.InviteUser.Link.URL, "password": password},
			{"link": invited.InviteUser.Link.URL, "password": password},
		} {
			_, _ = h.Door(ctx, "link", body, nil)
		}
		in, code := door(t, h.Client, "login", program.Input{"email": "ann@example.com", "password": password, "body": true})
		if code != "" {
			t.Fatal(code)
		}
		c.learn("access token", in.Token, "/auth/login")
		c.learn("refresh token", in.RefreshToken, "/auth/login")
		a := h.As(in.Token)
		var begun struct{ BeginSecondFactor struct{ Secret, URI string } }
		if err := a.Do(ctx, `mutation ($p: String!) { beginSecondFactor(input: {password: $p}) { secret uri } }`, program.Input{"p": password}, &begun); err != nil {
			t.Fatal(err)
		}
		c.learn("second factor", begun.BeginSecondFactor.Secret, "beginSecondFactor")
		if err := a.Do(ctx, `mutation { confirmSecondFactor(input: {code: "000000"}) { recoveryCodes } }`, nil, nil); verdict(err) == "ok" {
			t.Error("a wrong code was taken")
		}
		var confirmed struct {
			ConfirmSecondFactor struct{ RecoveryCodes []string }
		}
		if err := a.Do(ctx, `mutation ($c: String!) { confirmSecondFactor(input: {code: $c}) { recoveryCodes } }`, program.Input{"c": totp(t, begun.BeginSecondFactor.Secret, time.Now())}, &confirmed); err != nil {
			t.Fatal(err)
		}
		codes := confirmed.ConfirmSecondFactor.RecoveryCodes
		for i, code := range codes {
			c.learn(fmt.Sprintf("recovery code %d", i+1), code, "confirmSecondFactor")
		}
		for _, body := range []program.Input{
			{"email": "ann@example.com", "password": c.set("wrong password"), "body": true},
			{"email": c.set("password typed as address") + "@example.com", "password": "x", "body": true},
			{"email": "ann@example.com", "password": 12345678, "body": true},
			{"email": "ann@example.com", "password": password, "body": true},
			{"email": "ann@example.com", "password": password, "code": "123456", "body": true},
		} {
			_, _ = h.Door(ctx, "login", body, nil)
		}
		again, code := door(t, h.Client, "login", program.Input{"email": "ann@example.com", "password": password, "code": codes[0], "body": true})
		if code != "" {
			t.Fatal(code)
		}
		c.learn("second access token", again.Token, "/auth/login")
		c.learn("second refresh token", again.RefreshToken, "/auth/login")
		renewed, code := door(t, h.Client, "refresh", program.Input{"refreshToken": again.RefreshToken})
		if code != "" {
			t.Fatal(code)
		}
		if renewed.Token != again.Token { // of the same second they are the same
			c.learn("third access token", renewed.Token, "/auth/refresh")
			c.learn("third refresh token", renewed.RefreshToken, "/auth/refresh")
		} else {
			c.said = c.said[:len(c.said)-1]
			c.know("third refresh token", renewed.RefreshToken)
		}
		change := `mutation ($now: String!, $new: String!) { changePassword(input: {currentPassword: $now, newPassword: $new}) { user { id } } }`
		for _, try := range []program.Input{{"now": c.set("mistyped password"), "new": next}, {"now": password, "new": "short"}, {"now": password, "new": next}} {
			_ = a.Do(ctx, change, try, nil)
		}
		if _, code := door(t, h.Client, "refresh", program.Input{"refreshToken": in.RefreshToken}); code != "" {
			t.Errorf("the first session: %s", code) // it made the change
		} else {
			c.said = c.said[:len(c.said)-1] // nobody has asked for what came of it to be known
		}
		if _, code := door(t, h.Client, "refresh", program.Input{"refreshToken": c.set("forged refresh token")}); code == "" {
			t.Error("a forged refresh token was taken")
		}
		var made struct{ CreateAPIKey struct{ Key string } }
		do(`mutation ($id: ID) { createAPIKey(input: {name: "ann's", role: TESTER, ownerId: $id}) { key } }`, program.Input{"id": ann}, &made)
		key := c.learn("API key", made.CreateAPIKey.Key, "createAPIKey")
		_ = asks(t, h.As(key))
		_ = asks(t, h.As(key+"x"))
		_ = asks(t, h.As(c.set("forged key")))
		_ = asks(t, h.As("hky_"+c.set("forged key of the form")))
		var exchanged struct{ Token string }
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL+"/auth/token", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := h.HTTP.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.NewDecoder(resp.Body).Decode(&exchanged); err != nil || exchanged.Token == "" {
			t.Fatal(err)
		}
		c.learn("exchanged token", exchanged.Token, "/auth/token")

		// Outside parties.
		client := c.set("client secret")
		p := newLoginProvider(t, client, h.URL+"/auth/oidc/callback")
		var provider struct {
			CreateIdentityProvider struct {
				IdentityProvider struct{ ID, SignInURL string }
			}
		}
		newProvider := `mutation ($in: CreateIdentityProviderInput!) { createIdentityProvider(input: $in) { identityProvider { id signInUrl } } }`
		rules := []program.Input{{"value": "leads", "role": "TESTER"}}
		do(newProvider, program.Input{"in": program.Input{"name": "Login", "issuer": p.server.URL, "clientId": "hookyard", "clientSecret": client, "mapping": rules}}, &provider)
		wrong(newProvider, program.Input{"in": program.Input{"name": "Login", "issuer": "ftp://x", "clientId": "hookyard", "clientSecret": c.set("refused client secret"), "mapping": rules}})
		wrong(newProvider, program.Input{"in": program.Input{"name": "Other", "issuer": p.server.URL, "clientId": "hookyard", "clientSecret": []string{c.set("client secret in a list")}, "mapping": "none"}})
		idp := provider.CreateIdentityProvider.IdentityProvider
		p.person("cid", "cid@example.com", true, "leads")
		signIn := func(want int) {
			t.Helper()
			person := newBrowser(t)
			back := person.callback(t, idp.SignInURL)
			u, err := url.Parse(back)
			if err != nil {
				t.Fatal(err)
			}
			what := fmt.Sprintf("of the sign-in with status %d", want)
			c.know("code "+what, u.Query().Get("code"))
			c.know("state "+what, u.Query().Get("state"))
			here, _ := url.Parse(h.URL + "/auth/oidc/callback")
			for _, cookie := range person.Jar.Cookies(here) {
				c.know("cookie "+cookie.Name+" "+what, cookie.Value)
			}
			status, _, words, _ := person.goes(t, back)
			if status != want {
				t.Errorf("single sign-on: %d %s, want %d", status, words, want)
			}
			c.hear("single sign-on", words)
			here, _ = url.Parse(h.URL + "/auth/refresh")
			for _, cookie := range person.Jar.Cookies(here) {
				c.know("refresh cookie "+what, cookie.Value)
			}
		}
		signIn(http.StatusSeeOther)
		do(`mutation ($id: ID!, $s: String!) { updateIdentityProvider(input: {id: $id, clientSecret: $s}) { identityProvider { id } } }`, program.Input{"id": idp.ID, "s": c.set("wrong client secret")}, nil)
		signIn(http.StatusBadGateway)
		do(`mutation ($id: ID!) { testIdentityProvider(input: {id: $id}) { ok message } }`, program.Input{"id": idp.ID}, nil)
		do(`mutation { createTrustedIssuer(input: {name: "CI", issuer: "https://ci.example.com", audience: "hub", actsAs: ROLES, keysUrl: "`+p.server.URL+`/keys", mapping: []}) { trustedIssuer { id } } }`, nil, nil)
		private, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		for i, claims := range []jwt.MapClaims{{"aud": "hub"}, {"aud": "another"}} {
			maps.Copy(claims, jwt.MapClaims{"iss": "https://ci.example.com", "sub": "x", "exp": time.Now().Add(time.Hour).Unix()})
			token, err := jwt.NewWithClaims(jwt.SigningMethodRS256, claims).SignedString(private)
			if err != nil {
				t.Fatal(err)
			}
			_ = asks(t, h.As(c.know(fmt.Sprintf("outside token %d", i+1), token)))
		}

		// What sends and receives.
		receiver, heard := echo(t)
		bearer, basic, header := c.set("bearer token"), c.set("basic password"), c.set("secret header")
		c.alias("basic password", "as it is sent", base64.StdEncoding.EncodeToString([]byte("hub:"+basic)))
		newEndpoint := `mutation ($in: CreateEndpointInput!) { createEndpoint(input: $in) { endpoint { id headers { name value secret } settings } } }`
		endpoint := func(name string, in program.Input) string {
			t.Helper()
			in["name"], in["connector"] = name, "webhook"
			if in["url"] == nil {
				in["url"] = receiver + "/" + name
			}
			var got struct {
				CreateEndpoint struct{ Endpoint struct{ ID string } }
			}
			do(newEndpoint, program.Input{"in": in}, &got)
			return got.CreateEndpoint.Endpoint.ID
		}
		withBearer := program.Input{"secrets": []program.Input{{"name": "bearer_token", "value": bearer}}, "headers": []program.Input{{"name": "X-Key", "value": header, "secret": true}, {"name": "X-Plain", "value": "plain"}}}
		withBasic := program.Input{"secrets": []program.Input{{"name": "basic_password", "value": basic}}, "settings": program.Input{"basic_user": "hub"}}
		endpoints := map[string]string{
			"works": endpoint("works", maps.Clone(withBearer)), "works-basic": endpoint("works-basic", maps.Clone(withBasic)),
			"fails": endpoint("fails", maps.Clone(withBearer)), "fails-basic": endpoint("fails-basic", maps.Clone(withBasic)), "gone": endpoint("gone", maps.Clone(withBearer)),
			"nowhere": endpoint("nowhere", program.Input{"url": "http://127.0.0.1:1/", "secrets": withBearer["secrets"]}),
		}
		for name, in := range map[string]program.Input{
			"a setting that does not exist": {"secrets": []program.Input{{"name": "no_such", "value": c.set("unknown secret")}}},
			"a secret among the settings":   {"settings": program.Input{"bearer_token": c.set("secret among settings")}},
			"a secret that is too long":     {"secrets": []program.Input{{"name": "basic_password", "value": c.set("long secret") + strings.Repeat("x", 5000)}}},
			"a header with a line's end":    {"headers": []program.Input{{"name": "X-Key", "value": c.set("broken header") + "\r\n", "secret": true}}},
			"a header without a name":       {"headers": []program.Input{{"name": "", "value": c.set("nameless header"), "secret": true}}},
			"credentials in the address":    {"url": "https://hub:" + c.set("password in an address") + "@example.com"},
			"no list":                       {"secrets": c.set("secret instead of a list")},
			"a number of headers":           {"headers": []any{c.set("header instead of an object")}},
			"another type":                  {"secrets": []program.Input{{"name": "bearer_token", "value": []string{c.set("secret in a list")}}}},
			"a name that is taken":          {"name": "works", "url": receiver, "secrets": []program.Input{{"name": "bearer_token", "value": c.set("secret of a twin")}}},
			"another field":                 {"secret": c.set("secret in a field that does not exist")},
		} {
			in["connector"] = "webhook"
			if in["name"] == nil {
				in["name"] = name
			}
			if in["url"] == nil {
				in["url"] = receiver + "/x"
			}
			wrong(newEndpoint, program.Input{"in": in})
		}
		// The same written into the document.
		for _, query := range []string{
			`mutation { createEndpoint(input: {name: "x", url: "https://example.com", secrets: "` + c.set("literal") + `"}) { endpoint { id } } }`,
			`mutation { createEndpoint(input: {name: "x", url: "https://example.com", secrets: [{name: "bearer_token", value: "` + c.set("literal with a wrong name") + `", nam: 1}]}) { endpoint { id } } }`,
			`mutation { createEndpoint(input: {name: "x", url: "https://example.com", ratePerSecond: "` + c.set("literal of a wrong type") + `"}) { endpoint { id } } }`,
			`mutation { createEndpoint(input: {name: "x", url: "https://example.com", secrets: [{name: "bearer_token", value: "` + c.set("literal in what is no document") + `}]}) { endpoint { id } } }`,
			`mutation { createWebhook(input: {name: "x", endpointId: "x", unknownCounts: "` + c.set("literal for a choice") + `"}) { webhook { id } } }`,
			`mutation { createSource(input: {name: "x", kind: "holm", secrets: [` + c.set("bare word") + `]}) { source { id } } }`,
			`mutation { createSource(input: {name: "x", kind: "holm", authorization: {a: "` + c.set("object for a text") + `"}}) { source { id } } }`,
		} {
			wrong(query, nil)
		}

		signing := base64.StdEncoding.EncodeToString([]byte(c.set("signing secret")))
		c.alias("signing secret", "as people write it", "whsec_"+signing)
		newWebhook := `mutation ($in: CreateWebhookInput!) { createWebhook(input: $in) { webhook { id } signingSecret } }`
		var hooks []string
		for _, name := range slices.Sorted(maps.Keys(endpoints)) {
			var got struct {
				CreateWebhook struct {
					Webhook       struct{ ID string }
					SigningSecret string
				}
			}
			in := program.Input{"name": name, "endpointId": endpoints[name], "global": true, "format": "hookyard", "retryOffsetsSeconds": []int{1, 2}}
			if name == "works" {
				in["signingSecret"] = "whsec_" + signing
			}
			do(newWebhook, program.Input{"in": in}, &got)
			if name == "works" {
				c.shown["signing secret"] = len(c.said) - 1
			} else {
				c.learn("signing secret of "+name, got.CreateWebhook.SigningSecret, "createWebhook")
			}
			hooks = append(hooks, got.CreateWebhook.Webhook.ID)
			if name == "works" { // the old one goes on signing
				var rotated struct {
					RotateWebhookSecret struct{ SigningSecret string }
				}
				do(`mutation ($id: ID!) { rotateWebhookSecret(input: {id: $id, overlapSeconds: 3600}) { signingSecret } }`, program.Input{"id": got.CreateWebhook.Webhook.ID}, &rotated)
				c.learn("new signing secret", rotated.RotateWebhookSecret.SigningSecret, "rotateWebhookSecret")
			}
		}
		for _, bad := range []any{"whsec_" + c.set("signing secret that is not base64"), "whsec_" + base64.StdEncoding.EncodeToString([]byte("short")), []string{c.set("signing secret in a list")}} {
			wrong(newWebhook, program.Input{"in": program.Input{"name": "x", "endpointId": endpoints["works"], "format": "hookyard", "signingSecret": bad}})
		}
		credential := "Basic " + base64.StdEncoding.EncodeToString([]byte("source:"+c.set("source credential")))
		c.alias("source credential", "as it is sent", strings.TrimPrefix(credential, "Basic "))
		var source struct {
			CreateSource struct {
				Source  struct{ ID string }
				Address string
			}
		}
		newSource := `mutation ($in: CreateSourceInput!) { createSource(input: $in) { source { id } address } }`
		do(newSource, program.Input{"in": program.Input{"name": "s", "kind": "cloudevents", "authorization": credential, "secrets": []string{c.set("source secret"), c.set("old source secret")}}}, &source)
		address := source.CreateSource.Address
		c.learn("source address", address[strings.LastIndexByte(address, '/')+1:], "createSource")
		wrong(newSource, program.Input{"in": program.Input{"name": "s", "kind": "cloudevents", "secrets": []string{c.set("secret of a twin source")}}})
		wrong(newSource, program.Input{"in": program.Input{"name": "t", "kind": "no such", "secrets": []string{c.set("secret of no kind")}, "timeZone": "nowhere"}})
		do(`mutation ($id: ID!, $s: String) { rotateSourceSecret(input: {id: $id, secret: $s, overlapSeconds: 60}) { source { id } } }`, program.Input{"id": source.CreateSource.Source.ID, "s": "whsec_" + base64.StdEncoding.EncodeToString([]byte(c.set("new source secret")))}, nil)

		// Events: accepted, refused, with credentials that are right and wrong.
		status := 0
		until(t, 10*time.Second, "the source is known", func() bool {
			status = post(t, address, 1, credential)
			return status/100 == 2
		})
		if status := post(t, address, 2, "Bearer "+c.set("wrong source credential")); status != http.StatusUnauthorized {
			t.Errorf("a wrong credential: %d", status)
		}
		if status := post(t, address+"x", 2, credential); status/100 == 2 {
			t.Errorf("a wrong address: %d", status)
		}
		for _, name := range []string{"works", "works-basic", "fails", "fails-basic", "gone"} {
			until(t, 10*time.Second, name+" is called", func() bool { return heard("/"+name) != nil })
		}
		if got := heard("/works").Get("Authorization"); got != "Bearer "+bearer || heard("/works").Get("X-Key") != header {
			t.Errorf("the secrets are not what was sent: %q", got)
		}
		if user, pass, ok := (&http.Request{Header: heard("/works-basic")}).BasicAuth(); !ok || user != "hub" || pass != basic {
			t.Errorf("the password is not what was sent: %s", user)
		}
		for _, pid := range children(t, h.Pid()) { // the connector's process crashes
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if status := post(t, address, 3, credential); status/100 != 2 {
			t.Errorf("after the crash: %d", status)
		}
		until(t, 30*time.Second, "the retries have ended", func() bool {
			var open struct{ Deliveries struct{ Edges []struct{} } }
			do(`{ deliveries(filter: {states: [PENDING, ATTEMPTING, RETRYING]}) { edges { cursor } } }`, nil, &open)
			return len(open.Deliveries.Edges) == 0
		})
		for _, id := range endpoints {
			do(`mutation ($id: ID!) { testEndpoint(input: {id: $id}) { ok message } }`, program.Input{"id": id}, nil)
			do(`mutation ($id: ID!) { updateEndpoint(input: {id: $id, secrets: [{name: "bearer_token", value: "`+c.set("another bearer token "+id)+`"}, {name: "basic_password", value: null}], settings: {}}) { endpoint { settings } } }`, program.Input{"id": id}, nil)
		}
		// Who may change an endpoint does not have its secrets sent to an address of their own.
		theirs, overheard := echo(t)
		for _, in := range []program.Input{{"url": theirs + "/works"}, {"settings": program.Input{"forward_proxy": theirs}}} {
			in["id"] = endpoints["works"]
			wrong(`mutation ($in: UpdateEndpointInput!) { updateEndpoint(input: $in) { endpoint { id } } }`, program.Input{"in": in})
			do(`mutation ($id: ID!) { testEndpoint(input: {id: $id}) { ok message } }`, program.Input{"id": in["id"]}, nil)
		}
		if h := overheard("/works"); h != nil {
			t.Errorf("another address was sent %v", h)
		}
		for _, id := range hooks {
			do(`mutation ($id: ID!) { testWebhook(input: {id: $id}) { ok message } }`, program.Input{"id": id}, nil)
		}

		// Everything that can be read is read, and the hub is started anew.
		readEverything(t, h)
		for _, end := range stop {
			end()
		}
		metrics := func(token string) string {
			t.Helper()
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL+"/metrics", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+token)
			resp, err := h.HTTP.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		if m := metrics(c.forms["metrics token"]["as it is"]); !strings.Contains(m, "hookyard_events_accepted_total") {
			t.Errorf("no metrics: %.200s", m)
		}
		_ = metrics(c.set("wrong metrics token"))
		if err := h.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := h.Start(ctx); err != nil {
			t.Fatal(err)
		}
		readEverything(t, h)
		copied := filepath.Join(t.TempDir(), "hub.tar.gz")
		for _, args := range [][]string{{"backup", copied}, {"keys", "rotate"}, {"secrets", "rotate", "--wait", "20s"}, {"org", "list"}} {
			said, err := tool(t, at(dir, dbURL, args...)...)
			if err != nil {
				t.Fatalf("%v: %v", args, err)
			}
			c.hear("hookyard "+strings.Join(args, " "), said)
		}
		if err := h.Stop(); err != nil {
			t.Fatal(err)
		}
		c.checkSaid()
		c.check("the log", log.String())
		if n := strings.Count(log.String(), "level=DEBUG"); n == 0 {
			t.Error("the log does not tell its details: this test shows nothing")
		}
		rest(c, dir, dbURL)
		c.check("a backup", unpacked(t, copied))
	})
}

// readEverything asks for each list with all that its rows say of themselves.
func readEverything(t *testing.T, h *program.Hub) {
	t.Helper()
	w := &matrix{acme: &acme{t: t}, schema: schema()}
	read := 0
	for _, f := range w.schema.Query.Fields {
		typ, list := strings.CutSuffix(f.Type.Name(), "Connection")
		if !list {
			continue
		}
		for after := ""; ; {
			var got struct {
				R struct {
					Edges    []struct{ Cursor string }
					PageInfo struct{ HasNextPage bool }
				}
			}
			if err := h.Do(t.Context(), `query ($after: Cursor) { r: `+f.Name+`(first: 100, after: $after) { edges { cursor node `+w.selection(typ, 3)+` } pageInfo { hasNextPage } } }`,
				program.Input{"after": orNull(after)}, &got); err != nil {
				t.Fatalf("%s: %v", f.Name, err)
			}
			read += len(got.R.Edges)
			if !got.R.PageInfo.HasNextPage {
				break
			}
			after = got.R.Edges[len(got.R.Edges)-1].Cursor
		}
	}
	// What only leads to more is asked for where it leads.
	var attempts struct {
		Deliveries struct {
			Edges []struct {
				Node struct{ Attempts []json.RawMessage }
			}
		}
	}
	if err := h.Do(t.Context(), `{ deliveries(first: 100) { edges { node { attempts `+w.selection("Attempt", 3)+` } } } }`, nil, &attempts); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range attempts.Deliveries.Edges {
		n += len(e.Node.Attempts)
	}
	if read < 50 || n < 10 {
		t.Errorf("only %d rows and %d attempts were read", read, n)
	}
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// rest looks through all that a hub has left behind: the files of its folder but that with
// the first credentials, and the whole database.
func rest(c *canaries, dir, dbURL string) {
	c.t.Helper()
	if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "admin.json" || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		c.check(path, string(b))
		return err
	}); err != nil {
		c.t.Fatal(err)
	}
	if dbURL == "" {
		return
	}
	ctx := c.t.Context()
	conn, err := pgx.Connect(ctx, dbURL)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, `SELECT quote_ident(table_name) FROM information_schema.tables WHERE table_schema = current_schema()`)
	if err != nil {
		c.t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 20 {
		c.t.Fatalf("%d tables, %v", len(tables), err)
	}
	for _, table := range tables {
		rows, err := conn.Query(ctx, `SELECT * FROM `+table)
		if err != nil {
			c.t.Fatal(err)
		}
		var text strings.Builder
		for rows.Next() {
			values, err := rows.Values()
			if err != nil {
				c.t.Fatal(err)
			}
			for _, v := range values {
				if b, ok := v.([]byte); ok {
					v = string(b)
				}
				fmt.Fprintln(&text, v)
			}
		}
		if err := rows.Err(); err != nil {
			c.t.Fatalf("%s: %v", table, err)
		}
		c.check("the table "+table, text.String())
	}
}

// unpacked is all that is in a backup.
func unpacked(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	archive := tar.NewReader(z)
	for {
		head, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return all.String()
		}
		if err == nil {
			all.WriteString(head.Name + "\n")
			_, err = io.Copy(&all, archive) //nolint:gosec // our own
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
