package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
)

// settings says on what the figures were taken, one line each.
func settings(ctx context.Context, l *lab, binary, dir, how string) []string {
	first := func(b []byte, err error) string {
		if err != nil {
			return "unknown"
		}
		line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
		return line
	}
	cpu := "unknown CPU"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(b), "model name"); ok {
			cpu = strings.Trim(first([]byte(rest), nil), "\t :")
		}
	}
	s := []string{
		"Date: " + time.Now().UTC().Format("2006-01-02 15:04 UTC"),
		fmt.Sprintf("Machine: %d cores of %s, Linux %s; sender and receiver share them", runtime.NumCPU(), cpu, first(os.ReadFile("/proc/sys/kernel/osrelease"))),
		"Hub: " + first(exec.CommandContext(ctx, binary, "version").Output()) + ", " + runtime.Version() + ", defaults and --allow-private-targets",
		"Disk: " + syncTime(dir),
		"Runs: " + how + "; each on an empty folder and database; figures are medians",
	}
	if l.pgURL != "" {
		if conn, err := pgx.Connect(ctx, l.pgURL); err == nil {
			defer func() { _ = conn.Close(ctx) }()
			var v string
			if conn.QueryRow(ctx, "SELECT 'PostgreSQL ' || current_setting('server_version') || ', fsync ' || current_setting('fsync') || ', synchronous_commit ' || current_setting('synchronous_commit') || ', shared_buffers ' || current_setting('shared_buffers')").Scan(&v) == nil {
				s = append(s, v)
			}
		}
	}
	return s
}

