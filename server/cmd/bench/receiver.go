package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The receiver counts deliveries. Each carries, anywhere in its JSON body:
//
//	"bench_id":"<run>.<seq>"   and   "bench_ts":"<unix nanoseconds>"
//
// The path names the endpoint: /e0, /e1, ... (whatever follows a second slash
// is ignored). The receiver speaks plain HTTP/1.1 by hand, so that it takes
// little of the CPU that it shares with the server under test.

// Fault is what an endpoint does instead of answering 200 at once.
type Fault struct {
	P500    float64 `json:"p500,omitempty"`     // share of requests answered 500
	DelayMs int     `json:"delay_ms,omitempty"` // wait before the answer
	Hang    bool    `json:"hang,omitempty"`     // never answer
}

// Endpoint is one delivery target with its counts.
type Endpoint struct {
	name  string
	fault Fault

	mu       sync.Mutex
	requests int64   // all requests with a bench_id of this run
	failed   int64   // answered 500
	hung     int64   // left without an answer
	dups     int64   // answered 200 although this id had had its 200
	seen     []uint8 // by seq: number of 200 answers (saturating)
	unique   int64
	lat      []int64 // ns, first 200 of each id
	at       []int64 // unix ns of the same
}

// Receiver is the delivery side of the harness.
type Receiver struct {
	run atomic.Pointer[string]

	mu  sync.RWMutex
	eps map[string]*Endpoint
	flt map[string]Fault

	conns   atomic.Int64
	maxConn atomic.Int64
	stale   atomic.Int64 // requests of another run
	other   atomic.Int64 // requests without a bench_id (pings)
	uniq    atomic.Int64
	last    atomic.Int64 // unix ns of the last first delivery
	ln      net.Listener
}

func newReceiver() *Receiver {
	r := &Receiver{eps: map[string]*Endpoint{}, flt: map[string]Fault{}}
	s := ""
	r.run.Store(&s)
	return r
}

// Reset forgets all counts and makes run the current one ("" takes any).
func (r *Receiver) Reset(run string) {
	r.mu.Lock()
	r.eps = map[string]*Endpoint{}
	r.mu.Unlock()
	r.run.Store(&run)
	r.stale.Store(0)
	r.other.Store(0)
	r.uniq.Store(0)
	r.last.Store(0)
}

// SetFaults replaces the fault table; endpoints not named answer 200.
func (r *Receiver) SetFaults(f map[string]Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flt = f
	for n, e := range r.eps {
		e.mu.Lock()
		e.fault = f[n]
		e.mu.Unlock()
	}
}

func (r *Receiver) endpoint(name string) *Endpoint {
	r.mu.RLock()
	e := r.eps[name]
	r.mu.RUnlock()
	if e != nil {
		return e
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e = r.eps[name]; e == nil {
		e = &Endpoint{name: name, fault: r.flt[name]}
		r.eps[name] = e
	}
	return e
}

// Listen starts to answer at addr ("127.0.0.1:0" takes any free port) and returns the address.
func (r *Receiver) Listen(addr string) (string, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return "", err
	}
	r.ln = ln
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go r.serve(c)
		}
	}()
	return ln.Addr().String(), nil
}

// Close stops listening; open connections end with their clients.
func (r *Receiver) Close() error { return r.ln.Close() }

// The answers, written whole.
const (
	ok200  = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
	err500 = "HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nfail"
	cont   = "HTTP/1.1 100 Continue\r\n\r\n"
	head2  = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
)

