//go:build linux && (amd64 || arm64)

package sandbox

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// restrictCalls puts this thread, and what it becomes, under the plan's filter.
func restrictCalls(p *Plan) error {
	code := filter(p, unix.Getpid())
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return fmt.Errorf("apply the filter of system calls: %w", errno)
	}
	return nil
}

// canFilter says that there is a filter for this kind of processor.
const canFilter = true

// newest is the last system call that was weighed; later ones do not exist for a
// connector, as on an older kernel.
const newest = unix.SYS_MSEAL

// filter is the program that the kernel runs for each system call. It names what is
// refused: what reaches other processes, other people's sockets and the kernel's
// settings. Files are Landlock's business, but for what that does not see (modes, owners,
// attributes, and with older versions the cutting of files by name).
func filter(p *Plan, pid int) []unix.SockFilter {
	const nr, arch = 0, 4 // offsets in what the kernel tells
	f := assembler{
		load(arch), jump(unix.BPF_JEQ, auditArch, 1, 0), ret(unix.SECCOMP_RET_KILL_PROCESS),
		load(nr), jump(unix.BPF_JGT, newest, 0, 1), fail(unix.ENOSYS), // x32 calls too: they have a high bit
	}
	// Node and others do without these.
	f.deny(unix.ENOSYS, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER, unix.SYS_CLONE3)
	f.deny(unix.EPERM, dangerous()...)
	if p.Shipped {
		f.when(unix.SYS_SOCKET, noneOf(0, ^uint32(0), unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK))
	} else {
		f.deny(unix.ENOSYS, unix.SYS_MEMFD_CREATE, unix.SYS_OPENAT2)
		f.deny(unix.EPERM, foreign()...)
		f.thirdParty(p, uint32(pid))
	}
	f.processes(p)
	return append(f, ret(unix.SECCOMP_RET_ALLOW))
}

func (f *assembler) thirdParty(p *Plan, pid uint32) {
	// A socket is one that its own folder can hold; connections are handed over. A
	// datagram socket, or an address with a message, would reach what connect does not.
	f.when(unix.SYS_SOCKET, noneOf(0, ^uint32(0), unix.AF_UNIX))
	f.when(unix.SYS_SOCKET, noneOf(1, 0xf, unix.SOCK_STREAM))
	f.when(unix.SYS_SOCKETPAIR, noneOf(0, ^uint32(0), unix.AF_UNIX))
	f.when(unix.SYS_SOCKETPAIR, noneOf(1, 0xf, unix.SOCK_STREAM, unix.SOCK_SEQPACKET))
	f.when(unix.SYS_SENDTO, anyBit(3, unix.MSG_FASTOPEN))
	f.when(unix.SYS_SENDMSG, anyBit(2, unix.MSG_FASTOPEN))
	f.when(unix.SYS_SENDMMSG, anyBit(3, unix.MSG_FASTOPEN))

	// Memory that the limit does not see.
	f.when(unix.SYS_MMAP, anyBit(3, unix.MAP_GROWSDOWN))
	f.when(unix.SYS_MMAP, oneOf(3, unix.MAP_SHARED|unix.MAP_ANONYMOUS, unix.MAP_SHARED|unix.MAP_ANONYMOUS))

	// Limits and priorities are its own only, and signals by way of a file are nobody's.
	f.when(unix.SYS_PRLIMIT64, noneOf(0, ^uint32(0), 0))
	f.when(unix.SYS_SCHED_SETAFFINITY, noneOf(0, ^uint32(0), 0))
	f.when(unix.SYS_SETPRIORITY, noneOf(1, ^uint32(0), 0))
	f.when(unix.SYS_SETPRIORITY, noneOf(0, ^uint32(0), unix.PRIO_PROCESS))
	f.when(unix.SYS_FCNTL, oneOf(1, ^uint32(0), unix.F_SETOWN, unix.F_SETOWN_EX, unix.F_SETSIG))
	f.when(unix.SYS_IOCTL, oneOf(1, ^uint32(0), unix.TIOCSTI, unix.TIOCLINUX, fiosetown, siocspgrp))
	f.when(unix.SYS_PRCTL, oneOf(0, ^uint32(0), unix.PR_SET_PDEATHSIG, unix.PR_SET_DUMPABLE, unix.PR_SET_PTRACER))

	if p.Parts.Files < 6 { // later, Landlock sees to signals
		f.deny(unix.EPERM, unix.SYS_TKILL, unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO)
		f.when(unix.SYS_KILL, noneOf(0, ^uint32(0), pid))
		f.when(unix.SYS_TGKILL, noneOf(0, ^uint32(0), pid))
	}
	if p.Parts.Files < 3 { // later, Landlock sees to cutting
		f.deny(unix.EPERM, unix.SYS_TRUNCATE)
		f.when(unix.SYS_OPENAT, oneOf(2, unix.O_TRUNC|unix.O_ACCMODE, unix.O_TRUNC))
	}
	f.thirdPartyArch(p)
}

