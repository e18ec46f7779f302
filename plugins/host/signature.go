package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"aead.dev/minisign"
)

// Trust lets packages in that the key has signed. key is a minisign public key: the text
// of its file, or the one line of it that matters.
func (s *Store) Trust(name string, key []byte) (id string, err error) {
	if checkPath(name) != nil || strings.ContainsAny(name, "/.") {
		return "", fmt.Errorf("%q is no name for a publisher: letters, digits and hyphens", name)
	}
	k, err := publicKey(key)
	if err != nil {
		return "", err
	}
	text, err := k.MarshalText()
	if err != nil {
		return "", fmt.Errorf("write the key: %w", err)
	}
	if err := os.MkdirAll(s.publishers, 0o700); err != nil {
		return "", fmt.Errorf("make the folder for publishers: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(s.publishers, name+".pub"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("there is a publisher %q already: remove %s first", name, filepath.Join(s.publishers, name+".pub"))
	}
	if err != nil {
		return "", fmt.Errorf("keep the key: %w", err)
	}
	_, err = f.Write(append(text, '\n'))
	return fmt.Sprintf("%X", k.ID()), errors.Join(err, f.Close())
}

func publicKey(text []byte) (k minisign.PublicKey, err error) {
	if err := k.UnmarshalText([]byte(strings.TrimSpace(string(text)))); err != nil {
		return k, fmt.Errorf("this is no minisign public key: %w", err)
	}
	return k, nil
}

// publisher is the trusted publisher whose key has signed a manifest, "" none. A
// signature in the name of a trusted key that is not genuine is an error.
func (s *Store) publisher(manifest, signature []byte) (name string, err error) {
	var sig minisign.Signature
	if err := sig.UnmarshalText(signature); err != nil {
		return "", fmt.Errorf("%s is no minisign signature: %w", SignatureFile, err)
	}
	trusted, _ := s.keys()
	for _, k := range trusted {
		if k.ID() != sig.KeyID {
			continue
		}
		if !minisign.Verify(k.PublicKey, manifest, signature) {
			return "", fmt.Errorf("the signature is not that of %s, whose key it names: the package was changed", k.name)
		}
		return k.name, nil
	}
	return "", nil
}

// trusted is a publisher's key.
type trusted struct {
	minisign.PublicKey
	name string
}

// keys reads those of the publishers. A file that holds none trusts nobody, and spoils
// nothing but that.
func (s *Store) keys() (list []trusted, bad []Stray) {
	files, _ := filepath.Glob(filepath.Join(s.publishers, "*.pub")) // the pattern is right
	for _, file := range files {
		text, err := readBounded(file, maxSignature)
		var k minisign.PublicKey
		if err == nil {
			k, err = publicKey(text)
		}
		if err != nil {
			bad = append(bad, Stray{file, err})
			continue
		}
		list = append(list, trusted{k, strings.TrimSuffix(filepath.Base(file), ".pub")})
	}
	return list, bad
}

// BadKeys are the files among the publishers' keys that hold none: what their publishers
// have signed counts as unsigned.
func (s *Store) BadKeys() []Stray {
	_, bad := s.keys()
	return bad
}
