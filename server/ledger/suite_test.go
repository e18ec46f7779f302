package ledger

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	osexec "os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"pgregory.net/rapid"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/flow"
)

func scope(t testing.TB, org string, role viewer.Role, groups ...string) rule.Scope {
	t.Helper()
	s, err := rule.LedgerScope(viewer.NewContext(t.Context(), &viewer.Viewer{ID: "usr_1", Organization: org, Role: role, Permissions: role.Permissions(), Groups: groups}))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestScopes compares every read with Scope.Sees, for all rows and kinds of viewers.
func TestScopes(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		type row struct{ event, open, ended, receipt, org, group string }
		var all []row
		for _, o := range []string{org, "org_2"} {
			for _, g := range []string{"", "grp_1", "grp_2"} {
				e, r := b.event(2), b.receipt()
				e.Org, e.Group, e.Receipt, r.Org = o, g, r.ID, o
				for i := range e.Deliveries {
					e.Deliveries[i].Level = g
				}
				if _, err := b.Accept(t.Context(), r, []flow.NewEvent{e}); err != nil {
					t.Fatal(err)
				}
				b.record(b.result(due(&e, 1), flow.Succeeded))
				all = append(all, row{e.ID, e.Deliveries[0].ID, e.Deliveries[1].ID, r.ID, o, g})
			}
		}
		if _, err := b.Events(t.Context(), rule.Scope{}, flow.EventFilter{}, flow.Page{Limit: 9}); !errors.Is(err, rule.ErrNoViewer) {
			t.Errorf("the zero scope: %v", err)
		}
		ctx, page := t.Context(), flow.Page{Limit: 100}
		for _, s := range []rule.Scope{
			scope(t, org, viewer.Administrator), scope(t, "org_2", viewer.Administrator), scope(t, "org_3", viewer.Administrator),
			scope(t, org, viewer.Tester), scope(t, org, viewer.Tester, "grp_1"), scope(t, org, viewer.ReportViewer, "grp_1", "grp_2"), scope(t, org, viewer.Tester, ""),
		} {
			name := fmt.Sprintf("%s all=%v %v", s.Organization(), s.All(), s.Groups())
			seen := map[string]bool{}
			note := func(err error, ids ...string) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
				for _, id := range ids {
					seen[id] = true
				}
			}
			events, err := b.Events(ctx, s, flow.EventFilter{}, page)
			note(err)
			for _, e := range events {
				note(nil, e.ID)
				if (e.Document != nil) != s.Payloads() {
					t.Errorf("%s: document %q", name, e.Document)
				}
			}
			receipts, err := b.Receipts(ctx, s, flow.ReceiptFilter{}, page)
			note(err)
			for _, r := range receipts {
				note(nil, r.ID)
				if (r.Body != nil) != s.Payloads() || len(r.Events) != 1 {
					t.Errorf("%s: receipt %+v", name, r)
				}
			}
			deliveries, err := b.Deliveries(ctx, s, flow.DeliveryFilter{}, page)
			note(err)
			for _, d := range deliveries {
				note(nil, d.ID)
			}
			for _, r := range all {
				want := s.Sees(r.org, r.group)
				for _, id := range []string{r.event, r.open, r.ended, r.receipt} {
					if seen[id] != want {
						t.Errorf("%s: %s of %s/%s in a list: %v", name, id, r.org, r.group, seen[id])
					}
				}
				_, e1 := b.Event(ctx, s, r.event)
				_, e2 := b.Delivery(ctx, s, r.open)
				_, e3 := b.Delivery(ctx, s, r.ended)
				_, e4 := b.Receipt(ctx, s, r.receipt)
				for i, err := range []error{e1, e2, e3, e4} {
					if want && err != nil || !want && !errors.Is(err, flow.ErrNotFound) {
						t.Errorf("%s: read %d of %s/%s: %v", name, i, r.org, r.group, err)
					}
				}
				attempts, err := b.Attempts(ctx, s, r.ended)
				if err != nil || (len(attempts) == 1) != want {
					t.Errorf("%s: attempts of %s/%s: %v %v", name, r.org, r.group, attempts, err)
				}
				if want {
					a, err := b.Attempt(ctx, s, attempts[0].ID)
					if err != nil || (a.Request.Body != nil) != s.Payloads() || (a.Response.Body != nil) != s.Payloads() || a.Timing.TLS != 3*time.Microsecond ||
						a.Request.Header[1].Value != "[secret:token]" || a.Response.Header[0].Value != "d: e" {
						t.Errorf("%s: attempt %+v %+v %v", name, a.Request, a.Response, err)
					}
				}
				if n, err := b.RedeliverMatching(ctx, s, flow.DeliveryFilter{IDs: []string{r.ended}}, 10, true); err != nil || (n.Matched == 1) != want {
					t.Errorf("%s: redeliver %s/%s: %+v %v", name, r.org, r.group, n, err)
				}
			}
			if n, err := b.CancelDeliveries(ctx, scope(t, "org_3", viewer.Administrator), []string{all[0].open}); err != nil || n.Matched != 0 {
				t.Errorf("cancelled what is out of sight: %+v %v", n, err)
			}
		}
	})
}