// processes refuses to make them, or at least to make them in a world of their own.
func (f *assembler) processes(p *Plan) {
	f.when(unix.SYS_CLONE, anyBit(0, unix.CLONE_NEWNS|unix.CLONE_NEWCGROUP|unix.CLONE_NEWUTS|unix.CLONE_NEWIPC|unix.CLONE_NEWUSER|unix.CLONE_NEWPID|unix.CLONE_NEWNET))
	if len(p.Execute) == 0 {
		f.when(unix.SYS_CLONE, noneOf(0, unix.CLONE_THREAD, unix.CLONE_THREAD))
		f.deny(unix.EPERM, forks()...)
	}
}

// dangerous is refused to every connector: no program that talks to a service needs it.
func dangerous() []uint32 {
	return append([]uint32{
		// other processes
		unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP, unix.SYS_PROCESS_MADVISE,
		unix.SYS_PROCESS_MRELEASE, unix.SYS_MIGRATE_PAGES, unix.SYS_MOVE_PAGES, unix.SYS_PERF_EVENT_OPEN,
		// other worlds and file systems
		unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG,
		unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_MOUNT_SETATTR, unix.SYS_OPEN_BY_HANDLE_AT,
		unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_SWAPON, unix.SYS_SWAPOFF,
		unix.SYS_FANOTIFY_INIT, unix.SYS_FANOTIFY_MARK,
		// the kernel
		unix.SYS_BPF, unix.SYS_USERFAULTFD, unix.SYS_ADD_KEY, unix.SYS_KEYCTL, unix.SYS_REQUEST_KEY, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE,
		unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT, unix.SYS_ACCT, unix.SYS_SYSLOG, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME,
		unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_VHANGUP, unix.SYS_LOOKUP_DCOOKIE,
	}, dangerousArch()...)
}

// foreign is refused to a third party besides.
func foreign() []uint32 {
	return append([]uint32{
		unix.SYS_CONNECT,
		// files by what Landlock does not see
		unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT, unix.SYS_UTIMENSAT,
		unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_FSETXATTR, unix.SYS_REMOVEXATTR, unix.SYS_LREMOVEXATTR, unix.SYS_FREMOVEXATTR,
		unix.SYS_INOTIFY_ADD_WATCH,
		// memory and queues that outlive it, or are others'
		unix.SYS_SHMGET, unix.SYS_SHMAT, unix.SYS_SHMCTL, unix.SYS_SEMGET, unix.SYS_SEMOP, unix.SYS_SEMTIMEDOP, unix.SYS_SEMCTL,
		unix.SYS_MSGGET, unix.SYS_MSGSND, unix.SYS_MSGRCV, unix.SYS_MSGCTL, unix.SYS_MQ_OPEN, unix.SYS_MQ_UNLINK, unix.SYS_MQ_NOTIFY,
		unix.SYS_MEMFD_SECRET,
		// priorities, and the group by which the hub ends it
		unix.SYS_SCHED_SETSCHEDULER, unix.SYS_SCHED_SETPARAM, unix.SYS_SCHED_SETATTR, unix.SYS_IOPRIO_SET, unix.SYS_SETPGID, unix.SYS_SETSID,
	}, foreignArch()...)
}

const fiosetown, siocspgrp = 0x8901, 0x8902

// assembler is a filter in the making. The number of the call is in the accumulator
// between its rules, and no jump leaves a rule.
type assembler []unix.SockFilter

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func jump(op uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | op, K: k, Jt: yes, Jf: no}
}

func ret(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }

func fail(e unix.Errno) unix.SockFilter { return ret(unix.SECCOMP_RET_ERRNO | uint32(e)) }

func (f *assembler) deny(with unix.Errno, calls ...uint32) {
	for _, c := range calls {
		*f = append(*f, jump(unix.BPF_JEQ, c, 0, 1), fail(with))
	}
}

// when refuses a call whose argument is as the test says.
func (f *assembler) when(call uint32, t test) {
	block := []unix.SockFilter{load(16 + 8*t.argument)} // the lower half: the processors are little-endian
	if t.mask != ^uint32(0) {
		block = append(block, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: t.mask})
	}
	n := uint8(len(t.values))
	for i, v := range t.values {
		left := n - uint8(i) - 1
		if t.refused {
			block = append(block, jump(unix.BPF_JEQ, v, left, b2u(left == 0)))
		} else {
			block = append(block, jump(unix.BPF_JEQ, v, left+1, 0))
		}
	}
	block = append(block, fail(unix.EPERM), load(0))
	*f = append(*f, jump(unix.BPF_JEQ, call, 0, uint8(len(block))))
	*f = append(*f, block...)
}

func b2u(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// test looks at an argument under a mask: it is refused when it is one of the values, or
// when it is none of them.
type test struct {
	argument uint32
	mask     uint32
	values   []uint32
	refused  bool
}

func oneOf(argument, mask uint32, values ...uint32) test { return test{argument, mask, values, true} }

func noneOf(argument, mask uint32, values ...uint32) test { return test{argument, mask, values, false} }

// anyBit refuses an argument with one of the bits.
func anyBit(argument, bits uint32) test { return noneOf(argument, bits, 0) }
