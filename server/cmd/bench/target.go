package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hookyard/hookyard/server/servertest/program"
)

// layout is who gets what: fan sends every event to all endpoints, rr has a source for
// each endpoint.
type layout struct {
	mode      string
	endpoints int
}

// served is a server that runs and is set up for one layout.
type served struct {
	url      string   // inbound address; may hold {{target}}
	targets  []string // values of {{target}}, by endpoint
	header   string
	body     string
	roots    func() []procRoot
	restart  func() error // nil: it cannot
	inFlight func() int   // may be nil
	// offline does something to the data while the hub is stopped; nil: there is none.
	offline  func(ctx context.Context, do func(dataDir, databaseURL string) error) error
	client   *program.Client
	webhooks []string // IDs, by endpoint
	stop     func() error
}

// target is something that can be measured.
type target struct {
	name  string
	start func(ctx context.Context, lay layout, o startOptions) (*served, error)
}

// startOptions vary a start; the ceiling knows none of them.
type startOptions struct {
	commitDelay bool // PostgreSQL: 1 ms before each flush of the log
	retention   bool // keep history for minutes only
}

// lab is where the targets run: one folder, one receiver, one PostgreSQL.
type lab struct {
	binary, self, script, dir string
	recv                      string // address of the receiver
	log                       io.Writer
	pgURL                     string
	pgPid                     int
	databases                 int
}

// newLab makes a folder below dir and, if asked, starts a PostgreSQL in it.
func newLab(ctx context.Context, binary, script, dir string, postgres bool, log io.Writer) (*lab, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("no hub to measure; make build first: %w", err)
	}
	if dir, err = os.MkdirTemp(dir, "hookyard-bench-"); err != nil {
		return nil, err
	}
	// the server's own user must be able to pass
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // see above
		return nil, err
	}
	l := &lab{binary: binary, self: self, script: script, dir: dir, log: log}
	if !postgres {
		return l, nil
	}
	out, err := exec.CommandContext(ctx, script, "start", filepath.Join(dir, "postgres")).Output()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting PostgreSQL: %w", err), os.RemoveAll(dir))
	}
	l.pgURL = strings.TrimSpace(string(out))
	b, err := os.ReadFile(filepath.Join(dir, "postgres", "data", "postmaster.pid"))
	if err == nil {
		first, _, _ := strings.Cut(string(b), "\n")
		l.pgPid, err = strconv.Atoi(first)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("finding PostgreSQL's process: %w", err), l.close())
	}
	return l, nil
}

// close stops what newLab started and removes the folder.
func (l *lab) close() error {
	var err error
	if l.pgURL != "" {
		// the caller's context has ended, as a rule
		err = exec.Command(l.script, "stop", filepath.Join(l.dir, "postgres"), "immediate").Run()
	}
	return errors.Join(err, os.RemoveAll(l.dir))
}

// database makes an empty database and returns its URL.
func (l *lab) database(ctx context.Context, o startOptions) (string, error) {
	conn, err := pgx.Connect(ctx, l.pgURL)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(ctx) }()
	l.databases++
	name := "bench" + strconv.Itoa(l.databases)
	statements := []string{"CREATE DATABASE " + name}
	if o.commitDelay {
		statements = append(statements, "ALTER DATABASE "+name+" SET commit_delay = 1000", "ALTER DATABASE "+name+" SET commit_siblings = 0")
	}
	if l.databases > 1 { // what an earlier run left is not this run's work
		statements = append(statements, "DROP DATABASE IF EXISTS bench"+strconv.Itoa(l.databases-1)+" WITH (FORCE)", "CHECKPOINT")
	}
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return "", fmt.Errorf("%s: %w", s, err)
		}
	}
	u, err := url.Parse(l.pgURL)
	if err != nil {
		return "", err
	}
	u.Path = "/" + name
	return u.String(), nil
}

