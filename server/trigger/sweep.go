package trigger

import (
	"context"
	"fmt"
	"time"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/run"
	"github.com/hookyard/hookyard/server/flow"
)

const (
	sweepEvery  = 5 * time.Second
	settle      = 30 * time.Second // what a start may take from its commit to its scanner, and an end to be told of
	retainEvery = time.Minute
	sweepAtOnce = 100 // ends that are told in one sweep
)

// Run ends what nobody else ends, until ctx ends.
func (t *Triggers) Run(ctx context.Context) {
	ctx = hub(ctx)
	every := t.c.Clock.NewTicker(sweepEvery)
	defer every.Stop()
	var retained time.Time
	for {
		if err := t.sweep(ctx); err != nil && ctx.Err() == nil {
			t.c.Log.Warn("look after running scans", "err", err)
		}
		if now := t.now(); now.Sub(retained) >= retainEvery {
			retained = now
			if err := t.retain(ctx); err != nil && ctx.Err() == nil {
				t.c.Log.Warn("retention of runs", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-every.Chan():
		}
	}
}

func (t *Triggers) sweep(ctx context.Context) error {
	if err := t.dropEnded(ctx); err != nil {
		return err
	}
	if err := t.endLost(ctx); err != nil {
		return err
	}
	untold, err := t.c.DB.Client.Run.Query().Where(run.Untold(true), run.FinishedAtLT(t.now().Add(-sweepEvery)), run.IDGT(t.told)).
		Order(gen.Asc(run.FieldID)).Limit(sweepAtOnce).All(ctx)
	if err != nil {
		return fmt.Errorf("look for ends that are not told: %w", err)
	}
	t.told = ""
	for _, r := range untold {
		t.announce(ctx, r)
	}
	if len(untold) == sweepAtOnce { // those that cannot be told must not stand before the others
		t.told = untold[len(untold)-1].ID
	}
	return nil
}

// dropEnded ends the scanners of runs that were ended elsewhere.
func (t *Triggers) dropEnded(ctx context.Context) error {
	mine := t.mine()
	if len(mine) == 0 {
		return nil
	}
	over, err := t.c.DB.Client.Run.Query().Where(run.IDIn(mine...), run.FinishedAtNotNil()).IDs(ctx)
	if err != nil {
		return fmt.Errorf("look which scans were ended: %w", err)
	}
	for _, id := range over {
		t.cancel(id)
	}
	return nil
}

func (t *Triggers) mine() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]string, 0, len(t.active))
	for id := range t.active {
		list = append(list, id)
	}
	return list
}

// endLost ends runs whose node is gone, which ran out of time, or which this node should
// have in hand and has not.
func (t *Triggers) endLost(ctx context.Context) error {
	lease, now := t.c.Ledger.Lease(), t.now()
	open, err := t.c.DB.Client.Run.Query().Where(run.FinishedAtIsNil()).
		Select(run.FieldID, run.FieldLeaseNode, run.FieldLeaseEpoch, run.FieldDeadline, run.FieldCreatedAt).All(ctx)
	if err != nil || len(open) == 0 {
		return err
	}
	alive, err := t.alive(ctx)
	if err != nil {
		return err
	}
	held := map[string]bool{}
	for _, id := range t.mine() {
		held[id] = true
	}
	for _, r := range open {
		holder := flow.Lease{Node: r.LeaseNode, Epoch: r.LeaseEpoch}
		var why string
		switch {
		case !alive[holder]:
			why = "the node that carried it out is gone"
		case now.After(r.Deadline.Add(settle)):
			why = "it took longer than its limit"
		case holder == lease && !held[r.ID] && now.After(r.CreatedAt.Add(settle)):
			why = "the hub has lost it"
		default:
			continue
		}
		if err := t.endFor(ctx, r.ID, holder, why); err != nil {
			return err
		}
	}
	return nil
}

// alive are the leases of the nodes whose hearts beat; see the ledger's Reclaim.
func (t *Triggers) alive(ctx context.Context) (map[flow.Lease]bool, error) {
	rows, err := t.c.DB.Client.QueryContext(ctx, "SELECT id, epoch FROM nodes WHERE dead = 0")
	if err != nil {
		return nil, fmt.Errorf("read the nodes: %w", err)
	}
	defer rows.Close()
	out := map[flow.Lease]bool{}
	for rows.Next() {
		var l flow.Lease
		if err := rows.Scan(&l.Node, &l.Epoch); err != nil {
			return nil, fmt.Errorf("read the nodes: %w", err)
		}
		out[l] = true
	}
	return out, rows.Err()
}

func (t *Triggers) endFor(ctx context.Context, id string, holder flow.Lease, why string) error {
	u := t.c.DB.Client.Run.Update().Where(run.ID(id), run.FinishedAtIsNil(), run.LeaseNode(holder.Node), run.LeaseEpoch(holder.Epoch))
	ending(u, run.StateFAILED, why, t.now())
	n, err := u.Save(ctx)
	if err != nil {
		return fmt.Errorf("end a lost scan: %w", err)
	}
	if n == 0 {
		return nil
	}
	t.c.Ended(string(run.StateFAILED))
	t.c.Log.Warn("a scan was lost and ends as failed", "run", id, "node", holder.Node, "why", why)
	t.cancel(id)
	row, err := t.c.DB.Client.Run.Get(ctx, id)
	if err != nil {
		return gen.MaskNotFound(err)
	}
	t.announce(ctx, row)
	return nil
}

// retain removes runs that ended longer ago than their organization keeps events.
func (t *Triggers) retain(ctx context.Context) error {
	for org, keep := range t.c.Retentions() {
		if keep.Events <= 0 {
			continue
		}
		old, err := t.c.DB.Client.Run.Query().Where(run.OrganizationID(org), run.FinishedAtLT(t.now().Add(-keep.Events)), run.Untold(false)).Limit(500).IDs(ctx)
		if err != nil {
			return err
		}
		if len(old) == 0 {
			continue
		}
		if _, err := t.c.DB.Client.Run.Delete().Where(run.IDIn(old...)).Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}
