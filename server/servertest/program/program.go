// Package program starts the built binary on a folder of its own and speaks to it as
// any client would: GraphQL over HTTP and over graphql-transport-ws.
//
// Place: outside the hub, in tests and in the commands that show and measure it. It
// guarantees that a hub it started is ended by Stop, its connector processes with it.
package program

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Config is how to start a hub.
type Config struct {
	Binary string   // path of the built hookyard
	Dir    string   // its data folder
	Listen string   // "": a free loopback port
	Args   []string // further flags of serve
	Env    []string // further variables of its environment, "NAME=value"
	Log    io.Writer
	HTTPS  *http.Client // for a hub with a certificate; nil: plain HTTP
}

// Hub is a running hub. The same Hub may be stopped or killed and started again.
type Hub struct {
	*Client
	c    Config
	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
	err  error
}

// admin is what the hub writes at its first start.
type admin struct {
	URL    string `json:"url"`
	User   string `json:"user"`
	APIKey string `json:"apiKey"`
}

// Start starts the hub and waits until it is ready, at most 30 seconds.
func Start(ctx context.Context, c Config) (*Hub, error) {
	if c.Listen == "" {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("finding a free port: %w", err)
		}
		c.Listen = ln.Addr().String()
		_ = ln.Close()
	}
	if c.Log == nil {
		c.Log = io.Discard
	}
	h := &Hub{c: c, Client: &Client{URL: "http://" + c.Listen, HTTP: &http.Client{Timeout: 30 * time.Second}}}
	if c.HTTPS != nil {
		h.URL, h.HTTP = "https://"+c.Listen, c.HTTPS
	}
	if err := h.Start(ctx); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(c.Dir, "admin.json"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading the first credentials: %w", err), h.Stop())
	}
	var a admin
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, errors.Join(fmt.Errorf("reading the first credentials: %w", err), h.Stop())
	}
	h.Key = a.APIKey
	return h, nil
}

// Start starts a hub that was stopped or killed, on the same folder and address.
func (h *Hub) Start(ctx context.Context) error {
	args := append([]string{"serve", "--data-dir", h.c.Dir, "--listen", h.c.Listen}, h.c.Args...)
	cmd := exec.Command(h.c.Binary, args...)
	cmd.Stdout, cmd.Stderr = h.c.Log, h.c.Log
	cmd.Env = append(os.Environ(), h.c.Env...)
	// its own process group, so that a Ctrl-C at the terminal is ours to pass on
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the hub: %w", err)
	}
	done := make(chan struct{})
	h.mu.Lock()
	h.cmd, h.done = cmd, done
	h.mu.Unlock()
	go func() {
		err := cmd.Wait()
		h.mu.Lock()
		h.err = err
		h.mu.Unlock()
		close(done)
	}()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if h.ready(ctx) {
			return nil
		}
		select {
		case <-done:
			return fmt.Errorf("the hub ended at its start: %w", h.exit())
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("waiting for /readyz: %w", ctx.Err()), h.Stop())
		case <-tick.C:
		}
	}
}

func (h *Hub) ready(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := h.HTTP.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Pid is the root of the hub's processes.
func (h *Hub) Pid() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cmd.Process.Pid
}

// Done is closed when the hub has ended.
func (h *Hub) Done() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.done
}

func (h *Hub) exit() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// Kill ends the hub as a power cut would, and waits until it is gone.
func (h *Hub) Kill() error {
	if err := syscall.Kill(h.Pid(), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("killing the hub: %w", err)
	}
	<-h.Done()
	return nil
}

// Stop asks the hub to end and returns its exit error; after 20 seconds it is killed.
// To stop a hub that has ended is no error.
func (h *Hub) Stop() error {
	select {
	case <-h.Done():
		return nil
	default:
	}
	if err := syscall.Kill(h.Pid(), syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stopping the hub: %w", err)
	}
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	select {
	case <-h.Done():
		if err := h.exit(); err != nil {
			return fmt.Errorf("stopping the hub: %w", err)
		}
		return nil
	case <-limit.C:
		return errors.Join(errors.New("the hub did not stop within 20 s"), h.Kill())
	}
}

// Client speaks GraphQL to a hub.
type Client struct {
	URL  string // of the hub, no slash at the end
	Key  string // API key or token
	HTTP *http.Client
}

// Error is what the hub says is wrong with a request.
type Error struct {
	Message    string `json:"message"`
	Path       []any  `json:"path"`
	Extensions struct {
		Code string `json:"code"`
	} `json:"extensions"`
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Extensions.Code, e.Message) }

type request struct {
	Query     string `json:"query"`
	Variables Input  `json:"variables,omitempty"`
}

type response struct {
	Data   json.RawMessage `json:"data"`
	Errors []*Error        `json:"errors"`
}

func (r *response) decode(into any) error {
	if len(r.Errors) > 0 {
		return r.Errors[0]
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(r.Data, into)
}

// Do sends a query or mutation and decodes its data into into (nil: none wanted).
// What the hub refuses is an *Error.
func (c *Client) Do(ctx context.Context, query string, variables Input, into any) error {
	body, err := json.Marshal(request{query, variables})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL+"/graphql", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+c.Key)
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var r response
	if err := json.Unmarshal(answer, &r); err != nil {
		return fmt.Errorf("the hub answered %s: %.300s", resp.Status, answer)
	}
	return r.decode(into)
}
