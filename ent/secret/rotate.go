package secret

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// A key is exchanged in steps, each of which leaves a file that works:
//
//	AddKey   the new key is known and opens; the old one still seals
//	Promote  the new key seals; the old one still opens
//	         (what is sealed is sealed anew, with Reseal)
//	DropOld  only the new one is left
//
// Before each step all processes have to know what the step before has made.

// Keys are the keys of a file, by their numbers.
type Keys struct {
	Primary uint32   // seals
	All     []uint32 // open; the newest last
}

// Newest is the key that was added last.
func (k Keys) Newest() uint32 { return k.All[len(k.All)-1] }

// String is how nodes tell each other of their keys.
func (k Keys) String() string { return fmt.Sprint(k.Primary, k.All) }

// Keys returns what the Box works with.
func (b *Box) Keys() Keys {
	var out Keys
	info := b.keys.Load().handle.KeysetInfo()
	out.Primary = info.GetPrimaryKeyId()
	for _, k := range info.GetKeyInfo() {
		out.All = append(out.All, k.GetKeyId())
	}
	return out
}

// Reload reads the file again if it has changed. A file that cannot be read leaves the
// keys as they are.
func (b *Box) Reload(ctx context.Context) (changed bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var known []byte
	if k := b.keys.Load(); k != nil {
		known = k.file
	}
	k, err := read(ctx, b.path, b.kek, known)
	if err != nil || k == nil {
		return false, err
	}
	b.keys.Store(k)
	return true, nil
}

// AddKey adds a key to the file that opens, and seals nothing yet.
func (b *Box) AddKey(ctx context.Context) error {
	return b.change(ctx, func(m *keyset.Manager, _ Keys) error {
		_, err := m.Add(aead.AES256GCMKeyTemplate())
		return err
	})
}

// Promote lets the newest key seal.
func (b *Box) Promote(ctx context.Context) error {
	return b.change(ctx, func(m *keyset.Manager, k Keys) error { return m.SetPrimary(k.Newest()) })
}

// DropOld removes all keys but the one that seals.
func (b *Box) DropOld(ctx context.Context) error {
	return b.change(ctx, func(m *keyset.Manager, k Keys) error {
		var errs []error
		for _, id := range k.All {
			if id != k.Primary {
				errs = append(errs, m.Delete(id))
			}
		}
		return errors.Join(errs...)
	})
}

// change replaces the file by a changed one, whole.
func (b *Box) change(ctx context.Context, do func(*keyset.Manager, Keys) error) error {
	if _, err := b.Reload(ctx); err != nil {
		return err
	}
	m := keyset.NewManagerFromHandle(b.keys.Load().handle)
	err := do(m, b.Keys())
	if err == nil {
		var h *keyset.Handle
		if h, err = m.Handle(); err == nil {
			err = write(ctx, b.path, b.kek, h, func(temporary string) error { return os.Rename(temporary, b.path) })
		}
	}
	if err != nil {
		return fmt.Errorf("change the key file %s: %w", b.path, err)
	}
	_, err = b.Reload(ctx)
	return err
}

// Reseal seals what another key has sealed with the primary one; changed is false when
// that one has.
func (b *Box) Reseal(id, field string, sealed []byte) (fresh []byte, changed bool, err error) {
	// Tink puts a 1 and the key's number in front.
	if len(sealed) > 5 && sealed[0] == 1 && binary.BigEndian.Uint32(sealed[1:5]) == b.Keys().Primary {
		return sealed, false, nil
	}
	plain, err := b.Unseal(id, field, sealed)
	if err != nil || plain == nil {
		return sealed, false, err
	}
	defer clear(plain)
	fresh, err = b.Seal(id, field, slices.Clip(plain))
	return fresh, true, err
}
