package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/jonboulle/clockwork"
	"golang.org/x/oauth2"

	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/parts"
)

// Provider is an identity provider of an organization.
type Provider struct {
	ID, Organization, Name string
	Issuer                 string
	ClientID, ClientSecret string // the secret is "" for a public client
	Scopes                 []string
	GroupsClaim            string
}

// Person is somebody as an issuer vouches for them.
type Person struct {
	Subject string   // never given to another by the same issuer
	Email   string   // in lower case; "" unless the issuer has verified it
	Name    string   //
	Groups  []string // values of the claim that the mapping looks at
}

// Refused says in words for the person why they may not sign in.
type Refused struct{ Reason string }

func (r *Refused) Error() string { return r.Reason }

// Providers is where identity providers and who signed in through them are kept.
type Providers interface {
	// Provider finds a provider that is enabled and whose organization is not suspended;
	// nil when there is none.
	Provider(ctx context.Context, id string) (*Provider, error)
	// Admit finds or makes the user that the person is, gives the rights that the
	// provider's mapping says and returns the user's ID. A *Refused is for the person.
	Admit(ctx context.Context, provider string, who Person) (user string, err error)
}

// Sealer encrypts what a browser keeps for the hub. *secret.Box is one.
type Sealer interface {
	Seal(id, field string, plain []byte) ([]byte, error)
	Unseal(id, field string, sealed []byte) ([]byte, error)
}

// SingleSignOnConfig is what a SingleSignOn is made of.
type SingleSignOnConfig struct {
	Providers Providers
	Issuers   *Issuers
	Sealer    Sealer
	// Begin starts a session of a user, as part of an answer that goes on as a redirect.
	Begin     func(w http.ResponseWriter, r *http.Request, user string) error
	PublicURL string
	Clock     clockwork.Clock
	Log       *slog.Logger
	Count     func(result string) // told of each sign-in that ends: "ok", "refused", "failed" or "unavailable"
}

// SingleSignOn signs people in at their organization's OpenID Connect provider:
// authorization code flow with PKCE. What it needs between the two halves of a sign-in
// is sealed in a cookie of the browser, so any node can serve the second half.
type SingleSignOn struct {
	c      SingleSignOnConfig
	cookie string
	secure bool
}

// NewSingleSignOn returns a SingleSignOn.
func NewSingleSignOn(c SingleSignOnConfig) *SingleSignOn {
	s := &SingleSignOn{c: c, cookie: "hookyard-sign-in", secure: strings.HasPrefix(c.PublicURL, "https://")}
	if s.secure {
		s.cookie = "__Host-" + s.cookie
	}
	return s
}

// SignInPrefix is what the addresses of single sign-on begin with.
const SignInPrefix = "/auth/oidc/"

// StartURL is where signing in through a provider begins.
func (s *SingleSignOn) StartURL(provider string) string {
	return s.c.PublicURL + SignInPrefix + provider + "/start"
}

// RedirectURL is where every provider sends people back to.
func (s *SingleSignOn) RedirectURL() string { return s.c.PublicURL + SignInPrefix + "callback" }

// signInTime is how long a person may take at the provider.
const signInTime = 10 * time.Minute

// answerTime is how long a person waits for an answer at most, whatever a provider does.
const answerTime = 15 * time.Second

// pending is a sign-in between its two halves.
type pending struct {
	Provider string    `json:"p"`
	State    string    `json:"s"`
	Nonce    string    `json:"n"`
	Verifier string    `json:"v"`
	Return   string    `json:"r"`
	Until    time.Time `json:"u"`
}

// problem is an answer to a person who cannot sign in. Reason is for the log.
type problem struct {
	status int
	code   string // of graph's errors
	words  string
	result string // for the metric
	reason error
}

func refused(words string, reason error) *problem {
	return &problem{http.StatusForbidden, "FORBIDDEN", words, "refused", reason}
}

func unavailable(reason error) *problem {
	return &problem{http.StatusServiceUnavailable, "UNAVAILABLE", "The identity provider cannot be used now. Try again in a moment; if it stays like this, tell an Administrator.", "unavailable", reason}
}

func misconfigured(words string, reason error) *problem {
	return &problem{http.StatusBadGateway, "UNAVAILABLE", words, "failed", reason}
}

func again(reason error) *problem {
	return &problem{http.StatusBadRequest, "BAD_USER_INPUT", "This sign-in was not begun in this browser, took too long or was used already. Start it again.", "failed", reason}
}

// Start sends a browser to the provider named in the path. "?return=/path" is where it
// ends up afterwards: on this hub, nowhere else.
func (s *SingleSignOn) Start(w http.ResponseWriter, r *http.Request) {
	to, p := s.start(w, r)
	if p != nil {
		s.answer(w, r, r.PathValue("provider"), p)
		return
	}
	redirect(w, to, http.StatusFound)
}

