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
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// template is a body cut at its placeholders: {{id}} {{ts}} {{time}} {{seq}}
// {{target}} {{pad}} and, in a batch, {{items}}.
type template struct {
	lit  []string
	slot []string
}

func parseTemplate(s string) template {
	var t template
	for {
		i := strings.Index(s, "{{")
		if i < 0 {
			break
		}
		j := strings.Index(s[i:], "}}")
		if j < 0 {
			break
		}
		t.lit = append(t.lit, s[:i])
		t.slot = append(t.slot, strings.TrimSpace(s[i+2:i+j]))
		s = s[i+j+2:]
	}
	t.lit = append(t.lit, s)
	return t
}

func (t template) render(b []byte, get func([]byte, string) []byte) []byte {
	for i, s := range t.slot {
		b = append(b, t.lit[i]...)
		b = get(b, s)
	}
	return append(b, t.lit[len(t.lit)-1]...)
}

// SendConfig says what to send and how fast.
type SendConfig struct {
	Run     string
	Method  string
	URL     string // may hold {{target}}
	Headers []string
	Body    string // body template
	Item    string // item template of a batch
	Batch   int
	Targets []string // event seq goes to Targets[seq mod len]
	Pad     int
	First   int           // first seq
	N       int           // events
	For     time.Duration // closed loop: stop after this long instead; N is then the most
	C       int           // connections
	Rate    float64       // events/s, open loop; 0: closed loop
	Timeout time.Duration // of one request
}

// SendResult is what came of it.
type SendResult struct {
	Sent        int     `json:"sent"`
	Accepted    int     `json:"accepted"`
	Errors      int     `json:"errors"`
	Seconds     float64 `json:"seconds"`
	AcceptedPS  float64 `json:"accepted_per_s"`
	Latency     Pct     `json:"accept_ms"`
	FirstError  string  `json:"first_error,omitempty"`
	LateP99     float64 `json:"late_ms_p99"` // open loop: how late the harness itself sent
	firstAccept int64
	lastAccept  int64
	status      []uint8 // by seq-First: 1 accepted, 2 error, 3 unknown (cut off)
}

// httpConn is one keep-alive HTTP/1.1 client connection, written by hand so
// that the load takes little CPU from the server under test.
type httpConn struct {
	host string
	c    net.Conn
	br   *bufio.Reader
}

func (h *httpConn) do(req []byte, timeout time.Duration) (int, []byte, error) {
	for try := 0; ; try++ {
		fresh := h.c == nil
		if fresh {
			c, err := net.DialTimeout("tcp", h.host, timeout)
			if err != nil {
				return 0, nil, err
			}
			h.c, h.br = c, bufio.NewReaderSize(c, 4<<10)
		}
		_ = h.c.SetDeadline(time.Now().Add(timeout))
		_, err := h.c.Write(req)
		var st int
		var body []byte
		var again bool
		if err == nil {
			if _, err = h.br.Peek(1); err != nil {
				// a kept connection that the server had closed: nothing was read of it
				again = !fresh && try == 0 && errors.Is(err, io.EOF)
			} else {
				var closing bool
				st, body, closing, err = readResponse(h.br)
				if err == nil {
					if closing {
						h.close()
					}
					return st, body, nil
				}
			}
		}
		h.close()
		if !again {
			return 0, nil, err
		}
	}
}

func (h *httpConn) close() {
	if h.c != nil {
		_ = h.c.Close()
		h.c = nil
	}
}

