package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ceilingMain is a forwarder with no durability at all: it answers 202 as soon
// as the event is in a channel, and workers of each endpoint post it on. It
// marks what net/http on both sides can do on a machine; a hub that keeps its
// promises is below it. A full channel holds the sender up, so that a long run
// reaches a steady state.
func ceilingMain(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("ceiling", flag.ExitOnError)
	addr := fs.String("listen", "127.0.0.1:18080", "address")
	base := fs.String("to", "http://127.0.0.1:19000", "base URL; endpoints are /e0 ... /eN-1 below it")
	n := fs.Int("endpoints", 1, "endpoints")
	workers := fs.Int("workers", 32, "workers an endpoint")
	_ = fs.Parse(args) // exits on error
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1024, MaxIdleConns: 4096}}
	queues := make([]chan []byte, *n)
	for i := range queues {
		queues[i] = make(chan []byte, 100000)
		url := *base + "/e" + strconv.Itoa(i)
		for w := 0; w < *workers; w++ {
			go func() {
				for b := range queues[i] {
					req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(b))
					if err != nil {
						continue
					}
					req.Header.Set("Content-Type", "application/json")
					resp, err := client.Do(req)
					if err == nil {
						_, _ = io.Copy(io.Discard, resp.Body)
						_ = resp.Body.Close()
					}
				}
			}()
		}
	}
	// POST /publish goes to all endpoints, POST /publish/<i> to one
	return serve(ctx, *addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		to := queues
		if i, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/publish/")); err == nil && i >= 0 && i < len(queues) {
			to = queues[i : i+1]
		}
		for _, q := range to {
			select {
			case q <- b:
			case <-ctx.Done():
				http.Error(w, "stopping", http.StatusServiceUnavailable)
				return
			}
		}
		w.WriteHeader(http.StatusAccepted)
	}))
}

// serve answers at addr until ctx ends.
func serve(ctx context.Context, addr string, h http.Handler) error {
	s := &http.Server{Addr: addr, Handler: h, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