// syncTime measures what one durable append costs below dir.
func syncTime(dir string) string {
	f, err := os.CreateTemp(dir, "hookyard-sync-")
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close(); _ = os.Remove(f.Name()) }()
	var took []time.Duration
	for range 200 {
		start := time.Now()
		if _, err := f.Write(make([]byte, 1024)); err != nil {
			return err.Error()
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return err.Error()
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	text := fmt.Sprintf("append of 1 KiB and fdatasync: median %v, p99 %v", took[100].Round(time.Microsecond), took[197].Round(time.Microsecond))
	var fs syscall.Statfs_t
	if syscall.Statfs(filepath.Dir(f.Name()), &fs) == nil && fs.Type == 0x01021994 {
		text += " — THIS IS MEMORY (tmpfs), choose another folder with -dir"
	}
	return text
}

// ceilingCPU is what the ceiling took, in s per 1,000 deliveries, on the machine for which
// the goals were set; it says what those are worth on another.
const ceilingCPU = 0.024

// key is what medians are taken over.
type key struct{ profile, server string }

// report writes the table, the pairs, and what of the goals was reached, as Markdown
// that reads as text too.
func report(settings []string, results []Result) string {
	by := map[key][]Result{}
	var order []key
	for _, r := range results {
		k := key{r.Profile, r.Server}
		if by[k] == nil {
			order = append(order, k)
		}
		by[k] = append(by[k], r)
	}
	mid := func(k key, f func(Result) float64) float64 {
		var v []float64
		for _, r := range by[k] {
			v = append(v, f(r))
		}
		return median(v)
	}
	delivered := func(r Result) float64 { return r.DelivPS }
	ratio := func(k key) float64 {
		if c := mid(key{k.profile, "ceiling"}, delivered); c > 0 {
			return mid(k, delivered) / c
		}
		return 0
	}
	share := func(k key) string {
		if v := ratio(k); v > 0 {
			return fmt.Sprintf("%.2f", v)
		}
		return ""
	}

	var b strings.Builder
	for _, s := range settings {
		fmt.Fprintf(&b, "- %s\n", s)
	}
	b.WriteByte('\n')
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	row := func(cells ...any) {
		for _, c := range cells {
			fmt.Fprintf(w, "| %v\t", c)
		}
		fmt.Fprintln(w, "|")
	}
	row("Profile", "Server", "Runs", "Accepted/s", "Delivered/s", "of ceiling", "Lowest–highest", "CPU s/1,000", "p50 ms", "p99 ms", "Cores", "Own MiB", "All MiB", "Lost", "Twice")
	row(slices.Repeat([]any{"---"}, 15)...)
	slices.SortStableFunc(order, func(a, b key) int { return cmp.Compare(rank(a.profile), rank(b.profile)) })
	for _, k := range order {
		rs := by[k]
		least, most := rs[0].DelivPS, rs[0].DelivPS
		lost, twice := 0, 0
		for _, r := range rs {
			least, most = min(least, r.DelivPS), max(most, r.DelivPS)
			lost, twice = lost+r.Lost, twice+r.Dups
		}
		row(k.profile, k.server, len(rs),
			fmt.Sprintf("%.0f", mid(k, func(r Result) float64 { return r.AcceptedPS })), fmt.Sprintf("%.0f", mid(k, delivered)), share(k),
			fmt.Sprintf("%.0f–%.0f", least, most),
			fmt.Sprintf("%.3f", mid(k, func(r Result) float64 { return r.CPUPer1k })),
			fmt.Sprintf("%.2f", mid(k, func(r Result) float64 { return r.E2E.P50 })), fmt.Sprintf("%.2f", mid(k, func(r Result) float64 { return r.E2E.P99 })),
			fmt.Sprintf("%.2f", mid(k, func(r Result) float64 { return r.Cores })),
			fmt.Sprintf("%.0f", mid(k, func(r Result) float64 { return r.PSS["hub"] + r.PSS["ceiling"] })), fmt.Sprintf("%.0f", mid(k, func(r Result) float64 { return r.PSSTotal })),
			lost, twice)
	}
	_ = w.Flush()

	b.WriteByte('\n')
	goal := func(what string, got, want float64, atLeast bool) {
		word := "reached"
		if atLeast && got < want || !atLeast && got > want {
			word = "NOT REACHED"
		}
		fmt.Fprintf(&b, "- %s: %.4g (goal %.4g) %s\n", what, got, want, word)
	}
	for _, server := range []string{"sqlite", "postgres"} {
		k := func(p string) key { return key{p, server} }
		want, cpu := 0.20, 0.15
		if server == "postgres" {
			want, cpu = 0.17, 0.22
		}
		if by[k("P1")] != nil {
			if ratio(k("P1")) > 0 {
				goal("P1 "+server+", share of the ceiling", ratio(k("P1")), want, true)
			}
			goal("P1 "+server+", CPU s per 1,000", mid(k("P1"), func(r Result) float64 { return r.CPUPer1k }), cpu, false)
			if c := mid(key{"P1", "ceiling"}, func(r Result) float64 { return r.CPUPer1k }); c > 0 {
				goal("P1 "+server+", CPU in ceilings", mid(k("P1"), func(r Result) float64 { return r.CPUPer1k })/c, cpu/ceilingCPU, false)
			}
			goal("P1 "+server+", MiB of hub and connectors", mid(k("P1"), func(r Result) float64 { return r.PSS["hub"] }), 200, false)
		}
		if by[k("P1m")] != nil {
			goal("P1m "+server+", p50 ms", mid(k("P1m"), func(r Result) float64 { return r.E2E.P50 }), 4, false)
			goal("P1m "+server+", p99 ms", mid(k("P1m"), func(r Result) float64 { return r.E2E.P99 }), 20, false)
		}
		if by[k("P2")] != nil && server == "sqlite" && ratio(k("P2")) > 0 {
			goal("P2 sqlite, share of the ceiling", ratio(k("P2")), 0.15, true)
		}
		if by[k("P2")] != nil {
			goal("P2 "+server+", MiB of hub and connectors", mid(k("P2"), func(r Result) float64 { return r.PSS["hub"] }), 200, false)
		}
		for _, p := range []string{"P3", "P3x"} {
			with, without := by[k(p)], by[k(p+"b")]
			var pairs, goals []float64
			for i := range min(len(with), len(without)) {
				pairs = append(pairs, with[i].E2E.P99)
				goals = append(goals, max(1.5*without[i].E2E.P99, without[i].E2E.P99+5))
			}
			if len(pairs) > 0 {
				goal(fmt.Sprintf("%s %s, p99 ms of the healthy eight (%d pairs)", p, server, len(pairs)), median(pairs), median(goals), false)
			}
		}
		for _, p := range []string{"P4", "P4s"} {
			if rs := by[k(p)]; rs != nil {
				lost := 0
				var more int
				for _, r := range rs {
					lost += r.Lost
					more = max(more, r.Dups-r.InFlight)
				}
				goal(p+" "+server+", lost", float64(lost), 0, false)
				goal(p+" "+server+", sent twice beyond what was in flight at the kill", float64(more), 0, false)
			}
		}
		if by[k("W")] != nil {
			goal("W "+server+", cores", mid(k("W"), func(r Result) float64 { return r.CPU["hub"] / r.CPUTotal * r.Cores }), 1, false)
			goal("W "+server+", MiB of hub and connectors", mid(k("W"), func(r Result) float64 { return r.PSS["hub"] }), 200, false)
			goal("W "+server+", entries that unfiltered watchers missed", mid(k("W"), func(r Result) float64 { return float64(r.EntriesShort) }), 0, false)
		}
	}
	return b.String()
}

// rank is the profile's place in the table.
func rank(name string) int {
	return slices.IndexFunc(profiles(0), func(p profile) bool { return p.name == name })
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if len(v)%2 == 1 {
		return v[len(v)/2]
	}
	return (v[len(v)/2-1] + v[len(v)/2]) / 2
}
