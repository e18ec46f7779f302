package host

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/hookyard/hookyard/connectors"
)

// Launch is all that one start of a connector's process needs to know of its entry in
// the catalog. The entry makes it; whoever starts the process carries it out.
type Launch struct {
	Name, Version string // what the process must say that it is; "" takes any
	Organization  string // whose process it is; "" all share it
	Shipped       bool   // it is the hub's own program

	Program *os.File // what is executed, by its descriptor: the file that was checked
	Path    string   // its name, for people and for an interpreter; argv[0]
	Args    []string
	Files   string                       // folder with the read-only copy of the package's files that were checked; "" none
	Grants  Grants                       // what the operator has let it have by installing it
	Dial    func() connectors.DialPolicy // of Grants.Egress, as it is now; nil: public addresses

	own bool // Program is the launch's to close
}

// Grants is what a connector may have beside its own files and folder.
type Grants struct {
	Executables []string `json:"executables,omitempty"` // programs that it may run, absolute paths
	Paths       []string `json:"paths,omitempty"`       // files and folders that it may read, absolute paths
	Egress      []string `json:"egress,omitempty"`      // "host:port" that it may reach beside its endpoints' addresses
}

// Started lets go of the program: the process has it.
func (l *Launch) Started() {
	if l.own {
		_ = l.Program.Close()
		l.own = false
	}
}

// Close gives back what the launch holds. Call it when the process has ended, or did
// not start.
func (l *Launch) Close() {
	l.Started()
	if l.Files != "" {
		removeAll(l.Files)
		l.Files = ""
	}
}

// launch checks what is to run and opens it. dir is where a copy of files may be made.
func (e *Entry) launch(dir string) (*Launch, error) {
	l := &Launch{Name: e.Name, Version: e.Version, Organization: e.Organization, Shipped: e.File != nil, Dial: e.Dial, Program: e.File, Path: e.Path, Args: e.Args}
	var err error
	switch {
	case e.File != nil:
	case e.Package != nil:
		err = e.Package.launch(l, dir)
	case e.SHA256 == "":
		return nil, errors.New("the catalog names no SHA-256 for it")
	default:
		l.Program, err = openChecked(e.Path, e.SHA256)
		l.own = err == nil
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// openChecked opens a file and holds it against its digest. What is executed or read
// through the descriptor is what was checked.
func openChecked(path, sum string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the program: %w", err)
	}
	h := sha256.New()
	if _, err = io.Copy(h, f); err == nil {
		if got := hex.EncodeToString(h.Sum(nil)); !strings.EqualFold(got, sum) {
			err = fmt.Errorf("%s is not the program that the catalog names: its SHA-256 is %s", path, got)
		} else {
			_, err = f.Seek(0, io.SeekStart)
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("check the program: %w", err)
	}
	return f, nil
}

// removeAll removes a folder with read-only folders in it.
func removeAll(dir string) {
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(path, 0o700) //nolint:gosec // a folder, and ours
		}
		return nil
	})
	_ = os.RemoveAll(dir)
}
