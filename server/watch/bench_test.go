package watch

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hookyard/hookyard/server/flow"
)

// BenchmarkThousandWatchers runs 1,000 watchers, 100 of them unfiltered, at 200
// entries per second for two seconds an iteration, and reports the share of one core.
func BenchmarkThousandWatchers(b *testing.B) {
	w, tail := newTestWatch(Options{})
	ctx, cancel := context.WithCancel(context.Background())
	var running, ready sync.WaitGroup
	var handed atomic.Int64
	for i := range 1000 {
		f := flow.EntryFilter{}
		if i >= 100 {
			f.Webhook = fmt.Sprintf("whk_of_%d", i)
		}
		running.Add(1)
		ready.Add(1)
		go func() {
			defer running.Done()
			first := true
			_ = w.Follow(ctx, scope(b), f, nil, func(_ context.Context, batch flow.EntryBatch) error {
				handed.Add(int64(len(batch.Entries)))
				if first {
					first = false
					ready.Done()
				}
				return nil
			})
		}()
	}
	ready.Wait()
	cpu0, t0 := cpu(), time.Now()
	for b.Loop() {
		pace := time.NewTicker(5 * time.Millisecond)
		for i := range 400 {
			<-pace.C
			tail.append(entry(i))
		}
		pace.Stop()
	}
	b.ReportMetric(100*(cpu()-cpu0).Seconds()/time.Since(t0).Seconds(), "%core")
	b.ReportMetric(float64(handed.Load())/time.Since(t0).Seconds(), "entries/s")
	cancel()
	running.Wait()
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkWakeUnwatched is what a commit pays when nobody watches.
func BenchmarkWakeUnwatched(b *testing.B) {
	w, _ := newTestWatch(Options{})
	for b.Loop() {
		w.Wake("org_1")
	}
}
