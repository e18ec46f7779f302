package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Result is the one JSON line of a run.
type Result struct {
	Server       string             `json:"server"`
	Profile      string             `json:"profile"`
	When         string             `json:"when"`
	Events       int                `json:"events"`
	Endpoints    int                `json:"endpoints"`
	Mode         string             `json:"mode"`
	Rate         float64            `json:"rate"`
	Conns        int                `json:"conns"`
	Faults       string             `json:"faults,omitempty"`
	Accepted     int                `json:"accepted"`
	Errors       int                `json:"errors"`
	FirstError   string             `json:"first_error,omitempty"`
	AcceptedPS   float64            `json:"accepted_per_s"`
	Accept       Pct                `json:"accept_ms"`
	LateP99      float64            `json:"late_ms_p99"`
	Expected     int                `json:"expected"`
	Delivered    int                `json:"delivered"`
	DelivPS      float64            `json:"delivered_per_s"`
	E2E          Pct                `json:"e2e_ms"`
	Lost         int                `json:"lost"`
	Dups         int                `json:"dups"`
	InFlight     int                `json:"in_flight_at_kill,omitempty"` // see runConfig.InFlight
	Unacked      int                `json:"unacked_delivered"`
	TimedOut     bool               `json:"timed_out"`
	CPU          map[string]float64 `json:"cpu_s"`
	CPUTotal     float64            `json:"cpu_total_s"`
	CPUPer1k     float64            `json:"cpu_s_per_1k"`
	Cores        float64            `json:"cores"` // CPU seconds per second of sending
	HarnessCPU   float64            `json:"harness_cpu_s"`
	PSS          map[string]float64 `json:"pss_mib"`
	PSSTotal     float64            `json:"pss_total_mib"`
	PeakConns    int64              `json:"peak_conns"`
	Requests     int64              `json:"requests"`
	FaultyReqs   int64              `json:"faulty_requests"`
	WallS        float64            `json:"wall_s"`
	DrainS       float64            `json:"drain_s"` // last accept to last delivery
	Watchers     int                `json:"watchers,omitempty"`
	Entries      int64              `json:"watched_entries,omitempty"`       // that all watchers got
	EntriesShort int64              `json:"watched_entries_short,omitempty"` // that unfiltered watchers missed

	lat, at []int64              // of the healthy endpoints, in order of arrival within each
	memory  []map[string]float64 // every two seconds, MiB by root
}

// runConfig is one load against one server.
type runConfig struct {
	Server, Profile string
	Send            SendConfig
	Endpoints       int    // /e0 … /eN-1
	Mode            string // fan: each event goes to all endpoints; rr: event seq to endpoint seq mod N
	Faults          string // see parseFaults
	Roots           func() []procRoot
	Warm            int           // events to send before, not counted
	Wait            time.Duration // for the deliveries after the last send
	Settle          time.Duration // at the end, for the server to be idle, so that its late work is counted
	KillAt          time.Duration // when to kill -9 the roots marked so; 0 never
	RestartAfter    time.Duration
	Restart         func() error
	InFlight        func() int // deliveries handed over and not yet recorded, as the server says; may be nil
}

// expect says which endpoints must get the event.
func (c *runConfig) expect() (func(seq int) []int, error) {
	switch c.Mode {
	case "", "fan":
		all := make([]int, c.Endpoints)
		for i := range all {
			all[i] = i
		}
		return func(int) []int { return all }, nil
	case "rr":
		one := make([][]int, c.Endpoints)
		for i := range one {
			one[i] = []int{i}
		}
		return func(seq int) []int { return one[seq%c.Endpoints] }, nil
	}
	return nil, fmt.Errorf("mode %q: fan or rr", c.Mode)
}

