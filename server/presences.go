package server

import (
	"context"
	"fmt"
	"time"

	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/server/flow"
	"github.com/hookyard/hookyard/server/presence"
)

// openPresences makes the place where agents of Presences link to this node.
func (h *Hub) openPresences() {
	h.presences = presence.New(presence.Config{
		Roll: roll{h.db, h.cfg.NodeName, h.clock.Now}, Clock: h.clock, Log: h.log,
		Changed: func(id string) { h.dispatch.Linked(id) }, Resume: h.resume,
	})
}

// resume records what agents have made of deliveries that they were handed by another
// node, or by an earlier start of this one.
func (h *Hub) resume(ctx context.Context, org, id string, results []flow.AgentResult, recorded func(string)) (unknown []string, err error) {
	w := h.atlas.World(org)
	if w == nil {
		return nil, fmt.Errorf("the organization: %w", flow.ErrUnavailable)
	}
	var endpoints []string
	for _, e := range w.Endpoints {
		if e.Presence == id {
			endpoints = append(endpoints, e.ID)
		}
	}
	for len(results) > 0 {
		// An attempt may have been followed by another: one at a time.
		tried, now, later := map[string]int{}, []flow.AgentResult{}, []flow.AgentResult{}
		for _, r := range results {
			if _, twice := tried[r.DeliveryID]; twice {
				later = append(later, r)
				continue
			}
			tried[r.DeliveryID] = r.Number
			now = append(now, r)
		}
		dues, err := h.ledger.Adopt(ctx, org, endpoints, tried)
		if err != nil {
			return nil, err
		}
		byID := make(map[string]*flow.Due, len(dues))
		for _, d := range dues {
			byID[d.ID] = d
		}
		for _, r := range now {
			if d := byID[r.DeliveryID]; d != nil {
				h.dispatch.Late(d, r.Try, r.Number, r.Result, func() { recorded(r.Try) })
			} else {
				unknown = append(unknown, r.Try)
			}
		}
		results = later
	}
	return unknown, nil
}

// roll notes who is linked to this node.
type roll struct {
	db   *store.DB
	node string
	now  func() time.Time
}

// silent is for how long a link may give no sign of life before people are told that it
// has ended: the node that it was linked to may be dead.
const silent = 30 * time.Second

func (r roll) Linked(ctx context.Context, org, id string, a flow.Agent) error {
	return r.db.AgentLinked(ctx, org, id, store.Agent{ID: a.ID, Name: a.Name, Version: a.Version, Node: r.node, LinkedAt: r.now()})
}

func (r roll) Seen(ctx context.Context, agents map[string][]string) error {
	for id, list := range agents {
		for _, a := range list {
			if err := r.db.AgentSeen(ctx, id, a, r.node, r.now()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r roll) Unlinked(ctx context.Context, id, agent string) error {
	return r.db.AgentUnlinked(ctx, id, agent, r.node, r.now())
}

func (r roll) Agents(ctx context.Context, id string) ([]flow.AgentView, error) {
	list, err := r.db.Agents(ctx, id)
	out := make([]flow.AgentView, len(list))
	for i, a := range list {
		out[i] = flow.AgentView{ID: a.ID, Name: a.Name, Version: a.Version, Node: a.Node, LinkedAt: a.LinkedAt, SeenAt: a.SeenAt,
			Linked: a.Node != "" && r.now().Sub(a.SeenAt) < silent}
	}
	return out, err
}