// TestPaging compares pages with a list made by hand, for random filters and limits.
func TestPaging(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		var all []flow.DeliveryView
		states := []flow.DeliveryState{flow.Attempting, flow.Pending, flow.Retrying, flow.Succeeded, flow.Failed, flow.SkippedState}
		for i := range 60 {
			b.clock.Advance(time.Minute)
			e := b.event(1)
			state := states[i%len(states)]
			d := &e.Deliveries[0]
			d.Webhook = fmt.Sprintf("whk_%d", i%4)
			d.Lease = state != flow.Pending
			if state == flow.SkippedState {
				d.State, d.Lease = state, false
			}
			b.accept(e)
			if state == flow.Retrying || state == flow.Succeeded || state == flow.Failed {
				b.record(b.result(due(&e, 0), state))
			}
			all = append(all, flow.DeliveryView{ID: d.ID, Event: e.ID, Webhook: d.Webhook, State: state, Created: e.Received})
		}
		s := scope(t, org, viewer.Administrator)
		rapid.Check(t, func(r *rapid.T) {
			f := flow.DeliveryFilter{States: rapid.SliceOfN(rapid.SampledFrom(states), 0, 2).Draw(r, "states")}
			if rapid.Bool().Draw(r, "webhook") {
				f.Webhooks = []string{"whk_1", "whk_3"}
			}
			if rapid.Bool().Draw(r, "time") {
				f.From = all[rapid.IntRange(0, 59).Draw(r, "from")].Created
				f.To = all[rapid.IntRange(0, 59).Draw(r, "to")].Created
			}
			p := flow.Page{Limit: rapid.IntRange(1, 20).Draw(r, "limit"), Oldest: rapid.Bool().Draw(r, "oldest")}
			var want, got []string
			for _, d := range all {
				if (len(f.States) == 0 || slices.Contains(f.States, d.State)) && (f.Webhooks == nil || slices.Contains(f.Webhooks, d.Webhook)) &&
					(f.From.IsZero() || !d.Created.Before(f.From)) && (f.To.IsZero() || d.Created.Before(f.To)) {
					want = append(want, d.ID)
				}
			}
			if !p.Oldest {
				slices.Reverse(want)
			}
			for {
				page, err := b.Deliveries(t.Context(), s, f, p)
				if err != nil {
					r.Fatal(err)
				}
				for _, d := range page {
					got = append(got, d.ID)
				}
				if len(page) < p.Limit {
					break
				}
				p.After = page[len(page)-1].ID
			}
			if !slices.Equal(got, want) {
				r.Fatalf("got %v\nwant %v", got, want)
			}
		})
	})
}