func (l *lab) targets() []target {
	return []target{
		{"sqlite", func(ctx context.Context, lay layout, o startOptions) (*served, error) {
			return l.hub(ctx, false, lay, o)
		}},
		{"postgres", func(ctx context.Context, lay layout, o startOptions) (*served, error) {
			return l.hub(ctx, true, lay, o)
		}},
		{"ceiling", func(ctx context.Context, lay layout, _ startOptions) (*served, error) { return l.ceiling(ctx, lay) }},
	}
}

// hub starts a hub on an empty folder and database and sets it up for the layout.
func (l *lab) hub(ctx context.Context, postgres bool, lay layout, o startOptions) (*served, error) {
	dir, err := os.MkdirTemp(l.dir, "hub-")
	if err != nil {
		return nil, err
	}
	args, database := []string{"--allow-private-targets"}, ""
	if postgres {
		if database, err = l.database(ctx, o); err != nil {
			return nil, err
		}
		args = append(args, "--database-url", database)
	}
	logFile, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	h, err := program.Start(ctx, program.Config{Binary: l.binary, Dir: filepath.Join(dir, "data"), Args: args, Log: logFile})
	if err != nil {
		said, _ := os.ReadFile(logFile.Name())
		return nil, fmt.Errorf("%w; it said:\n%s", err, tail(said, 20))
	}
	s := &served{
		client: h.Client,
		header: "Content-Type: application/cloudevents+json",
		body:   cloudEvent,
		roots: func() []procRoot {
			roots := []procRoot{{"hub", h.Pid(), true}}
			if postgres {
				roots = append(roots, procRoot{"postgres", l.pgPid, false})
			}
			return roots
		},
		restart: func() error {
			if err := h.Kill(); err != nil { // it has been killed; wait until it is gone
				return err
			}
			return h.Start(ctx)
		},
		offline: func(ctx context.Context, do func(dataDir, databaseURL string) error) error {
			if err := h.Stop(); err != nil {
				return err
			}
			return errors.Join(do(filepath.Join(dir, "data"), database), h.Start(ctx))
		},
		inFlight: func() int {
			return int(metric(ctx, h.Client, "hookyard_deliveries_in_flight") + metric(ctx, h.Client, "hookyard_results_unrecorded"))
		},
		stop: func() error {
			err := errors.Join(h.Stop(), logFile.Close())
			if err != nil {
				said, _ := os.ReadFile(logFile.Name())
				err = fmt.Errorf("%w; it said:\n%s", err, tail(said, 20))
			}
			return errors.Join(err, os.RemoveAll(dir))
		},
	}
	if err := s.setUp(ctx, lay, l.recv, o); err != nil {
		return nil, errors.Join(fmt.Errorf("setting the hub up: %w", err), s.stop())
	}
	return s, nil
}

// ceiling starts the bare forwarder.
func (l *lab) ceiling(ctx context.Context, lay layout) (*served, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	cmd := exec.CommandContext(ctx, l.self, "ceiling", "-listen", addr, "-to", "http://"+l.recv, "-endpoints", strconv.Itoa(lay.endpoints))
	cmd.Stderr = l.log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &served{
		url:    "http://" + addr + "/publish",
		header: "Content-Type: application/cloudevents+json",
		body:   cloudEvent,
		roots:  func() []procRoot { return []procRoot{{"ceiling", cmd.Process.Pid, false}} },
		stop: func() error {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed, as asked
			return nil
		},
	}
	if lay.mode == "rr" {
		s.url += "/{{target}}"
		for i := range lay.endpoints {
			s.targets = append(s.targets, strconv.Itoa(i))
		}
	}
	for range 100 {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return s, c.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, errors.Join(errors.New("the ceiling does not answer"), s.stop())
}

// metric sums the samples of a Prometheus metric of the hub; 0 when there is none.
func metric(ctx context.Context, c *program.Client, name string) float64 {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+"/metrics", nil)
	if err != nil {
		return 0
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	sum := 0.0
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		rest, ok := strings.CutPrefix(sc.Text(), name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		v, _ := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		sum += v
	}
	return sum
}

// tail is the last n lines.
func tail(b []byte, n int) string {
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-n):], []byte("\n")))
}
