package ledger

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/server/flow"
)

// Claim leases up to limit of a lane's deliveries that are due at now and that no node
// holds, oldest due first, with all that an attempt needs. While deliveries are held
// (see Hold) there are none. A delivery whose payload is not kept any more is ended as
// failed and not returned. After an error some may be leased all the same: see Leased.
func (l *Ledger) Claim(ctx context.Context, webhook string, now time.Time, limit int) ([]*flow.Due, error) {
	if l.held.Load() || limit <= 0 {
		return nil, nil
	}
	sql := "SELECT id FROM open_deliveries WHERE webhook = ? AND lease_node = '' AND next_at <= ? ORDER BY next_at, id LIMIT ?"
	if l.pg {
		sql += " FOR UPDATE SKIP LOCKED"
	}
	sql = "UPDATE open_deliveries SET lease_node = ?, lease_epoch = ? WHERE id IN (" + sql + ") " +
		"RETURNING id, org, event, webhook, endpoint, level, app, type, rendering, attempts, first_failed, created, next_at"
	var got []claimed
	lease := l.Lease()
	err := l.writeTx(ctx, "claim", func(t tx) error {
		got, lease = got[:0], l.Lease()
		if l.pg {
			if err := l.fence(ctx, t, lease); err != nil {
				return err
			}
		}
		return t.query(ctx, sql, []any{lease.Node, lease.Epoch, webhook, micros(now), int64(limit)}, func(scan func(...any) error) error {
			c := claimed{Due: &flow.Due{Lease: lease}}
			d := c.Due
			var failed, created int64
			if err := scan(&d.ID, &d.Org, &d.Event, &d.Webhook, &d.Endpoint, &d.Level, &d.App, &d.Type, &c.key, &d.Attempts, &failed, &created, &c.next); err != nil {
				return err
			}
			d.FirstFailed, d.Created = instant(failed), instant(created)
			got = append(got, c)
			return nil
		})
	})
	if err != nil || len(got) == 0 {
		return nil, err
	}
	if err := l.load(ctx, got); err != nil {
		// Held by this node and unknown to it, they go back: now, or when they are missed.
		ids := make([]string, len(got))
		for i := range got {
			ids[i] = got[i].ID
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), handBackMost)
		defer cancel()
		return nil, errors.Join(err, l.Release(ctx, ids))
	}
	slices.SortFunc(got, func(a, b claimed) int { return cmp.Or(cmp.Compare(a.next, b.next), cmp.Compare(a.ID, b.ID)) })
	dues := make([]*flow.Due, 0, len(got))
	var gone []flow.Record
	for i := range got {
		d := got[i].Due
		if key := got[i].key; d.Rendering == nil && d.Document != nil && flow.Provider(key) != "" {
			d.Rendering = &flow.Rendering{Event: d.Event, Key: key, Open: true}
		}
		if d.Rendering == nil && d.Document == nil || d.Rendering == nil && got[i].key != documentKey {
			gone = append(gone, flow.Record{Due: d, State: flow.Failed, Reason: "its payload is not kept any more", At: now, FirstFailed: d.FirstFailed})
			continue
		}
		dues = append(dues, d)
	}
	if len(gone) > 0 {
		if err := l.Record(ctx, gone...); err != nil { // the others are well; these will be missed
			l.log.Warn("cannot end deliveries whose payload is not kept any more", "deliveries", len(gone), "err", err)
		}
	}
	return dues, nil
}

// handBackMost is for giving up what was claimed in vain.
const handBackMost = 5 * time.Second

// Leased returns the deliveries that are leased to this node at this start, with the time
// since when each is due. It looks at every open delivery: not often, then.
func (l *Ledger) Leased(ctx context.Context) (map[string]time.Time, error) {
	lease, out := l.Lease(), map[string]time.Time{}
	err := l.read(ctx, "read the leases", "SELECT id, next_at FROM open_deliveries WHERE lease_node = ? AND lease_epoch = ?", []any{lease.Node, lease.Epoch},
		func(scan func(...any) error) error {
			var id string
			var due int64
			err := scan(&id, &due)
			out[id] = instant(due)
			return err
		})
	return out, err
}

// The renderings that need no row of their own.
const (
	documentKey = "hookyard" // the event's document
	rawKey      = "raw"      // the receipt's body
)

type claimed struct {
	*flow.Due
	key  string // of the rendering
	next int64
}