func TestRedeliver(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		s := scope(t, org, viewer.Administrator)
		e := b.event(3)
		e.Deliveries[1].State, e.Deliveries[1].Lease = flow.SkippedState, false                                                           // its webhook was disabled
		e.Deliveries[2].State, e.Deliveries[2].Lease, e.Deliveries[2].Rendering = flow.SkippedState, false, "a format that cannot say it" // nothing to send
		b.accept(e)
		b.record(b.result(due(&e, 0), flow.Failed))
		want := []string{e.Deliveries[0].ID, e.Deliveries[1].ID}
		n, err := b.RedeliverMatching(t.Context(), s, flow.DeliveryFilter{Event: e.ID}, 1, true)
		if err != nil || n.Matched != 1 || !n.Capped || n.IDs != nil {
			t.Fatalf("dry run: %+v, %v", n, err)
		}
		n, err = b.RedeliverMatching(t.Context(), s, flow.DeliveryFilter{Event: e.ID}, 10, false)
		if err != nil || n.Matched != 2 || n.Capped || len(n.IDs) != 2 {
			t.Fatalf("redelivered: %+v, %v", n, err)
		}
		dues := b.claim(10)
		if len(dues) != 2 || string(dues[0].Document) != string(e.Document) {
			t.Fatalf("claimed %v", dues)
		}
		for i, d := range dues {
			v, err := b.Delivery(t.Context(), s, d.ID)
			if err != nil || v.Redelivers != want[i] || v.State != flow.Attempting || v.Attempts != 0 {
				t.Errorf("redelivery: %+v, %v", v, err)
			}
		}
		c, err := b.CancelDeliveries(t.Context(), s, n.IDs[:1])
		if err != nil || len(c.IDs) != 1 {
			t.Fatalf("cancelled %+v, %v", c, err)
		}
		b.record(b.result(dues[0], flow.Succeeded)) // was in flight
		v, err := b.Delivery(t.Context(), s, n.IDs[0])
		if err != nil || v.State != flow.Cancelled {
			t.Errorf("cancelled: %+v, %v", v, err)
		}
		if as, err := b.Attempts(t.Context(), s, n.IDs[0]); err != nil || len(as) != 2 || as[0].State != flow.Cancelled || as[1].Number != 1 {
			t.Errorf("attempts: %+v, %v", as, err)
		}
		if err := b.Release(t.Context(), []string{dues[1].ID}); err != nil {
			t.Fatal(err)
		}
		if n, err := b.CancelDeliveries(t.Context(), s, []string{dues[1].ID}); err != nil || len(n.IDs) != 1 || b.count("open_deliveries") != 0 {
			t.Errorf("cancelled %+v, %v", n, err)
		}
	})
}

func TestHold(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		e := b.event(1)
		e.Deliveries[0].Lease = false
		b.accept(e)
		if err := b.Hold(t.Context()); err != nil {
			t.Fatal(err)
		}
		again := open(t, b.db, func(c *Config) { c.NodeName = "two" })
		if !again.Held() || len(again.claim(1)) != 0 || len(b.claim(1)) != 0 {
			t.Error("gave a delivery out while they are held")
		}
		if err := b.Unhold(t.Context()); err != nil || len(b.claim(1)) != 1 {
			t.Errorf("not released: %v", err)
		}
	})
}

func TestBacklogSkipsOverLanes(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		var events []flow.NewEvent
		for i := range 30 {
			e := b.event(1)
			e.Deliveries[0].Webhook = fmt.Sprintf("whk_%d", i%5)
			e.Deliveries[0].Lease = i%5 == 4 // one lane is all in hand
			events = append(events, e)
		}
		b.accept(events...)
		lanes, err := b.Backlog(t.Context(), b.clock.Now())
		if err != nil || len(lanes) != 4 {
			t.Fatalf("%+v, %v", lanes, err)
		}
		for i, l := range lanes {
			if l.Webhook != fmt.Sprintf("whk_%d", i) || l.Org != org || !l.Due.Equal(start) {
				t.Errorf("lane %+v", l)
			}
		}
	})
}

