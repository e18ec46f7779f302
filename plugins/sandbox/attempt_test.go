//go:build linux

package sandbox

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attempts are what a hostile program tries, one after the other, with "--" between them. It
// answers each on a line of standard output: "done", or why not.
func attempts(args []string) {
	for len(args) > 0 {
		n := slices.Index(args, "--")
		one := args
		if args = nil; n >= 0 {
			one, args = one[:n], one[n+1:]
		}
		if err := try(one[0], one[1:]); err != nil {
			fmt.Println("refused:", err)
		} else {
			fmt.Println("done")
		}
	}
}

func try(what string, args []string) error {
	number := func(i int) int { n, _ := strconv.Atoi(args[i]); return n }
	switch what {
	case "nothing":
		return nil

	// files
	case "read":
		_, err := os.ReadFile(args[0])
		return err
	case "list":
		_, err := os.ReadDir(args[0])
		return err
	case "write":
		f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteString("x")
		return err
	case "create":
		return os.WriteFile(args[0], nil, 0o600)
	case "remove":
		return os.Remove(args[0])
	case "rename":
		return os.Rename(args[0], args[1])
	case "link":
		return os.Link(args[0], args[1])
	case "symlink":
		return os.Symlink(args[0], args[1])
	case "mkfifo":
		return unix.Mkfifo(args[0], 0o600)
	case "truncate":
		return os.Truncate(args[0], 0)
	case "cut": // opens for reading, which cuts nevertheless
		f, err := os.OpenFile(args[0], os.O_RDONLY|os.O_TRUNC, 0)
		if err != nil {
			return err
		}
		return f.Close()
	case "chmod":
		return os.Chmod(args[0], 0o640)
	case "fchmod":
		f, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Chmod(0o640)
	case "chown":
		return os.Chown(args[0], os.Getuid(), os.Getgid())
	case "chtimes":
		return os.Chtimes(args[0], time.Unix(1, 0), time.Unix(1, 0))
	case "xattr":
		return unix.Setxattr(args[0], "user.hookyard", []byte("x"), 0)
	case "watch":
		fd, err := unix.InotifyInit1(0)
		if err != nil {
			return err
		}
		_, err = unix.InotifyAddWatch(fd, args[0], unix.IN_ALL_EVENTS)
		return err
	case "chroot":
		return unix.Chroot(args[0])
	case "run": // in place of itself
		return syscall.Exec(args[0], args, os.Environ())
	case "stray":
		return unix.Fstat(number(0), &unix.Stat_t{})

	// processes
	case "environment":
		if len(os.Environ()) > number(0) {
			return nil
		}
		return fmt.Errorf("sees only %q", os.Environ())
	case "ptrace":
		runtime.LockOSThread()
		return unix.PtraceSeize(number(0))
	case "peek":
		local, remote := make([]byte, 8), unix.RemoteIovec{Base: uintptr(unsafe.Pointer(&args)), Len: 8}
		_, err := unix.ProcessVMReadv(number(0), []unix.Iovec{{Base: &local[0], Len: 8}}, []unix.RemoteIovec{remote}, 0)
		if errors.Is(err, unix.EFAULT) { // there, and only the address was a guess
			return nil
		}
		return err
	case "steal":
		pidfd, err := unix.PidfdOpen(number(0), 0)
		if err != nil {
			return err
		}
		_, err = unix.PidfdGetfd(pidfd, 0, 0)
		return err
	case "signal":
		return unix.Kill(number(0), unix.SIGCONT)
	case "threadsignal":
		return unix.Tgkill(number(0), number(0), unix.SIGCONT)
	case "pidfdsignal":
		pidfd, err := unix.PidfdOpen(number(0), 0)
		if err != nil {
			return err
		}
		return unix.PidfdSendSignal(pidfd, unix.SIGCONT, nil, 0)
	case "filesignal":
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		_, err = unix.FcntlInt(uintptr(fds[0]), unix.F_SETOWN, number(0))
		return err
	case "throttle":
		return unix.Prlimit(number(0), unix.RLIMIT_CORE, &unix.Rlimit{}, nil)
	case "demote":
		return unix.Setpriority(unix.PRIO_PROCESS, number(0), 19)
	case "pin":
		var set unix.CPUSet
		set.Set(0)
		return unix.SchedSetaffinity(number(0), &set)
	case "outlive":
		return unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0)
	case "leave":
		_, err := unix.Setsid()
		return err
	case "fork":
		return exec.Command(args[0], args[1:]...).Run()
	case "world":
		return unix.Unshare(unix.CLONE_NEWUSER)
	case "privileges":
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			return err
		}
		for _, line := range strings.Split(string(status), "\n") {
			name, value, _ := strings.Cut(line, ":\t")
			if name == "NoNewPrivs" && value == "0" || strings.HasPrefix(name, "Cap") && name != "CapBnd" && strings.Trim(value, "0") != "" {
				return nil
			}
		}
		return errors.New("it has no privileges, and gets none")
	case "threads":
		for range number(0) {
			up := make(chan bool)
			go func() {
				runtime.LockOSThread()
				up <- true
				select {}
			}()
			<-up
		}
		return nil

	// network
	case "dial":
		c, err := net.DialTimeout(args[0], args[1], 5*time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	case "send": // a datagram without a connection
		return send(args[0], args[1])
	case "listen":
		l, err := net.Listen(args[0], args[1])
		if err != nil {
			return err
		}
		return l.Close()
	case "netlink":
		_, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
		return err
	case "ring":
		var params [120]byte
		fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
		if errno != 0 {
			return errno
		}
		return unix.Close(int(fd))
	case "again": // takes a connection that it was handed elsewhere
		addr, err := net.ResolveTCPAddr("tcp4", args[0])
		if err != nil {
			return err
		}
		to := &unix.SockaddrInet4{Port: addr.Port, Addr: [4]byte(addr.IP.To4())}
		if _, err := unix.SendmsgN(MoreFD, []byte("x"), nil, to, unix.MSG_FASTOPEN); err == nil {
			return nil
		}
		var unspecified [16]byte
		if _, _, errno := unix.Syscall(unix.SYS_CONNECT, MoreFD, uintptr(unsafe.Pointer(&unspecified)), 16); errno != 0 {
			return errno
		}
		return unix.Connect(MoreFD, to)
	case "use": // the connection that it was handed
		f := os.NewFile(MoreFD, "handed over")
		if _, err := f.WriteString("hello\n"); err != nil {
			return err
		}
		b := make([]byte, 6)
		if _, err := io.ReadFull(f, b); err != nil || string(b) != "hello\n" {
			return fmt.Errorf("heard %q: %w", b, err)
		}
		return nil

	// memory and disk
	case "memory":
		return fill(number(0), unix.MAP_PRIVATE|unix.MAP_ANON)
	case "shared":
		return fill(number(0), unix.MAP_SHARED|unix.MAP_ANON)
	case "stack":
		return fill(number(0), unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_GROWSDOWN)
	case "memfd":
		_, err := unix.MemfdCreate("x", 0)
		return err
	case "segment":
		id, err := unix.SysvShmGet(unix.IPC_PRIVATE, 1<<20, unix.IPC_CREAT|0o600)
		if err != nil {
			return err
		}
		_, err = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
		return err
	case "file":
		signal.Ignore(unix.SIGXFSZ)
		f, err := os.Create(args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		mib := make([]byte, 1<<20)
		for range number(1) {
			if _, err := f.Write(mib); err != nil {
				return err
			}
		}
		return nil
	case "files":
		for range number(0) {
			if _, err := unix.Dup(1); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("it does not know how to %s", what)
}

func fill(mib, flags int) error {
	_, err := unix.Mmap(-1, 0, mib<<20, unix.PROT_READ|unix.PROT_WRITE, flags) // refused before it is used
	return err
}

func send(network, address string) error {
	family, to := unix.AF_UNIX, unix.Sockaddr(&unix.SockaddrUnix{Name: address})
	if network == "udp" {
		a, err := net.ResolveUDPAddr("udp4", address)
		if err != nil {
			return err
		}
		family, to = unix.AF_INET, &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM, 0)
	if err != nil && family == unix.AF_UNIX { // by way of a pair
		var fds [2]int
		fds, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
		fd = fds[0]
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Sendto(fd, []byte("x"), 0, to)
}
