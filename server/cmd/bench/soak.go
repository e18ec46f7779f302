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

	"github.com/hookyard/hookyard/server/servertest/history"
)

// soakMain asks whether a hub with history is as good as a fresh one: it measures one with
// an empty ledger, gives another a past of millions of rows, of which retention finds a
// good part old enough to remove, runs it at half load meanwhile, and measures it.
func soakMain(ctx context.Context, args []string) (err error) {
	fs := flag.NewFlagSet("soak", flag.ExitOnError)
	binary := fs.String("hookyard", "bin/hookyard", "the built hub")
	script := fs.String("postgres", ".ci/postgres", "the script that starts a throw-away PostgreSQL")
	dir := fs.String("dir", os.TempDir(), "where data is kept meanwhile; a disk, not memory")
	servers := fs.String("servers", "sqlite,postgres", "comma list of what is measured")
	rows := fs.Int("rows", 5_000_000, "rows of events, deliveries and attempts to begin with")
	minutes := fs.Float64("minutes", 10, "how long at half load")
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
	how := soakPlan{rows: *rows, length: time.Duration(*minutes * float64(time.Minute)), saturated: *saturated, out: *out}
	for _, s := range settings(ctx, l, *binary, *dir, fmt.Sprintf("%d rows, %v at half load", how.rows, how.length)) {
		fmt.Println("-", s)
	}
	for _, t := range l.targets() {
		if slices.Contains(names, t.name) && t.name != "ceiling" {
			if err := soak(ctx, t, rec, how); err != nil {
				return fmt.Errorf("soak on %s: %w", t.name, err)
			}
		}
	}
	return nil
}

type soakPlan struct {
	rows              int
	length, saturated time.Duration
	out               string
}

// age is how long ago the i-th of n events came, when history is kept for a day: a third
// was due for removal long ago, a third will be in the course of the soak, and a third stays.
func (p soakPlan) age(i, n int) time.Duration {
	const day = 24 * time.Hour
	third := func(of int, from, to time.Duration) time.Duration {
		return from - time.Duration(float64(from-to)*(float64(3*i)/float64(n)-float64(of)))
	}
	switch 3 * i / n {
	case 0:
		return third(0, 3*day, 2*day)
	case 1:
		return third(1, day, day-p.length-p.saturated)
	}
	return third(2, day/2, 0)
}

func soak(ctx context.Context, t target, rec *Receiver, how soakPlan) (err error) {
	once := func(s *served, name string, p profile) (Result, error) {
		p.name, p.lay, p.conns, p.wait, p.settle = name, layout{"fan", 1}, 64, 2*time.Minute, 15*time.Second
		res, err := run(ctx, rec, s.load(t.name, p), os.Stderr)
		if err != nil {
			return res, err
		}
		res.tell(os.Stderr)
		return res, res.save(how.out)
	}
	fresh, err := t.start(ctx, layout{"fan", 1}, startOptions{retention: true})
	if err != nil {
		return err
	}
	empty, err := once(fresh, "empty", profile{length: how.saturated, warm: 500})
	if err = errors.Join(err, fresh.stop()); err != nil {
		return err
	}

	s, err := t.start(ctx, layout{"fan", 1}, startOptions{retention: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	var before, after history.Rows
	if err := s.offline(ctx, func(dataDir, databaseURL string) (err error) {
		n := how.rows / 3 // an event, a delivery and an attempt each
		began := time.Now()
		if err := history.Write(ctx, history.Past{DataDir: dataDir, DatabaseURL: databaseURL, Events: n, Age: func(i int) time.Duration { return how.age(i, n) }}); err != nil {
			return err
		}
		before, err = history.Count(ctx, dataDir, databaseURL)
		fmt.Fprintf(os.Stderr, "%-9s wrote %+v in %.0f s\n", t.name, before, time.Since(began).Seconds())
		return err
	}); err != nil {
		return err
	}
	half, err := once(s, "half", profile{rate: empty.DelivPS / 2, length: how.length})
	if err != nil {
		return err
	}
	full, err := once(s, "full", profile{length: how.saturated})
	if err != nil {
		return err
	}
	if err := s.offline(ctx, func(dataDir, databaseURL string) (err error) {
		after, err = history.Count(ctx, dataDir, databaseURL)
		return err
	}); err != nil {
		return err
	}

	fmt.Printf("%s: delivered/s %.0f empty, %.0f with history: %.2f of it (goal: at least 0.80)\n", t.name, empty.DelivPS, full.DelivPS, full.DelivPS/max(empty.DelivPS, 1))
	made := half.Accepted + full.Accepted
	fmt.Printf("%s: rows %d at the start, %d made, %d at the end: retention removed %d (events %d, deliveries %d, attempts %d)\n", t.name,
		before.Sum(), 3*made, after.Sum(), before.Sum()+3*made-after.Sum(), before.Events+made-after.Events, before.Deliveries+made-after.Deliveries, before.Attempts+made-after.Attempts)
	minutes := byMinute(half)
	fmt.Printf("%s: hub %.0f MiB in the first minute, %.0f in the last: %.2f of it\n", t.name, memoryAt(half, 0), memoryAt(half, len(minutes)-1),
		memoryAt(half, len(minutes)-1)/max(memoryAt(half, 0), 1))
	fmt.Printf("%s: half load, %.0f/s: lost %d, p50 %.2f ms, p99 %.2f ms; by minute:\n", t.name, half.Rate, half.Lost, half.E2E.P50, half.E2E.P99)
	for m, p := range minutes {
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
