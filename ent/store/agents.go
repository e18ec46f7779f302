package store

import (
	"context"
	"fmt"
	"time"
)

// Agent is one agent of a Presence as it last linked.
type Agent struct {
	ID, Name, Version string
	Node              string // that it is linked to; "" none, as far as that node could tell
	LinkedAt, SeenAt  time.Time
}

// keepAgents is for how long an agent is remembered that is not seen any more.
const keepAgents = 30 * 24 * time.Hour

// AgentLinked notes that an agent has linked to a node. Agents that were not seen for a
// month are forgotten.
func (db *DB) AgentLinked(ctx context.Context, org, presence string, a Agent) error {
	at := a.LinkedAt.UnixMicro()
	if err := db.exec(ctx, "DELETE FROM presence_agents WHERE presence_id = $1 AND seen_at < $2", presence, at-keepAgents.Microseconds()); err != nil {
		return fmt.Errorf("forget old agents of a Presence: %w", err)
	}
	err := db.exec(ctx, "INSERT INTO presence_agents (presence_id, id, organization_id, name, version, node, linked_at, seen_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) "+
		"ON CONFLICT (presence_id, id) DO UPDATE SET name = excluded.name, version = excluded.version, node = excluded.node, linked_at = excluded.linked_at, seen_at = excluded.seen_at",
		presence, a.ID, org, a.Name, a.Version, a.Node, at, at)
	if err != nil {
		return fmt.Errorf("note an agent of a Presence: %w", err)
	}
	return nil
}

// AgentSeen notes that an agent is there, if it still is the node's.
func (db *DB) AgentSeen(ctx context.Context, presence, agent, node string, at time.Time) error {
	return db.touchAgent(ctx, "UPDATE presence_agents SET seen_at = $1 WHERE presence_id = $2 AND id = $3 AND node = $4", presence, agent, node, at)
}

// AgentUnlinked notes that an agent's link to the node has ended; it may have another by now.
func (db *DB) AgentUnlinked(ctx context.Context, presence, agent, node string, at time.Time) error {
	return db.touchAgent(ctx, "UPDATE presence_agents SET node = '', seen_at = $1 WHERE presence_id = $2 AND id = $3 AND node = $4", presence, agent, node, at)
}

func (db *DB) touchAgent(ctx context.Context, query, presence, agent, node string, at time.Time) error {
	if err := db.exec(ctx, query, at.UnixMicro(), presence, agent, node); err != nil {
		return fmt.Errorf("note an agent of a Presence: %w", err)
	}
	return nil
}

// Agents are the agents of a Presence, by name. Whether the viewer sees the Presence is
// for the caller to ask.
func (db *DB) Agents(ctx context.Context, presence string) ([]Agent, error) {
	rows, err := db.Client.QueryContext(ctx, "SELECT id, name, version, node, linked_at, seen_at FROM presence_agents WHERE presence_id = $1 ORDER BY name, id", presence)
	if err != nil {
		return nil, fmt.Errorf("read the agents of a Presence: %w", err)
	}
	defer rows.Close()
	var all []Agent
	for rows.Next() {
		var a Agent
		var linked, seen int64
		if err := rows.Scan(&a.ID, &a.Name, &a.Version, &a.Node, &linked, &seen); err != nil {
			return nil, fmt.Errorf("read the agents of a Presence: %w", err)
		}
		a.LinkedAt, a.SeenAt = time.UnixMicro(linked).UTC(), time.UnixMicro(seen).UTC()
		all = append(all, a)
	}
	return all, rows.Err()
}

// exec runs a statement of its own, outside of ent.
func (db *DB) exec(ctx context.Context, query string, args ...any) (err error) {
	if db.Dialect == SQLite {
		_, err = db.Write.ExecContext(ctx, query, args...)
	} else {
		_, err = db.Pool.Exec(ctx, query, args...)
	}
	return err
}