// load adds the events' documents and renderings, one of each for all that share it.
func (l *Ledger) load(ctx context.Context, got []claimed) error {
	type thing struct{ org, event, key string }
	documents := map[string][]byte{}
	renderings := map[thing]*flow.Rendering{}
	var events, raw, others selection
	type ref struct{ org, id string }
	seen := map[ref]bool{}
	byOrg := map[string][]string{}
	var keys []string // of renderings that have rows of their own
	for _, c := range got {
		if c.key != rawKey && c.key != documentKey && !slices.Contains(keys, c.key) {
			keys = append(keys, c.key)
		}
		if r := (ref{c.Org, c.Event}); !seen[r] {
			seen[r] = true
			byOrg[c.Org] = append(byOrg[c.Org], c.Event)
		}
	}
	for org, list := range byOrg {
		slices.Sort(list)
		events, raw, others = selection{}, selection{}, selection{}
		events.and("org = ?", org)
		events.in("id", list)
		err := l.read(ctx, "read documents", "SELECT id, document FROM events WHERE "+events.sql(), events.args, func(scan func(...any) error) error {
			var id string
			var doc []byte
			err := scan(&id, &doc)
			documents[id] = doc
			return err
		})
		if err != nil {
			return err
		}
		if slices.ContainsFunc(got, func(c claimed) bool { return c.key == rawKey }) {
			raw.and("e.org = ? AND r.org = ?", org, org)
			raw.in("e.id", list)
			err = l.read(ctx, "read receipts", "SELECT e.id, r.content_type, r.body FROM events e JOIN receipts r ON r.id = e.receipt WHERE "+raw.sql()+" AND r.body IS NOT NULL", raw.args,
				func(scan func(...any) error) error {
					r := &flow.Rendering{Key: rawKey}
					var kind string
					if err := scan(&r.Event, &kind, &r.Body); err != nil {
						return err
					}
					if kind != "" {
						r.Header = []connectors.Header{{Name: "Content-Type", Value: kind}}
					}
					renderings[thing{org, r.Event, rawKey}] = r
					return nil
				})
			if err != nil {
				return err
			}
		}
		if len(keys) > 0 {
			others.and("org = ?", org)
			others.in("event", list)
			others.in("key", keys)
			err = l.read(ctx, "read renderings", "SELECT event, key, method, suffix, header, body FROM renderings WHERE "+others.sql()+" AND body IS NOT NULL", others.args,
				func(scan func(...any) error) error {
					r, err := scanRendering(scan)
					if err == nil {
						renderings[thing{org, r.Event, r.Key}] = r
					}
					return err
				})
			if err != nil {
				return err
			}
		}
	}
	for _, c := range got {
		c.Document = documents[c.Event]
		c.Rendering = renderings[thing{c.Org, c.Event, c.key}]
	}
	return nil
}

func scanRendering(scan func(...any) error) (*flow.Rendering, error) {
	r := &flow.Rendering{}
	var header string
	err := scan(&r.Event, &r.Key, &r.Method, &r.TargetSuffix, &header, &r.Body)
	r.Header = splitHeaders(header)
	return r, err
}

// splitHeaders undoes joinHeaders, but for secrets.
func splitHeaders(s string) []connectors.Header {
	var h []connectors.Header
	for line := range strings.Lines(s) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		h = append(h, connectors.Header{Name: name, Value: value})
	}
	return h
}

// Release hands deliveries back that this node holds and has not tried.
func (l *Ledger) Release(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	lease := l.Lease()
	s := selection{}
	s.and("lease_node = ? AND lease_epoch = ?", lease.Node, lease.Epoch)
	s.in("id", slices.Sorted(slices.Values(ids)))
	return l.writeTx(ctx, "release deliveries", func(t tx) error { return exec(ctx, t, free+s.sql(), s.args...) })
}

// Backlog returns the lanes that have deliveries which no node holds, with the time at
// which the first of each is due, be it past or to come. Its cost follows the number of
// such lanes, not that of their deliveries. While deliveries are held there are none.
func (l *Ledger) Backlog(ctx context.Context, _ time.Time) ([]flow.Backlog, error) {
	if l.held.Load() {
		return nil, nil
	}
	const sql = `WITH RECURSIVE lanes(webhook) AS (
	SELECT min(webhook) FROM open_deliveries WHERE lease_node = ''
	UNION ALL
	SELECT (SELECT min(o.webhook) FROM open_deliveries o WHERE o.lease_node = '' AND o.webhook > lanes.webhook) FROM lanes WHERE lanes.webhook IS NOT NULL)
SELECT o.org, o.webhook, o.next_at FROM lanes JOIN open_deliveries o ON o.id = (
	SELECT f.id FROM open_deliveries f WHERE f.lease_node = '' AND f.webhook = lanes.webhook ORDER BY f.next_at, f.id LIMIT 1)`
	var out []flow.Backlog
	err := l.read(ctx, "read the backlog", sql, nil, func(scan func(...any) error) error {
		var b flow.Backlog
		var due int64
		if err := scan(&b.Org, &b.Webhook, &due); err != nil {
			return err
		}
		b.Due = instant(due)
		out = append(out, b)
		return nil
	})
	return out, err
}

const heldName = "ledger.held"

func (l *Ledger) loadHeld(ctx context.Context) error {
	held := false
	err := l.read(ctx, "read whether deliveries are held", "SELECT 1 FROM meta WHERE name = ? AND value <> ''", []any{heldName}, func(func(...any) error) error {
		held = true
		return nil
	})
	l.held.Store(held)
	return err
}

// Hold says that nothing may be delivered until Unhold: a restored backup holds
// everything that was open, because its world may be another one by now. Other nodes
// see it at their next heartbeat. Deliveries must not be born leased meanwhile.
func (l *Ledger) Hold(ctx context.Context) error { return l.setHeld(ctx, "1") }

// Unhold lets deliveries go again.
func (l *Ledger) Unhold(ctx context.Context) error { return l.setHeld(ctx, "") }

// Held says whether deliveries are held.
func (l *Ledger) Held() bool { return l.held.Load() }

func (l *Ledger) setHeld(ctx context.Context, value string) error {
	err := l.writeTx(ctx, "hold deliveries", func(t tx) error {
		return exec(ctx, t, "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", heldName, value)
	})
	if err == nil {
		l.held.Store(value != "")
	}
	return err
}