func (r *Receiver) serve(c net.Conn) {
	n := r.conns.Add(1)
	for m := r.maxConn.Load(); n > m && !r.maxConn.CompareAndSwap(m, n); m = r.maxConn.Load() {
	}
	defer func() { _ = c.Close(); r.conns.Add(-1) }()
	br := bufio.NewReaderSize(c, 8<<10)
	var body []byte
	for {
		method, path, hdr, err := readHead(br)
		if err != nil {
			return
		}
		if hdr.expect {
			if _, err := io.WriteString(c, cont); err != nil {
				return
			}
		}
		body = body[:0]
		if hdr.chunked {
			body, err = readChunked(br, body)
		} else if hdr.length > 0 {
			body = slices.Grow(body, hdr.length)[:hdr.length]
			_, err = io.ReadFull(br, body)
		}
		if err != nil {
			return
		}
		if method == "HEAD" {
			r.other.Add(1)
			if _, err := io.WriteString(c, head2); err != nil {
				return
			}
			continue
		}
		answer, hang, delay := r.take(path, body)
		if hang {
			// wait for the client to give up
			_ = c.SetReadDeadline(time.Now().Add(3 * time.Minute))
			_, _ = br.ReadByte()
			return
		}
		if delay > 0 {
			time.Sleep(delay)
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
		if hdr.close {
			return
		}
	}
}

// take books one delivery and says what to answer.
func (r *Receiver) take(path string, body []byte) (answer string, hang bool, delay time.Duration) {
	now := time.Now().UnixNano()
	name := strings.TrimPrefix(path, "/")
	if i := strings.IndexAny(name, "/?"); i >= 0 {
		name = name[:i]
	}
	id := field(body, `"bench_id"`)
	if id == nil {
		r.other.Add(1)
		return ok200, false, 0
	}
	dot := bytes.IndexByte(id, '.')
	run := *r.run.Load()
	if dot < 0 || (run != "" && string(id[:dot]) != run) {
		r.stale.Add(1)
		return ok200, false, 0
	}
	seq, err := strconv.Atoi(string(id[dot+1:]))
	if err != nil || seq < 0 || seq > 1<<28 {
		r.other.Add(1)
		return ok200, false, 0
	}
	ts, _ := strconv.ParseInt(string(field(body, `"bench_ts"`)), 10, 64)

	e := r.endpoint(name)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.requests++
	f := e.fault
	delay = time.Duration(f.DelayMs) * time.Millisecond
	if f.Hang {
		e.hung++
		return "", true, 0
	}
	if f.P500 > 0 && (f.P500 >= 1 || rand.Float64() < f.P500) {
		e.failed++
		return err500, false, delay
	}
	if seq >= len(e.seen) {
		e.seen = append(e.seen, make([]uint8, seq+1-len(e.seen)+1024)...)
	}
	if e.seen[seq] == 0 {
		e.unique++
		e.lat = append(e.lat, now-ts)
		e.at = append(e.at, now)
		r.uniq.Add(1)
		r.last.Store(now)
	} else {
		e.dups++
	}
	if e.seen[seq] < 255 {
		e.seen[seq]++
	}
	return ok200, false, delay
}

// field returns the string value after the given quoted key, or nil.
func field(b []byte, key string) []byte {
	i := bytes.Index(b, []byte(key))
	if i < 0 {
		return nil
	}
	b = b[i+len(key):]
	i = bytes.IndexByte(b, '"')
	if i < 0 || i > 4 {
		return nil
	}
	b = b[i+1:]
	i = bytes.IndexByte(b, '"')
	if i < 0 {
		return nil
	}
	return b[:i]
}

type head struct {
	length  int
	chunked bool
	close   bool
	expect  bool
}

func readHead(br *bufio.Reader) (method, path string, h head, err error) {
	line, err := br.ReadSlice('\n')
	if err != nil {
		return "", "", h, err
	}
	s := strings.Fields(string(line))
	if len(s) < 3 {
		return "", "", h, errors.New("bad request line")
	}
	method, path = s[0], s[1]
	h.close = s[2] == "HTTP/1.0"
	for {
		line, err = br.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) { // a header longer than the buffer: skip it
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = br.ReadSlice('\n')
			}
			if err != nil {
				return "", "", h, err
			}
			continue
		}
		if err != nil {
			return "", "", h, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return method, path, h, nil
		}
		k, v, okk := bytes.Cut(line, []byte(":"))
		if !okk {
			continue
		}
		v = bytes.TrimSpace(v)
		switch {
		case len(k) == 14 && bytes.EqualFold(k, []byte("Content-Length")):
			h.length, err = strconv.Atoi(string(v))
			if err != nil || h.length < 0 || h.length > 64<<20 {
				return "", "", h, errors.New("bad length")
			}
		case len(k) == 17 && bytes.EqualFold(k, []byte("Transfer-Encoding")):
			h.chunked = bytes.EqualFold(v, []byte("chunked"))
		case len(k) == 10 && bytes.EqualFold(k, []byte("Connection")):
			h.close = bytes.EqualFold(v, []byte("close"))
		case len(k) == 6 && bytes.EqualFold(k, []byte("Expect")):
			h.expect = true
		}
	}
}

func readChunked(br *bufio.Reader, b []byte) ([]byte, error) {
	for {
		line, err := br.ReadSlice('\n')
		if err != nil {
			return b, err
		}
		t := strings.TrimSpace(string(line))
		if i := strings.IndexByte(t, ';'); i >= 0 {
			t = t[:i]
		}
		n, err := strconv.ParseInt(t, 16, 32)
		if err != nil {
			return b, err
		}
		if n == 0 {
			for {
				line, err = br.ReadSlice('\n')
				if err != nil {
					return b, err
				}
				if len(bytes.TrimRight(line, "\r\n")) == 0 {
					return b, nil
				}
			}
		}
		at := len(b)
		b = slices.Grow(b, int(n))[:at+int(n)]
		if _, err = io.ReadFull(br, b[at:]); err != nil {
			return b, err
		}
		if _, err = br.Discard(2); err != nil {
			return b, err
		}
	}
}