func readResponse(br *bufio.Reader) (status int, body []byte, closing bool, err error) {
	line, err := br.ReadSlice('\n')
	if err != nil {
		return 0, nil, false, err
	}
	if len(line) < 12 {
		return 0, nil, false, errors.New("short status line")
	}
	status, err = strconv.Atoi(string(line[9:12]))
	if err != nil {
		return 0, nil, false, err
	}
	length, chunked := 0, false
	for {
		line, err = br.ReadSlice('\n')
		if err != nil {
			return 0, nil, false, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		k, v, _ := bytes.Cut(line, []byte(":"))
		v = bytes.TrimSpace(v)
		switch {
		case len(k) == 14 && bytes.EqualFold(k, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(v)); err != nil {
				return 0, nil, false, err
			}
		case len(k) == 17 && bytes.EqualFold(k, []byte("Transfer-Encoding")):
			chunked = true
		case len(k) == 10 && bytes.EqualFold(k, []byte("Connection")):
			closing = bytes.EqualFold(v, []byte("close"))
		}
	}
	if chunked {
		body, err = readChunked(br, nil)
	} else if length > 0 {
		body = make([]byte, length)
		_, err = io.ReadFull(br, body)
	}
	return status, body, closing, err
}

// send runs the load to its end, or to the end of ctx.
func send(ctx context.Context, cfg SendConfig) (SendResult, error) {
	if cfg.Batch < 1 {
		cfg.Batch = 1
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	u, err := url.Parse(strings.ReplaceAll(cfg.URL, "{{target}}", "T"))
	if err != nil {
		return SendResult{}, err
	}
	if h := u.Hostname(); h != "127.0.0.1" && h != "localhost" {
		return SendResult{}, fmt.Errorf("only loopback is loaded, not %q", h)
	}
	host := u.Host
	rest := cfg.URL[strings.Index(cfg.URL, "://")+3:]
	path := "/"
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		path = rest[i:]
	}
	pathT := parseTemplate(path)
	bodyT, itemT := parseTemplate(cfg.Body), parseTemplate(cfg.Item)
	pad := strings.Repeat("x", cfg.Pad)

	res := SendResult{status: make([]uint8, cfg.N)}
	var next atomic.Int64
	var accepted, errs, first, last atomic.Int64
	var mu sync.Mutex
	var lats, late []int64
	fail := func(s string) {
		mu.Lock()
		if res.FirstError == "" {
			res.FirstError = s
		}
		mu.Unlock()
	}
	start := time.Now()
	units := (cfg.N + cfg.Batch - 1) / cfg.Batch
	var due chan int
	if cfg.Rate > 0 {
		due = make(chan int, units)
		go func() {
			defer close(due)
			step := float64(time.Second) * float64(cfg.Batch) / cfg.Rate
			for i := 0; i < units; i++ {
				at := start.Add(time.Duration(step * float64(i)))
				if d := time.Until(at); d > 0 {
					select {
					case <-ctx.Done():
						return
					case <-time.After(d):
					}
				}
				due <- i
			}
		}()
	}
	var wg sync.WaitGroup
	for w := 0; w < cfg.C; w++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			conn := &httpConn{host: host}
			defer conn.close()
			var req, body []byte
			var my, myLate []int64
			defer func() {
				mu.Lock()
				lats = append(lats, my...)
				late = append(late, myLate...)
				mu.Unlock()
			}()
			for {
				select {
				case <-ctx.Done():
					return
				default:
				}
				var unit int
				var ts time.Time
				if due != nil {
					i, ok := <-due
					if !ok {
						return
					}
					unit = i
					ts = start.Add(time.Duration(float64(time.Second) * float64(cfg.Batch) / cfg.Rate * float64(i)))
				} else {
					ts = time.Now()
					if cfg.For > 0 && ts.Sub(start) > cfg.For {
						return
					}
					unit = int(next.Add(1)) - 1
					if unit >= units {
						return
					}
				}
				lo, hi := unit*cfg.Batch, min((unit+1)*cfg.Batch, cfg.N)
				tgt := ""
				get := func(seq int) func(b []byte, slot string) []byte {
					return func(b []byte, slot string) []byte {
						switch slot {
						case "id":
							b = append(b, cfg.Run...)
							b = append(b, '.')
							return strconv.AppendInt(b, int64(seq), 10)
						case "ts":
							return strconv.AppendInt(b, ts.UnixNano(), 10)
						case "time":
							return ts.UTC().AppendFormat(b, time.RFC3339)
						case "seq":
							return strconv.AppendInt(b, int64(seq), 10)
						case "pad":
							return append(b, pad...)
						case "target":
							return append(b, tgt...)
						}
						return b
					}
				}
				pick := func(seq int) {
					if len(cfg.Targets) > 0 {
						tgt = cfg.Targets[seq%len(cfg.Targets)]
					}
				}
				body = body[:0]
				pick(cfg.First + lo)
				if cfg.Batch > 1 {
					body = bodyT.render(body, func(b []byte, slot string) []byte {
						if slot != "items" {
							return get(cfg.First+lo)(b, slot)
						}
						for k := lo; k < hi; k++ {
							if k > lo {
								b = append(b, ',')
							}
							pick(cfg.First + k)
							b = itemT.render(b, get(cfg.First+k))
						}
						return b
					})
				} else {
					body = bodyT.render(body, get(cfg.First+lo))
				}
				req = append(req[:0], cfg.Method...)
				req = append(req, ' ')
				req = pathT.render(req, get(cfg.First+lo))
				req = append(req, " HTTP/1.1\r\nHost: "...)
				req = append(req, host...)
				req = append(req, "\r\nContent-Length: "...)
				req = strconv.AppendInt(req, int64(len(body)), 10)
				req = append(req, "\r\n"...)
				for _, h := range cfg.Headers {
					req = append(req, h...)
					req = append(req, "\r\n"...)
				}
				req = append(req, "\r\n"...)
				req = append(req, body...)
				t0 := time.Now()
				if due != nil {
					myLate = append(myLate, int64(t0.Sub(ts)))
				}
				st, answer, err := conn.do(req, cfg.Timeout)
				now := time.Now()
				for k := lo; k < hi; k++ {
					switch {
					case err != nil:
						res.status[k] = 3
					case st/100 == 2:
						res.status[k] = 1
					default:
						res.status[k] = 2
					}
				}
				if err != nil || st/100 != 2 {
					errs.Add(int64(hi - lo))
					if err != nil {
						fail(err.Error())
						// do not spin on a dead server
						time.Sleep(5 * time.Millisecond)
					} else {
						fail(fmt.Sprintf("status %d: %.200s", st, answer))
					}
					continue
				}
				accepted.Add(int64(hi - lo))
				my = append(my, int64(now.Sub(t0)))
				first.CompareAndSwap(0, now.UnixNano())
				if n := now.UnixNano(); n > last.Load() {
					last.Store(n)
				}
			}
		}()
	}
	wg.Wait()
	res.Seconds = time.Since(start).Seconds()
	res.Sent = cfg.N
	if cfg.For > 0 {
		res.Sent = min(int(next.Load())*cfg.Batch, cfg.N)
		res.status = res.status[:res.Sent]
	}
	res.Accepted = int(accepted.Load())
	res.Errors = int(errs.Load())
	res.firstAccept, res.lastAccept = first.Load(), last.Load()
	if d := float64(res.lastAccept-start.UnixNano()) / 1e9; d > 0 && res.Accepted > 0 {
		res.AcceptedPS = float64(res.Accepted) / d
	}
	res.Latency = percentiles(lats)
	res.LateP99 = percentiles(late).P99
	return res, nil
}

