package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// procRoot is the root of a tree of processes under test. A pid file has lines "name pid [kill]": the roots of the server's process
// trees. kill marks those that the crash profile ends.
type procRoot struct {
	name string
	pid  int
	kill bool
}

func readPidFile(path string) ([]procRoot, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []procRoot
	for _, l := range strings.Split(string(b), "\n") {
		f := strings.Fields(l)
		if len(f) < 2 {
			continue
		}
		pid, err := strconv.Atoi(f[1])
		if err != nil {
			return nil, fmt.Errorf("bad pid line %q", l)
		}
		out = append(out, procRoot{f[0], pid, len(f) > 2 && f[2] == "kill"})
	}
	return out, nil
}

// procTree maps every parent to its children.
func procTree() map[int][]int {
	t := map[int][]int{}
	d, err := os.Open("/proc")
	if err != nil {
		return t
	}
	defer func() { _ = d.Close() }()
	names, _ := d.Readdirnames(-1)
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil {
			continue
		}
		if f := statFields(pid); f != nil {
			pp, _ := strconv.Atoi(f[1])
			t[pp] = append(t[pp], pid)
		}
	}
	return t
}

// statFields returns the fields of /proc/pid/stat from the state on:
// [0] state, [1] ppid, [11..14] utime stime cutime cstime.
func statFields(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return nil
	}
	f := strings.Fields(string(b[i+1:]))
	if len(f) < 15 {
		return nil
	}
	return f
}

func descend(t map[int][]int, pid int, into []int) []int {
	into = append(into, pid)
	for _, c := range t[pid] {
		into = descend(t, c, into)
	}
	return into
}

const hz = 100 // USER_HZ, fixed on Linux

// cpuOf sums the CPU seconds of each root's tree, reaped children included.
func cpuOf(roots []procRoot) map[string]float64 {
	t := procTree()
	out := map[string]float64{}
	for _, r := range roots {
		for _, p := range descend(t, r.pid, nil) {
			f := statFields(p)
			if f == nil {
				continue
			}
			for k := 11; k <= 14; k++ {
				v, _ := strconv.ParseFloat(f[k], 64)
				out[r.name] += v / hz
			}
		}
	}
	return out
}

// pssOf sums the proportional set size (MiB) of each root's tree: shared pages
// (Postgres' buffers) are counted once.
func pssOf(roots []procRoot) map[string]float64 {
	t := procTree()
	out := map[string]float64{}
	for _, r := range roots {
		for _, p := range descend(t, r.pid, nil) {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p))
			if err != nil {
				continue
			}
			for _, l := range strings.Split(string(b), "\n") {
				if rest, ok := strings.CutPrefix(l, "Pss:"); ok {
					f := strings.Fields(rest)
					if len(f) > 0 {
						v, _ := strconv.ParseFloat(f[0], 64)
						out[r.name] += v / 1024
					}
				}
			}
		}
	}
	return out
}

// memWatch keeps the peak of the trees' summed memory, and its course.
type memWatch struct {
	mu    sync.Mutex
	peak  float64
	each  map[string]float64
	all   []map[string]float64 // every sample, in order
	stop  chan struct{}
	roots func() []procRoot
}

func watchMem(roots func() []procRoot, every time.Duration) *memWatch {
	m := &memWatch{stop: make(chan struct{}), each: map[string]float64{}, roots: roots}
	go func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			m.sample()
			select {
			case <-m.stop:
				return
			case <-t.C:
			}
		}
	}()
	return m
}

func (m *memWatch) sample() {
	p := pssOf(m.roots())
	sum := 0.0
	for _, v := range p {
		sum += v
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, p)
	if sum > m.peak {
		m.peak, m.each = sum, p
	}
}

func (m *memWatch) end() (float64, map[string]float64) {
	close(m.stop)
	m.sample()
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.peak, m.each
}
