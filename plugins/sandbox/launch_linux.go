package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// The launcher's files beside the three of every process.
const (
	selfFD    = 3 // its own program
	programFD = 4 // the one that it becomes
)

// become is the launcher: it takes away from this process what the plan says, and
// becomes the program. It returns only if that failed.
func become(text string) error {
	runtime.LockOSThread() // the kernel restricts threads; the one that execs is what remains
	var p Plan
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	// The system's program cannot be told apart from what the hub opened; its name is for people.
	program := os.NewFile(programFD, p.Args[0])
	if !p.Shipped { // ours ends by itself, and tidies up
		if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
			return fmt.Errorf("bind the process to the hub's life: %w", err)
		}
		if os.Getppid() != p.Host {
			return errors.New("the hub has ended")
		}
	}
	if err := closeOthers(&p); err != nil {
		return err
	}
	if err := dropPrivileges(); err != nil {
		return err
	}
	unix.Umask(0o077)
	if err := limit(&p); err != nil {
		return err
	}
	if p.Parts.Files > 0 {
		if err := restrictFiles(&p, program); err != nil {
			return err
		}
	}
	if p.Parts.Calls {
		if err := restrictCalls(&p); err != nil {
			return err
		}
	}
	err := syscall.Exec("/proc/self/fd/"+strconv.Itoa(programFD), p.Args, os.Environ())
	return fmt.Errorf("run %s: %w", p.Args[0], err)
}

// closeOthers lets a third party's program have no file but those that it is handed: the
// hub may have been started with more than it knows of.
func closeOthers(p *Plan) error {
	unix.CloseOnExec(selfFD)
	if p.Shipped {
		return nil
	}
	open, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(open) == 0 {
		return fmt.Errorf("look at the open files: %w", err)
	}
	for _, name := range open {
		if fd, err := strconv.Atoi(filepath.Base(name)); err == nil && fd >= MoreFD+p.More {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// dropPrivileges leaves no capability, now or after any program is run.
func dropPrivileges() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("do without new privileges: %w", err)
	}
	_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) // EINVAL: too old to have them
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("give up privileges: %w", err)
	}
	return nil
}

func limit(p *Plan) error {
	limits := map[int]uint64{unix.RLIMIT_CORE: 0}
	if !p.Shipped {
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, nice)
		limits[unix.RLIMIT_MEMLOCK] = 64 << 10
		limits[unix.RLIMIT_MSGQUEUE] = 0
		limits[unix.RLIMIT_STACK] = 2 << 20 // each thread's counts as a whole, however much of it is used
		for resource, n := range map[int]uint64{unix.RLIMIT_DATA: p.Limits.Memory, unix.RLIMIT_FSIZE: p.Limits.Disk, unix.RLIMIT_NOFILE: p.Limits.Files} {
			if n > 0 {
				limits[resource] = n
			}
		}
		if p.Parts.Count && p.Limits.Processes > 0 {
			limits[unix.RLIMIT_NPROC] = p.Limits.Processes + threads()
		}
	}
	for resource, n := range limits {
		var now unix.Rlimit
		if err := unix.Getrlimit(resource, &now); err != nil {
			return fmt.Errorf("read a limit: %w", err)
		}
		n = min(n, now.Max)
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: n, Max: n}); err != nil {
			return fmt.Errorf("set a limit: %w", err)
		}
	}
	return nil
}

// nice makes the hub come first when there is not enough of the processors.
const nice = 5

// threads is how many this user has now, on the whole machine.
func threads() (sum uint64) {
	tasks, _ := filepath.Glob("/proc/[0-9]*/task/[0-9]*") // the pattern is right
	uid := uint32(os.Getuid())
	for _, t := range tasks {
		var st unix.Stat_t
		if unix.Stat(t, &st) == nil && st.Uid == uid {
			sum++
		}
	}
	return sum
}
