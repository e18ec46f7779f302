package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file that holds no key takes nothing along but the trust in its publisher.
func TestABadKeySpoilsOnlyItself(t *testing.T) {
	s := storeOf(t)
	signed := map[string]*Package{}
	for who, version := range map[string]string{"acme": "1.0.0", "bolt": "2.0.0"} {
		key := filepath.Join(t.TempDir(), who)
		if err := NewPublisherKey(key, ""); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(key + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Trust(who, text); err != nil {
			t.Fatal(err)
		}
		file, _ := pack(t, folderOf(t, "obedient", version), key+".key")
		if signed[who], err = s.Install(file, false, nil); err != nil || signed[who].Publisher != who {
			t.Fatalf("%+v %v", signed[who], err)
		}
	}
	before := s.Print()
	for name, text := range map[string]string{"bolt.pub": "no key", "aaron.pub": strings.Repeat("x", maxSignature+1)} {
		if err := os.WriteFile(filepath.Join(s.publishers, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(s.publishers, "folder.pub"), 0o700); err != nil {
		t.Fatal(err)
	}
	if s.Print() == before {
		t.Error("a running hub would not notice")
	}
	list, strays, err := s.List()
	if err != nil || len(strays) > 0 || len(list) != 2 || list[0].Publisher != "acme" || list[1].Publisher != "" {
		t.Errorf("%v, %v, %v", list, strays, err)
	}
	var bad []string
	for _, k := range s.BadKeys() {
		bad = append(bad, filepath.Base(k.Path))
	}
	if strings.Join(bad, " ") != "aaron.pub bolt.pub folder.pub" {
		t.Errorf("bad keys: %v", bad)
	}
}
