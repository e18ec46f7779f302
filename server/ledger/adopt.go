package ledger

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/hookyard/hookyard/server/flow"
)

// Adopt finds the deliveries of attempts that were made under a lease of the past, by
// this node or another, so that what came of them can be recorded. tried is the attempt's
// number by delivery; only deliveries of the organization to the endpoints count.
//
// One that is still open, and waits for that attempt or is in nobody's hands, is leased to
// this node. Any other is returned under a lease that nobody has: what is recorded of it is
// kept as a late attempt and changes nothing. What is not returned is not known any more.
func (l *Ledger) Adopt(ctx context.Context, org string, endpoints []string, tried map[string]int) ([]*flow.Due, error) {
	if len(endpoints) == 0 || len(tried) == 0 {
		return nil, nil
	}
	ids := slices.Sorted(maps.Keys(tried))
	var s selection
	s.and("org = ?", org)
	s.in("endpoint", endpoints)
	s.in("id", ids)
	const columns = "id, org, event, webhook, endpoint, level, app, type, rendering, attempts, first_failed, created"
	var dues []*flow.Due
	err := l.writeTx(ctx, "take up deliveries", func(t tx) error {
		lease := l.Lease()
		dues = nil
		if l.pg {
			if err := l.fence(ctx, t, lease); err != nil {
				return err
			}
		}
		open := "SELECT " + columns + ", lease_node FROM open_deliveries WHERE " + s.sql()
		if l.pg {
			open += " FOR UPDATE"
		}
		var mine []string
		each := func(scan func(...any) error) error {
			d := &flow.Due{Lease: flow.Lease{Node: "-"}}
			var key, holder string
			var failed, created int64
			if err := scan(&d.ID, &d.Org, &d.Event, &d.Webhook, &d.Endpoint, &d.Level, &d.App, &d.Type, &key, &d.Attempts, &failed, &created, &holder); err != nil {
				return err
			}
			d.FirstFailed, d.Created = instant(failed), instant(created)
			if key != documentKey {
				d.Rendering = &flow.Rendering{Event: d.Event, Key: key}
			}
			if holder != "-" && (holder == "" || d.Attempts < tried[d.ID]) {
				d.Lease = lease
				mine = append(mine, d.ID)
			}
			dues = append(dues, d)
			return nil
		}
		if err := t.query(ctx, open, s.args, each); err != nil {
			return err
		}
		if err := t.query(ctx, "SELECT "+columns+", '-' FROM deliveries WHERE "+s.sql(), s.args, each); err != nil {
			return err
		}
		if len(mine) == 0 {
			return nil
		}
		var m selection
		m.in("id", mine)
		return exec(ctx, t, "UPDATE open_deliveries SET lease_node = ?, lease_epoch = ? WHERE "+m.sql(), append([]any{lease.Node, lease.Epoch}, m.args...)...)
	})
	if err != nil {
		return nil, fmt.Errorf("adopt: %w", err)
	}
	return dues, nil
}