// TestTailHasNoHoles reads while two nodes (one on SQLite) write.
func TestTailHasNoHoles(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		nodes := []*bench{open(t, db)}
		if db.Pool != nil {
			nodes = append(nodes, open(t, db, func(c *Config) { c.NodeName = "two" }))
		}
		const each = 150
		total := int64(len(nodes) * 8 * each)
		var wg sync.WaitGroup
		for _, b := range nodes {
			for range 8 {
				wg.Go(func() {
					for range each {
						e := b.event(1)
						e.Deliveries[0].State, e.Deliveries[0].Lease = flow.SkippedState, false
						if _, err := b.Accept(t.Context(), nil, []flow.NewEvent{e}); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
		}
		for cursor := int64(0); cursor < total && !t.Failed(); {
			woken := nodes[0].Notify()
			entries, err := nodes[0].Tail(t.Context(), "", cursor, 100)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if cursor++; e.Seq != cursor {
					t.Fatalf("entry %d where %d was next", e.Seq, cursor)
				}
			}
			if len(entries) == 0 {
				select {
				case <-woken:
				case <-time.After(100 * time.Millisecond): // another node's words may be on their way
				}
			}
		}
		wg.Wait()
		if last, err := nodes[0].LastSeq(t.Context(), ""); err != nil || last != total {
			t.Errorf("last %d of %d, %v", last, total, err)
		}
	})
}

func TestOtherNodesWake(t *testing.T) {
	db := storetest.Open(t, store.Config{DatabaseURL: storetest.Postgres(t)})
	real := func(name string) func(*Config) {
		return func(c *Config) { c.NodeName, c.Clock = name, clockwork.NewRealClock() }
	}
	one, two := open(t, db, real("one")), open(t, db, real("two"))
	// The listener has a wake of its own when it starts, so only the second comes from
	// an entry for sure.
	for range 2 {
		woken := two.Notify()
		e := one.event(1)
		e.Deliveries[0].State, e.Deliveries[0].Lease = flow.SkippedState, false
		one.accept(e)
		select {
		case <-woken:
		case <-time.After(20 * time.Second):
			t.Fatal("node two was not woken")
		}
	}
}

func TestReclaim(t *testing.T) {
	db := storetest.Open(t, store.Config{DatabaseURL: storetest.Postgres(t)})
	dead := open(t, db)
	e := dead.event(1)
	dead.accept(e)
	alive := open(t, db, func(c *Config) { c.NodeName = "two"; c.Grace = time.Minute })
	age := func(node flow.Lease) {
		if err := alive.writeTx(t.Context(), "age", func(tx tx) error {
			return exec(t.Context(), tx, "UPDATE nodes SET heartbeat = heartbeat - ? WHERE id = ?", (2 * time.Minute).Microseconds(), node.Node)
		}); err != nil {
			t.Fatal(err)
		}
	}
	age(dead.Lease())
	if n, err := alive.Reclaim(t.Context()); n != 0 || err != nil {
		t.Fatalf("reclaimed %d within the first grace, %v", n, err)
	}
	alive.clock.Advance(2 * time.Minute)
	alive.health.lost(alive.clock.Now()) // the database was away
	if err := alive.Beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := alive.Reclaim(t.Context()); n != 0 || err != nil {
		t.Fatalf("reclaimed %d just after the database was away, %v", n, err)
	}
	alive.clock.Advance(2 * time.Minute)
	if n, err := alive.Reclaim(t.Context()); n != 1 || err != nil {
		t.Fatalf("reclaimed %d, %v", n, err)
	}
	got := alive.claim(1)
	if len(got) != 1 {
		t.Fatal("the dead node's delivery did not come back")
	}
	// The dead node was only slow: what it had is recorded late, what it accepts is
	// leased to it anew.
	old := dead.Lease()
	dead.record(dead.result(due(&e, 0), flow.Succeeded))
	if alive.count("open_deliveries") != 1 {
		t.Error("a late result has ended the delivery")
	}
	dead.accept(dead.event(1))
	if now := dead.Lease(); now.Node != old.Node || now.Epoch != old.Epoch+1 {
		t.Errorf("lease %+v after %+v", now, old)
	}
	if alive.count("open_deliveries WHERE lease_node = ? AND lease_epoch = ?", old.Node, old.Epoch+1) != 1 {
		t.Error("the slow node's new delivery is not leased to its new epoch")
	}
	alive.record(alive.result(got[0], flow.Succeeded))
	if alive.count("deliveries WHERE id = ?", got[0].ID) != 1 {
		t.Error("the delivery has not ended")
	}
}

// TestTerm: a lease may be relied on for two thirds of the grace after the last heartbeat
// that counted, from when that was begun.
func TestTerm(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		expect := func(what string, lease flow.Lease, until time.Time) {
			t.Helper()
			if !b.pg {
				until = time.Time{}
			}
			if l, u := b.Term(); l != lease || !u.Equal(until) {
				t.Errorf("%s: %+v until %v, want %+v until %v", what, l, u, lease, until)
			}
		}
		first := b.Lease()
		expect("joined", first, start.Add(10*time.Second))
		b.clock.Advance(3 * time.Second)
		if err := b.Beat(t.Context()); err != nil {
			t.Fatal(err)
		}
		expect("beaten", first, start.Add(13*time.Second))
		b.clock.Advance(3 * time.Second)
		if b.pg { // a heartbeat that hangs
			turn, err := b.db.Pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := turn.Exec(t.Context(), "SELECT 1 FROM nodes FOR UPDATE"); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if err := b.Beat(ctx); !errors.Is(err, flow.ErrUnavailable) {
				t.Errorf("it hangs: %v", err)
			}
			if err := turn.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			expect("after one that failed", first, start.Add(13*time.Second))
		}
		if err := b.writeTx(t.Context(), "give the node up", func(tx tx) error { return exec(t.Context(), tx, "UPDATE nodes SET dead = 1") }); err != nil {
			t.Fatal(err)
		}
		if err := b.Beat(t.Context()); err != nil {
			t.Fatal(err)
		}
		expect("given up", flow.Lease{Node: first.Node, Epoch: first.Epoch + 1}, start.Add(16*time.Second))
	})
}

