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

// allMain runs the table: in each round every profile, and in each profile the servers
// one after the other, so that a bad minute of the machine is everybody's.
func allMain(ctx context.Context, args []string) (err error) {
	fs := flag.NewFlagSet("all", flag.ExitOnError)
	binary := fs.String("hookyard", "bin/hookyard", "the built hub")
	script := fs.String("postgres", ".ci/postgres", "the script that starts a throw-away PostgreSQL")
	dir := fs.String("dir", os.TempDir(), "where data is kept meanwhile; a disk, not memory")
	only := fs.String("only", "", "comma list of profiles (default all): P1 P1m P2 P3 P3x P4 P4s W P1d")
	servers := fs.String("servers", "sqlite,postgres,ceiling", "comma list of what is measured")
	repeat := fs.Int("repeat", 3, "rounds")
	pairs := fs.Int("pairs", 5, "pairs of P3 and P3x, without and with faults")
	seconds := fs.Int("seconds", 60, "how long P1 saturates; P2 half of it")
	limit := fs.Duration("limit", 3*time.Hour, "give up after this long")
	out := fs.String("out", "bin/bench.jsonl", "JSON lines are appended here")
	add := fs.Bool("add", false, "begin with the results that -out holds, so that the table can be measured in parts")
	write := fs.String("write", "", "put the table into this file, between its <!-- figures --> marks")
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

	var results []Result
	if *add {
		if results, err = saved(*out); err != nil {
			return err
		}
	}
	for round := range max(*repeat, *pairs) {
		for _, p := range profiles(time.Duration(*seconds) * time.Second) {
			rounds := *repeat
			if p.pair {
				rounds = *pairs
			}
			if round >= rounds || !chosen(*only, p.name) {
				continue
			}
			for _, t := range l.targets() {
				if !slices.Contains(names, t.name) || !slices.Contains(p.servers, t.name) {
					continue
				}
				res, err := measure(ctx, t, p, rec, os.Stderr)
				if err != nil {
					return fmt.Errorf("%s on %s: %w", p.name, t.name, err)
				}
				res.tell(os.Stderr)
				if err := res.save(*out); err != nil {
					return err
				}
				results = append(results, res)
			}
		}
	}
	table := report(settings(ctx, l, *binary, *dir, fmt.Sprintf("%d rounds, %d pairs, P1 for %d s", *repeat, *pairs, *seconds)), results)
	fmt.Print(table)
	if *write != "" {
		return replace(*write, table)
	}
	return nil
}

// chosen says whether the profile is in the list; P3 brings P3b along.
func chosen(only, name string) bool {
	return only == "" || slices.Contains(strings.Split(only, ","), strings.TrimSuffix(name, "b"))
}

// replace puts text between the marks of the file.
func replace(path, text string) error {
	const begin, end = "<!-- figures -->\n", "<!-- /figures -->"
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(b), begin)
	_, foot, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return fmt.Errorf("%s has no %s … %s", path, strings.TrimSpace(begin), end)
	}
	return os.WriteFile(path, []byte(head+begin+"\n"+text+"\n"+end+foot), 0o644)
}