// EndpointStats is what /stats says of one endpoint.
type EndpointStats struct {
	Requests int64 `json:"requests"`
	Failed   int64 `json:"failed"`
	Hung     int64 `json:"hung"`
	Unique   int64 `json:"unique"`
	Dups     int64 `json:"dups"`
	Latency  Pct   `json:"latency_ms"`
}

// ReceiverStats is the answer of /stats.
type ReceiverStats struct {
	Unique    int64                    `json:"unique"`
	Dups      int64                    `json:"dups"`
	Requests  int64                    `json:"requests"`
	Stale     int64                    `json:"stale"`
	Other     int64                    `json:"other"`
	Conns     int64                    `json:"conns"`
	MaxConns  int64                    `json:"max_conns"`
	Latency   Pct                      `json:"latency_ms"`
	Endpoints map[string]EndpointStats `json:"endpoints"`
}

// Stats sums the endpoints; only is a filter (nil: all).
func (r *Receiver) Stats(only func(string) bool) ReceiverStats {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s := ReceiverStats{Stale: r.stale.Load(), Other: r.other.Load(), Conns: r.conns.Load(),
		MaxConns: r.maxConn.Load(), Endpoints: map[string]EndpointStats{}}
	var all []int64
	for n, e := range r.eps {
		if only != nil && !only(n) {
			continue
		}
		e.mu.Lock()
		es := EndpointStats{Requests: e.requests, Failed: e.failed, Hung: e.hung, Unique: e.unique, Dups: e.dups}
		lat := slices.Clone(e.lat)
		e.mu.Unlock()
		all = append(all, lat...)
		es.Latency = percentiles(lat)
		s.Endpoints[n] = es
		s.Unique += es.Unique
		s.Dups += es.Dups
		s.Requests += es.Requests
	}
	s.Latency = percentiles(all)
	return s
}

// Pct holds percentiles in milliseconds.
type Pct struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func percentiles(ns []int64) Pct {
	if len(ns) == 0 {
		return Pct{}
	}
	slices.Sort(ns)
	at := func(p float64) float64 {
		i := int(p*float64(len(ns))+0.999999) - 1
		return float64(ns[min(max(i, 0), len(ns)-1)]) / 1e6
	}
	return Pct{N: len(ns), P50: at(.50), P95: at(.95), P99: at(.99), Max: float64(ns[len(ns)-1]) / 1e6}
}

// control serves /stats, /reset?run=X and /faults (POST of {"e1":{"hang":true}}).
func (r *Receiver) control() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("/stats", func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(r.Stats(nil))
	})
	m.HandleFunc("/reset", func(w http.ResponseWriter, q *http.Request) {
		r.Reset(q.FormValue("run"))
		fmt.Fprintln(w, "ok")
	})
	m.HandleFunc("/faults", func(w http.ResponseWriter, q *http.Request) {
		f := map[string]Fault{}
		if err := json.NewDecoder(q.Body).Decode(&f); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.SetFaults(f)
		fmt.Fprintln(w, "ok")
	})
	return m
}

// parseFaults reads "e8=hang,e9=500,e3=slow:200,e4=p500:0.1".
func parseFaults(s string) (map[string]Fault, error) {
	out := map[string]Fault{}
	for _, p := range strings.Split(s, ",") {
		if p = strings.TrimSpace(p); p == "" {
			continue
		}
		n, v, ok := strings.Cut(p, "=")
		if !ok {
			return nil, fmt.Errorf("bad fault %q", p)
		}
		k, arg, _ := strings.Cut(v, ":")
		f := out[n]
		var err error
		switch k {
		case "hang":
			f.Hang = true
		case "500":
			f.P500 = 1
		case "p500":
			f.P500, err = strconv.ParseFloat(arg, 64)
		case "slow":
			f.DelayMs, err = strconv.Atoi(arg)
		default:
			err = fmt.Errorf("unknown fault %q", v)
		}
		if err != nil {
			return nil, err
		}
		out[n] = f
	}
	return out, nil
}

func receiverMain(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("receiver", flag.ExitOnError)
	addr := fs.String("listen", "127.0.0.1:19000", "address for deliveries (/e0, /e1, ...)")
	ctl := fs.String("ctl", "127.0.0.1:19001", "address of /stats, /reset, /faults")
	faults := fs.String("faults", "", "e8=hang,e9=500,e3=slow:200,e4=p500:0.1")
	_ = fs.Parse(args) // exits on error
	f, err := parseFaults(*faults)
	if err != nil {
		return err
	}
	r := newReceiver()
	r.SetFaults(f)
	if _, err := r.Listen(*addr); err != nil {
		return err
	}
	return serve(ctx, *ctl, r.control())
}
