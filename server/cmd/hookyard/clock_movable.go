//go:build movableclock

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/jonboulle/clockwork"
)

const (
	clockEnv  = "HOOKYARD_CLOCK" // path of a socket for whoever moves the clock
	clockTick = 2 * time.Millisecond
)

// clock goes with the real one and can be moved ahead: POST /?by=1m. It is for the
// acceptance cases, in a build of their own, so that no hub that people run has it.
func clock(ctx context.Context) (clockwork.Clock, error) {
	path := os.Getenv(clockEnv)
	if path == "" {
		return nil, fmt.Errorf("this build is for tests: its clock can be moved, and %s says at which socket", clockEnv)
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", clockEnv, err)
	}
	c := clockwork.NewFakeClockAt(time.Now())
	go func() {
		last := time.Now()
		for range time.Tick(clockTick) {
			now := time.Now()
			c.Advance(now.Sub(last))
			last = now
		}
	}()
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		by, err := time.ParseDuration(r.URL.Query().Get("by"))
		if err != nil || by < 0 || r.Method != http.MethodPost {
			http.Error(w, "POST /?by=1m moves the clock ahead", http.StatusBadRequest)
			return
		}
		c.Advance(by)
		_, _ = fmt.Fprintln(w, c.Now().UTC().Format(time.RFC3339Nano))
	})}
	go func() {
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(os.Stderr, "the movable clock:", err)
		}
	}()
	return c, nil
}
