package secret

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

func newBox(t *testing.T, path string) *Box {
	t.Helper()
	b, err := Open(t.Context(), Config{KeyFile: path})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSealedIsBoundToItsRowAndField(t *testing.T) {
	b := newBox(t, filepath.Join(t.TempDir(), "secret.key"))
	sealed, err := b.Seal("end_1", "secrets", []byte("hunter2"))
	if err != nil || bytes.Contains(sealed, []byte("hunter2")) {
		t.Fatalf("sealed %q, %v", sealed, err)
	}
	if plain, err := b.Unseal("end_1", "secrets", sealed); err != nil || string(plain) != "hunter2" {
		t.Errorf("unsealed %q, %v", plain, err)
	}
	for _, other := range [][2]string{{"end_2", "secrets"}, {"end_1", "authorization"}, {"end_1\x00secrets", ""}} {
		if plain, err := b.Unseal(other[0], other[1], sealed); err == nil {
			t.Errorf("opened for %q: %q", other, plain)
		}
	}
	if plain, err := b.Unseal("end_1", "secrets", nil); plain != nil || err != nil {
		t.Errorf("nothing gave %q, %v", plain, err)
	}
}

func TestJSON(t *testing.T) {
	b := newBox(t, filepath.Join(t.TempDir(), "secret.key"))
	want := map[string]string{"token": "a", "header:X-Key": "b"}
	sealed, err := b.SealJSON("end_1", "secrets", want)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := b.UnsealJSON("end_1", "secrets", sealed, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	var wrong int
	if err := b.UnsealJSON("end_1", "secrets", sealed, &wrong); err == nil || strings.Contains(err.Error(), "token") {
		t.Errorf("an error that is missing or tells: %v", err)
	}
}

func TestKeyFileIsMadeOnceAndPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret.key")
	boxes := make([]*Box, 8)
	var wg sync.WaitGroup
	for i := range boxes {
		wg.Go(func() { boxes[i], _ = Open(context.Background(), Config{KeyFile: path}) })
	}
	wg.Wait()
	sealed, err := boxes[0].Seal("a", "b", []byte("c"))
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range append(boxes, newBox(t, path)) {
		if _, err := b.Unseal("a", "b", sealed); err != nil {
			t.Errorf("opened at start %d: %v", i, err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestAnotherKeyDoesNotOpen(t *testing.T) {
	sealed, err := newBox(t, filepath.Join(t.TempDir(), "a")).Seal("a", "b", []byte("c"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newBox(t, filepath.Join(t.TempDir(), "b")).Unseal("a", "b", sealed); err == nil {
		t.Error("opened with another key")
	}
}

// A KMS is stood in for by a local key with the same interface.
func TestKeysetEncryptedByKMS(t *testing.T) {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	local, err := aead.New(h)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "secret.key")
	first, err := open(t.Context(), path, remote{local})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := first.Seal("a", "b", []byte("c"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := open(t.Context(), path, remote{local})
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := again.Unseal("a", "b", sealed); err != nil || string(plain) != "c" {
		t.Errorf("%q, %v", plain, err)
	}
	if _, err := Open(t.Context(), Config{KeyFile: path}); err == nil {
		t.Error("the encrypted key file opened without the KMS")
	}
	if _, err := Open(t.Context(), Config{KeyFile: path, KMS: "aws-kms://key"}); err == nil || !strings.Contains(err.Error(), "hcvault://") {
		t.Errorf("a KMS that is not built in: %v", err)
	}
}
