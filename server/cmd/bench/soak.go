package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// soakMain asks whether a hub with history is as good as a fresh one: it measures an
// empty ledger, fills it through the front door, runs at half load with retention at
// work, and measures again.
func soakMain(ctx context.Context, args []string) (err error) {
	fs := flag.NewFlagSet("soak", flag.ExitOnError)
	binary := fs.String("hookyard", "bin/hookyard", "the built hub")
	script := fs.String("postgres", ".ci/postgres", "the script that starts a throw-away PostgreSQL")
	dir := fs.String("dir", os.TempDir(), "where data is kept meanwhile; a disk, not memory")
	servers := fs.String("servers", "sqlite,postgres", "comma list of what is measured")
	rows := fs.Int("rows", 5_000_000, "rows of events, deliveries and attempts to begin with")
	length := fs.Duration("for", 10*time.Minute, "how long at half load")
	saturated := fs.Duration("saturate", time.Minute, "how long each measurement of the full speed takes")
	limit := fs.Duration("limit", 2*time.Hour, "give up after this long")
	out := fs.String("out", "bin/soak.jsonl", "JSON lines are appended here")
	_ = fs.Parse(args) // exits on error
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	names := strings.Split(*servers, ",")
	l, err := newLab(ctx, *binary, *script, *dir, slices.Contains(names, "postgres"), os.Stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	rec := newReceiver()
	if l.recv, err = rec.Listen("127.0.0.1:0"); err != nil {
		return err
	}
	defer func() { _ = rec.Close() }()
	for _, s := range settings(ctx, l, *binary, *dir, fmt.Sprintf("%d rows, %v at half load", *rows, *length)) {
		fmt.Println("-", s)
	}
	for _, t := range l.targets() {
		if slices.Contains(names, t.name) && t.name != "ceiling" {
			if err := soak(ctx, t, rec, *rows, *length, *saturated, *out); err != nil {
				return fmt.Errorf("soak on %s: %w", t.name, err)
			}
		}
	}
	return nil
}

func soak(ctx context.Context, t target, rec *Receiver, rows int, length, saturated time.Duration, out string) (err error) {
	s, err := t.start(ctx, layout{"fan", 1}, startOptions{retention: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	once := func(name string, p profile) (Result, error) {
		p.name, p.lay, p.conns, p.wait, p.settle = name, layout{"fan", 1}, 64, 2*time.Minute, 15*time.Second
		res, err := run(ctx, rec, s.load(t.name, p), os.Stderr)
		if err != nil {
			return res, err
		}
		res.tell(os.Stderr)
		return res, res.save(out)
	}
	empty, err := once("empty", profile{length: saturated, warm: 500})
	if err != nil {
		return err
	}
	// an event, a delivery and an attempt each: three rows an event
	for have := 3 * empty.Delivered; have < rows; {
		want := time.Duration(float64(rows-have) / 3 / max(empty.DelivPS, 1) * float64(time.Second))
		filled, err := once("fill", profile{length: min(want+time.Second, 5*time.Minute)})
		if err != nil {
			return err
		}
		have += 3 * filled.Delivered
	}
	half, err := once("half", profile{rate: empty.DelivPS / 2, length: length})
	if err != nil {
		return err
	}
	full, err := once("full", profile{length: saturated})
	if err != nil {
		return err
	}
	fmt.Printf("%s: delivered/s %.0f empty, %.0f with history: %.1f %% slower (goal: at most 20)\n", t.name, empty.DelivPS, full.DelivPS, 100*(1-full.DelivPS/empty.DelivPS))
	fmt.Printf("%s: half load, %.0f/s: lost %d, p50 %.2f ms, p99 %.2f ms; by minute:\n", t.name, half.Rate, half.Lost, half.E2E.P50, half.E2E.P99)
	for m, p := range byMinute(half) {
		fmt.Printf("  minute %2d: %7d delivered, p50 %.2f ms, p99 %.2f ms, hub %.0f MiB\n", m+1, p.N, p.P50, p.P99, memoryAt(half, m))
	}
	return nil
}

// byMinute cuts the latencies by the minute of arrival.
func byMinute(r Result) []Pct {
	if len(r.at) == 0 {
		return nil
	}
	first := slices.Min(r.at)
	var cut [][]int64
	for i, at := range r.at {
		m := int((at - first) / int64(time.Minute))
		for len(cut) <= m {
			cut = append(cut, nil)
		}
		cut[m] = append(cut[m], r.lat[i])
	}
	var out []Pct
	for _, c := range cut {
		out = append(out, percentiles(c))
	}
	return out
}

// memoryAt is the hub's mean over the minute; there is a sample every two seconds.
func memoryAt(r Result, minute int) float64 {
	lo, hi := min(minute*30, len(r.memory)), min((minute+1)*30, len(r.memory))
	sum := 0.0
	for _, m := range r.memory[lo:hi] {
		sum += m["hub"]
	}
	return sum / float64(max(hi-lo, 1))
}
