package auth_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/auth"
)

type directory map[string]*viewer.Viewer

func (d directory) KeyViewer(_ context.Context, hash string) (*viewer.Viewer, time.Time, error) {
	return d[hash], time.Time{}, nil
}

func (d directory) PresenceViewer(_ context.Context, hash string) (*viewer.Viewer, time.Time, error) {
	return d["presence "+hash], time.Time{}, nil
}

func (d directory) Viewer(_ context.Context, id, _ string) (*viewer.Viewer, error) { return d[id], nil }

func signingKey(t *testing.T, id string) auth.SigningKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return auth.SigningKey{ID: id, Private: private}
}

func TestAuthenticate(t *testing.T) {
	ctx := context.Background()
	clock := clockwork.NewFakeClockAt(time.Date(2026, 4, 10, 14, 30, 0, 0, time.UTC))
	ada := &viewer.Viewer{ID: "usr_ada", Organization: "org_1", Role: viewer.Administrator}
	key, _, hash := auth.NewKey()
	current, old, foreign := signingKey(t, "new"), signingKey(t, "old"), signingKey(t, "new")
	d := directory{"usr_ada": ada, hash: ada}
	a := auth.New(auth.Config{Directory: d, Keys: auth.NewKeyring(current, old), Issuer: "https://hub.example", Clock: clock})
	good, _, err := a.Token(ada, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(k auth.SigningKey, method jwt.SigningMethod, with any, change func(*jwt.RegisteredClaims)) string {
		c := jwt.RegisteredClaims{Issuer: "https://hub.example", Subject: "usr_ada", Audience: jwt.ClaimStrings{auth.Audience},
			ExpiresAt: jwt.NewNumericDate(clock.Now().Add(time.Minute))}
		change(&c)
		tok := jwt.NewWithClaims(method, c)
		tok.Header["kid"] = k.ID
		raw, err := tok.SignedString(with)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	same := func(*jwt.RegisteredClaims) {}
	ed := jwt.SigningMethodEdDSA
	for _, c := range []struct {
		name, header string
		ok           bool
	}{
		{"key", "Bearer " + key, true},
		{"scheme in lower case", "bearer " + key, true},
		{"token", "Bearer " + good, true},
		{"token of an older key", "Bearer " + sign(old, ed, old.Private, same), true},
		{"nothing", "", false},
		{"no scheme", key, false},
		{"other scheme", "Basic " + key, false},
		{"unknown key", "Bearer " + auth.KeyPrefix + "aaaa", false},
		{"not a token", "Bearer a.b.c", false},
		{"signed by another key of the same name", "Bearer " + sign(foreign, ed, foreign.Private, same), false},
		{"unknown key ID", "Bearer " + sign(auth.SigningKey{ID: "x"}, ed, current.Private, same), false},
		{"signed with the public key as a shared secret", "Bearer " + sign(current, jwt.SigningMethodHS256, []byte(current.Private.Public().(ed25519.PublicKey)), same), false},
		{"unsigned", "Bearer " + sign(current, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, same), false},
		{"other issuer", "Bearer " + sign(current, ed, current.Private, func(c *jwt.RegisteredClaims) { c.Issuer = "https://evil.example" }), false},
		{"other audience", "Bearer " + sign(current, ed, current.Private, func(c *jwt.RegisteredClaims) { c.Audience = jwt.ClaimStrings{"x"} }), false},
		{"no expiry", "Bearer " + sign(current, ed, current.Private, func(c *jwt.RegisteredClaims) { c.ExpiresAt = nil }), false},
		{"expired", "Bearer " + sign(current, ed, current.Private, func(c *jwt.RegisteredClaims) {
			c.ExpiresAt = jwt.NewNumericDate(clock.Now().Add(-time.Minute))
		}), false},
		{"unknown subject", "Bearer " + sign(current, ed, current.Private, func(c *jwt.RegisteredClaims) { c.Subject = "usr_gone" }), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, _, err := a.Authenticate(ctx, c.header)
			if c.ok != (err == nil && v == ada) {
				t.Errorf("got %v, %v", v, err)
			}
			if err != nil && !errors.Is(err, auth.ErrUnauthenticated) {
				t.Errorf("the caller learns more than it should: %v", err)
			}
		})
	}

	clock.Advance(2 * time.Minute)
	if _, _, err := a.Authenticate(ctx, "Bearer "+good); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("a token outlives its life: %v", err)
	}
}

func TestTokenLife(t *testing.T) {
	clock := clockwork.NewFakeClock()
	a := auth.New(auth.Config{Keys: auth.NewKeyring(signingKey(t, "k")), Issuer: "i", Clock: clock})
	if _, _, err := a.Token(nil, time.Minute); err == nil {
		t.Error("nobody got a token")
	}
	_, expires, err := a.Token(&viewer.Viewer{ID: "usr_a"}, 100*time.Hour)
	if err != nil || expires.After(clock.Now().Add(auth.MaxTokenLife)) {
		t.Errorf("lives until %v, %v", expires, err)
	}
}

func FuzzAuthenticate(f *testing.F) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	a := auth.New(auth.Config{Directory: directory{}, Keys: auth.NewKeyring(auth.SigningKey{ID: "k", Private: private}), Issuer: "i", Clock: clockwork.NewRealClock()})
	link, _ := auth.NewLink()
	for _, header := range []string{"Bearer a.b.c", "Bearer hky_x", "Basic YTpi", "Bearer " + link, "Bearer " + auth.RefreshPrefix + strings.Repeat("a", 64)} {
		f.Add(header, `{}`)
	}
	f.Add("", `{"sub":"usr_ada","sid":"ses_1","iss":"i","aud":["hookyard"],"exp":1e300}`)
	f.Add("", `{"sub":["usr_ada"],"sid":{},"iss":"i","aud":"hookyard","exp":"x"}`)
	f.Fuzz(func(t *testing.T, header, claims string) {
		if v, _, err := a.Authenticate(context.Background(), header); v != nil || err == nil {
			t.Fatalf("%q was let in", strings.ToValidUTF8(header, "?"))
		}
		// The hub's own signature under claims that it would never make.
		encode := base64.RawURLEncoding.EncodeToString
		signed := encode([]byte(`{"alg":"EdDSA","kid":"k"}`)) + "." + encode([]byte(claims))
		raw := signed + "." + encode(ed25519.Sign(private, []byte(signed)))
		if v, _, err := a.Authenticate(context.Background(), "Bearer "+raw); v != nil || err == nil {
			t.Fatalf("%q was let in", strings.ToValidUTF8(claims, "?"))
		}
	})
}
