package connectors

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
)

// DecodeBody reads a body as receivers do: what is not JSON is refused with 400, a value of
// the wrong kind with 422 and its path. NUL characters, which no database keeps in
// text, become U+FFFD; members that v does not know are left out.
func DecodeBody(body []byte, v any) error {
	if !json.Valid(body) {
		return Refuse(http.StatusBadRequest, "", "the body is not JSON")
	}
	err := json.Unmarshal(withoutNUL(body), v)
	var wrong *json.UnmarshalTypeError
	var refused *RefuseError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return refused
	case errors.As(err, &wrong) && wrong.Field == "":
		return Refuse(http.StatusUnprocessableEntity, "", "the body must be a JSON object, not %s", article(wrong.Value))
	case errors.As(err, &wrong):
		return Refuse(http.StatusUnprocessableEntity, wrong.Field, "must not be %s", article(wrong.Value))
	}
	return Refuse(http.StatusUnprocessableEntity, "", "a value of the body cannot be read")
}

func article(kind string) string {
	kind, _, _ = strings.Cut(kind, " ") // numbers come with their digits
	switch kind {
	case "bool":
		return "true or false"
	case "array", "object":
		return "an " + kind
	}
	return "a " + kind
}

// withoutNUL writes U+FFFD for each NUL that a string of the JSON text holds.
func withoutNUL(body []byte) []byte {
	const nul, instead = `\u0000`, `\ufffd`
	if !bytes.Contains(body, []byte(nul)) {
		return body
	}
	out := bytes.Clone(body)
	for i := 0; i < len(out); i++ {
		if out[i] != '\\' {
			continue
		}
		if bytes.HasPrefix(out[i:], []byte(nul)) {
			copy(out[i:], instead)
		}
		i++ // what is escaped begins no escape
	}
	return out
}

// maxIdentity is the longest name, in bytes, that every index takes.
const maxIdentity = 512

// Identity joins parts that together name one thing, for Incoming.Key and a noun's Key.
// What is too long for an index becomes a digest.
func Identity(parts ...string) string {
	s := strings.Join(parts, " ")
	if len(s) > maxIdentity {
		return Digest([]byte(s))
	}
	return s
}

// Digest is the SHA-256 of b in words: "sha256:" and hex. It does for Incoming.State.
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}
