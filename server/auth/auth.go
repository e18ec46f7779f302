// Package auth says who is asking: a bearer token or an API key becomes a viewer, the
// same way for HTTP and for websockets.
//
// Place: in front of the API. It reads users, keys and signing keys through ent as the
// hub itself; everything behind it sees only the viewer.
//
// Guarantees:
//   - No valid credential, no viewer. The reason is never told apart for the caller.
//   - Tokens are checked for algorithm (EdDSA only), key, issuer, audience and expiry.
//   - Rights are read from the database at each call, so that a change bites at once.
//   - Keys are kept as SHA-256 of 160 random bits, never themselves.
package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/ent/viewer"
)

// ErrUnauthenticated is the only thing that a caller learns of a bad credential.
var ErrUnauthenticated = errors.New("auth: the credential is missing, wrong or expired")

// Audience is the "aud" of every token.
const Audience = "hookyard"

// Directory looks up who a credential belongs to. Its methods return nil without an
// error for what does not exist, is disabled, expired or suspended.
type Directory interface {
	// KeyViewer finds an API key by the hex SHA-256 of it, and notes its use.
	KeyViewer(ctx context.Context, hash string) (v *viewer.Viewer, expires time.Time, err error)
	// Viewer finds a user or key by ID.
	Viewer(ctx context.Context, id string) (*viewer.Viewer, error)
}

// SigningKey signs tokens; all that are not retired verify them.
type SigningKey struct {
	ID      string
	Private ed25519.PrivateKey
}

// Config is what an Authenticator is made of.
type Config struct {
	Directory Directory
	Keys      []SigningKey // current first
	Issuer    string
	Clock     clockwork.Clock
}

// Authenticator turns credentials into viewers. It is safe for concurrent use.
type Authenticator struct {
	c      Config
	parser *jwt.Parser
}

// New returns an Authenticator.
func New(c Config) *Authenticator {
	return &Authenticator{c: c, parser: jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
		jwt.WithIssuer(c.Issuer), jwt.WithAudience(Audience), jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(), jwt.WithTimeFunc(c.Clock.Now), jwt.WithLeeway(5*time.Second),
	)}
}

// Authenticate reads an Authorization header ("Bearer …", a token or an API key).
// expires is when the credential ends, zero for never. The error is ErrUnauthenticated
// or the directory's.
func (a *Authenticator) Authenticate(ctx context.Context, header string) (v *viewer.Viewer, expires time.Time, err error) {
	scheme, credential, ok := strings.Cut(header, " ")
	credential = strings.TrimSpace(credential)
	if !ok || !strings.EqualFold(scheme, "Bearer") || credential == "" {
		return nil, time.Time{}, ErrUnauthenticated
	}
	if strings.HasPrefix(credential, KeyPrefix) {
		v, expires, err = a.c.Directory.KeyViewer(ctx, Hash(credential))
	} else {
		v, expires, err = a.token(ctx, credential)
	}
	if err == nil && v == nil {
		err = ErrUnauthenticated
	}
	return v, expires, err
}

func (a *Authenticator) token(ctx context.Context, raw string) (*viewer.Viewer, time.Time, error) {
	var claims jwt.RegisteredClaims
	if _, err := a.parser.ParseWithClaims(raw, &claims, a.key); err != nil {
		return nil, time.Time{}, ErrUnauthenticated
	}
	v, err := a.c.Directory.Viewer(ctx, claims.Subject)
	return v, claims.ExpiresAt.Time, err
}

func (a *Authenticator) key(t *jwt.Token) (any, error) {
	id, _ := t.Header["kid"].(string)
	for _, k := range a.c.Keys {
		if k.ID == id {
			return k.Private.Public(), nil
		}
	}
	return nil, ErrUnauthenticated
}

// MaxTokenLife is the longest that a token may live.
const MaxTokenLife = time.Hour

// Token signs a token for a viewer that lives for life, at most MaxTokenLife.
func (a *Authenticator) Token(v *viewer.Viewer, life time.Duration) (raw string, expires time.Time, err error) {
	if v == nil || v.ID == "" {
		return "", time.Time{}, ErrUnauthenticated
	}
	if life <= 0 || life > MaxTokenLife {
		life = MaxTokenLife
	}
	now := a.c.Clock.Now()
	expires = now.Add(life)
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.RegisteredClaims{
		Issuer: a.c.Issuer, Subject: v.ID, Audience: jwt.ClaimStrings{Audience},
		IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(expires),
	})
	k := a.c.Keys[0]
	t.Header["kid"] = k.ID
	raw, err = t.SignedString(k.Private)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("auth: sign a token: %w", err)
	}
	return raw, expires, nil
}

// KeyPrefix begins every API key, so that scanners for leaked secrets can find them.
const KeyPrefix = "hky_"

// NewKey makes an API key of 160 random bits. hint is its beginning, which may be shown.
func NewKey() (key, hint, hash string) {
	var b [20]byte
	_, _ = rand.Read(b[:]) // never fails
	key = KeyPrefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
	return key, key[:len(KeyPrefix)+6], Hash(key)
}

// Hash is how a key or a token of a source is kept: the hex SHA-256 of it.
func Hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
