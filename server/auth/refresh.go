package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"strings"

	"github.com/hookyard/hookyard/ent/secret"
)

// RefreshPrefix begins every refresh token, LinkPrefix the secret of every one-time link.
const (
	RefreshPrefix = "hkr_"
	LinkPrefix    = "hkl_"
)

// half is how long the two parts of a refresh token are: what all tokens of a session
// have in common, and what makes this one.
const half = 32

// newRefresh makes the first refresh token of a session, and the key by which one token
// leads to the next. Who knows a token but not the key cannot tell the next.
func newRefresh() (token string, chain []byte) {
	chain = make([]byte, 32)
	_, _ = rand.Read(chain) // never fails
	return RefreshPrefix + random() + random(), chain
}

// family is what all refresh tokens of a session have in common; ok is false for what
// cannot be a token.
func family(token string) (f string, ok bool) {
	rest, ok := strings.CutPrefix(token, RefreshPrefix)
	if !ok || len(rest) != 2*half || strings.Trim(rest, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		return "", false
	}
	return rest[:half], true
}

// nextRefresh is the token that follows. It is always the same one, so that whoever lost
// the answer may ask again.
func nextRefresh(token string, chain []byte) string {
	mac := hmac.New(sha256.New, chain)
	_, _ = mac.Write([]byte(token))
	return token[:len(RefreshPrefix)+half] + letters(mac.Sum(nil)[:20])
}

// NewLink makes the secret of a one-time link.
func NewLink() (link, hash string) {
	link = LinkPrefix + random()
	return link, secret.Hash(link)
}
