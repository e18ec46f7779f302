package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// cgroups is where this hub may make control groups, if somebody has delegated that: a
// service manager (Delegate=yes), or a container's runtime.
type cgroups struct {
	dir    string
	number atomic.Int64
}

const cgroupRoot = "/sys/fs/cgroup"

// delegated finds the place, and makes it ready. The hub must not be in a group that
// hands controllers on, so it may move into one below.
func delegated() (*cgroups, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &fs); err != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil, errors.New("there are no control groups of the second version")
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find this process's control group: %w", err)
	}
	path, ok := strings.CutPrefix(strings.TrimSpace(string(text)), "0::/")
	if !ok || strings.Contains(path, "..") {
		return nil, errors.New("this process's control group is out of sight")
	}
	own := filepath.Join(cgroupRoot, path)
	if own != cgroupRoot && handsOn(filepath.Dir(own)) && unix.Access(filepath.Dir(own), unix.W_OK) == nil && unix.Access(filepath.Join(filepath.Dir(own), "cgroup.procs"), unix.W_OK) == nil {
		return &cgroups{dir: filepath.Dir(own)}, nil // somebody has put the hub into a group below already
	}
	if unix.Access(own, unix.W_OK) != nil || unix.Access(filepath.Join(own, "cgroup.procs"), unix.W_OK) != nil {
		return nil, errors.New("no control group is delegated to the hub")
	}
	members, err := os.ReadFile(filepath.Join(own, "cgroup.procs"))
	if err != nil || strings.TrimSpace(string(members)) != strconv.Itoa(os.Getpid()) {
		return nil, errors.New("the hub is not alone in its control group")
	}
	below := filepath.Join(own, "hub")
	if err := os.Mkdir(below, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("make a control group: %w", err)
	}
	if err := writeTo(below, "cgroup.procs", strconv.Itoa(os.Getpid())); err != nil {
		return nil, fmt.Errorf("move into a control group: %w", err)
	}
	if err := writeTo(own, "cgroup.subtree_control", "+memory +pids"); err != nil {
		return nil, fmt.Errorf("hand on what bounds memory and processes: %w", err)
	}
	return &cgroups{dir: own}, nil
}

// handsOn says whether groups below dir can be bounded.
func handsOn(dir string) bool {
	b, _ := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control")) // none above the root
	words := " " + strings.TrimSpace(string(b)) + " "
	return strings.Contains(words, " memory ") && strings.Contains(words, " pids ")
}

func writeTo(dir, name, value string) error {
	return os.WriteFile(filepath.Join(dir, name), []byte(value), 0o600)
}

// group is the control group of one process and what it makes.
type group struct {
	dir string
	fd  *os.File
}

func (c *cgroups) make(l Limits) (_ *group, err error) {
	g := &group{dir: filepath.Join(c.dir, fmt.Sprintf("connector-%d-%d", os.Getpid(), c.number.Add(1)))}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a control group: %w", err)
	}
	defer func() {
		if err != nil {
			g.remove()
		}
	}()
	if l.Memory > 0 {
		if err := writeTo(g.dir, "memory.max", strconv.FormatUint(l.Memory, 10)); err != nil {
			return nil, fmt.Errorf("bound the memory of a control group: %w", err)
		}
		_ = writeTo(g.dir, "memory.swap.max", "0") // not there without swap
		_ = writeTo(g.dir, "memory.oom.group", "1")
	}
	if l.Processes > 0 {
		if err := writeTo(g.dir, "pids.max", strconv.FormatUint(l.Processes, 10)); err != nil {
			return nil, fmt.Errorf("bound the processes of a control group: %w", err)
		}
	}
	if g.fd, err = os.Open(g.dir); err != nil {
		return nil, fmt.Errorf("open a control group: %w", err)
	}
	return g, nil
}

// enter makes a process start in the group.
func (g *group) enter(a *syscall.SysProcAttr) { a.UseCgroupFD, a.CgroupFD = true, int(g.fd.Fd()) }

// remove ends whatever is left in the group.
func (g *group) remove() {
	if g.fd != nil {
		_ = g.fd.Close()
	}
	_ = writeTo(g.dir, "cgroup.kill", "1") // Linux 5.14
	_ = os.Remove(g.dir)
}
