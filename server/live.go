package server

import (
	"context"
	"net/http"
	"time"

	"github.com/hookyard/hookyard/ent/store"
)

// wakeWatchers tells live subscribers of commits, this node's and the others'.
func (h *Hub) wakeWatchers(ctx context.Context) {
	for {
		next := h.ledger.Notify()
		h.watch.Wake("")
		select {
		case <-ctx.Done():
			return
		case <-next:
		}
	}
}

// listenConfiguration hears from other nodes, on PostgreSQL, that configuration has
// changed. It only hastens what the atlas would see within a second.
func (h *Hub) listenConfiguration(ctx context.Context) {
	if h.db.Dialect != store.Postgres {
		return
	}
	for ctx.Err() == nil {
		if err := h.hear(ctx); err != nil && ctx.Err() == nil {
			h.log.Debug("listening for changes of configuration", "err", err)
			select {
			case <-ctx.Done():
			case <-h.clock.After(time.Second):
			}
		}
	}
}

func (h *Hub) hear(ctx context.Context) error {
	conn, err := h.db.Pool.Acquire(ctx)
	if err != nil {
		return err
	}
	// The connection listens until it ends: it is of no use to others.
	own := conn.Hijack()
	defer func() { _ = own.Close(context.WithoutCancel(ctx)) }()
	if _, err := own.Exec(ctx, "LISTEN "+store.Channel); err != nil {
		return err
	}
	for {
		n, err := own.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		h.atlas.Wake()
		h.audit.Wake(n.Payload)
	}
}

// while ends requests when live ends: subscriptions would otherwise keep a shutdown
// waiting, because they have no end of their own.
func while(live context.Context, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(live, cancel)()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}