func (s *SingleSignOn) start(w http.ResponseWriter, r *http.Request) (to string, _ *problem) {
	back, ok := localPath(cmp.Or(r.URL.Query().Get("return"), "/"))
	if !ok {
		return "", &problem{http.StatusBadRequest, "BAD_USER_INPUT", "return must be a path on this hub, such as /webhooks.", "failed", errors.New("return leads elsewhere")}
	}
	provider, p := s.provider(r.Context(), r.PathValue("provider"))
	if p != nil {
		return "", p
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTime)
	defer cancel()
	m, p := s.metadata(ctx, provider.Issuer)
	if p != nil {
		return "", p
	}
	now := pending{Provider: provider.ID, State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), Return: back, Until: s.c.Clock.Now().Add(signInTime)}
	if err := s.remember(w, now); err != nil {
		return "", s.broken(err)
	}
	return s.client(provider, m).AuthCodeURL(now.State, oidc.Nonce(now.Nonce), oauth2.S256ChallengeOption(now.Verifier)), nil
}

// Callback takes a person back from the provider, and begins a session when all is well.
func (s *SingleSignOn) Callback(w http.ResponseWriter, r *http.Request) {
	began, p := s.recall(r)
	s.forget(w)
	if p == nil {
		p = s.finish(w, r, began)
	}
	if p != nil {
		s.answer(w, r, began.Provider, p)
		return
	}
	s.c.Count("ok")
	redirect(w, began.Return, http.StatusSeeOther)
}

// finish is the second half of a sign-in that was begun in this browser.
func (s *SingleSignOn) finish(w http.ResponseWriter, r *http.Request, began pending) *problem {
	ctx, cancel := context.WithTimeout(r.Context(), answerTime)
	defer cancel()
	q := r.URL.Query()
	if subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(began.State)) != 1 {
		return again(errors.New("the state is another one"))
	}
	provider, p := s.provider(ctx, began.Provider)
	if p != nil {
		return p
	}
	m, p := s.metadata(ctx, provider.Issuer)
	if p != nil {
		return p
	}
	// Another provider must not pass its own answer off as this one's.
	if iss := q.Get("iss"); iss != "" && iss != provider.Issuer || iss == "" && m.NamesItself {
		return again(errors.New("the answer names another issuer"))
	}
	if q.Has("error") {
		return declined(q.Get("error"))
	}
	code := q.Get("code")
	if code == "" || len(code) > 4096 {
		return again(errors.New("there is no code"))
	}
	ctx = oidc.ClientContext(ctx, s.c.Issuers.client)
	token, err := s.client(provider, m).Exchange(ctx, code, oauth2.VerifierOption(began.Verifier))
	if err != nil {
		return exchangeProblem(err)
	}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" || len(raw) > maxToken {
		return misconfigured("The identity provider does not answer as OpenID Connect asks for. Tell an Administrator.", errors.New("there is no ID token, or a monstrous one"))
	}
	id, err := s.c.Issuers.verify(ctx, raw, expected{issuer: provider.Issuer, audience: provider.ClientID, keysURL: m.KeysURL, algorithms: m.signing()})
	switch {
	case errors.Is(err, ErrCannotKnow):
		return unavailable(err)
	case err != nil:
		return misconfigured("What the identity provider said cannot be believed. Start again; if it stays like this, tell an Administrator.", err)
	case subtle.ConstantTimeCompare([]byte(id.nonce), []byte(began.Nonce)) != 1:
		return again(errors.New("the nonce is another one"))
	}
	if azp, there := id.claims["azp"]; there && azp != provider.ClientID {
		return misconfigured("What the identity provider said was for another program. Start again.", errors.New("the azp is another client"))
	}
	if p := s.complete(ctx, provider, m, token, id); p != nil {
		return p
	}
	user, err := s.c.Providers.Admit(ctx, provider.ID, Person{
		Subject: id.subject, Email: id.claims.email(), Name: id.claims.text("name"), Groups: id.claims.values(provider.GroupsClaim)})
	var no *Refused
	switch {
	case errors.As(err, &no):
		return refused(no.Reason, fmt.Errorf("subject %.255q: %w", id.subject, err))
	case err != nil:
		return s.broken(err)
	}
	if err := s.c.Begin(w, r, user); err != nil {
		return s.broken(err)
	}
	return nil
}