func TestQueueLimits(t *testing.T) {
	db := storetest.Open(t, store.Config{DataDir: t.TempDir()})
	b := open(t, db, func(c *Config) { c.QueueCalls, c.MaxGroup = 2, 1 })
	turn, err := db.Write.Conn(t.Context()) // somebody else's turn to write
	if err != nil {
		t.Fatal(err)
	}
	results := make(chan error, 3)
	ctx, cancel := context.WithCancel(t.Context())
	accept := func(ctx context.Context) {
		_, err := b.Accept(ctx, b.receipt(), nil)
		results <- err
	}
	until := func(what string, ok func() bool) {
		deadline := time.Now().Add(10 * time.Second)
		for !ok() {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	go accept(t.Context())
	until("the writer took nothing", func() bool { b.queue.mu.Lock(); defer b.queue.mu.Unlock(); return b.queue.busy == 1 })
	go accept(ctx)
	until("nothing waits", func() bool { return b.Stats().Calls == 1 })
	go accept(t.Context())
	until("nothing waits", func() bool { return b.Stats().Calls == 2 })
	if _, err := b.Accept(t.Context(), b.receipt(), nil); !errors.Is(err, flow.ErrBusy) {
		t.Errorf("a full queue: %v", err)
	}
	cancel()
	if err := <-results; !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	if err := turn.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if n := b.count("receipts"); n != 2 {
		t.Errorf("%d receipts", n)
	}
}

func TestRetention(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		accept := func(o string, key string) (flow.NewEvent, *flow.Receipt) {
			e, r := b.event(2), b.receipt()
			e.Org, e.Receipt, r.Org, e.Key = o, r.ID, o, key
			e.Deliveries[0].Rendering, e.Deliveries[1].Rendering = "holm", rawKey
			e.Renderings = []flow.Rendering{{Event: e.ID, Key: "holm", Rendered: connectors.Rendered{Body: []byte("h")}}}
			if _, err := b.Accept(t.Context(), r, []flow.NewEvent{e}); err != nil {
				t.Fatal(err)
			}
			b.record(b.result(due(&e, 1), flow.Succeeded))
			return e, r
		}
		ended, _ := accept(org, "a")
		b.record(b.result(due(&ended, 0), flow.Succeeded))
		kept, receipt := accept(org, "b") // its first delivery stays open
		other, _ := accept("org_2", "c")
		b.record(b.result(due(&other, 0), flow.Succeeded))
		b.clock.Advance(10 * 24 * time.Hour)
		young, _ := accept(org, "d")
		b.record(b.result(due(&young, 0), flow.Succeeded))
		day := 24 * time.Hour
		step := func(keep map[string]flow.Retention) {
			t.Helper()
			for {
				r, err := b.Retain(t.Context(), keep)
				if err != nil {
					t.Fatal(err)
				}
				if !r.More {
					return
				}
			}
		}
		expect := func(what string, n int, from string, args ...any) {
			t.Helper()
			if got := b.count(from, args...); got != n {
				t.Errorf("%s: %d, want %d", what, got, n)
			}
		}
		step(map[string]flow.Retention{org: {Payloads: 5 * day}, "org_2": {}})
		expect("documents", 3, "events WHERE document IS NOT NULL")
		expect("the ended one's document", 0, "events WHERE id = ? AND document IS NOT NULL", ended.ID)
		expect("receipts with bodies", 3, "receipts WHERE body IS NOT NULL")
		expect("responses", 2+2, "entries WHERE response_body IS NOT NULL")
		step(map[string]flow.Retention{org: {Events: 5 * day, Attempts: 5 * day}, "org_2": {Events: 100 * day}})
		expect("events", 3, "events")
		expect("the ended event", 0, "events WHERE id = ?", ended.ID)
		expect("the event of an open delivery", 1, "events WHERE id = ? AND document IS NOT NULL", kept.ID)
		expect("its rendering", 1, "renderings WHERE event = ? AND body IS NOT NULL", kept.ID)
		expect("its receipt", 1, "receipts WHERE id = ? AND body IS NOT NULL", receipt.ID)
		expect("the history", 2, "deliveries WHERE org = ?", org)
		expect("entries", 2, "entries WHERE org = ?", org)
		expect("entries of the other", 2, "entries WHERE org = 'org_2'")
		if _, err := b.Tail(t.Context(), org, 0, 10); !errors.Is(err, flow.ErrExpired) {
			t.Errorf("an old cursor: %v", err)
		}
		oldest, err := b.OldestSeq(t.Context(), org)
		if err != nil {
			t.Fatal(err)
		}
		if es := b.entries(oldest - 1); len(es) != 2 {
			t.Errorf("%d entries after the oldest", len(es))
		}
		expect("keys within their window", 1, "keys")
		b.count("events") // and the database still answers
		if b.pg {
			// Days that nobody keeps go as a whole, but for what is still open.
			step(map[string]flow.Retention{org: {Events: 5 * day}, "org_2": {Events: 5 * day}})
			expect("the history of the other", 0, "deliveries WHERE org = 'org_2'")
			expect("the event of an open delivery", 1, "events WHERE id = ?", kept.ID)
			b.clock.Advance(25 * time.Hour)
			b.record(b.result(due(&kept, 0), flow.Succeeded))
			step(map[string]flow.Retention{org: {Events: 5 * day}, "org_2": {Events: 5 * day}})
			expect("the old events", 0, "events WHERE id <> ?", young.ID)
		}
	})
}