// run does one load to its end. Its words for people go to log.
func run(ctx context.Context, rec *Receiver, cfg runConfig, log io.Writer) (Result, error) {
	debug.FreeOSMemory() // what earlier runs left behind is not this run's
	if cfg.Roots == nil {
		cfg.Roots = func() []procRoot { return nil }
	}
	if cfg.Send.Run == "" {
		cfg.Send.Run = strconv.FormatInt(time.Now().UnixMilli(), 36)
	}
	expectAt, err := cfg.expect()
	if err != nil {
		return Result{}, err
	}
	faults, err := parseFaults(cfg.Faults)
	if err != nil {
		return Result{}, err
	}
	faulty := make([]bool, cfg.Endpoints)
	for n, f := range faults {
		i, err := strconv.Atoi(strings.TrimPrefix(n, "e"))
		if err != nil || i >= cfg.Endpoints {
			return Result{}, fmt.Errorf("fault for unknown endpoint %q", n)
		}
		faulty[i] = f.Hang || f.P500 >= 1
	}
	rec.SetFaults(nil)
	if err := warm(ctx, rec, cfg, expectAt, log); err != nil {
		return Result{}, err
	}
	rec.SetFaults(faults)
	rec.Reset(cfg.Send.Run)

	cpu0, own0 := cpuOf(cfg.Roots()), ownCPU()
	mem := watchMem(cfg.Roots, 2*time.Second)
	start := time.Now()
	inFlight := 0
	crashed := make(chan error, 1)
	if cfg.KillAt > 0 {
		go func() { crashed <- crash(ctx, cfg, start, &inFlight, log) }()
	} else {
		crashed <- nil
	}
	sr, err := send(ctx, cfg.Send)
	if err != nil {
		return Result{}, err
	}
	if err := <-crashed; err != nil {
		return Result{}, err
	}
	sending := time.Since(start).Seconds()

	res := Result{Server: cfg.Server, Profile: cfg.Profile, When: start.UTC().Format(time.RFC3339), Events: sr.Sent, Endpoints: cfg.Endpoints,
		Mode: cfg.Mode, Rate: cfg.Send.Rate, Conns: cfg.Send.C, Faults: cfg.Faults, Accepted: sr.Accepted, Errors: sr.Errors,
		FirstError: sr.FirstError, AcceptedPS: sr.AcceptedPS, Accept: sr.Latency, LateP99: sr.LateP99, InFlight: inFlight}
	tally := func() tally { return count(rec, sr.status, cfg.Endpoints, expectAt, faulty) }
	deadline := time.Now().Add(cfg.Wait)
	for tally().lost > 0 && ctx.Err() == nil {
		if time.Now().After(deadline) {
			res.TimedOut = true
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	own1 := ownCPU()
	idle(cfg.Roots, cfg.Settle)
	if cfg.KillAt > 0 {
		time.Sleep(5 * time.Second) // late duplicates
	}
	cpu1 := cpuOf(cfg.Roots())
	res.PSSTotal, res.PSS = mem.end()
	res.memory = mem.all

	t := tally()
	res.Expected, res.Delivered, res.Lost, res.Unacked = t.expected, t.delivered, t.lost, t.unacked
	for i := range cfg.Endpoints {
		e := rec.endpoint("e" + strconv.Itoa(i))
		e.mu.Lock()
		if !faulty[i] {
			res.lat = append(res.lat, e.lat...)
			res.at = append(res.at, e.at...)
			res.Dups += int(e.dups)
		} else {
			res.FaultyReqs += e.requests
		}
		res.Requests += e.requests
		e.mu.Unlock()
	}
	res.E2E = percentiles(slices.Clone(res.lat))
	if len(res.at) > 1 && sr.firstAccept > 0 {
		first, last := slices.Min(res.at), slices.Max(res.at)
		if d := float64(last-min(sr.firstAccept, first)) / 1e9; d > 0 {
			res.DelivPS = float64(len(res.at)) / d
		}
		res.DrainS = float64(last-sr.lastAccept) / 1e9
	}
	res.CPU = map[string]float64{}
	if cfg.KillAt == 0 {
		for k, v := range cpu1 {
			res.CPU[k] = round(v-cpu0[k], 2)
			res.CPUTotal += v - cpu0[k]
		}
		if n := len(res.lat); n > 0 {
			res.CPUPer1k = res.CPUTotal / float64(n) * 1000
		}
		res.Cores = res.CPUTotal / sending
	}
	res.HarnessCPU = own1 - own0
	res.PeakConns = rec.maxConn.Load()
	res.WallS = time.Since(start).Seconds()
	res.tidy()
	return res, ctx.Err()
}

// warm sends a few events first, so that connections are open and code is paged in.
func warm(ctx context.Context, rec *Receiver, cfg runConfig, expectAt func(int) []int, log io.Writer) error {
	if cfg.Warm == 0 {
		return nil
	}
	w := cfg.Send
	w.Run, w.N, w.For, w.Rate, w.C = cfg.Send.Run+"w", cfg.Warm, 0, 0, min(cfg.Send.C, 16)
	rec.Reset(w.Run)
	r, err := send(ctx, w)
	if err != nil {
		return err
	}
	want := int64(0)
	for i, s := range r.status {
		if s == 1 {
			want += int64(len(expectAt(i)))
		}
	}
	for t := time.Now(); rec.uniq.Load() < want && time.Since(t) < 20*time.Second; {
		time.Sleep(20 * time.Millisecond)
	}
	if got := rec.uniq.Load(); got < want || want == 0 {
		fmt.Fprintf(log, "warm-up: %d of %d delivered (%s)\n", got, want, r.FirstError)
	}
	idle(cfg.Roots, cfg.Settle)
	return nil
}

// freshAnswer is how old what the hub says of itself may be when it is killed.
const freshAnswer = 5 * time.Millisecond

// crash kills what is marked so in mid-run, and starts it again.
func crash(ctx context.Context, cfg runConfig, start time.Time, inFlight *int, log io.Writer) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(cfg.KillAt):
	}
	// An answer that took long is of a moment that is gone: asked again, but not for ever.
	for tries := 0; cfg.InFlight != nil && tries < 50; tries++ {
		asked := time.Now()
		*inFlight = cfg.InFlight()
		if time.Since(asked) < freshAnswer {
			break
		}
	}
	n := 0
	for _, r := range cfg.Roots() {
		if r.kill {
			n++
			if err := syscall.Kill(r.pid, syscall.SIGKILL); err != nil {
				return fmt.Errorf("killing %s: %w", r.name, err)
			}
		}
	}
	fmt.Fprintf(log, "killed %d processes at %.1fs\n", n, time.Since(start).Seconds())
	time.Sleep(cfg.RestartAfter)
	if err := cfg.Restart(); err != nil {
		return fmt.Errorf("restarting: %w", err)
	}
	fmt.Fprintf(log, "restarted at %.1fs\n", time.Since(start).Seconds())
	return nil
}

