package ledger

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/server/flow"
)

// health remembers since when the database has been there without a break: only a node
// that has seen the others' hearts beat for a while may call one of them dead.
type health struct {
	mu    sync.Mutex
	since time.Time
}

func (h *health) lost(time.Time) {
	h.mu.Lock()
	h.since = time.Time{}
	h.mu.Unlock()
}

func (h *health) beat(now time.Time) {
	h.mu.Lock()
	if h.since.IsZero() {
		h.since = now
	}
	h.mu.Unlock()
}

// steady says for how long the heart has been beating.
func (h *health) steady(now time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.since.IsZero() {
		return 0
	}
	return now.Sub(h.since)
}

// clockSQL is the database's clock in unix microseconds.
func (l *Ledger) clockSQL() string {
	if l.pg {
		return "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
	}
	return "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
}

// Join enters this node under a new epoch and takes back what its earlier epochs have
// in hand. Open does it; the ledger does it again when the others had given it up.
func (l *Ledger) Join(ctx context.Context) error {
	var lease flow.Lease
	began := l.clock.Now()
	err := l.writeTx(ctx, "join the nodes", func(t tx) error {
		if err := l.lockNode(ctx, t, "name", l.c.NodeName); err != nil {
			return err
		}
		_, err := one(ctx, t, "INSERT INTO nodes (id, name, epoch, heartbeat, version, dead) VALUES (?, ?, 1, "+l.clockSQL()+", ?, 0) "+
			"ON CONFLICT (name) DO UPDATE SET epoch = nodes.epoch + 1, heartbeat = excluded.heartbeat, version = excluded.version, dead = 0 RETURNING id, epoch",
			[]any{l.c.IDs.New(ids.Node), l.c.NodeName, l.c.Version}, &lease.Node, &lease.Epoch)
		if err != nil {
			return err
		}
		return exec(ctx, t, free+"lease_node = ? AND lease_epoch < ?", lease.Node, lease.Epoch)
	})
	if err != nil {
		return err
	}
	l.lease.Store(&lease)
	l.beaten.Store(&began)
	l.health.beat(l.clock.Now())
	return nil
}

// free gives leases back; what was in flight is due at once, again.
const free = "UPDATE open_deliveries SET lease_node = '', lease_epoch = 0 WHERE "

// Beat keeps this node's leases. It is called every few seconds, well within the grace,
// and with a limit on its time.
// A node that finds itself given up joins again; what it has in hand is then also in
// the hands of others, and its results will be kept as late ones. Beat also learns from
// the database whether deliveries are held.
func (l *Ledger) Beat(ctx context.Context) error {
	lease, began := l.Lease(), l.clock.Now()
	found := false
	err := l.writeTx(ctx, "beat", func(t tx) (err error) {
		found, err = one(ctx, t, "UPDATE nodes SET heartbeat = "+l.clockSQL()+" WHERE id = ? AND epoch = ? AND dead = 0 RETURNING epoch",
			[]any{lease.Node, lease.Epoch}, new(int64))
		return err
	})
	if err != nil {
		l.health.lost(l.clock.Now())
		return err
	}
	l.health.beat(l.clock.Now())
	if found {
		l.beaten.Store(&began)
	} else if err := l.Join(ctx); err != nil {
		return err
	}
	return l.loadHeld(ctx)
}

// Reclaim takes back the leases of nodes whose heart has stopped, by the database's
// clock, and returns how many. After the database was away it waits for one more grace,
// because then all hearts have stood still. It reads one small table when all is well.
func (l *Ledger) Reclaim(ctx context.Context) (int, error) {
	if l.health.steady(l.clock.Now()) < l.c.Grace {
		return 0, nil
	}
	old := l.clockSQL() + " - ?"
	grace := l.c.Grace.Microseconds()
	var dead []string
	err := l.read(ctx, "look for dead nodes", "SELECT id FROM nodes WHERE dead = 0 AND id <> ? AND heartbeat < "+old, []any{l.Lease().Node, grace},
		func(scan func(...any) error) error {
			var id string
			err := scan(&id)
			dead = append(dead, id)
			return err
		})
	n := 0
	for _, id := range dead {
		took := 0
		if err := l.writeTx(ctx, "take leases back", func(t tx) error {
			took = 0
			if err := l.lockNode(ctx, t, "id", id); err != nil {
				return err
			}
			found, err := one(ctx, t, "UPDATE nodes SET dead = 1 WHERE id = ? AND dead = 0 AND heartbeat < "+old+" RETURNING id", []any{id, grace}, new(string))
			if err != nil || !found {
				return err
			}
			return t.query(ctx, free+"lease_node = ? RETURNING id", []any{id}, func(scan func(...any) error) error {
				took++
				return scan(new(string))
			})
		}); err != nil {
			return n, err
		}
		n += took
		l.log.Warn("took the deliveries of a dead node back", "node", id, "deliveries", took)
	}
	return n, err
}

// lockNode keeps a node from leasing until the transaction ends; then it finds itself
// fenced. (A plain update of the row would not wait for the share that fence takes.)
func (l *Ledger) lockNode(ctx context.Context, t tx, column, value string) error {
	if !l.pg {
		return nil
	}
	return exec(ctx, t, "SELECT id FROM nodes WHERE "+column+" = ? FOR UPDATE", value)
}

// fence makes sure that this node is still among the living until the transaction ends.
func (l *Ledger) fence(ctx context.Context, t tx, lease flow.Lease) error {
	found, err := one(ctx, t, "SELECT epoch FROM nodes WHERE id = ? AND epoch = ? AND dead = 0 FOR KEY SHARE", []any{lease.Node, lease.Epoch}, new(int64))
	if err == nil && !found {
		return fmt.Errorf("node %s, epoch %d: %w", lease.Node, lease.Epoch, errFenced)
	}
	return err
}

// releaseAll hands back everything that this start has in hand.
func (l *Ledger) releaseAll(ctx context.Context) error {
	lease := l.Lease()
	return l.writeTx(ctx, "hand leases back", func(t tx) error {
		return exec(ctx, t, free+"lease_node = ? AND lease_epoch = ?", lease.Node, lease.Epoch)
	})
}
