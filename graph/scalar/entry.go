package scalar

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/99designs/gqlgen/graphql"

	"github.com/hookyard/hookyard/server/flow"
)

// Entries of the delivery log are written by the thousand: each goes to every watcher.
// The library's general way costs some 25 us for one, field by field; this one makes a
// plan of the selection once per subscription and follows it, for about 1 us.

// EntryFields write the fields of a DeliveryLogEntry, by name.
func EntryFields() map[string]func(b []byte, e *flow.Entry) []byte {
	return map[string]func(b []byte, e *flow.Entry) []byte{
		"__typename":    func(b []byte, _ *flow.Entry) []byte { return append(b, `"DeliveryLogEntry"`...) },
		"id":            func(b []byte, e *flow.Entry) []byte { return appendText(b, e.ID) },
		"deliveryId":    func(b []byte, e *flow.Entry) []byte { return appendText(b, e.Delivery) },
		"eventId":       func(b []byte, e *flow.Entry) []byte { return appendText(b, e.Event) },
		"webhookId":     func(b []byte, e *flow.Entry) []byte { return appendText(b, e.Webhook) },
		"endpointId":    func(b []byte, e *flow.Entry) []byte { return appendText(b, e.Endpoint) },
		"applicationId": func(b []byte, e *flow.Entry) []byte { return appendText(b, e.App) },
		"assetGroupId":  func(b []byte, e *flow.Entry) []byte { return appendText(b, e.Level) },
		"eventType":     func(b []byte, e *flow.Entry) []byte { return appendText(b, string(e.Type)) },
		"number":        func(b []byte, e *flow.Entry) []byte { return strconv.AppendInt(b, int64(e.Number), 10) },
		"state":         func(b []byte, e *flow.Entry) []byte { return appendText(b, string(e.State)) },
		"outcome":       func(b []byte, e *flow.Entry) []byte { return appendWord(b, string(e.Outcome)) },
		"fault":         func(b []byte, e *flow.Entry) []byte { return appendWord(b, string(e.Fault)) },
		"startedAt":     func(b []byte, e *flow.Entry) []byte { return appendTime(b, e.At) },
		"duration": func(b []byte, e *flow.Entry) []byte {
			return strconv.AppendFloat(b, float64(e.Duration.Microseconds())/1000, 'f', -1, 64)
		},
		"httpStatus":    func(b []byte, e *flow.Entry) []byte { return strconv.AppendInt(b, int64(e.Status), 10) },
		"error":         func(b []byte, e *flow.Entry) []byte { return appendText(b, e.Error) },
		"nextAttemptAt": func(b []byte, e *flow.Entry) []byte { return appendTime(b, e.NextAt) },
	}
}

// plan is one subscription's selection of a batch's fields and of an entry's.
type plan struct {
	cursor  func(seq int64) string
	buffers *sync.Pool

	once  sync.Once
	steps []step[flow.EntryBatch]
}

type step[V any] struct {
	before []byte // `{"alias":` or `,"alias":`
	write  func([]byte, *V) []byte
}

type planKey struct{}

// WithBatchPlan gives an operation the place where its plan is kept; cursor writes a
// place in the log, and buffers, a pool of *bytes.Buffer, are those of all operations.
func WithBatchPlan(ctx context.Context, buffers *sync.Pool, cursor func(seq int64) string) context.Context {
	return context.WithValue(ctx, planKey{}, &plan{cursor: cursor, buffers: buffers})
}

// MarshalBatch writes a piece of the delivery log.
func MarshalBatch(batch flow.EntryBatch) graphql.ContextMarshaler {
	return graphql.ContextWriterFunc(func(ctx context.Context, w io.Writer) error {
		p, _ := ctx.Value(planKey{}).(*plan)
		if p == nil {
			return errors.New("a batch without a plan")
		}
		p.once.Do(func() { p.make(ctx) })
		buf := p.buffers.Get().(*bytes.Buffer)
		defer p.buffers.Put(buf)
		buf.Reset()
		buf.Grow(256 + 512*len(batch.Entries))
		_, err := w.Write(write(buf.AvailableBuffer(), p.steps, &batch))
		return err
	})
}

func write[V any](b []byte, steps []step[V], v *V) []byte {
	for _, s := range steps {
		b = s.write(append(b, s.before...), v)
	}
	return append(b, '}')
}

// make reads the selection of the operation's only field, which the batch is in.
func (p *plan) make(ctx context.Context) {
	op := graphql.GetOperationContext(ctx)
	root := graphql.CollectFields(op, op.Operation.SelectionSet, []string{"Subscription"})[0]
	for _, f := range graphql.CollectFields(op, root.Selections, []string{"DeliveryLogBatch"}) {
		p.steps = append(p.steps, step[flow.EntryBatch]{before(len(p.steps), f.Alias), p.field(op, f)})
	}
}

// field writes a field of a batch.
func (p *plan) field(op *graphql.OperationContext, f graphql.CollectedField) func([]byte, *flow.EntryBatch) []byte {
	switch f.Name {
	case "__typename":
		return func(b []byte, _ *flow.EntryBatch) []byte { return append(b, `"DeliveryLogBatch"`...) }
	case "cursor":
		return func(b []byte, batch *flow.EntryBatch) []byte { return appendText(b, p.cursor(batch.Cursor)) }
	case "heartbeat":
		return func(b []byte, batch *flow.EntryBatch) []byte { return strconv.AppendBool(b, batch.Heartbeat) }
	}
	var steps []step[flow.Entry]
	for i, g := range graphql.CollectFields(op, f.Selections, []string{"DeliveryLogEntry"}) {
		steps = append(steps, step[flow.Entry]{before(i, g.Alias), EntryFields()[g.Name]})
	}
	return func(b []byte, batch *flow.EntryBatch) []byte {
		b = append(b, '[')
		for i := range batch.Entries {
			if i > 0 {
				b = append(b, ',')
			}
			b = write(b, steps, &batch.Entries[i])
		}
		return append(b, ']')
	}
}

// before is what stands before the value of the nth field.
func before(n int, alias string) []byte {
	begin := byte('{')
	if n > 0 {
		begin = ','
	}
	return append(strconv.AppendQuote([]byte{begin}, alias), ':')
}

// UnmarshalBatch is never called: batches are only written.
func UnmarshalBatch(any) (flow.EntryBatch, error) {
	return flow.EntryBatch{}, errors.New("a piece of the delivery log cannot be given")
}

// appendText writes a JSON string; IDs and words need no escaping.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			quoted, err := json.Marshal(s)
			if err != nil {
				return append(b, `""`...)
			}
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

func appendWord(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return appendText(b, s)
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, "null"...)
	}
	return append(t.AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
}
