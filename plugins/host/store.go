package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Store is the folder with the packages that the operator has installed on this machine:
//
//	connectors/<name>/<version>-<digest>/   a package, as it was checked when it was installed
//	publishers/<name>.pub                   keys of publishers whom the operator trusts
//
// Packages come and go whole, by renaming, one at a time; a version never changes.
type Store struct {
	dir, publishers string
	most            int64 // bytes of one package
}

// NewStore names the store in a hub's data folder. It need not be there yet.
func NewStore(dataDir string) *Store {
	return &Store{filepath.Join(dataDir, "connectors"), filepath.Join(dataDir, "publishers"), maxPackage}
}

// Stray is a folder of the store that is no package of it, or a file that is no publisher's key, and why.
type Stray struct {
	Path string
	Err  error
}

// incoming is what folders are called that are no packages yet, or no more.
const incoming = ".incoming-"

// Install checks a package (an archive or a folder) and puts it into the store. One that
// no trusted publisher has signed is taken only if unsigned is set. shipped are the
// names that are taken.
func (s *Store) Install(from string, unsigned bool, shipped []string) (p *Package, err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder for connectors: %w", err)
	}
	s.sweep()
	tmp, err := os.MkdirTemp(s.dir, incoming)
	if err != nil {
		return nil, fmt.Errorf("make a folder for the package: %w", err)
	}
	defer removeAll(tmp)
	if err := unpack(from, tmp, s.most); err != nil {
		return nil, err
	}
	if p, err = s.open(tmp); err != nil {
		return nil, err
	}
	if err := p.Verify(); err != nil {
		return nil, err
	}
	if p.System != "" && p.System != System() {
		return nil, fmt.Errorf("the package is for %s, and this machine is %s", p.System, System())
	}
	if slices.Contains(shipped, p.Name) {
		return nil, fmt.Errorf("%q is the name of a connector that the hub ships; the package needs another", p.Name)
	}
	if p.Publisher == "" && !unsigned {
		return nil, fmt.Errorf("no publisher whose key is in %s has signed this package: add the publisher's key with hookyard connector trust, or say --unsigned if you know where it comes from", s.publishers)
	}
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	installed, _, err := s.List()
	if err != nil {
		return nil, err
	}
	for _, other := range installed {
		switch {
		case other.Digest == p.Digest:
			return nil, fmt.Errorf("%s %s is installed already", p.Name, p.Version)
		case other.Name == p.Name && other.Version == p.Version:
			return nil, fmt.Errorf("%s %s is installed with other content (digest %s): a version never changes; give the new one another, or remove the old one", p.Name, p.Version, other.Digest)
		}
	}
	home := filepath.Join(s.dir, p.Name)
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, fmt.Errorf("make a folder for the package: %w", err)
	}
	to := filepath.Join(home, p.Version+"-"+p.Digest)
	for _, step := range []func() error{
		func() error { return syncAll(tmp) },
		func() error { return os.Rename(tmp, to) },
		func() error { return syncFile(home) },
		func() error { return syncFile(s.dir) },
	} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("put the package into its place: %w", err)
		}
	}
	p.dir = to
	return p, nil
}

// lock waits until nobody else installs or removes, in this process or another.
func (s *Store) lock() (unlock func(), err error) {
	f, err := os.Open(s.dir)
	if err == nil {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the folder for connectors: %w", err)
	}
	return func() { _ = f.Close() }, nil
}

// sweep removes what interrupted installations have left.
func (s *Store) sweep() {
	left, _ := filepath.Glob(filepath.Join(s.dir, incoming+"*"))
	for _, dir := range left {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > time.Hour {
			removeAll(dir)
		}
	}
}

// open reads what a folder says that it is.
func (s *Store) open(dir string) (*Package, error) {
	b, err := readBounded(filepath.Join(dir, ManifestFile), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the package has no %s; hookyard connector pack makes one", ManifestFile)
	}
	if err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	m, err := ReadManifest(b)
	if err != nil {
		return nil, err
	}
	p := &Package{Manifest: m, Digest: digestOf(b), Bytes: b, dir: dir}
	signature, err := readBounded(filepath.Join(dir, SignatureFile), maxSignature)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return p, nil
	case err != nil:
		return nil, fmt.Errorf("read the signature: %w", err)
	}
	p.Publisher, err = s.publisher(b, signature)
	return p, err
}

// List returns the packages, by name and version, without looking at their content; and
// what is in the store and is none.
func (s *Store) List() (list []*Package, strays []Stray, err error) {
	dirs, err := filepath.Glob(filepath.Join(s.dir, "*", "*"))
	if err != nil {
		return nil, nil, fmt.Errorf("look at the store: %w", err)
	}
	for _, dir := range dirs {
		home := filepath.Base(filepath.Dir(dir))
		if strings.HasPrefix(home, ".") {
			continue
		}
		p, err := s.open(dir)
		if err == nil && (home != p.Name || filepath.Base(dir) != p.Version+"-"+p.Digest) {
			err = fmt.Errorf("it is %s %s with the digest %s, which is not what it was installed as", p.Name, p.Version, p.Digest)
		}
		if err != nil {
			strays = append(strays, Stray{dir, err})
			continue
		}
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *Package) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return CompareVersions(a.Version, b.Version)
	})
	return list, strays, nil
}

// Print is different when something was installed or removed since, or a publisher's key
// was. It is cheap.
func (s *Store) Print() string {
	var b strings.Builder
	dirs, _ := filepath.Glob(filepath.Join(s.dir, "*", "*"))
	keys, _ := filepath.Glob(filepath.Join(s.publishers, "*.pub"))
	for _, path := range append(dirs, keys...) {
		b.WriteString(path)
		if info, err := os.Stat(path); err == nil {
			fmt.Fprint(&b, " ", info.ModTime().UnixNano(), "\n")
		}
	}
	return b.String()
}

// Find returns the packages of a name: all of them, or those of one version.
func (s *Store) Find(name, version string) ([]*Package, error) {
	list, _, err := s.List()
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(p *Package) bool { return p.Name != name || version != "" && p.Version != version })
	if len(list) == 0 {
		return nil, fmt.Errorf("%s %s is not installed here; hookyard connector list shows what is", name, version)
	}
	return list, nil
}

// Remove takes a package out of the store. Processes that run it go on until they end.
func (s *Store) Remove(p *Package) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	away, err := os.MkdirTemp(s.dir, incoming)
	if err == nil {
		err = os.Rename(p.dir, filepath.Join(away, "old"))
	}
	if err == nil {
		err = syncFile(filepath.Dir(p.dir))
	}
	removeAll(away)
	if err != nil {
		return fmt.Errorf("remove %s %s: %w", p.Name, p.Version, err)
	}
	_ = os.Remove(filepath.Dir(p.dir)) // once it is empty
	return nil
}

// syncAll has a folder and all that is in it on the disk.
func syncAll(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncFile(path)
	})
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > most {
		return nil, fmt.Errorf("%s is no file of at most %d bytes", filepath.Base(path), most)
	}
	return os.ReadFile(path)
}
