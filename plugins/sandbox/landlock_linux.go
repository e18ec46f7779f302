package sandbox

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What Landlock calls rights, in the sets that are given together.
const (
	mayRead    = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	mayExecute = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE
	// Neither links, pipes nor devices: nothing that leads elsewhere whoever follows it.
	mayOwn = mayRead | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REFER
	mayDevice = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE

	ofFiles   = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	everRight = 1<<13 - 1 // of the first version

	deepest = 4 // scripts whose interpreters are scripts
)

// systemFiles is what runtimes read: loaders, libraries, certificates, time zones, and
// what the kernel says of this process and of the machine's size. None of it is secret.
func systemFiles() []string {
	return append([]string{
		"/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/share", "/usr/local/lib", "/usr/local/share",
		"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload", "/etc/alternatives",
		"/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/ssl/openssl.cnf", "/etc/pki/tls/certs", "/etc/pki/ca-trust", "/etc/ca-certificates", "/etc/crypto-policies",
		"/etc/localtime", "/etc/timezone", "/etc/mime.types",
		"/dev/urandom", "/dev/random", "/dev/zero",
		"/proc/self", "/proc/meminfo", "/proc/cpuinfo", "/proc/stat", "/proc/sys/vm/overcommit_memory", "/proc/sys/kernel/random",
		"/sys/devices/system/cpu", "/sys/kernel/mm/transparent_hugepage", "/sys/fs/cgroup",
	}, strings.Split(os.Getenv("SSL_CERT_DIR")+":"+os.Getenv("SSL_CERT_FILE"), ":")...)
}

// restrictFiles puts this thread, and what it becomes, under the plan's rules.
func restrictFiles(p *Plan, program *os.File) error {
	abi := p.Parts.Files
	attr := unix.LandlockRulesetAttr{Handled_access_fs: everRight}
	size := uintptr(8)
	if abi >= 2 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 4 && !p.Shipped {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
		size = 16
	}
	if abi >= 5 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if abi >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_SIGNAL
		if !p.Shipped {
			attr.Scoped |= unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
		}
		size = 24
	}
	if p.Shipped { // names are resolved and certificates found wherever the system keeps them
		attr.Handled_access_fs &^= mayRead
	}
	set, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return fmt.Errorf("make the rules for files: %w", errno)
	}
	r := rules{set: set, handled: attr.Handled_access_fs}
	if err := r.all(p, program); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, set, 0, 0); errno != 0 {
		return fmt.Errorf("apply the rules for files: %w", errno)
	}
	return nil
}

// rules are a set in the making.
type rules struct {
	set     uintptr
	handled uint64
}

func (r *rules) all(p *Plan, program *os.File) error {
	if err := r.allow(p.Own, mayOwn); err != nil {
		return err
	}
	if err := r.optional("/dev/null", mayDevice); err != nil {
		return err
	}
	if p.Shipped { // it tidies up after a hub that was killed: its empty folder, and the hub's
		inner := filepath.Dir(p.Own)
		for _, dir := range []string{inner, filepath.Dir(inner)} {
			if err := r.optional(dir, unix.LANDLOCK_ACCESS_FS_REMOVE_DIR); err != nil {
				return err
			}
		}
	}
	for _, path := range systemFiles() {
		if err := r.optional(path, mayRead); err != nil {
			return err
		}
	}
	if p.Files != "" {
		if err := r.allow(p.Files, mayRead|unix.LANDLOCK_ACCESS_FS_EXECUTE); err != nil {
			return err
		}
	}
	for _, path := range p.Read {
		if err := r.optional(path, mayRead); err != nil {
			return err
		}
	}
	if err := r.at(int(program.Fd()), program.Name(), mayExecute); err != nil {
		return err
	}
	if err := r.interpreter(program, deepest); err != nil {
		return err
	}
	for _, path := range p.Execute {
		if err := r.program(path, deepest); err != nil {
			return err
		}
	}
	return nil
}

// program allows a program, and what the kernel starts to run it.
func (r *rules) program(path string, depth int) error {
	path, err := filepath.EvalSymlinks(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find a program that may be run: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("look at a program that may be run: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := r.at(int(f.Fd()), path, mayExecute); err != nil {
		return err
	}
	return r.interpreter(f, depth)
}

// interpreter allows the loader that an ELF file names, or the interpreter of a script.
func (r *rules) interpreter(f *os.File, depth int) error {
	head := make([]byte, 2)
	if n, _ := f.ReadAt(head, 0); n == 2 && string(head) == "#!" {
		line, _ := bufio.NewReader(io.NewSectionReader(f, 2, 254)).ReadString('\n')
		if words := strings.Fields(line); len(words) > 0 && depth > 0 {
			return r.program(words[0], depth-1)
		}
		return nil
	}
	e, err := elf.NewFile(f)
	if err != nil {
		return nil //nolint:nilerr // the kernel will say what it is not
	}
	for _, s := range e.Progs {
		if s.Type == elf.PT_INTERP {
			name, err := io.ReadAll(io.LimitReader(s.Open(), 4096))
			if err != nil {
				return fmt.Errorf("read the name of %s's loader: %w", f.Name(), err)
			}
			return r.optional(strings.TrimRight(string(name), "\x00"), mayExecute)
		}
	}
	return nil
}

func (r *rules) optional(path string, rights uint64) error {
	if err := r.allow(path, rights); !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.ENOTDIR) {
		return err
	}
	return nil
}

func (r *rules) allow(path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("find %s: %w", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	return r.at(fd, path, rights)
}

func (r *rules) at(fd int, path string, rights uint64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= ofFiles
	}
	if rights &= r.handled; rights == 0 {
		return nil
	}
	attr := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, r.set, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&attr)), 0, 0, 0); errno != 0 {
		return fmt.Errorf("allow %s: %w", path, errno)
	}
	return nil
}
