package presence

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// AgentID is the name of an agent, by its public key.
func AgentID(key []byte) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

// suite is what secrets are sealed with: HPKE (RFC 9180) over X25519.
func suite() (hpke.KEM, hpke.KDF, hpke.AEAD) {
	return hpke.DHKEM(ecdh.X25519()), hpke.HKDFSHA256(), hpke.AES256GCM()
}

// sealedFor binds what is sealed to its use: it opens for no other agent or endpoint.
func sealedFor(key []byte, ref string) []byte {
	return []byte("hookyard presence secrets 1\x00" + AgentID(key) + "\x00" + ref)
}

// Seal encrypts the secrets of an endpoint, by name, for the agent with the public key.
func Seal(key []byte, ref string, secrets map[string]string) ([]byte, error) {
	kem, kdf, aead := suite()
	public, err := kem.NewPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("read the agent's key: %w", err)
	}
	plain, err := json.Marshal(secrets)
	if err != nil {
		return nil, fmt.Errorf("write secrets: %w", err)
	}
	return hpke.Seal(public, kdf, aead, sealedFor(key, ref), plain)
}

// Key is an agent's own key. Its bytes are in the agent's data folder and nowhere else.
type Key struct {
	private hpke.PrivateKey
	Public  []byte
}

// NewKey makes a key.
func NewKey() (*Key, error) {
	kem, _, _ := suite()
	k, err := kem.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return &Key{k, k.PublicKey().Bytes()}, nil
}

// ParseKey reads what Bytes wrote.
func ParseKey(b []byte) (*Key, error) {
	kem, _, _ := suite()
	k, err := kem.NewPrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	return &Key{k, k.PublicKey().Bytes()}, nil
}

// Bytes are the private key.
func (k *Key) Bytes() ([]byte, error) { return k.private.Bytes() }

// Open decrypts what Seal made for this key.
func (k *Key) Open(ref string, sealed []byte) (map[string]string, error) {
	_, kdf, aead := suite()
	plain, err := hpke.Open(k.private, kdf, aead, sealedFor(k.Public, ref), sealed)
	if err != nil {
		return nil, fmt.Errorf("open the secrets of %s: %w", ref, err)
	}
	var secrets map[string]string
	if err := json.Unmarshal(plain, &secrets); err != nil {
		return nil, fmt.Errorf("read the secrets of %s: they are not JSON", ref) // the cause would quote them
	}
	return secrets, nil
}