// TestRetentionOfForeignClocks: an attempt that began in the future, by the clock of whoever
// made it, holds nobody up and does not go before its time.
func TestRetentionOfForeignClocks(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		e := b.event(4)
		b.accept(e)
		record := func(i int, ahead time.Duration) {
			r := b.result(due(&e, i), flow.Succeeded)
			r.Result.Started = b.clock.Now().Add(ahead)
			b.record(r)
		}
		const day = 24 * time.Hour
		record(0, 365*day)
		record(1, 0)
		b.clock.Advance(10 * day)
		record(2, 365*day)
		for range 2 {
			if _, err := b.Retain(t.Context(), map[string]flow.Retention{org: {Attempts: 5 * day, Payloads: 5 * day}}); err != nil {
				t.Fatal(err)
			}
			if n, m := b.count("entries"), b.count("entries WHERE response_body IS NOT NULL"); n != 1 || m != 1 {
				t.Errorf("%d entries, %d with responses", n, m)
			}
		}
		record(3, 0)
		b.clock.Advance(6 * day)
		if _, err := b.Retain(t.Context(), map[string]flow.Retention{org: {Attempts: 5 * day}}); err != nil {
			t.Fatal(err)
		}
		if n := b.count("entries"); n != 0 {
			t.Errorf("%d entries", n)
		}
	})
}

// TestDatabaseLost takes PostgreSQL away under load, by cutting all connections and by
// restarting the server without a clean shutdown.
func TestDatabaseLost(t *testing.T) {
	t.Run("connections", func(t *testing.T) {
		b := open(t, storetest.Open(t, store.Config{DatabaseURL: storetest.Postgres(t)}), realTime)
		underLoad(t, b, func() {
			_ = b.read(t.Context(), "cut", "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()", nil, func(func(...any) error) error { return nil })
		})
	})
	t.Run("server", func(t *testing.T) {
		url, restart := ownServer(t)
		b := open(t, storetest.Open(t, store.Config{DatabaseURL: url}), realTime)
		underLoad(t, b, restart)
	})
}

func realTime(c *Config) {
	c.Clock = clockwork.NewRealClock()
	c.IDs = ids.NewMaker(time.Now)
}