type tally struct{ expected, delivered, lost, unacked int }

// count compares what was accepted with what arrived at the endpoints that answer.
func count(rec *Receiver, status []uint8, endpoints int, expectAt func(int) []int, faulty []bool) (t tally) {
	seen := make([][]uint8, endpoints)
	for i := range seen {
		e := rec.endpoint("e" + strconv.Itoa(i))
		e.mu.Lock()
		seen[i] = slices.Clone(e.seen)
		e.mu.Unlock()
	}
	for seq, st := range status {
		for _, ep := range expectAt(seq) {
			if faulty[ep] {
				continue
			}
			got := seq < len(seen[ep]) && seen[ep][seq] > 0
			if st == 1 {
				t.expected++
			}
			switch {
			case st == 1 && got:
				t.delivered++
			case st == 1:
				t.lost++
			case got:
				t.unacked++
			}
		}
	}
	return t
}

func (r *Result) tidy() {
	for _, p := range []*float64{&r.AcceptedPS, &r.DelivPS, &r.CPUTotal, &r.HarnessCPU, &r.PSSTotal, &r.WallS, &r.DrainS, &r.LateP99} {
		*p = round(*p, 2)
	}
	r.CPUPer1k, r.Cores = round(r.CPUPer1k, 4), round(r.Cores, 3)
	for _, p := range []*Pct{&r.Accept, &r.E2E} {
		p.P50, p.P95, p.P99, p.Max = round(p.P50, 2), round(p.P95, 2), round(p.P99, 2), round(p.Max, 2)
	}
	for k, v := range r.PSS {
		r.PSS[k] = round(v, 1)
	}
}

func round(v float64, d int) float64 {
	m := math.Pow(10, float64(d))
	return math.Round(v*m) / m
}