type multiFlag []string

func (m *multiFlag) String() string     { return strings.Join(*m, ", ") }
func (m *multiFlag) Set(s string) error { *m = append(*m, s); return nil }

// textOrFile takes "@path" as the contents of a file.
func textOrFile(s string) (string, error) {
	if p, ok := strings.CutPrefix(s, "@"); ok {
		b, err := os.ReadFile(p)
		return strings.TrimRight(string(b), "\n"), err
	}
	return s, nil
}

func sendFlags(fs *flag.FlagSet) func() (SendConfig, error) {
	var cfg SendConfig
	var hdr multiFlag
	fs.StringVar(&cfg.Method, "method", "POST", "HTTP method")
	fs.StringVar(&cfg.URL, "url", "", "ingestion URL; may hold {{target}}")
	fs.Var(&hdr, "H", "header line (repeat)")
	body := fs.String("body", `{"bench_id":"{{id}}","bench_ts":"{{ts}}","pad":"{{pad}}"}`, "body template or @file")
	item := fs.String("item", "", "item template of a batch or @file; the body then holds {{items}}")
	targets := fs.String("targets", "", "comma list or @file of values for {{target}}, taken in turn")
	fs.IntVar(&cfg.Batch, "batch", 1, "events a request")
	fs.IntVar(&cfg.Pad, "pad", 900, "length of {{pad}}")
	fs.IntVar(&cfg.N, "n", 1000, "events")
	fs.IntVar(&cfg.C, "c", 32, "connections")
	fs.DurationVar(&cfg.For, "for", 0, "closed loop: stop after this long; -n is then the most")
	fs.Float64Var(&cfg.Rate, "rate", 0, "open-loop events/s; 0: closed loop, as fast as answered")
	fs.DurationVar(&cfg.Timeout, "req-timeout", 30*time.Second, "timeout of one request")
	fs.StringVar(&cfg.Run, "run-id", "", "run id (default: from the clock)")
	return func() (SendConfig, error) {
		cfg.Headers = hdr
		if len(hdr) == 0 {
			cfg.Headers = []string{"Content-Type: application/json"}
		}
		var err error
		if cfg.Body, err = textOrFile(*body); err != nil {
			return cfg, err
		}
		if cfg.Item, err = textOrFile(*item); err != nil {
			return cfg, err
		}
		t, err := textOrFile(*targets)
		if err != nil {
			return cfg, err
		}
		cfg.Targets = strings.FieldsFunc(t, func(r rune) bool { return r == ',' || r == '\n' || r == ' ' })
		if cfg.Run == "" {
			cfg.Run = strconv.FormatInt(time.Now().UnixMilli(), 36)
		}
		if cfg.URL == "" {
			return cfg, errors.New("-url is missing")
		}
		return cfg, nil
	}
}

func senderMain(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("sender", flag.ExitOnError)
	get := sendFlags(fs)
	_ = fs.Parse(args) // exits on error
	cfg, err := get()
	if err != nil {
		return err
	}
	r, err := send(ctx, cfg)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(struct {
		Run string `json:"run"`
		SendResult
	}{cfg.Run, r})
}
