package secret

import (
	"crypto/sha256"
	"encoding/hex"
)

// Hash is how a secret is kept that only has to be recognised, such as a key or the token
// in an address: the hex SHA-256 of it. It is for secrets that were drawn at random, which
// nobody can try out; passwords are not.
func Hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
