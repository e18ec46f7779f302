package secret

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Two processes share a file while one of them exchanges the key: at no step can one not
// open what the other has sealed, provided that it may look at the file again.
func TestKeyIsExchanged(t *testing.T) {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	key, err := aead.New(h)
	if err != nil {
		t.Fatal(err)
	}
	for name, kek := range map[string]tink.AEADWithContext{"in the clear": nil, "wrapped": remote{key}} {
		t.Run(name, func(t *testing.T) {
			ctx, path := t.Context(), filepath.Join(t.TempDir(), "secret.key")
			one, err := open(ctx, path, kek)
			if err != nil {
				t.Fatal(err)
			}
			two, err := open(ctx, path, kek)
			if err != nil {
				t.Fatal(err)
			}
			first := one.Keys().Primary
			old, _ := one.Seal("end_1", "secrets", []byte("hunter2"))
			both := func(step string) {
				t.Helper()
				for from, to := range map[*Box]*Box{one: two, two: one} {
					sealed, err := from.Seal("end_1", "secrets", []byte("hunter3"))
					if err != nil {
						t.Fatal(err)
					}
					if plain, err := to.Unseal("end_1", "secrets", sealed); err != nil || string(plain) != "hunter3" {
						t.Errorf("%s: %q, %v", step, plain, err)
					}
				}
			}
			both("before")
			if err := one.AddKey(ctx); err != nil {
				t.Fatal(err)
			}
			if k := one.Keys(); len(k.All) != 2 || k.Primary != first || k.Newest() == first {
				t.Errorf("added: %v", k)
			}
			both("added")
			if err := one.Promote(ctx); err != nil {
				t.Fatal(err)
			}
			if k := one.Keys(); k.Primary == first || k.Primary != k.Newest() {
				t.Errorf("promoted: %v", k)
			}
			both("promoted") // the other one reads the file by itself
			if two.Keys().String() != one.Keys().String() {
				t.Errorf("the other one works with %v", two.Keys())
			}
			fresh, changed, err := one.Reseal("end_1", "secrets", old)
			if err != nil || !changed || bytes.Equal(fresh, old) {
				t.Errorf("sealed anew: %v, %v", changed, err)
			}
			if _, changed, err := one.Reseal("end_1", "secrets", fresh); err != nil || changed {
				t.Errorf("sealed anew twice: %v, %v", changed, err)
			}
			if err := one.DropOld(ctx); err != nil {
				t.Fatal(err)
			}
			both("dropped")
			if k := one.Keys(); len(k.All) != 1 || k.Primary == first {
				t.Errorf("dropped: %v", k)
			}
			if _, err := one.Unseal("end_1", "secrets", old); err == nil {
				t.Error("the old key still opens")
			}
			if plain, err := one.Unseal("end_1", "secrets", fresh); err != nil || string(plain) != "hunter2" {
				t.Errorf("%q, %v", plain, err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the file: %v, %v", info, err)
			}
			if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := two.Reload(ctx); err == nil {
				t.Error("a damaged file was read")
			}
			if plain, err := two.Unseal("end_1", "secrets", fresh); err != nil || string(plain) != "hunter2" {
				t.Errorf("with a damaged file: %q, %v", plain, err)
			}
		})
	}
}
