package graph

import (
	"context"
	"encoding/base64"
	"strconv"
	"strings"
	"sync"

	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/server/flow"
)

// cursorMark begins a cursor of the delivery log, with the version of its form.
const cursorMark = "log1:"

// logCursor writes a place in an organization's log as an opaque text.
func logCursor(org string, seq int64) string {
	return base64.RawURLEncoding.EncodeToString([]byte(cursorMark + org + ":" + strconv.FormatInt(seq, 10)))
}

// parseLogCursor reads what logCursor wrote for the same organization.
func parseLogCursor(org, s string) (int64, error) {
	wrong := badInput("after", "This is not a cursor of this delivery log. Start without one.")
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return 0, wrong
	}
	rest, ok := strings.CutPrefix(string(b), cursorMark+org+":")
	seq, err := strconv.ParseInt(rest, 10, 64)
	if !ok || err != nil || seq < 0 {
		return 0, wrong
	}
	return seq, nil
}

// followLog hands batches to the returned channel until ctx ends or the log cannot be
// followed any longer; the reason is then told to the operation before the channel is
// closed.
func (r *Resolver) followLog(ctx context.Context, f flow.EntryFilter, after *string) (<-chan *flow.EntryBatch, error) {
	scope, err := rule.LedgerScope(ctx)
	if err != nil {
		return nil, err
	}
	var from *int64
	if after != nil && *after != "" {
		seq, err := parseLogCursor(scope.Organization(), *after)
		if err != nil {
			return nil, err
		}
		from = &seq
	}
	batches := make(chan *flow.EntryBatch)
	go func() {
		defer close(batches)
		err := r.Log.Follow(ctx, scope, f, from, func(ctx context.Context, b flow.EntryBatch) error {
			select {
			case batches <- &b:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		if ctx.Err() == nil {
			endingOf(ctx).set(err)
		}
	}()
	return batches, nil
}

// ending is why a subscription ended by itself.
type ending struct {
	told bool // that the credential has ended; only the answering goroutine looks

	mu  sync.Mutex
	err error
}

type endingKey struct{}

func endingOf(ctx context.Context) *ending {
	e, _ := ctx.Value(endingKey{}).(*ending)
	return e
}

func (e *ending) set(err error) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err = err
}

// take returns the reason once.
func (e *ending) take() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	err := e.err
	e.err = nil
	return err
}
