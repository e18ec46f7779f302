package host

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hookyard/hookyard/plugins"
)

// Package is a third party's connector as it is installed on this machine. What it says
// was read once; whatever else is in its folder later, only what fits to that is run.
type Package struct {
	*Manifest
	Digest    string // of the manifest, which names all other files by theirs
	Publisher string // whose key signed it; "" nobody whom the operator trusts
	Bytes     []byte // of the manifest
	dir       string
}

// Entry is the catalog's entry for an organization's process of the package.
func (p *Package) Entry(organization string) Entry {
	return Entry{Name: p.Name, Version: p.Version, Path: p.Run[0], Package: p, Organization: organization}
}

// interpreters is where the interpreter of a package is looked for.
const interpreters = "/usr/local/bin:/usr/bin:/bin"

// launch opens the program, checked, and copies the other files, checked, into a folder
// of their own below dir.
func (p *Package) launch(l *Launch, dir string) (err error) {
	l.Grants = p.Grants
	_, own := p.Files[p.Run[0]]
	if !own || len(p.Files) > 1 {
		if l.Files, err = p.copyFiles(dir); err != nil {
			return err
		}
	}
	if own {
		l.Path = filepath.Join(p.dir, filepath.FromSlash(p.Run[0]))
		l.Program, err = openChecked(l.Path, p.Files[p.Run[0]].SHA256)
	} else {
		if l.Path, err = interpreter(p.Run[0]); err == nil {
			l.Program, err = os.Open(l.Path)
		}
	}
	if err != nil {
		return err
	}
	l.own = true
	for _, a := range p.Run[1:] {
		if _, file := p.Files[a]; file {
			a = filepath.Join(l.Files, filepath.FromSlash(a))
		}
		l.Args = append(l.Args, a)
	}
	return nil
}

// interpreter finds a program of the machine.
func interpreter(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	for _, dir := range strings.Split(interpreters, ":") {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("this machine has no %s in %s, which the connector needs", name, interpreters)
}

// copyFiles copies everything into a new folder that is read-only afterwards, and checks
// the bytes as they are copied.
func (p *Package) copyFiles(dir string) (to string, err error) {
	if to, err = os.MkdirTemp(dir, "files"); err != nil {
		return "", fmt.Errorf("make a folder for the connector's files: %w", err)
	}
	defer func() {
		if err != nil {
			removeAll(to)
			to = ""
		}
	}()
	folders := map[string]bool{}
	for name, f := range p.Files {
		for d := path.Dir(name); d != "."; d = path.Dir(d) {
			folders[d] = true
		}
		if err := p.copyFile(filepath.Join(to, filepath.FromSlash(name)), name, f); err != nil {
			return to, err
		}
	}
	for _, d := range append(slices.SortedFunc(maps.Keys(folders), func(a, b string) int { return len(b) - len(a) }), ".") {
		if err := os.Chmod(filepath.Join(to, filepath.FromSlash(d)), 0o500); err != nil { //nolint:gosec // a folder
			return to, fmt.Errorf("close the folder with the connector's files: %w", err)
		}
	}
	return to, nil
}

func (p *Package) copyFile(to, name string, f PackageFile) error {
	in, err := os.Open(filepath.Join(p.dir, filepath.FromSlash(name)))
	if err != nil {
		return fmt.Errorf("open a file of the package: %w", err)
	}
	defer func() { _ = in.Close() }()
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return fmt.Errorf("copy the package: %w", err)
	}
	sum, _, err := writeFile(to, in, f.Size, f.Executable)
	if err != nil {
		return fmt.Errorf("copy %s: %w", name, err)
	}
	if sum != f.SHA256 {
		return fmt.Errorf("%s is not what the package was installed with: its SHA-256 is %s", name, sum)
	}
	return nil
}

// writeFile makes a new read-only file of at most max bytes and returns its digest.
func writeFile(to string, in io.Reader, most int64, executable bool) (sum string, n int64, err error) {
	mode := os.FileMode(0o400)
	if executable {
		mode = 0o500
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return "", 0, err
	}
	h := sha256.New()
	n, err = io.Copy(io.MultiWriter(out, h), io.LimitReader(in, most+1))
	if err == nil && n > most {
		err = fmt.Errorf("larger than %d bytes", most)
	}
	return hex.EncodeToString(h.Sum(nil)), n, errors.Join(err, out.Close())
}

// Verify holds every file of the installed package against its digest, and refuses what
// the manifest does not name.
func (p *Package) Verify() error {
	b, err := os.ReadFile(filepath.Join(p.dir, ManifestFile))
	if err != nil {
		return fmt.Errorf("read the manifest: %w", err)
	}
	if digestOf(b) != p.Digest {
		return fmt.Errorf("%s is not the one that was installed", ManifestFile)
	}
	seen := 0
	err = filepath.WalkDir(p.dir, func(file string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(p.dir, file)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if name == ManifestFile || name == SignatureFile {
			return nil
		}
		f, listed := p.Files[name]
		switch {
		case !listed:
			return fmt.Errorf("%.80q is not in the manifest", name)
		case !d.Type().IsRegular():
			return fmt.Errorf("%.80q is no plain file", name)
		}
		seen++
		return f.verify(file, name)
	})
	if err == nil && seen != len(p.Files) {
		err = fmt.Errorf("%d files of the manifest are missing", len(p.Files)-seen)
	}
	return err
}

func (f *PackageFile) verify(file, name string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if info.Size() != f.Size {
		return fmt.Errorf("%.80q has %d bytes, and %d in the manifest", name, info.Size(), f.Size)
	}
	if executable := info.Mode()&0o100 != 0; executable != f.Executable {
		return fmt.Errorf("%.80q: whether it is executable is not what the manifest says", name)
	}
	sum, err := sumFile(file)
	if err == nil && sum != f.SHA256 {
		err = fmt.Errorf("%.80q is not what the manifest says: its SHA-256 is %s", name, sum)
	}
	return err
}

func sumFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

// agrees says whether the process is what the manifest promised: settings are checked and
// shown by the manifest, deliveries are made by it, and what comes in is verified and read.
func (p *Package) agrees(d plugins.Description) error {
	s := d.Spec
	switch {
	case !slices.Equal(slices.Sorted(slices.Values(s.Abilities)), slices.Sorted(slices.Values(p.Abilities))):
		return fmt.Errorf("its abilities are %v, and %v in its manifest", s.Abilities, p.Abilities)
	case s.TakesRequest != p.TakesRequest:
		return errors.New("whether it takes requests or events is not what its manifest says")
	case !sameJSON(s.Settings, p.Settings), !sameJSON(s.SourceSettings, p.SourceSettings), !sameJSON(s.ScanSettings, p.ScanSettings):
		return errors.New("the schema of its settings is not the one in its manifest")
	case !sameNouns(d, p.About()):
		return errors.New("its formats, receivers and triggers are not those of its manifest")
	}
	return nil
}

// sameNouns compares them as they are written down.
func sameNouns(a, b plugins.Description) bool {
	text := func(d plugins.Description) string {
		b, err := json.Marshal([]any{d.Formats, d.Receivers, d.Triggers})
		if err != nil {
			return err.Error()
		}
		return strings.ReplaceAll(string(b), "null", "[]") // none are none
	}
	return text(a) == text(b)
}

func sameJSON(a, b []byte) bool {
	var x, y any
	_ = json.Unmarshal(a, &x)
	_ = json.Unmarshal(b, &y)
	a, errA := json.Marshal(x)
	b, errB := json.Marshal(y)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}
