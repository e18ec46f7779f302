package ledger

import (
	"context"

	"github.com/hookyard/hookyard/server/flow"
)

// Write keeps what a format has written of an event, unless something is kept already, and
// returns what is kept: a retry is the same bytes. It returns nil when the event's payload is
// not kept any more.
func (l *Ledger) Write(ctx context.Context, org string, r *flow.Rendering) (*flow.Rendering, error) {
	lock := ""
	if l.pg {
		lock = " FOR SHARE" // so that it is not erased before this is over
	}
	var now *flow.Rendering
	err := l.writeTx(ctx, "keep a rendering", func(t tx) error {
		now = nil
		var known int64
		found, err := one(ctx, t, "SELECT 1 FROM events WHERE org = ? AND id = ? AND document IS NOT NULL"+lock, []any{org, r.Event}, &known)
		if err != nil || !found {
			return err
		}
		if err := exec(ctx, t, "INSERT INTO renderings (org, event, key, method, suffix, header, body) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
			org, r.Event, r.Key, r.Method, r.TargetSuffix, joinHeaders(r.Header), kept(r.Body)); err != nil {
			return err
		}
		return t.query(ctx, "SELECT event, key, method, suffix, header, body FROM renderings WHERE org = ? AND event = ? AND key = ? AND body IS NOT NULL", []any{org, r.Event, r.Key},
			func(scan func(...any) error) (err error) {
				now, err = scanRendering(scan)
				return err
			})
	})
	return now, err
}
