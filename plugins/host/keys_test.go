package host

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aead.dev/minisign"
	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/scrypt"
)

// minisignKeys writes a pair of keys as minisign's own tool does, by its published formats and
// without the library that reads them here: the secret one encrypted with the password. It
// takes the least that the format lets a password cost.
func minisignKeys(t testing.TB, password string) (secret, public string) {
	t.Helper()
	var id, salt = []byte("\x01\x02\x03\x04\x05\x06\x07\x08"), bytes.Repeat([]byte{7}, 32)
	const opsLimit, memLimit = 1 << 15, 1 << 30
	stream, err := scrypt.Key([]byte(password), salt, 1<<10, 8, 1, 104)
	if err != nil {
		t.Fatal(err)
	}
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize))
	plain := append(bytes.Clone(id), key...)
	sum := blake2b.Sum256(append([]byte("Ed"), plain...))
	sealed := append(plain, sum[:]...)
	for i := range sealed {
		sealed[i] ^= stream[i]
	}
	b := append([]byte("EdScB2"), salt...)
	b = binary.LittleEndian.AppendUint64(b, opsLimit)
	b = binary.LittleEndian.AppendUint64(b, memLimit)
	b = append(b, sealed...)
	dir := t.TempDir()
	write := func(name, comment string, b []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte("untrusted comment: "+comment+"\n"+base64.StdEncoding.EncodeToString(b)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	return write("minisign.key", "minisign encrypted secret key", b),
		write("minisign.pub", "minisign public key 0807060504030201", append(append([]byte("Ed"), id...), key.Public().(ed25519.PublicKey)...))
}

// A key that minisign has made signs packages, with its password only.
func TestKeysHavePasswords(t *testing.T) {
	secret, public := minisignKeys(t, "right")
	for password, said := range map[string]string{"": "HOOKYARD_SIGNING_PASSWORD", "wrong": "not the password", "Right": "not the password", "right ": "not the password"} {
		if _, err := readPublisherKey(secret, password); err == nil || !strings.Contains(err.Error(), said) {
			t.Errorf("with the password %q: %v", password, err)
		}
	}
	k, err := readPublisherKey(secret, "right")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(public)
	if err != nil {
		t.Fatal(err)
	}
	s := storeOf(t)
	id, err := s.Trust("acme", text)
	if err != nil || id != "807060504030201" {
		t.Fatalf("trusted as %q: %v", id, err)
	}
	manifest := []byte("{}")
	if who, err := s.publisher(manifest, minisign.Sign(*k, manifest)); err != nil || who != "acme" {
		t.Errorf("signed by %q: %v", who, err)
	}
	// One without a password needs none, and minds none.
	plain := filepath.Join(t.TempDir(), "plain")
	if err := NewPublisherKey(plain, ""); err != nil {
		t.Fatal(err)
	}
	for _, password := range []string{"", "any"} {
		if _, err := readPublisherKey(plain+".key", password); err != nil {
			t.Errorf("with the password %q: %v", password, err)
		}
	}
	// What is no key is told from one whose password is wrong.
	if _, err := readPublisherKey(public, "right"); err == nil || strings.Contains(err.Error(), "password") {
		t.Errorf("a public key as a secret one: %v", err)
	}
}
