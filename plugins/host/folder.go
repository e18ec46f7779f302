package host

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// mostFiles is how many files a process may have in its folder.
const mostFiles = 10_000

// folder is the one that a process works in. What is in it is the process's doing.
type folder string

// measure returns how much of the disk the files in the folder take, with those that the
// process pid removed and still has open, and how many there are.
func (f folder) measure(pid int) (size, files int64) {
	_ = filepath.WalkDir(string(f), func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // removed meanwhile
		}
		if info, err := d.Info(); err == nil { // of the entry itself, never of what it leads to
			size += onDisk(info)
			files++
		}
		return nil
	})
	open := "/proc/" + strconv.Itoa(pid) + "/fd/"
	list, _ := os.ReadDir(open) // nothing of a process that has ended
	for _, fd := range list {
		if name, err := os.Readlink(open + fd.Name()); err != nil || !strings.HasPrefix(name, string(f)+"/") || !strings.HasSuffix(name, " (deleted)") {
			continue
		}
		if info, err := os.Stat(open + fd.Name()); err == nil {
			size += onDisk(info)
			files++
		}
	}
	return size, files
}

func onDisk(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}

// overfull says what is too much in the folder.
func (f folder) overfull(pid int, most uint64) error {
	size, files := f.measure(pid)
	switch {
	case most > 0 && size > int64(most):
		return fmt.Errorf("it has written %d MiB into its folder, and may have %d", size>>20, most>>20)
	case files > mostFiles:
		return fmt.Errorf("it has made %d files in its folder, and may have %d", files, mostFiles)
	}
	return nil
}

// dial connects to a socket in the folder, and to nothing that a name in it leads to.
func (f folder) dial(name string) (net.Conn, error) {
	if name != filepath.Base(name) || name == "." || name == ".." {
		return nil, errors.New("a name without folders is needed")
	}
	path := filepath.Join(string(f), name)
	if err := isSocket(path); err != nil {
		return nil, err
	}
	return net.Dial("unix", path)
}

// isSocket refuses links: a process in the sandbox cannot make any, but not all are in one.
func isSocket(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("look at its socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is not a socket", path)
	}
	return nil
}

// lockFolder makes the folder known as that of a hub which lives, as long as the file is open.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err == nil {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the folder for the connectors: %w", err)
	}
	return f, nil
}

// sweep removes what hubs left behind that were killed together with their processes.
func sweep(pattern string, before time.Time) {
	old, _ := filepath.Glob(pattern) // the pattern is right
	for _, dir := range old {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || info.ModTime().After(before) { // one that is just being made is not yet locked
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Getuid() {
			continue
		}
		if f, err := lockFolder(dir); err == nil {
			removeAll(dir)
			_ = f.Close()
		}
	}
}
