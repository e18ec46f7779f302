package host

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"aead.dev/minisign"
	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/plugins/sandbox"
)

// DraftFile is what a connector's maker writes by hand, in the folder that is to become
// a package; the rest of the manifest is what the connector says of itself.
const DraftFile = "connector.json"

// draft is the content of DraftFile.
type draft struct {
	Run    []string `json:"run"`
	System *string  `json:"system"` // nil: this machine's for a program of the package, else any
	Grants Grants   `json:"grants"`
}

// Pack makes a package of a folder and writes it to out, signed if there is a key file. It
// runs the connector once, as the hub would, to ask it what it is.
func Pack(ctx context.Context, dir, keyFile, password, hostVersion string, out io.Writer) (*Package, error) {
	var key *minisign.PrivateKey
	if keyFile != "" {
		k, err := readPublisherKey(keyFile, password)
		if err != nil {
			return nil, err
		}
		key = k
	}
	b, err := readBounded(filepath.Join(dir, DraftFile), maxManifest)
	if err != nil {
		return nil, fmt.Errorf("read %s, which says what to run: %w", DraftFile, err)
	}
	var d draft
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		return nil, fmt.Errorf("read %s: %w", DraftFile, err)
	}
	m := &Manifest{Run: d.Run, Grants: d.Grants}
	if len(m.Run) == 0 {
		return nil, fmt.Errorf("%s: run: name the program and its arguments", DraftFile)
	}
	if m.Files, err = sumFiles(dir); err != nil {
		return nil, err
	}
	if _, own := m.Files[m.Run[0]]; d.System != nil {
		m.System = *d.System
	} else if own {
		m.System = System()
	}
	p := &Package{Manifest: m, dir: dir}
	if err := p.describe(ctx, hostVersion); err != nil {
		return nil, fmt.Errorf("ask the connector what it is: %w", err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("this is no package yet: %w", err)
	}
	if p.Bytes, err = json.MarshalIndent(m, "", "  "); err != nil {
		return nil, fmt.Errorf("write the manifest: %w", err)
	}
	p.Bytes = append(p.Bytes, '\n')
	p.Digest = digestOf(p.Bytes)
	var signature []byte
	if key != nil {
		signature = minisign.Sign(*key, p.Bytes)
	}
	return p, p.write(out, signature)
}

// sumFiles is what a folder holds, but for what it says of itself.
func sumFiles(dir string) (map[string]PackageFile, error) {
	files := map[string]PackageFile{}
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if name == DraftFile || name == ManifestFile || name == SignatureFile {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is neither a file nor a folder; a package has no links", name)
		}
		sum, err := sumFile(file)
		files[name] = PackageFile{SHA256: sum, Size: info.Size(), Executable: info.Mode()&0o100 != 0}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look at the files: %w", err)
	}
	return files, nil
}

// describe runs the connector and writes into the manifest what it says of itself.
func (p *Package) describe(ctx context.Context, hostVersion string) error {
	dir, err := os.MkdirTemp("", "hookyard")
	if err != nil {
		return err
	}
	defer removeAll(dir)
	cfg := Config{Logger: slog.New(slog.DiscardHandler), Clock: clockwork.NewRealClock(), HostVersion: hostVersion}
	cfg.defaults()
	if cfg.box, err = sandbox.Open(sandbox.Off); err != nil { // who packs it runs it anyway
		return err
	}
	defer cfg.box.Close()
	e := Entry{Path: p.Run[0], Package: p, Organization: "packing"}
	process, err := startProcess(ctx, &cfg, &e, dir, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), nil)
	if err != nil {
		return err
	}
	defer process.stop(true)
	s := process.spec
	p.Name, p.Title, p.Description, p.Version = s.Name, s.Title, s.Description, s.Version
	p.Abilities, p.TakesRequest = s.Abilities, s.TakesRequest
	p.Settings, p.SourceSettings, p.ScanSettings = s.Settings, s.SourceSettings, s.ScanSettings
	p.Formats, p.Receivers, p.Triggers = process.about.Formats, process.about.Receivers, process.about.Triggers
	p.Protocol = process.client.NegotiatedVersion()
	return nil
}

// write writes the archive: the same package is the same bytes, whenever it is made.
func (p *Package) write(out io.Writer, signature []byte) error {
	z := gzip.NewWriter(out)
	a := tar.NewWriter(z)
	add := func(name string, mode int64, size int64, in io.Reader) error {
		if err := a.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: size, Format: tar.FormatPAX}); err != nil {
			return fmt.Errorf("write the package: %w", err)
		}
		if _, err := io.Copy(a, in); err != nil {
			return fmt.Errorf("write %s into the package: %w", name, err)
		}
		return nil
	}
	if err := add(ManifestFile, 0o644, int64(len(p.Bytes)), bytes.NewReader(p.Bytes)); err != nil {
		return err
	}
	if signature != nil {
		if err := add(SignatureFile, 0o644, int64(len(signature)), bytes.NewReader(signature)); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Files)) {
		file := p.Files[name]
		mode := int64(0o644)
		if file.Executable {
			mode = 0o755
		}
		f, err := openChecked(filepath.Join(p.dir, filepath.FromSlash(name)), file.SHA256)
		if err == nil {
			err = errors.Join(add(name, mode, file.Size, f), f.Close())
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(a.Close(), z.Close())
}
