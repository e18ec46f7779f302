// Package secret encrypts what must not be readable in the database or its backups:
// signing secrets, credentials of endpoints and sources, the hub's own keys.
//
// Place: beside ent/store. Callers seal before they write a row and unseal where a
// value is used; nothing in between, ent included, ever sees a secret.
//
// Guarantees: a sealed value opens only for the row and the field that it was sealed
// for, so a value copied to another row is worth nothing there. A key is made once,
// kept in a file with mode 0600, and never overwritten. The file is a Tink keyset:
// it may hold several keys, the primary one seals and all of them open, so keys can
// be rotated without a change of format and while nodes run (see rotate.go).
//
// With a KMS, the keyset itself is encrypted by a key that never leaves the KMS
// (envelope encryption): the KMS is asked once, at start, and not per value.
package secret

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/vault/api"
	"github.com/tink-crypto/tink-go-hcvault/v2/integration/hcvault"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Box seals and opens. It takes a key file up that has changed: at Reload, and when it
// meets what no key that it knows has sealed. Safe for concurrent use.
type Box struct {
	path string
	kek  tink.AEADWithContext // nil: the file is in the clear
	keys atomic.Pointer[keys]
	mu   sync.Mutex // held while the file is read
}

// keys are a key file's content.
type keys struct {
	aead   tink.AEAD
	handle *keyset.Handle
	file   []byte
}

// Config says where the key is.
type Config struct {
	// KeyFile holds the keyset. It is made when missing. All nodes on one database
	// need the same file.
	KeyFile string
	// KMS is the URI of the key that encrypts KeyFile: "hcvault://host/transit/keys/name"
	// (Vault's own environment variables, VAULT_TOKEN and the rest, say how). "": the file is in the clear.
	KMS string
}

// keysetUse is bound to the encrypted keyset, so that the KMS opens it as nothing else.
const keysetUse = "hookyard keyset"

// Open reads the key, or makes it.
func Open(ctx context.Context, cfg Config) (*Box, error) {
	kek, err := kms(cfg.KMS)
	if err != nil {
		return nil, err
	}
	return open(ctx, cfg.KeyFile, kek)
}

func kms(uri string) (tink.AEADWithContext, error) {
	if uri == "" {
		return nil, nil
	}
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "hcvault" || u.Host == "" {
		return nil, fmt.Errorf("the KMS URI %q: only hcvault://host:port/transit/keys/name is built in", uri)
	}
	cfg := api.DefaultConfig()
	if os.Getenv(api.EnvVaultAddress) == "" {
		cfg.Address = "https://" + u.Host
	}
	vault, err := api.NewClient(cfg)
	if err != nil {
		return nil, fmt.Errorf("set up the KMS client: %w", err)
	}
	client, err := hcvault.NewClientWithAEADOptions(uri, vault.Logical())
	if err != nil {
		return nil, fmt.Errorf("set up the KMS client: %w", err)
	}
	key, err := client.GetAEAD(uri)
	if err != nil {
		return nil, fmt.Errorf("find the KMS key %q: %w", uri, err)
	}
	return remote{key}, nil
}

// remote is a KMS key that cannot be interrupted.
type remote struct{ tink.AEAD }

func (r remote) EncryptWithContext(_ context.Context, plain, bound []byte) ([]byte, error) {
	return r.Encrypt(plain, bound)
}

func (r remote) DecryptWithContext(_ context.Context, sealed, bound []byte) ([]byte, error) {
	return r.Decrypt(sealed, bound)
}

func open(ctx context.Context, path string, kek tink.AEADWithContext) (*Box, error) {
	if err := create(ctx, path, kek); err != nil {
		return nil, fmt.Errorf("make the key file %s: %w", path, err)
	}
	b := &Box{path: path, kek: kek}
	_, err := b.Reload(ctx)
	if err != nil {
		return nil, err
	}
	return b, nil
}

// read reads the key file, unless it is what is known already: then it returns nil.
func read(ctx context.Context, path string, kek tink.AEADWithContext, known []byte) (*keys, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the key file: %w", err)
	}
	if bytes.Equal(b, known) {
		return nil, nil
	}
	var h *keyset.Handle
	if r := keyset.NewJSONReader(bytes.NewReader(b)); kek == nil {
		h, err = insecurecleartextkeyset.Read(r)
	} else {
		h, err = keyset.ReadWithContext(ctx, r, kek, []byte(keysetUse))
	}
	if err != nil { // Tink's errors hold no key material
		return nil, fmt.Errorf("read the key file %s: it is damaged, or was made with another KMS setting: %w", path, err)
	}
	a, err := aead.New(h)
	if err != nil {
		return nil, fmt.Errorf("use the key file %s: %w", path, err)
	}
	return &keys{a, h, b}, nil
}

// create makes the key file unless there is one. It appears whole or not at all, and
// of two processes that make it at once, one wins.
func create(ctx context.Context, path string, kek tink.AEADWithContext) (err error) {
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return err
	}
	return write(ctx, path, kek, h, func(temporary string) error {
		if err := os.Link(temporary, path); !errors.Is(err, os.ErrExist) {
			return err
		}
		return nil
	})
}

// write writes a key file whole under another name, and has put give it its own.
func write(ctx context.Context, path string, kek tink.AEADWithContext, h *keyset.Handle, put func(temporary string) error) (err error) {
	var b bytes.Buffer
	if w := keyset.NewJSONWriter(&b); kek == nil {
		err = insecurecleartextkeyset.Write(h, w)
	} else {
		err = h.WriteWithContext(ctx, w, kek, []byte(keysetUse))
	}
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".key-") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if gone := os.Remove(f.Name()); !errors.Is(gone, os.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}()
	_, err = f.Write(b.Bytes())
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := put(f.Name()); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func bound(id, field string) []byte { return []byte("hookyard\x00" + id + "\x00" + field) }

// Seal encrypts plain for one field of the row with the ID.
func (b *Box) Seal(id, field string, plain []byte) ([]byte, error) {
	sealed, err := b.keys.Load().aead.Encrypt(plain, bound(id, field))
	if err != nil {
		return nil, fmt.Errorf("seal %s of %s: %w", field, id, err)
	}
	return sealed, nil
}

// Unseal returns what was sealed for the same row and field; nil for nothing.
func (b *Box) Unseal(id, field string, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 {
		return nil, nil
	}
	plain, err := b.keys.Load().aead.Decrypt(sealed, bound(id, field))
	if err != nil {
		// Another process may have sealed it with a key that is new.
		if changed, gone := b.Reload(context.Background()); changed && gone == nil {
			plain, err = b.keys.Load().aead.Decrypt(sealed, bound(id, field))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open %s of %s: it was sealed with another key, or for another row or field", field, id)
	}
	return plain, nil
}

// SealJSON seals v as JSON: a map of values by name, or a list with the current one first.
func (b *Box) SealJSON(id, field string, v any) ([]byte, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("seal %s of %s: %w", field, id, err)
	}
	return b.Seal(id, field, plain)
}

// UnsealJSON reads into v what SealJSON sealed; nothing leaves v as it is.
func (b *Box) UnsealJSON(id, field string, sealed []byte, v any) error {
	plain, err := b.Unseal(id, field, sealed)
	if err != nil || plain == nil {
		return err
	}
	if err := json.Unmarshal(plain, v); err != nil {
		return fmt.Errorf("open %s of %s: it is not what was expected", field, id) // err may quote the secret
	}
	return nil
}
