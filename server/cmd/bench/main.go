// Command bench measures the hub, and beside it a bare forwarder that marks the
// ceiling without durability.
//
// It is a load harness in one program: a receiver that counts deliveries, a sender
// that loads an inbound address, a run that does both and reads the CPU and memory of
// the process trees under test, and above them the profiles of the bench and the
// soak. What it guarantees: loopback only, every run bounded in time, every process
// that it started ended.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: bench COMMAND [flags]     (-h for the flags of each)

  all       the table: every profile on SQLite, PostgreSQL and the ceiling, interleaved
  soak      half load on millions of rows, with retention running
  run       one load against any server, one JSON line
  receiver  the counting receiver alone
  sender    the load alone
  ceiling   the bare forwarder alone
`

func main() {
	commands := map[string]func(context.Context, []string) error{
		"all": allMain, "soak": soakMain, "run": runMain,
		"receiver": receiverMain, "sender": senderMain, "ceiling": ceilingMain,
	}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := commands[os.Args[1]](ctx, os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
