package main

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hookyard/hookyard/server/servertest/program"
)

// watchers are people with the delivery log open: every tenth sees everything, the
// others one webhook each.
type watchers struct {
	wg         sync.WaitGroup
	cancel     context.CancelFunc
	subs       []*program.Subscription
	entries    atomic.Int64
	unfiltered atomic.Int64 // entries of those who see everything
	everything int          // how many see everything
	failed     atomic.Pointer[error]
}

// watch opens n subscriptions.
func watch(ctx context.Context, c *program.Client, n int, webhooks []string) (*watchers, error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &watchers{cancel: cancel}
	for i := range n {
		var filter program.Input
		everything := i%10 == 0
		if everything {
			w.everything++
		} else {
			filter = program.Input{"webhookId": webhooks[i%len(webhooks)]}
		}
		s, err := c.DeliveryLog(ctx, filter, "")
		if err != nil {
			_ = w.close()
			return nil, fmt.Errorf("watcher %d: %w", i, err)
		}
		w.subs = append(w.subs, s)
		w.wg.Add(1)
		go func() {
			defer w.wg.Done()
			for {
				b, err := s.NextRaw(ctx)
				if err != nil {
					if ctx.Err() == nil {
						err = fmt.Errorf("watcher %d: %w", i, err)
						w.failed.CompareAndSwap(nil, &err)
					}
					return
				}
				k := int64(bytes.Count(b, []byte(`"state":`)))
				w.entries.Add(k)
				if everything {
					w.unfiltered.Add(k)
				}
			}
		}()
	}
	return w, nil
}

// close ends the subscriptions; the error is the first that a watcher met before.
func (w *watchers) close() error {
	w.cancel()
	for _, s := range w.subs {
		_ = s.Close()
	}
	w.wg.Wait()
	if err := w.failed.Load(); err != nil {
		return *err
	}
	return nil
}