// complete asks for what the ID token leaves out: some providers tell e-mail address and
// groups only when asked.
func (s *SingleSignOn) complete(ctx context.Context, p *Provider, m *Metadata, token *oauth2.Token, id *vouched) *problem {
	if m.UserInfoURL == "" || id.claims.has("email") && id.claims.has(p.GroupsClaim) {
		return nil
	}
	config := oidc.ProviderConfig{IssuerURL: m.Issuer, UserInfoURL: m.UserInfoURL, JWKSURL: m.KeysURL, Algorithms: m.signing()}
	info, err := config.NewProvider(ctx).UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return unavailable(fmt.Errorf("ask for the user info: %w", trim(err)))
	}
	if info.Subject != id.subject {
		return misconfigured("What the identity provider said cannot be believed. Start again; if it stays like this, tell an Administrator.", errors.New("the user info is about somebody else"))
	}
	var more said
	if err := info.Claims(&more); err != nil {
		return unavailable(fmt.Errorf("read the user info: %w", err))
	}
	if id.claims.has("email") { // an address and whether it is verified belong together
		delete(more, "email")
		delete(more, "email_verified")
	}
	for name, v := range more {
		if _, told := id.claims[name]; !told || name == "email_verified" {
			id.claims[name] = v
		}
	}
	return nil
}

// provider finds a provider. That one is disabled is not told apart from that there is none.
func (s *SingleSignOn) provider(ctx context.Context, id string) (*Provider, *problem) {
	var p *Provider
	if ids.Prefix(id) == ids.IdentityProvider && !strings.ContainsFunc(id, unicode.IsControl) {
		var err error
		if p, err = s.c.Providers.Provider(ctx, id); err != nil {
			return nil, s.broken(err)
		}
	}
	if p == nil {
		return nil, &problem{http.StatusNotFound, "NOT_FOUND", "There is no such way to sign in.", "failed", errors.New("no such provider")}
	}
	return p, nil
}

// metadata returns what an issuer says of itself, when people can be sent there.
func (s *SingleSignOn) metadata(ctx context.Context, issuer string) (*Metadata, *problem) {
	m, err := s.c.Issuers.Metadata(ctx, issuer)
	if err != nil {
		return nil, unavailable(err)
	}
	if err := m.usable(); err != nil {
		return nil, misconfigured("The identity provider does not offer what the hub needs. Tell an Administrator.", err)
	}
	return m, nil
}

// usable says why people cannot sign in at an issuer.
func (m *Metadata) usable() error {
	for name, at := range map[string]string{"authorization_endpoint": m.AuthURL, "token_endpoint": m.TokenURL} {
		if parts.CheckKeysURL(at) != nil || at == "" {
			return fmt.Errorf("its %s is not an https address", name)
		}
	}
	if m.UserInfoURL != "" && parts.CheckKeysURL(m.UserInfoURL) != nil {
		return errors.New("its userinfo_endpoint is not an https address")
	}
	if len(m.ChallengeKind) > 0 && !slices.Contains(m.ChallengeKind, "S256") {
		return errors.New("it does not take PKCE challenges of the kind S256")
	}
	if len(m.signing()) == 0 {
		return errors.New("it signs ID tokens by no algorithm with a public key")
	}
	return nil
}

// signing is how its ID tokens may be signed. Whatever it says, the keys are public ones.
func (m *Metadata) signing() []string {
	if len(m.Algorithms) == 0 {
		return []string{oidc.RS256}
	}
	return slices.DeleteFunc(slices.Clone(m.Algorithms), func(a string) bool { return parts.CheckAlgorithms([]string{a}) != nil })
}

// CheckProvider says in words for people why nobody can sign in at an issuer.
func (s *SingleSignOn) CheckProvider(ctx context.Context, issuer string) error {
	m, err := s.c.Issuers.Metadata(ctx, issuer)
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), ErrCannotKnow.Error()+": "))
	}
	if err := m.usable(); err != nil {
		return err
	}
	keys, err := s.c.Issuers.keys(ctx, m.KeysURL, anyKey)
	switch {
	case err != nil:
		return errors.New(strings.TrimPrefix(err.Error(), ErrCannotKnow.Error()+": "))
	case len(keys) == 0:
		return errors.New("it publishes no key that the hub can check signatures with")
	}
	return nil
}

// client is the hub as the provider knows it.
func (s *SingleSignOn) client(p *Provider, m *Metadata) *oauth2.Config {
	style := oauth2.AuthStyleInHeader
	if p.ClientSecret == "" || len(m.TokenAuth) > 0 && !slices.Contains(m.TokenAuth, "client_secret_basic") {
		style = oauth2.AuthStyleInParams
	}
	scopes := []string{oidc.ScopeOpenID, "email", "profile"}
	for _, more := range p.Scopes {
		if !slices.Contains(scopes, more) {
			scopes = append(scopes, more)
		}
	}
	return &oauth2.Config{ClientID: p.ClientID, ClientSecret: p.ClientSecret, RedirectURL: s.RedirectURL(), Scopes: scopes,
		Endpoint: oauth2.Endpoint{AuthURL: m.AuthURL, TokenURL: m.TokenURL, AuthStyle: style}}
}

