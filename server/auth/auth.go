// Package auth lets people sign in and says who is asking: a bearer token or an API key
// becomes a viewer, the same way for HTTP and for websockets.
//
// Place: in front of the API. Users, keys, sessions and signing keys are behind small
// interfaces; everything behind this package sees only the viewer.
//
// Guarantees:
//   - No valid credential, no viewer. The reason is never told apart for the caller.
//   - Tokens are checked for algorithm (EdDSA only), key, issuer, audience and expiry.
//   - Rights and sessions are read from the database at each call, so that a change, or
//     the end of a session, bites at once.
//   - Keys, links and refresh tokens are kept as SHA-256 of 160 random bits or more,
//     passwords as argon2id, never themselves.
//   - A refresh token works once; the use of an older one ends its session.
//   - Whether an address belongs to a user shows neither in an answer nor in its time.
package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/ent/secret"
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
	// PresenceViewer finds a Presence by the hex SHA-256 of its key, or of the one before
	// as long as that counts.
	PresenceViewer(ctx context.Context, hash string) (v *viewer.Viewer, expires time.Time, err error)
	// Viewer finds a user in one of his sessions, or a key, by their IDs. A user without
	// a session, and a session that has ended or is somebody else's, is nobody.
	Viewer(ctx context.Context, id, session string) (*viewer.Viewer, error)
}

// SigningKey signs tokens; all that are not retired verify them.
type SigningKey struct {
	ID      string
	Private ed25519.PrivateKey
	Signs   time.Time // from when on it signs; every node knows it by then
}

// Keyring is the keys as they are now. It is safe for concurrent use.
type Keyring struct{ keys atomic.Pointer[[]SigningKey] }

// NewKeyring returns a ring of the keys, the newest first.
func NewKeyring(keys ...SigningKey) *Keyring {
	r := &Keyring{}
	r.Replace(keys)
	return r
}

// Replace replaces all keys; the newest is first.
func (r *Keyring) Replace(keys []SigningKey) { r.keys.Store(&keys) }

// signer is the newest key that may sign already; ok is false for an empty ring.
func (r *Keyring) signer(now time.Time) (k SigningKey, ok bool) {
	keys := *r.keys.Load()
	for _, k := range keys {
		if !k.Signs.After(now) {
			return k, true
		}
	}
	if len(keys) == 0 {
		return SigningKey{}, false
	}
	return keys[len(keys)-1], true
}

// find returns the key that a token says it was signed with.
func (r *Keyring) find(t *jwt.Token) (any, error) {
	id, _ := t.Header["kid"].(string)
	for _, k := range *r.keys.Load() {
		if k.ID == id {
			return k.Private.Public(), nil
		}
	}
	return nil, ErrUnauthenticated
}

// Config is what an Authenticator is made of.
type Config struct {
	Directory Directory
	Keys      *Keyring
	Issuer    string
	Clock     clockwork.Clock
	Outside   *Outside // takes the tokens of other issuers; nil takes none
}

// claims are what a token says.
type claims struct {
	jwt.RegisteredClaims
	Session string `json:"sid,omitempty"` // of a user
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
	switch {
	case strings.HasPrefix(credential, KeyPrefix):
		v, expires, err = a.c.Directory.KeyViewer(ctx, secret.Hash(credential))
	case strings.HasPrefix(credential, PresenceKeyPrefix):
		v, expires, err = a.c.Directory.PresenceViewer(ctx, secret.Hash(credential))
	default:
		v, expires, err = a.token(ctx, credential)
	}
	if err == nil && v == nil {
		err = ErrUnauthenticated
	}
	return v, expires, err
}

func (a *Authenticator) token(ctx context.Context, raw string) (*viewer.Viewer, time.Time, error) {
	// A token that names another issuer is none of ours, and one that names us never an outsider's.
	if e, ok := readEnvelope(raw); ok && e.Issuer != a.c.Issuer {
		if a.c.Outside == nil {
			return nil, time.Time{}, ErrUnauthenticated
		}
		return a.c.Outside.viewer(ctx, raw, e)
	}
	var c claims
	if _, err := a.parser.ParseWithClaims(raw, &c, a.c.Keys.find); err != nil {
		return nil, time.Time{}, ErrUnauthenticated
	}
	v, err := a.c.Directory.Viewer(ctx, c.Subject, c.Session)
	return v, c.ExpiresAt.Time, err
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
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{Session: v.Session, RegisteredClaims: jwt.RegisteredClaims{
		Issuer: a.c.Issuer, Subject: v.ID, Audience: jwt.ClaimStrings{Audience},
		IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(expires),
	}})
	k, ok := a.c.Keys.signer(now)
	if !ok {
		return "", time.Time{}, errors.New("auth: sign a token: there is no signing key")
	}
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
	key = KeyPrefix + random()
	return key, key[:len(KeyPrefix)+6], secret.Hash(key)
}

// PresenceKeyPrefix begins the key of every Presence.
const PresenceKeyPrefix = "hkp_"

// NewPresenceKey makes the key of a Presence, as NewKey does.
func NewPresenceKey() (key, hint, hash string) {
	key = PresenceKeyPrefix + random()
	return key, key[:len(PresenceKeyPrefix)+6], secret.Hash(key)
}

// IsKey says whether an Authorization header has an API key rather than a token.
func IsKey(header string) bool {
	_, credential, _ := strings.Cut(header, " ")
	return strings.HasPrefix(strings.TrimSpace(credential), KeyPrefix)
}

// random is 160 random bits in 32 characters of a-z and 2-7.
func random() string {
	var b [20]byte
	_, _ = rand.Read(b[:]) // never fails
	return letters(b[:])
}

func letters(b []byte) string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}
