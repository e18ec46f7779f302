package host

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// unpack puts the files of an archive, or of a folder, into the empty folder to. Nothing
// but plain files and folders with plain names is taken, and only so much of it.
func unpack(from, to string, most int64) error {
	info, err := os.Stat(from)
	if err != nil {
		return fmt.Errorf("look at the package: %w", err)
	}
	w := &unpacker{to: to, left: most + maxManifest + maxSignature}
	if info.IsDir() {
		return w.folder(from)
	}
	f, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("open the package: %w", err)
	}
	defer func() { _ = f.Close() }()
	return w.archive(f)
}

type unpacker struct {
	to    string
	files int
	left  int64 // bytes that may still come
}

func (w *unpacker) archive(in io.Reader) error {
	z, err := gzip.NewReader(in)
	if err != nil {
		return fmt.Errorf("this is no package (tar.gz): %w", err)
	}
	// Headers cost nothing to repeat: what is not a file's content is bounded, too.
	a := tar.NewReader(io.LimitReader(z, w.left+maxFiles*4<<10))
	for entries := 0; ; entries++ {
		h, err := a.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the package: %w", err)
		case entries > 2*maxFiles:
			return fmt.Errorf("the package has more than %d entries", 2*maxFiles)
		}
		name := path.Clean(strings.TrimPrefix(h.Name, "./"))
		switch h.Typeflag {
		case tar.TypeReg:
			if strings.HasSuffix(h.Name, "/") {
				return fmt.Errorf("the package's %.80q is a folder with content", h.Name)
			}
			if err := w.file(name, a, h.FileInfo().Mode()&0o100 != 0); err != nil {
				return err
			}
		case tar.TypeDir:
			if name != "." && !filepath.IsLocal(name) {
				return fmt.Errorf("the package's folder %.80q would be outside of it", h.Name)
			}
		case tar.TypeXGlobalHeader:
		default:
			return fmt.Errorf("the package's %.80q is neither a file nor a folder; links and devices are refused", h.Name)
		}
	}
}

func (w *unpacker) folder(from string) error {
	root, err := os.OpenRoot(from) // nothing outside of it is followed
	if err != nil {
		return fmt.Errorf("open the package: %w", err)
	}
	defer func() { _ = root.Close() }()
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("read the package: %w", err)
		}
		if d.IsDir() {
			return nil
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("the package's %.80q is neither a file nor a folder; links and devices are refused", name)
		}
		f, err := root.Open(name)
		if err != nil {
			return fmt.Errorf("read the package: %w", err)
		}
		defer func() { _ = f.Close() }()
		info, err := f.Stat()
		if err != nil {
			return fmt.Errorf("read the package: %w", err)
		}
		return w.file(name, f, info.Mode()&0o100 != 0)
	})
}

func (w *unpacker) file(name string, in io.Reader, executable bool) error {
	if name != ManifestFile && name != SignatureFile {
		if err := checkPath(name); err != nil {
			return err
		}
		if w.files++; w.files > maxFiles {
			return fmt.Errorf("the package has more than %d files", maxFiles)
		}
	}
	to := filepath.Join(w.to, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return fmt.Errorf("unpack the package: %w", err)
	}
	_, n, err := writeFile(to, in, min(w.left, maxFile), executable)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("the package has %.80q twice", name)
	}
	if err != nil {
		return fmt.Errorf("unpack %.80q: %w", name, err)
	}
	w.left -= n
	return nil
}