// The sealed cookie is bound to this, so that nothing else that the hub seals passes for it.
const cookieRow, cookieField = "sign-in", "pending"

func (s *SingleSignOn) remember(w http.ResponseWriter, p pending) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	sealed, err := s.c.Sealer.Seal(cookieRow, cookieField, b)
	if err != nil {
		return fmt.Errorf("seal a sign-in: %w", err)
	}
	s.set(w, base64.RawURLEncoding.EncodeToString(sealed), int(signInTime/time.Second))
	return nil
}

func (s *SingleSignOn) forget(w http.ResponseWriter) { s.set(w, "", -1) }

// set sets the cookie. Lax: it has to come along when the provider sends the browser back.
func (s *SingleSignOn) set(w http.ResponseWriter, value string, age int) {
	http.SetCookie(w, &http.Cookie{Name: s.cookie, Value: value, Path: "/", MaxAge: age, HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteLaxMode})
}

// recall reads the sign-in that was begun in this browser.
func (s *SingleSignOn) recall(r *http.Request) (p pending, _ *problem) {
	c, err := r.Cookie(s.cookie)
	if err != nil {
		return pending{}, again(err)
	}
	sealed, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil {
		return pending{}, again(errors.New("the cookie is not one of ours"))
	}
	b, err := s.c.Sealer.Unseal(cookieRow, cookieField, sealed)
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	switch {
	case err != nil:
		return pending{}, again(errors.New("the cookie is not one of ours"))
	case !s.c.Clock.Now().Before(p.Until):
		return pending{}, again(errors.New("it took too long"))
	}
	return p, nil
}

// localPath is a path on this hub, with its query; ok is false for what a browser might
// take for another place.
func localPath(s string) (string, bool) {
	u, err := url.Parse(s)
	if err != nil || len(s) > 2048 || u.IsAbs() || u.Host != "" || u.User != nil || u.Opaque != "" ||
		!strings.HasPrefix(s, "/") || strings.HasPrefix(s, "//") || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c == '\\' || c == 0x7f }) {
		return "", false
	}
	return u.String(), !strings.HasPrefix(u.String(), "//")
}

// redirect is http.Redirect without its page, and without changing the address.
func redirect(w http.ResponseWriter, to string, status int) {
	w.Header().Set("Location", to)
	w.WriteHeader(status)
}

// declined explains an error that the provider sends a person back with. What it writes
// itself is not shown: anyone can make such a link.
func declined(code string) *problem {
	reason := fmt.Errorf("the provider says %.60q", code)
	switch code {
	case "access_denied", "consent_required", "interaction_required", "login_required", "account_selection_required":
		return refused("The identity provider did not let you in.", reason)
	case "temporarily_unavailable", "server_error":
		return unavailable(reason)
	}
	return misconfigured("The identity provider refuses the hub's request. An Administrator should compare client ID, scopes and redirect address there.", reason)
}

// exchangeProblem explains why a code was not exchanged for tokens.
func exchangeProblem(err error) *problem {
	var answer *oauth2.RetrieveError
	if !errors.As(err, &answer) {
		return unavailable(fmt.Errorf("exchange the code: %w", trim(err)))
	}
	reason := fmt.Errorf("exchange the code: the provider answers %d %.60q", answer.Response.StatusCode, answer.ErrorCode)
	switch {
	case answer.ErrorCode == "invalid_grant":
		return again(reason)
	case answer.ErrorCode == "invalid_client", answer.ErrorCode == "unauthorized_client", answer.Response.StatusCode == http.StatusUnauthorized:
		return misconfigured("The identity provider does not accept the hub's client ID and secret. An Administrator must set them again.", reason)
	case answer.Response.StatusCode >= http.StatusInternalServerError, answer.Response.StatusCode == http.StatusTooManyRequests:
		return unavailable(reason)
	}
	return misconfigured("The identity provider refuses the hub's request. An Administrator should compare client ID, scopes and redirect address there.", reason)
}

// trim takes out of an error what may quote an answer or an address with a code in it.
func trim(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return errors.New("the answer is not what OpenID Connect asks for")
}

func (s *SingleSignOn) broken(err error) *problem {
	return &problem{http.StatusServiceUnavailable, "UNAVAILABLE", "The hub cannot sign you in now; try again.", "unavailable", err}
}

// answer tells the person, and the log why.
func (s *SingleSignOn) answer(w http.ResponseWriter, r *http.Request, provider string, p *problem) {
	s.c.Count(p.result)
	level := slog.LevelInfo
	if p.status >= http.StatusInternalServerError {
		level = slog.LevelWarn
	}
	s.c.Log.Log(r.Context(), level, "a sign-in did not succeed", "provider", provider, "why", p.reason)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(p.status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": p.words, "code": p.code})
}
