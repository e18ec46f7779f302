package server_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// loginProvider is a real OpenID Connect provider in this process. Whoever arrives at its
// login is signed in as the person that the test has chosen.
type loginProvider struct {
	*storage.Storage
	server *httptest.Server

	mu     sync.Mutex
	people map[string]*storage.User
	groups map[string][]string
	now    string // who signs in
	key    *providerKey
}

type providerKey struct {
	id      string
	private *rsa.PrivateKey
}

func (k *providerKey) ID() string                                  { return k.id }
func (k *providerKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (k *providerKey) Key() any                                    { return k.private }

// publicKey is the same key as the provider publishes it.
type publicKey struct{ *providerKey }

func (k publicKey) Algorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (k publicKey) Use() string                        { return "sig" }
func (k publicKey) Key() any                           { return &k.private.PublicKey }

// newLoginProvider starts a provider with one client, "hookyard" with the secret.
func newLoginProvider(t *testing.T, secret string, redirect ...string) *loginProvider {
	t.Helper()
	p := &loginProvider{people: map[string]*storage.User{}, groups: map[string][]string{}}
	p.rotate(t)
	p.Storage = storage.NewStorageWithClients(p, map[string]*storage.Client{"hookyard": storage.WebClient("hookyard", secret, redirect...)})
	mux := http.NewServeMux()
	p.server = httptest.NewServer(mux)
	t.Cleanup(p.server.Close)
	var key [32]byte
	_, _ = rand.Read(key[:])
	served, err := op.NewProvider(&op.Config{CryptoKey: key, CodeMethodS256: true, AuthMethodPost: true}, p, op.StaticIssuer(p.server.URL),
		op.WithAllowInsecure(), op.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
	if err != nil {
		t.Fatal(err)
	}
	mux.Handle("/", served)
	// The login page of this provider asks nobody anything.
	mux.HandleFunc("/login/username", func(w http.ResponseWriter, r *http.Request) {
		id := r.FormValue("authRequestID")
		p.mu.Lock()
		now := p.now
		p.mu.Unlock()
		if err := p.CheckUsernamePassword(now, "", id); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		http.Redirect(w, r, op.AuthCallbackURL(served)(op.ContextWithIssuer(r.Context(), p.server.URL), id), http.StatusFound)
	})
	return p
}

// person makes somebody known, or changes them, and has them sign in next.
func (p *loginProvider) person(id, email string, verified bool, groups ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.people[id] = &storage.User{ID: id, Username: id, FirstName: "Ann", LastName: "Other", Email: email, EmailVerified: verified}
	p.groups[id], p.now = groups, id
}

// rotate replaces the signing key; the old one is not published any more.
func (p *loginProvider) rotate(t *testing.T) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.key = &providerKey{rand.Text(), key}
}

// GetUserByID, GetUserByUsername and ExampleClientID implement storage.UserStore.
func (p *loginProvider) GetUserByID(id string) *storage.User {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.people[id]
}

func (p *loginProvider) GetUserByUsername(name string) *storage.User { return p.GetUserByID(name) }

func (p *loginProvider) ExampleClientID() string { return "service" }

// SigningKey and KeySet replace those of the storage, whose key never changes.
func (p *loginProvider) SigningKey(context.Context) (op.SigningKey, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.key, nil
}

func (p *loginProvider) KeySet(context.Context) ([]op.Key, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return []op.Key{publicKey{p.key}}, nil
}

// SetUserinfoFromRequest and SetUserinfoFromToken tell the groups too.
func (p *loginProvider) SetUserinfoFromRequest(ctx context.Context, info *oidc.UserInfo, r op.IDTokenRequest, scopes []string) error {
	if err := p.Storage.SetUserinfoFromRequest(ctx, info, r, scopes); err != nil {
		return err
	}
	p.tell(info, r.GetSubject())
	return nil
}

func (p *loginProvider) SetUserinfoFromToken(ctx context.Context, info *oidc.UserInfo, token, subject, origin string) error {
	if err := p.Storage.SetUserinfoFromToken(ctx, info, token, subject, origin); err != nil {
		return err
	}
	p.tell(info, subject)
	return nil
}

func (p *loginProvider) tell(info *oidc.UserInfo, subject string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	info.AppendClaims("groups", p.groups[subject])
}
