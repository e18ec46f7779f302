package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
// process ends, however that comes about; then nothing is left behind.
const keeper = `"$1" -D "$2/data" -k "$2" -h 127.0.0.1 -p "$3" -c fsync=off -c full_page_writes=off -c max_connections=300 >"$2/log" 2>&1 &
read -r _; kill -INT $!; wait $!; rm -rf "$2"`

// Start starts a throw-away PostgreSQL server, which ends with this process or when
// stop is called, and returns a superuser's URL of it.
func Start(ctx context.Context) (url string, stop func(), err error) {
	bin, err := binaries()
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "hookyard-postgres-")
	if err != nil {
		return "", nil, err
	}
	who, err := unprivileged(dir)
	if err != nil {
		return "", nil, err
	}
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", filepath.Join(dir, "data"), "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
	initdb.Dir, initdb.SysProcAttr = dir, &syscall.SysProcAttr{Credential: who}
	if out, err := initdb.CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	port, err := freePort()
	if err != nil {
		return "", nil, err
	}
	server := exec.Command("/bin/sh", "-c", keeper, "sh", filepath.Join(bin, "postgres"), dir, port)
	server.Dir, server.SysProcAttr = dir, &syscall.SysProcAttr{Credential: who, Setpgid: true}
	alive, err := server.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	if err := server.Start(); err != nil {
		return "", nil, fmt.Errorf("start postgres: %w", err)
	}
	stop = func() { _ = alive.Close(); _ = server.Wait() }
	url = "postgres://postgres@127.0.0.1:" + port + "/postgres?sslmode=disable"
	if err := answering(ctx, url); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		stop()
		return "", nil, fmt.Errorf("start postgres: %w: %s", err, bytes.TrimSpace(log))
	}
	return url, stop, nil
}

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

// answering waits until the server takes connections.
func answering(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond) // no signal tells when another process is ready
	defer tick.Stop()
	for {
		c, err := pgx.Connect(ctx, url)
		if err == nil {
			return c.Close(ctx)
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
