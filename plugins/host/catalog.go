package host

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Entry is one connector that can be run.
type Entry struct {
	Name    string // the Spec's name
	Version string // what is expected; "" takes any
	Path    string // the program, absolute
	Args    []string
	SHA256  string // hex digest of the program; needed unless File is set
	// File is the program, already open, instead of Path and SHA256. It belongs to
	// the caller and must stay open as long as the supervisor runs.
	File *os.File
}

// Shipped returns the entries of connectors that are this very program, started
// again as "<program> plugin <name>". Close self when the supervisor is closed.
func Shipped(names ...string) (entries []Entry, self *os.File, err error) {
	self, err = os.Open("/proc/self/exe")
	if err != nil {
		return nil, nil, fmt.Errorf("open this program to run its connectors: %w", err)
	}
	for _, n := range names {
		entries = append(entries, Entry{Name: n, Path: os.Args[0], File: self, Args: []string{"plugin", n}})
	}
	return entries, self, nil
}

// open returns the program to execute, checked; the caller closes it by calling done.
func (e *Entry) open() (f *os.File, done func(), err error) {
	if e.File != nil {
		return e.File, func() {}, nil
	}
	if e.SHA256 == "" {
		return nil, nil, errors.New("the catalog names no SHA-256 for it")
	}
	f, err = os.Open(e.Path)
	if err != nil {
		return nil, nil, fmt.Errorf("open the program: %w", err)
	}
	h := sha256.New()
	if _, err = io.Copy(h, f); err == nil && !strings.EqualFold(hex.EncodeToString(h.Sum(nil)), e.SHA256) {
		err = fmt.Errorf("%s is not the program that the catalog names: its SHA-256 is %x", e.Path, h.Sum(nil))
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, fmt.Errorf("check the program: %w", err)
	}
	return f, func() { _ = f.Close() }, nil
}
