package host

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAFolderIsMeasured(t *testing.T) {
	dir := t.TempDir()
	f := folder(dir)
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	content := make([]byte, 1<<20)
	for i := range content {
		content[i] = byte(i)
	}
	write := func(name string) *os.File {
		t.Helper()
		file, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = file.Close() })
		if _, err := file.Write(content); err != nil {
			t.Fatal(err)
		}
		if err := file.Sync(); err != nil { // what is on disk is known then
			t.Fatal(err)
		}
		return file
	}
	_, hidden := write("a/b/deep"), write("removed")
	if err := os.Remove(hidden.Name()); err != nil {
		t.Fatal(err)
	}
	if size, files := f.measure(os.Getpid()); size < 2<<20 || size > 3<<20 || files != 5 {
		t.Errorf("measured %d bytes in %d files: one of the two MiB is of a file that was removed", size, files)
	}
	if err := f.overfull(os.Getpid(), 3<<20); err != nil {
		t.Error(err)
	}
	if err := f.overfull(os.Getpid(), 3<<19); err == nil || !strings.Contains(err.Error(), "2 MiB") {
		t.Errorf("got %v", err)
	}
}

// A process names what the host connects to: nothing but a socket in its folder.
func TestTheHostConnectsIntoTheFolderOnly(t *testing.T) {
	dir := shortTempDir(t)
	inner := filepath.Join(dir, "own")
	if err := os.Mkdir(inner, 0o700); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(inner)
	outside, err := net.Listen("unix", filepath.Join(dir, "outside"))
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	own, err := net.Listen("unix", filepath.Join(inner, "own"))
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if err := os.Symlink(outside.Addr().String(), filepath.Join(inner, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(inner, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	translate := inFolder(inner)
	for _, a := range [][2]string{{"tcp", "169.254.169.254:80"}, {"unix", outside.Addr().String()}, {"unix", filepath.Join(inner, "link")},
		{"unix", filepath.Join(inner, "file")}, {"unix", inner + "/../outside"}, {"unix", "own"}} {
		if _, _, err := translate.PluginToHost(a[0], a[1]); err == nil {
			t.Errorf("%v is talked to", a)
		}
	}
	if _, _, err := translate.PluginToHost("unix", own.Addr().String()); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"link", "file", "../outside", "..", "", "nothing", outside.Addr().String()} {
		if c, err := folder(inner).dial(name); err == nil {
			t.Errorf("%q is connected to", name)
			_ = c.Close()
		}
	}
	c, err := folder(inner).dial("own")
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

func TestFoldersOfDeadHubsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{"hookyard-1", "hookyard-2", "hookyard-3", "other-1"} {
		if err := os.MkdirAll(filepath.Join(dir, name, "plugin-dir"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(dir, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	alive, err := lockFolder(filepath.Join(dir, "hookyard-2"))
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	now := time.Now()
	if err := os.Chtimes(filepath.Join(dir, "hookyard-3"), now, now); err != nil { // of a hub that is just starting
		t.Fatal(err)
	}
	sweep(filepath.Join(dir, "hookyard-*"), now.Add(-time.Minute))
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 3 || filepath.Base(left[0]) != "hookyard-2" {
		t.Errorf("%v are left", left)
	}
}
