// Command demo shows Hookyard at work: it starts the built binary on a folder of its
// own, fills it with a small world, sends it events every second as scanners would,
// and prints what arrives at a receiver of its own. Loopback only; it ends with Ctrl-C
// and leaves nothing behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hookyard/hookyard/server/servertest/program"
)

func main() {
	binary := flag.String("hookyard", "bin/hookyard", "the built hub")
	listen := flag.String("listen", "127.0.0.1:8080", "address of the hub")
	length := flag.Duration("for", 0, "stop after this long; 0 goes on until Ctrl-C")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *length)
		defer cancel()
	}
	if err := demo(ctx, *binary, *listen); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func demo(ctx context.Context, binary, listen string) (err error) {
	dir, err := os.MkdirTemp("", "hookyard-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	recv, err := newReceiver(os.Stdout)
	if err != nil {
		return err
	}
	defer recv.close()
	data := filepath.Join(dir, "data")
	hub, err := program.Start(ctx, program.Config{Binary: binary, Dir: data, Listen: listen,
		Args: []string{"--allow-private-targets", "--organization", "Northwind"}, Log: log})
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%w; it said:\n%s", err, said)
	}
	defer func() { err = errors.Join(err, hub.Stop()) }()
	w, err := build(ctx, hub.Client, recv.url)
	if err != nil {
		return fmt.Errorf("building the demo's world: %w", err)
	}
	fmt.Printf(welcome, hub.URL, hub.Key, log.Name(), recv.url)

	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			fmt.Println("\nStopping.")
			return nil
		case <-hub.Done():
			return errors.New("the hub has ended")
		case <-tick.C:
		}
		if err := w.send(ctx, n); err != nil && ctx.Err() == nil {
			fmt.Println("a sender was refused:", err)
		}
	}
}

const welcome = `
Hookyard is running with a small world, and events flow: three senders, five receivers, one of which is flaky.

  Hub       %[1]s
  API key   %[2]s
  Hub's log %[3]s
  Receivers %[4]s

Try, in another terminal:

  export HUB=%[1]s KEY=%[2]s

  # what arrived last, and what did not
  curl -s $HUB/graphql -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \
    -d '{"query":"{ deliveries(first: 5) { edges { node { state eventType webhook { name } attempts { number httpStatus error } } } } }"}'

  # the delivery log, live
  curl -sN $HUB/graphql -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' -H 'Accept: text/event-stream' \
    -d '{"query":"subscription { deliveryLog { entries { eventType state number httpStatus error } cursor } }"}'

  # the figures
  curl -s $HUB/metrics | grep ^hookyard_

Ctrl-C ends it. What arrives at the receivers:

`
