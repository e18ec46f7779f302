package graph

import (
	"context"
	"encoding/base64"
	"strconv"
	"strings"
	"sync"

	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/server/flow"
)

// What cursors of the logs begin with: which log, and the version of the form.
const (
	deliveryMark = "log1:"
	auditMark    = "aud1:"
)

// logCursor writes a place in an organization's log as an opaque text.
func logCursor(mark, org string, seq int64) string {
	return base64.RawURLEncoding.EncodeToString([]byte(mark + org + ":" + strconv.FormatInt(seq, 10)))
}

// parseLogCursor reads what logCursor wrote for the same organization and log; nothing
// is nil.
func parseLogCursor(mark, org string, after *string) (*int64, error) {
	if after == nil || *after == "" {
		return nil, nil
	}
	wrong := badInput("after", "This is not a cursor of this log. Start without one.")
	b, err := base64.RawURLEncoding.DecodeString(*after)
	if err != nil {
		return nil, wrong
	}
	rest, ok := strings.CutPrefix(string(b), mark+org+":")
	seq, err := strconv.ParseInt(rest, 10, 64)
	if !ok || err != nil || seq < 0 {
		return nil, wrong
	}
	return &seq, nil
}

// followLog watches the delivery log.
func (r *Resolver) followLog(ctx context.Context, f flow.EntryFilter, after *string) (<-chan *flow.EntryBatch, error) {
	scope, err := rule.LedgerScope(ctx)
	if err != nil {
		return nil, err
	}
	from, err := parseLogCursor(deliveryMark, scope.Organization(), after)
	if err != nil {
		return nil, err
	}
	return handOver(ctx, func(send func(context.Context, flow.EntryBatch) error) error {
		return r.Log.Follow(ctx, scope, f, from, send)
	}), nil
}

// followAudit watches the audit log.
func (r *Resolver) followAudit(ctx context.Context, f store.AuditFilter, after *string) (<-chan *store.AuditBatch, error) {
	scope, err := rule.AuditScope(ctx)
	if err != nil {
		return nil, err
	}
	from, err := parseLogCursor(auditMark, scope.Organization(), after)
	if err != nil {
		return nil, err
	}
	return handOver(ctx, func(send func(context.Context, store.AuditBatch) error) error {
		return r.Audit.Follow(ctx, scope, f, from, send)
	}), nil
}

// handOver hands batches to the returned channel until ctx ends or the log cannot be
// followed any longer; the reason is then told to the operation before the channel is
// closed.
func handOver[B any](ctx context.Context, follow func(send func(context.Context, B) error) error) <-chan *B {
	batches := make(chan *B)
	go func() {
		defer close(batches)
		err := follow(func(ctx context.Context, b B) error {
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
	return batches
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
