package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// receiver stands for the systems at the far end, one path each, and prints a line for
// each request.
type receiver struct {
	url    string
	out    io.Writer
	server *http.Server
	wg     sync.WaitGroup
	flaky  atomic.Int64
}

func newReceiver(out io.Writer) (*receiver, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{url: "http://" + ln.Addr().String(), out: out}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second}
	r.wg.Go(func() { _ = r.server.Serve(ln) })
	return r, nil
}

func (r *receiver) close() {
	_ = r.server.Close()
	r.wg.Wait()
}

// ServeHTTP answers 200, but for /flaky, where two of three requests fail.
func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return
	}
	status := http.StatusOK
	if q.URL.Path == "/flaky" && r.flaky.Add(1)%3 != 0 {
		status = http.StatusServiceUnavailable
	}
	w.WriteHeader(status)
	text := string(body)
	if len(text) > 110 {
		text = text[:110] + "…"
	}
	fmt.Fprintf(r.out, "%s  %d  %-10s %s\n", time.Now().Format("15:04:05"), status, q.URL.Path, text)
}
