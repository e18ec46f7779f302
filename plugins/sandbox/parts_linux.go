package sandbox

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// offered asks the kernel.
func offered() Parts {
	p := Parts{Calls: canFilter}
	if abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); errno == 0 {
		p.Files = int(abi)
	}
	action := uint32(unix.SECCOMP_RET_ERRNO)
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action))); errno != 0 {
		p.Calls = false
	}
	// Root is never counted, and elsewhere than in the first world of processes those of the
	// same user in other containers are counted and cannot be seen.
	const firstWorld = "pid:[4026531836]"
	world, err := os.Readlink("/proc/self/ns/pid")
	p.Count = err == nil && world == firstWorld && os.Getuid() != 0
	return p
}

func (p Parts) report() Report {
	files := Part{Name: "files", Active: p.Files > 0, Needed: true, How: fmt.Sprintf("Landlock, version %d", p.Files)}
	if !files.Active {
		files.How = "files cannot be kept from it: the kernel has no Landlock (Linux 5.13 or later, and \"landlock\" among its security modules; a container's runtime must let it through)"
	}
	calls := Part{Name: "calls", Active: p.Calls, Needed: true, How: "seccomp"}
	network := Part{Name: "network", Active: p.Calls, Needed: true, How: "no sockets; the hub makes connections and hands them over"}
	if !p.Calls {
		calls.How = "the network and other processes cannot be kept from it: system calls cannot be filtered (seccomp, on amd64 and arm64)"
		network.How = calls.How
		network.Needed = false // said once
	}
	memory := Part{Name: "memory", Active: true, How: "RLIMIT_DATA of each process"}
	processes := Part{Name: "processes", Active: p.Group || p.Count && p.Calls, How: "none unless granted; processes and threads by their number"}
	switch {
	case p.Group:
		memory.How, processes.How = "a control group", "a control group"
	case !processes.Active && p.Calls:
		processes.How = "none unless granted; threads are not counted (as root or in a container, unless a control group is delegated to the hub)"
	case !processes.Active:
		processes.How = "not bounded"
	}
	return Report{Parts: []Part{
		{Name: "privileges", Active: true, Needed: true, How: "no_new_privs, no capabilities"},
		files, calls, network, memory, processes,
		{Name: "disk", Active: true, How: "RLIMIT_FSIZE, and the folder is measured"},
	}}
}
