package host

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"aead.dev/minisign"
)

// NewPublisherKey writes a new key that packages are signed with, encrypted by a
// password, to file+".key", and what operators need to know of it to file+".pub".
func NewPublisherKey(file, password string) error {
	public, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	sealed, err := minisign.EncryptKey(password, private)
	if err != nil {
		return fmt.Errorf("encrypt the key: %w", err)
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
