package auth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode"

	"github.com/hookyard/hookyard/ent/viewer"
)

// TrustedIssuer is an outside issuer whose tokens an organization takes.
type TrustedIssuer struct {
	ID, Organization string
	Issuer, Audience string
	KeysURL          string // "" is where the issuer says
	Algorithms       []string
	GroupsClaim      string
}

// TrustedIssuers is where outside issuers are kept, and what their word is worth.
type TrustedIssuers interface {
	// Trusted finds those with this issuer and one of these audiences that are enabled
	// and whose organization is not suspended.
	Trusted(ctx context.Context, issuer string, audiences []string) ([]TrustedIssuer, error)
	// Outsider makes the viewer of a person that an issuer vouches for; nil when there
	// is no such user or no rule fits.
	Outsider(ctx context.Context, issuer string, who Person) (*viewer.Viewer, error)
}

// Outside turns tokens of outside issuers into viewers. It is safe for concurrent use.
type Outside struct {
	trusted TrustedIssuers
	issuers *Issuers
	log     *slog.Logger
}

// NewOutside returns an Outside.
func NewOutside(trusted TrustedIssuers, issuers *Issuers, log *slog.Logger) *Outside {
	return &Outside{trusted, issuers, log}
}

// maxToken is how long a token of an outside issuer may be, in bytes.
const maxToken = 16 << 10

// envelope is what is written on a token. Nobody vouches for it: it only says whose
// keys, algorithms, issuer and audience the token has to pass.
type envelope struct {
	Issuer   string
	Audience []string
}

// readEnvelope reads what is written on a token; ok is false for what is none.
func readEnvelope(raw string) (e envelope, ok bool) {
	if len(raw) > maxToken || strings.Count(raw, ".") != 2 {
		return envelope{}, false
	}
	_, rest, _ := strings.Cut(raw, ".")
	payload, _, _ := strings.Cut(rest, ".")
	b, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return envelope{}, false
	}
	var c map[string]json.RawMessage // by their exact names
	if json.Unmarshal(b, &c) != nil || json.Unmarshal(c["iss"], &e.Issuer) != nil {
		return envelope{}, false
	}
	if json.Unmarshal(c["aud"], &e.Audience) != nil {
		var one string
		if json.Unmarshal(c["aud"], &one) != nil {
			return envelope{}, false
		}
		e.Audience = []string{one}
	}
	for _, s := range append(e.Audience, e.Issuer) {
		if s == "" || strings.ContainsFunc(s, unicode.IsControl) {
			return envelope{}, false
		}
	}
	return e, len(e.Audience) > 0 && len(e.Audience) <= 20
}

// viewer finds the viewer of an outside token. The error is ErrUnauthenticated, wraps
// ErrCannotKnow, or is the storage's.
func (o *Outside) viewer(ctx context.Context, raw string, e envelope) (*viewer.Viewer, time.Time, error) {
	found, err := o.trusted.Trusted(ctx, e.Issuer, e.Audience)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("look a trusted issuer up: %w", err)
	}
	if len(found) != 1 { // of more than one it would be open in which organization it speaks
		return nil, time.Time{}, ErrUnauthenticated
	}
	t := found[0]
	token, err := o.issuers.verify(ctx, raw, expected{issuer: t.Issuer, audience: t.Audience, keysURL: t.KeysURL, algorithms: t.Algorithms})
	if err != nil {
		o.log.DebugContext(ctx, "a token of a trusted issuer is not taken", "issuer", t.ID, "why", err)
		if errors.Is(err, ErrUnauthenticated) {
			err = ErrUnauthenticated
		}
		return nil, time.Time{}, err
	}
	v, err := o.trusted.Outsider(ctx, t.ID, Person{Subject: token.subject, Email: token.claims.email(), Name: token.claims.text("name"), Groups: token.claims.values(t.GroupsClaim)})
	return v, token.expires.Add(Skew), err
}