// underLoad has events accepted and recorded while the database is cut off, and then
// accounts for each of them.
func underLoad(t *testing.T, b *bench, cut func()) {
	var mu sync.Mutex
	var accepted, recorded []string
	var refused, done atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				e := b.event(1)
				e.Key = e.ID
				if _, err := b.Accept(t.Context(), nil, []flow.NewEvent{e}); err != nil {
					if !errors.Is(err, flow.ErrUnavailable) {
						t.Errorf("accept: %v", err)
						return
					}
					refused.Add(1)
					runtime.Gosched()
					continue
				}
				r := b.result(due(&e, 0), flow.Succeeded)
				if err := b.Record(t.Context(), r); err != nil {
					t.Errorf("record: %v", err)
					return
				}
				mu.Lock()
				accepted, recorded = append(accepted, e.ID), append(recorded, r.Attempt)
				mu.Unlock()
				done.Add(1)
			}
		})
	}
	for range 3 {
		for before := refused.Load(); refused.Load() == before && !t.Failed(); {
			cut()
		}
		for before := done.Load(); done.Load() < before+50 && !t.Failed(); {
			runtime.Gosched() // it goes on by itself
		}
	}
	close(stop)
	wg.Wait()
	for i, id := range accepted {
		if b.count("events WHERE id = ?", id) != 1 || b.count("deliveries WHERE event = ?", id) != 1 {
			t.Fatalf("event %s is not there, or has not ended once", id)
		}
		if n := b.count("entries WHERE id = ?", recorded[i]); n != 1 {
			t.Fatalf("attempt %s is there %d times", recorded[i], n)
		}
	}
	last, err := b.LastSeq(t.Context(), "")
	if err != nil || b.count("entries") != int(last) {
		t.Errorf("%d entries, the last is %d, %v", b.count("entries"), last, err)
	}
	t.Logf("%d events through, %d refused", len(accepted), refused.Load())
}

// ownServer starts a PostgreSQL server that the test may restart without a warning.
func ownServer(t *testing.T) (url string, restart func()) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pg_ctl")
	if path, err := osexec.LookPath("pg_ctl"); err == nil {
		found = append(found, path)
	}
	if len(found) == 0 {
		t.Fatal("no pg_ctl found: install PostgreSQL (apt-get install -y --no-install-recommends postgresql)")
	}
	bin := filepath.Dir(found[0])
	dir, err := os.MkdirTemp("", "hookyard-ledger-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	attr := &syscall.SysProcAttr{}
	if os.Getuid() == 0 { // the server refuses to run as root
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	_ = listener.Close()
	data := filepath.Join(dir, "data")
	run := func(name string, args ...string) {
		cmd := osexec.Command(filepath.Join(bin, name), args...)
		cmd.Dir, cmd.SysProcAttr = dir, attr
		if err := cmd.Run(); err != nil { // without a pipe for output, which the server would keep open
			t.Errorf("%s %v: %v", name, args, err)
		}
	}
	run("initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
	options := fmt.Sprintf("-h 127.0.0.1 -p %s -k %s", port, dir)
	run("pg_ctl", "-D", data, "-w", "-l", filepath.Join(dir, "log"), "-o", options, "start")
	t.Cleanup(func() { run("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop") })
	return "postgres://postgres@127.0.0.1:" + port + "/postgres?sslmode=disable", func() {
		run("pg_ctl", "-D", data, "-w", "-m", "immediate", "-l", filepath.Join(dir, "log"), "-o", options, "restart")
	}
}

// TestDiskFull: what cannot be committed is refused whole, and results wait.
func TestDiskFull(t *testing.T) {
	db := storetest.Open(t, store.Config{DataDir: t.TempDir()})
	b := open(t, db, realTime)
	first := b.event(1)
	b.accept(first)
	limit := func(pages int64) {
		t.Helper()
		if err := db.Write.QueryRowContext(t.Context(), "PRAGMA max_page_count = "+strconv.FormatInt(pages, 10)).Scan(new(int64)); err != nil {
			t.Fatal(err)
		}
	}
	limit(1) // which is: no more than there are
	big := b.event(1)
	big.Document = make([]byte, 1<<20)
	if _, err := b.Accept(t.Context(), b.receipt(), []flow.NewEvent{big}); !errors.Is(err, flow.ErrUnavailable) {
		t.Fatalf("a full disk: %v", err)
	}
	r := b.result(due(&first, 0), flow.Succeeded)
	r.Result.Response.Body = big.Document
	ctx, cancel := context.WithTimeout(t.Context(), 2*retryPause)
	defer cancel()
	if err := b.Record(ctx, r); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a result on a full disk: %v", err)
	}
	recorded := make(chan error)
	go func() { recorded <- b.Record(t.Context(), r) }()
	limit(1 << 30)
	if err := <-recorded; err != nil {
		t.Fatal(err)
	}
	b.accept(big)
	if b.count("events") != 2 || b.count("receipts") != 2 || b.count("entries") != 1 || b.count("deliveries") != 1 {
		t.Error("something was accepted by half")
	}
}
