package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6238; authenticator programs know no other
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/hookyard/hookyard/ent/secret"
)

// Codes by time, RFC 6238: six figures, SHA-1, steps of 30 seconds. A code of the step
// before or after is taken, too, because clocks differ; each step only once.
const (
	stepLength = 30 * time.Second
	stepsAway  = 1
)

func newFactorSecret() []byte {
	b := make([]byte, 20)
	_, _ = rand.Read(b) // never fails
	return b
}

func factorText(secret []byte) string {
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)
}

// factorURI is what authenticator programs read, as text or as a picture of it.
func factorURI(secret []byte, issuer, account string) string {
	u := url.URL{Scheme: "otpauth", Host: "totp", Path: "/" + issuer + ":" + account,
		RawQuery: "secret=" + factorText(secret) + "&issuer=" + url.PathEscape(issuer)}
	return u.String()
}

// stepOf finds the step that a code belongs to, later than after; 0 is none.
func stepOf(secret []byte, code string, now time.Time, after int64) int64 {
	code = strings.ReplaceAll(code, " ", "")
	current := now.Unix() / int64(stepLength/time.Second)
	found := int64(0)
	for step := current - stepsAway; step <= current+stepsAway; step++ {
		same := subtle.ConstantTimeCompare([]byte(codeAt(secret, step)), []byte(code)) == 1
		if same && step > after {
			found = step
		}
	}
	return found
}

func codeAt(secret []byte, step int64) string {
	mac := hmac.New(sha1.New, secret)
	_ = binary.Write(mac, binary.BigEndian, step) // a hash never fails
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 0xf
	n := binary.BigEndian.Uint32(sum[at:at+4]) & 0x7fffffff
	return fmt.Sprintf("%06d", n%1_000_000)
}

// recoveryCodes is how many there are at first.
const recoveryCodes = 10

// newRecoveryCodes makes codes of 80 bits, "abcd-efgh-ijkl-mnop", and their hashes.
func newRecoveryCodes() (codes, hashes []string) {
	for range recoveryCodes {
		s := random()[:16]
		codes = append(codes, s[:4]+"-"+s[4:8]+"-"+s[8:12]+"-"+s[12:])
		hashes = append(hashes, secret.Hash(s))
	}
	return codes, hashes
}

// recoveryHash is how a recovery code is kept, however people write it; "" for what
// cannot be one.
func recoveryHash(code string) string {
	s := strings.ToLower(strings.NewReplacer("-", "", " ", "").Replace(code))
	if len(s) != 16 {
		return ""
	}
	return secret.Hash(s)
}
