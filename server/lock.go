package server

import (
	"os"
	"syscall"
)

// flock locks f for this process until it is closed or the process ends.
func flock(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
