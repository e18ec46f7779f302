package host

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"aead.dev/minisign"
)

// readPublisherKey reads one, or one that minisign's own tool has made.
func readPublisherKey(file, password string) (*minisign.PrivateKey, error) {
	b, err := readBounded(file, maxSignature)
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	var k minisign.PrivateKey
	switch encrypted := minisign.IsEncrypted(b); {
	case encrypted && password == "":
		return nil, fmt.Errorf("the key %s has a password, and none was given: set HOOKYARD_SIGNING_PASSWORD", file)
	case encrypted:
		if k, err = minisign.DecryptKey(password, b); err != nil {
			return nil, fmt.Errorf("this is not the password of the key %s, or the file is damaged: %w", file, err)
		}
	default:
		if err := k.UnmarshalText(b); err != nil {
			return nil, fmt.Errorf("read the key %s: %w", file, err)
		}
	}
	return &k, nil
}

// NewPublisherKey writes a new key that packages are signed with, encrypted if there is a
// password (which takes a GiB of memory, by minisign's rules), to file+".key", and what
// operators need to know of it to file+".pub".
func NewPublisherKey(file, password string) error {
	public, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	sealed, err := private.MarshalText()
	if password != "" {
		sealed, err = minisign.EncryptKey(password, private)
	}
	if err != nil {
		return fmt.Errorf("write the key down: %w", err)
	}
	text, err := public.MarshalText()
	if err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	for _, f := range []struct {
		name string
		mode os.FileMode
		b    []byte
	}{{file + ".key", 0o600, sealed}, {file + ".pub", 0o644, append(text, '\n')}} {
		out, err := os.OpenFile(f.name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, f.mode)
		if err != nil {
			return fmt.Errorf("write the key: %w", err)
		}
		_, err = out.Write(f.b)
		if err := errors.Join(err, out.Close()); err != nil {
			return fmt.Errorf("write the key: %w", err)
		}
	}
	return nil
}
