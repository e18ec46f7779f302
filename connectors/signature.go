package connectors

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // some vendors sign with HMAC-SHA1, which is not broken; the rule is theirs
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// SignatureRule is a rule for HMAC signatures as data: the hub signs and verifies by it.
type SignatureRule struct {
	Header   string            `json:"header"`             // that carries the signature: "X-Acme-Signature"
	Hash     SignatureHash     `json:"hash,omitempty"`     // "" is SHA256
	Encoding SignatureEncoding `json:"encoding,omitempty"` // "" is HEX
	Prefix   string            `json:"prefix,omitempty"`   // before a signature: "sha256="; "v1,"
	// Separator stands between the signatures of two keys, while a secret is being
	// replaced. "": the header has room for one.
	Separator string `json:"separator,omitempty"`
	// Message is what is signed: "{body}" (and so when it is empty), "{timestamp}.{body}",
	// "{id}.{timestamp}.{body}". id is the delivery's, timestamp is in seconds since 1970.
	Message         string        `json:"message,omitempty"`
	IDHeader        string        `json:"idHeader,omitempty"`        // carries the id; "": none does
	TimestampHeader string        `json:"timestampHeader,omitempty"` // carries the timestamp; "": none does
	Tolerance       time.Duration `json:"tolerance,omitempty"`       // when verifying: how far the timestamp may be off; 0: any; nanoseconds in JSON
}

// SignatureHash is the hash below the HMAC.
type SignatureHash string

// The hashes.
const (
	SHA256 SignatureHash = "SHA256"
	SHA512 SignatureHash = "SHA512"
	SHA1   SignatureHash = "SHA1"
)

// SignatureEncoding is how a signature is written.
type SignatureEncoding string

// The encodings.
const (
	Hex    SignatureEncoding = "HEX"    // lower case; read in any case
	Base64 SignatureEncoding = "BASE64" // standard, padded
)

// Check says what is wrong with the rule itself.
func (r SignatureRule) Check() error {
	timed, named := strings.Contains(r.Message, "{timestamp}"), strings.Contains(r.Message, "{id}")
	switch {
	case r.Header == "":
		return fmt.Errorf("a signature rule needs a header")
	case r.newHash() == nil:
		return fmt.Errorf("%q is no hash for signatures; there are %s, %s and %s", r.Hash, SHA256, SHA512, SHA1)
	case r.Encoding != "" && r.Encoding != Hex && r.Encoding != Base64:
		return fmt.Errorf("%q is no encoding of signatures; there are %s and %s", r.Encoding, Hex, Base64)
	case r.Message != "" && strings.Count(r.Message, "{body}") != 1:
		return fmt.Errorf("the message %q must hold {body} once", r.Message)
	case timed && r.TimestampHeader == "", named && r.IDHeader == "":
		return fmt.Errorf("what is signed in %q must be in a header too, or nobody can verify it", r.Message)
	case r.Tolerance < 0 || r.Tolerance > 0 && !timed:
		return fmt.Errorf("a tolerance needs a timestamp that is signed")
	}
	return nil
}

func (r SignatureRule) newHash() func() hash.Hash {
	switch r.Hash {
	case "", SHA256:
		return sha256.New
	case SHA512:
		return sha512.New
	case SHA1:
		return sha1.New
	}
	return nil
}

// sum signs with one key.
func (r SignatureRule) sum(key []byte, id, timestamp string, body []byte) []byte {
	before, after, _ := strings.Cut(cmp.Or(r.Message, "{body}"), "{body}")
	fill := strings.NewReplacer("{id}", id, "{timestamp}", timestamp)
	mac := hmac.New(r.newHash(), key)
	_, _ = fill.WriteString(mac, before)
	_, _ = mac.Write(body)
	_, _ = fill.WriteString(mac, after)
	return mac.Sum(nil)
}

// Sign implements Signer.
func (r SignatureRule) Sign(keys [][]byte, deliveryID string, at time.Time, body []byte) ([]Header, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	timestamp := strconv.FormatInt(at.Unix(), 10)
	var out []Header
	if r.IDHeader != "" {
		out = append(out, Header{Name: r.IDHeader, Value: deliveryID})
	}
	if r.TimestampHeader != "" {
		out = append(out, Header{Name: r.TimestampHeader, Value: timestamp})
	}
	if len(keys) == 0 {
		return out, nil
	}
	if r.Separator == "" {
		keys = keys[:1]
	}
	list := make([]string, len(keys))
	for i, key := range keys {
		sum := r.sum(key, deliveryID, timestamp, body)
		if r.Encoding == Base64 {
			list[i] = r.Prefix + base64.StdEncoding.EncodeToString(sum)
		} else {
			list[i] = r.Prefix + hex.EncodeToString(sum)
		}
	}
	return append(out, Header{Name: r.Header, Value: strings.Join(list, r.Separator)}), nil
}

// Verify implements Verifier: one signature that is right by one secret is enough. Prefixes
// may be missing.
func (r SignatureRule) Verify(in Inbound, secrets [][]byte) error {
	if len(secrets) == 0 {
		return nil
	}
	if err := r.Check(); err != nil {
		return fmt.Errorf("verify a signature: %w", err)
	}
	value, timestamp := in.Header.Get(r.Header), ""
	if value == "" {
		return Refuse(http.StatusUnauthorized, r.Header, "the signature is missing")
	}
	if r.TimestampHeader != "" {
		timestamp = in.Header.Get(r.TimestampHeader)
		seconds, err := strconv.ParseInt(timestamp, 10, 64)
		if off := in.ReceivedAt.Sub(time.Unix(seconds, 0)).Abs(); r.Tolerance > 0 && (err != nil || off > r.Tolerance) {
			return Refuse(http.StatusUnauthorized, r.TimestampHeader, "the time is missing or more than %s off", r.Tolerance)
		}
	}
	given := []string{value}
	if r.Separator != "" {
		given = strings.Split(value, r.Separator)
	}
	for _, s := range given[:min(len(given), 16)] {
		sum, err := r.decode(strings.TrimPrefix(strings.TrimSpace(s), r.Prefix))
		for _, key := range secrets {
			if err == nil && hmac.Equal(sum, r.sum(key, in.Header.Get(r.IDHeader), timestamp, in.Body)) {
				return nil
			}
		}
	}
	return Refuse(http.StatusUnauthorized, r.Header, "the signature is not that of the agreed secret over these bytes")
}

func (r SignatureRule) decode(s string) ([]byte, error) {
	if r.Encoding == Base64 {
		return base64.StdEncoding.DecodeString(s)
	}
	return hex.DecodeString(s)
}

// once is a rule with room for one signature.
type once struct{ SignatureRule }

func (once) SignsOnce() {}

// SignerOf is how f signs, nil when it has no rule of its own: itself, or its
// SignatureRule.
func SignerOf(f Format) Signer {
	switch f := f.(type) {
	case Signer:
		return f
	case RuledFormat:
		rule := f.SignatureRule()
		if rule.Separator == "" {
			return once{rule}
		}
		return rule
	}
	return nil
}

// VerifierOf is how r verifies, nil when it does not: itself, or its SignatureRule.
func VerifierOf(r Receiver) Verifier {
	switch r := r.(type) {
	case Verifier:
		return r
	case RuledReceiver:
		return r.SignatureRule()
	}
	return nil
}