// tell says the result to people.
func (r *Result) tell(w io.Writer) {
	fmt.Fprintf(w, "%-9s %-5s accepted %d at %.0f/s p99 %.2f ms, %d errors %s\n", r.Server, r.Profile, r.Accepted, r.AcceptedPS, r.Accept.P99, r.Errors, r.FirstError)
	fmt.Fprintf(w, "  delivered %d at %.0f/s, end to end p50 %.2f p95 %.2f p99 %.2f max %.2f ms, drain %.1f s\n", r.Delivered, r.DelivPS, r.E2E.P50, r.E2E.P95, r.E2E.P99, r.E2E.Max, r.DrainS)
	fmt.Fprintf(w, "  lost %d, twice %d, delivered though refused %d, timed out %v, peak connections %d\n", r.Lost, r.Dups, r.Unacked, r.TimedOut, r.PeakConns)
	fmt.Fprintf(w, "  CPU %.2f s (%.3f s per 1,000; %.2f cores) %v, memory %.0f MiB %v, harness %.2f s, late p99 %.2f ms\n",
		r.CPUTotal, r.CPUPer1k, r.Cores, r.CPU, r.PSSTotal, r.PSS, r.HarnessCPU, r.LateP99)
}

// save appends the JSON line to the file.
func (r *Result) save(path string) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// saved reads what save has written; nothing when there is no such file.
func saved(path string) (results []Result, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for line := range bytes.Lines(b) {
		var r Result
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("read results from %s: %w", path, err)
		}
		results = append(results, r)
	}
	return results, err
}

// idle waits until the trees use less than 8 % of one core.
func idle(roots func() []procRoot, limit time.Duration) {
	if len(roots()) == 0 || limit <= 0 {
		return
	}
	sum := func() (s float64) {
		for _, v := range cpuOf(roots()) {
			s += v
		}
		return
	}
	end := time.Now().Add(limit)
	was := sum()
	for time.Now().Before(end) {
		time.Sleep(time.Second)
		now := sum()
		if now-was < 0.08 {
			return
		}
		was = now
	}
}

func ownCPU() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

// runMain is one load against any server: what "all" does with the hub, for other servers.
func runMain(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("run", flag.ExitOnError)
	getSend := sendFlags(fs)
	var cfg runConfig
	fs.StringVar(&cfg.Server, "server", "?", "name of the server under test")
	fs.StringVar(&cfg.Profile, "profile", "?", "name of the profile")
	listen := fs.String("listen", "127.0.0.1:19000", "address of the receiver")
	fs.IntVar(&cfg.Endpoints, "endpoints", 1, "number of endpoints /e0 ... /eN-1")
	fs.StringVar(&cfg.Mode, "mode", "fan", "fan: each event goes to all endpoints; rr: event seq goes to endpoint seq mod N")
	fs.StringVar(&cfg.Faults, "faults", "", "e8=hang,e9=500,e3=slow:200,e4=p500:0.1")
	pidfile := fs.String("pidfile", "", "lines 'name pid [kill]' of the server's process roots")
	fs.IntVar(&cfg.Warm, "warm", 0, "events to send before, not counted")
	fs.DurationVar(&cfg.Wait, "wait", 60*time.Second, "how long to wait for the deliveries after the last send")
	fs.DurationVar(&cfg.Settle, "settle", 15*time.Second, "at the end wait up to this long for the server to be idle, so that its late work is counted")
	fs.DurationVar(&cfg.KillAt, "kill-at", 0, "kill -9 the pids marked kill this long after the start")
	fs.DurationVar(&cfg.RestartAfter, "restart-after", 2*time.Second, "restart this long after the kill")
	restart := fs.String("restart", "", "shell command that starts the server again and rewrites the pid file")
	out := fs.String("out", "", "append the JSON line to this file")
	_ = fs.Parse(args) // exits on error
	var err error
	if cfg.Send, err = getSend(); err != nil {
		return err
	}
	first, err := readPidFile(*pidfile)
	if err != nil {
		return err
	}
	var roots atomic.Pointer[[]procRoot]
	roots.Store(&first)
	cfg.Roots = func() []procRoot { return *roots.Load() }
	cfg.Restart = func() error {
		c := exec.CommandContext(ctx, "sh", "-c", *restart)
		c.Stdout, c.Stderr = os.Stderr, os.Stderr
		if err := c.Run(); err != nil {
			return err
		}
		again, err := readPidFile(*pidfile)
		if err == nil {
			roots.Store(&again)
		}
		return err
	}
	rec := newReceiver()
	if _, err := rec.Listen(*listen); err != nil {
		return err
	}
	defer func() { _ = rec.Close() }()
	res, err := run(ctx, rec, cfg, os.Stderr)
	if err != nil {
		return err
	}
	res.tell(os.Stderr)
	if *out != "" {
		if err := res.save(*out); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(&res)
}
