package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// keeper runs the server until its standard input ends, which it does when this
// process ends, however that comes about; then nothing is left behind. A line that it
// reads kills the server at once and starts it again.
const keeper = `run() { "$1" -D "$2/data" -k "$2" -h 127.0.0.1 -p "$3" -c fsync=off -c full_page_writes=off -c max_connections=300 >>"$2/log" 2>&1 & }
run "$@"
while read -r _; do kill -QUIT $!; wait $!; run "$@"; done
kill -INT $!; wait $!; rm -rf "$2"`

// Server is a throw-away PostgreSQL server.
type Server struct {
	URL   string // of a superuser
	stdin io.WriteCloser
	done  func() error
}

// Start starts a server, which ends with this process or when it is stopped.
func Start(ctx context.Context) (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "hookyard-postgres-")
	if err != nil {
		return nil, err
	}
	who, err := unprivileged(dir)
	if err != nil {
		return nil, err
	}
	if err := initdb(ctx, bin, dir, who); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	server := exec.Command("/bin/sh", "-c", keeper, "sh", filepath.Join(bin, "postgres"), dir, port)
	server.Dir, server.SysProcAttr = dir, &syscall.SysProcAttr{Credential: who, Setpgid: true}
	s := &Server{URL: "postgres://postgres@127.0.0.1:" + port + "/postgres?sslmode=disable", done: server.Wait}
	if s.stdin, err = server.StdinPipe(); err != nil {
		return nil, err
	}
	if err := server.Start(); err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	if err := until(ctx, func(ctx context.Context) error { _, err := s.started(ctx); return err }); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		s.Stop()
		return nil, fmt.Errorf("start postgres: %w: %s", err, bytes.TrimSpace(log))
	}
	return s, nil
}

// Restart kills the server as a crash would and returns once it answers again.
func (s *Server) Restart(ctx context.Context) error {
	before, err := s.started(ctx)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(s.stdin, "restart\n"); err != nil {
		return err
	}
	return until(ctx, func(ctx context.Context) error {
		if now, err := s.started(ctx); err != nil || now.Equal(before) {
			return fmt.Errorf("postgres started at %v: %w", now, err)
		}
		return nil
	})
}

func (s *Server) started(ctx context.Context) (at time.Time, err error) {
	c, err := pgx.Connect(ctx, s.URL)
	if err != nil {
		return at, err
	}
	err = c.QueryRow(ctx, "SELECT pg_postmaster_start_time()").Scan(&at)
	return at, errors.Join(err, c.Close(ctx))
}

// Stop ends the server and removes its data.
func (s *Server) Stop() { _ = s.stdin.Close(); _ = s.done() }

// binaries finds the folder of the server's programs.
func binaries() (string, error) {
	if p, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(p), nil
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", errors.New("no PostgreSQL server found: install it (apt-get install -y --no-install-recommends postgresql), or set HOOKYARD_TEST_POSTGRES to the URL of a superuser")
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// initdb makes the server's files. It sorts as people do, where it can, so that what
// relies on the order of bytes and does not say so is found out.
func initdb(ctx context.Context, bin, dir string, who *syscall.Credential) (err error) {
	for _, locale := range [][]string{{"--locale-provider=icu", "--icu-locale=en-US", "--locale=C.UTF-8"}, {"--locale=C.UTF-8"}} {
		cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), append(locale, "-D", filepath.Join(dir, "data"), "-U", "postgres", "--auth=trust", "-E", "UTF8", "--no-sync")...)
		cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: who}
		out, e := cmd.CombinedOutput()
		if e == nil {
			return nil
		}
		err = fmt.Errorf("initdb: %w: %s", e, bytes.TrimSpace(out))
	}
	return err
}

// unprivileged gives dir to the account that the server runs as: it refuses root.
func unprivileged(dir string) (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(dir, int(uid), int(gid))
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// until tries again and again, for half a minute at most: no signal tells when another
// process is ready.
func until(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
