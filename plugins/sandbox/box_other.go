//go:build !linux

package sandbox

import (
	"errors"
	"syscall"
)

const (
	selfFD    = 3
	programFD = 4
)

func become(string) error { return errors.New("there is no sandbox on this system") }

func offered() Parts { return Parts{} }

func (Parts) report() Report {
	return Report{Parts: []Part{{Name: "system", Needed: true, How: "there is no sandbox on this system, only on Linux"}}}
}

// cgroups are Linux's.
type cgroups struct{}

func delegated() (*cgroups, error) {
	return nil, errors.New("there are no control groups on this system")
}

func (*cgroups) make(Limits) (*group, error) { return &group{}, nil }

type group struct{}

func (*group) enter(*syscall.SysProcAttr) {}

func (*group) remove() {}
