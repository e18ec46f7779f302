package server_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestCleanShutdown stops the hub in mid-load, again and again: every accepted event
// arrives exactly once, although a subscription is open and an endpoint hangs.
func TestCleanShutdown(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := newSink(t)
		s.hang = func(endpoint string) bool { return endpoint == "hangs" }
		h := start(t, url, "--allow-private-targets", "--shutdown-timeout", "3s")
		address, _ := world(t, h, s, "a", "hangs")
		l := startLoad(300, 16, address)
		for i := range 2 {
			log, err := h.DeliveryLog(t.Context(), nil, "")
			if err != nil {
				t.Fatal(err)
			}
			l.until(t, 400*(i+1))
			asked := time.Now()
			if err := h.Stop(); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(asked); took > 5*time.Second {
				t.Errorf("the hub took %v to stop", took)
			}
			for err = nil; err == nil; { // the subscription was ended, not forgotten
				_, err = log.NextBatch(t.Context())
			}
			if err := h.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		l.until(t, 1200)
		accepted := l.end()
		s.await(t, "a", accepted, 30*time.Second)
		if n := len(s.twice("a")); n > 0 {
			t.Errorf("%d of %d came twice over clean shutdowns", n, len(accepted))
		}
	})
}

// TestDiskFull fills the disk under the embedded database: the hub refuses, loses
// nothing and goes on by itself when there is room.
func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may mount the small disk that this test fills")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=48m"); err != nil {
		t.Skipf("the small disk that this test fills cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := newSink(t)
	h := startIn(t, filepath.Join(dir, "data"), "", "--allow-private-targets")
	address, _ := world(t, h, s, "a")
	l := startLoad(200, 4, address)
	l.until(t, 100)
	ballast := filepath.Join(dir, "ballast")
	fill := func() {
		f, err := os.OpenFile(ballast, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		for block := make([]byte, 4096); ; {
			if _, err := f.Write(block); err != nil {
				return
			}
		}
	}
	fill()
	until(t, 20*time.Second, "events are refused", func() bool { return l.refusals() > 20 })
	err := send(h.HTTP, address, 1_000_000)
	if err == nil {
		t.Log("an event found room on the full disk")
	} else if want := fmt.Sprint(http.StatusServiceUnavailable); err.Error()[:3] != want {
		t.Errorf("the refusal is %v, want %s", err, want)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	l.until(t, l.count()+200)
	accepted := l.end()
	s.await(t, "a", accepted, 30*time.Second)
	if err := h.Stop(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d accepted, %d refused, %d came twice", len(accepted), l.refusals(), len(s.twice("a")))
}
