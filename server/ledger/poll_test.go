package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/flow"
)

// polled makes an organization with sources that are asked.
func polled(b *bench, sources ...string) {
	b.change(func(ctx context.Context, tx *gen.Tx) error {
		if err := tx.Organization.Create().SetID(org).SetName("Acme").Exec(ctx); err != nil {
			return err
		}
		for _, id := range sources {
			if err := tx.Source.Create().SetID(id).SetOrganizationID(org).SetName(id).SetKind("faulty/numbers").SetTokenHash(id).SetPollEverySeconds(60).Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *bench) change(do func(context.Context, *gen.Tx) error) {
	b.t.Helper()
	if err := b.db.WithTx(viewer.SystemContext(b.t.Context()), do); err != nil {
		b.t.Fatal(err)
	}
}

// turns are the sources that may have to be asked.
func (b *bench) turns(now time.Time) []flow.DuePoll {
	b.t.Helper()
	list, err := b.DuePolls(b.t.Context(), now)
	if err != nil {
		b.t.Fatal(err)
	}
	return list
}

func (b *bench) turn(now time.Time, source, digest string, keep time.Duration) *flow.Poll {
	b.t.Helper()
	p, err := b.ClaimPoll(b.t.Context(), flow.DuePoll{Org: org, Source: source, Package: digest}, now, keep)
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

func (b *bench) document(key string) flow.PolledReceipt {
	return flow.PolledReceipt{Key: key, Receipt: flow.Receipt{ID: b.ids.New(ids.Receipt), Org: org, Source: "src_1", At: b.clock.Now(), Method: flow.MethodPoll,
		Header: []byte("[]"), Body: []byte(key), State: flow.ReceiptWaiting}}
}

func (b *bench) goes(source string) *flow.PollView {
	b.t.Helper()
	m, err := b.Polls(b.t.Context(), scope(b.t, org, viewer.Administrator), []string{source})
	if err != nil {
		b.t.Fatal(err)
	}
	return m[source]
}

// TestPolls follows a source from its first turn on.
func TestPolls(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		polled(b, "src_1")
		if got := b.turns(start); !slices.Equal(got, []flow.DuePoll{{Org: org, Source: "src_1", Due: true}}) || b.goes("src_1") != nil {
			t.Fatalf("a new source: %+v", got)
		}
		if p, err := b.ClaimPoll(ctx, flow.DuePoll{Org: "org_2", Source: "src_1"}, start, time.Minute); p != nil || err != nil {
			t.Errorf("the turn of another organization: %+v, %v", p, err)
		}
		p := b.turn(start, "src_1", "d1", time.Minute)
		if p == nil || p.Cursor != nil || !p.Since.Equal(start) || p.Failures != 0 || p.Package != "d1" {
			t.Fatalf("the first turn: %+v", p)
		}
		if again := b.turn(start.Add(24*time.Hour), "src_1", "d1", time.Minute); again != nil || len(b.turns(start)) > 0 {
			t.Errorf("the turn was taken twice: %+v", again)
		}
		next := start.Add(time.Minute)
		list := []flow.PolledReceipt{b.document("a"), b.document("b"), b.document("a"), b.document(""), b.document("")}
		if fresh, err := b.EndPoll(ctx, p, flow.PollEnd{At: start, Next: next, Cursor: []byte("c1"), Receipts: list}); err != nil || fresh != 4 {
			t.Fatalf("%d are new, %v", fresh, err)
		}
		if n, m := b.count("receipts WHERE method = 'POLL' AND state = 'WAITING'"), b.count("enrichments"); n != 4 || m != 4 {
			t.Errorf("%d receipts, of which %d wait", n, m)
		}
		if v := b.goes("src_1"); !v.Last.Equal(start) || !v.Next.Equal(next) || v.Failures != 0 || v.Error != "" || v.Permanent {
			t.Errorf("it goes like %+v", v)
		}
		if got := b.turns(next.Add(-1 * time.Microsecond)); len(got) > 0 || b.turn(next.Add(-1*time.Microsecond), "src_1", "d1", time.Minute) != nil {
			t.Errorf("before its time: %+v", got)
		}
		if _, err := b.EndPoll(ctx, p, flow.PollEnd{At: start, Next: next, Cursor: []byte("no"), Receipts: []flow.PolledReceipt{b.document("z")}}); !errors.Is(err, flow.ErrPollLost) {
			t.Errorf("a turn that ends twice: %v", err)
		}

		// What fails is put off, and comes at once with another package or a changed source.
		p = b.turn(next, "src_1", "d1", time.Minute)
		if p == nil || string(p.Cursor) != "c1" {
			t.Fatalf("the second turn: %+v", p)
		}
		later := next.Add(time.Hour)
		if _, err := b.EndPoll(ctx, p, flow.PollEnd{At: next, Next: later, Error: "no such token", Permanent: true}); err != nil {
			t.Fatal(err)
		}
		if v := b.goes("src_1"); !v.Last.Equal(start) || !v.Next.Equal(later) || v.Failures != 1 || v.Error != "no such token" || !v.Permanent {
			t.Errorf("it goes like %+v", v)
		}
		if len(b.turns(later)) > 0 {
			t.Error("its turn comes while what was asked may be under way")
		}
		b.sql("UPDATE polls SET lease_until = 0")
		if got := b.turns(next); !slices.Equal(got, []flow.DuePoll{{Org: org, Source: "src_1", Package: "d1"}}) {
			t.Errorf("in vain: %+v", got)
		}
		if b.turn(next, "src_1", "d1", time.Minute) != nil {
			t.Error("it is asked again too early")
		}
		p = b.turn(next, "src_1", "d2", time.Minute)
		if p == nil || p.Failures != 1 || string(p.Cursor) != "c1" {
			t.Fatalf("with another package: %+v", p)
		}
		if _, err := b.EndPoll(ctx, p, flow.PollEnd{}); err != nil { // handed back
			t.Fatal(err)
		}
		if v := b.goes("src_1"); v.Failures != 1 || !v.Next.Equal(later) {
			t.Errorf("handed back: %+v", v)
		}
		b.sql("UPDATE polls SET lease_until = 0")
		b.change(func(ctx context.Context, tx *gen.Tx) error {
			return tx.Source.UpdateOneID("src_1").SetSettings(map[string]any{"a": "b"}).Exec(ctx)
		})
		if got := b.turns(next); len(got) != 1 || !got[0].Due {
			t.Errorf("a changed source: %+v", got)
		}
		p = b.turn(next, "src_1", "d1", time.Minute)
		if p == nil {
			t.Fatal("a changed source is not asked")
		}
		if fresh, err := b.EndPoll(ctx, p, flow.PollEnd{At: next, Next: later, Cursor: []byte("c2"), Receipts: []flow.PolledReceipt{b.document("b"), b.document("c")}}); err != nil || fresh != 1 {
			t.Errorf("%d are new, %v", fresh, err)
		}
		if v := b.goes("src_1"); v.Failures != 0 || v.Error != "" || v.Permanent || !v.Last.Equal(next) {
			t.Errorf("it goes like %+v", v)
		}
		if len(b.turns(next)) > 0 {
			t.Error("what has an answer is asked again")
		}

		// At once, because somebody says so; and anew.
		b.clock.Advance(time.Minute)
		if err := b.PollNow(ctx, org, "src_1", time.Time{}); err != nil {
			t.Fatal(err)
		}
		p = b.turn(next, "src_1", "d1", time.Minute)
		if p == nil || string(p.Cursor) != "c2" {
			t.Fatalf("at once: %+v", p)
		}
		if err := b.PollNow(ctx, org, "src_1", start.Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		if b.turn(later, "src_1", "d1", time.Minute) != nil {
			t.Error("two have the turn")
		}
		if _, err := b.EndPoll(ctx, p, flow.PollEnd{At: next, Next: later, Cursor: []byte("c3"), Receipts: []flow.PolledReceipt{b.document("d")}}); !errors.Is(err, flow.ErrPollLost) {
			t.Errorf("a poll from where it is not to go on any more: %v", err)
		}
		b.sql("UPDATE polls SET lease_until = 0")
		p = b.turn(next, "src_1", "d1", time.Minute)
		if p == nil || p.Cursor != nil || !p.Since.Equal(start.Add(-time.Hour)) {
			t.Errorf("anew: %+v", p)
		}
	})
}

// sql runs a statement of the test's own.
func (b *bench) sql(statement string) {
	b.t.Helper()
	if err := b.writeTx(b.t.Context(), "test", func(t tx) error { return exec(b.t.Context(), t, statement) }); err != nil {
		b.t.Fatal(err)
	}
}

// TestLostTurns has turns end that are not their holder's any more.
func TestLostTurns(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		polled(b, "src_1", "src_2")
		first := b.turn(start, "src_1", "", -time.Second) // its time is over
		second := b.turn(start, "src_1", "", time.Minute)
		if first == nil || second == nil {
			t.Fatalf("%+v, %+v", first, second)
		}
		end := flow.PollEnd{At: start, Next: start.Add(time.Minute), Cursor: []byte("old"), Receipts: []flow.PolledReceipt{b.document("a"), b.document("")}}
		if _, err := b.EndPoll(ctx, first, end); !errors.Is(err, flow.ErrPollLost) {
			t.Errorf("a turn that another has: %v", err)
		}
		if n := b.count("receipts") + b.count("enrichments") + b.count("keys"); n > 0 {
			t.Errorf("what was lost left %d rows", n)
		}
		end.Cursor = []byte("new")
		if fresh, err := b.EndPoll(ctx, second, end); err != nil || fresh != 2 {
			t.Errorf("%d are new, %v", fresh, err)
		}
		// A turn whose time is over and that nobody else has is still its holder's.
		third := b.turn(start.Add(time.Minute), "src_1", "", -time.Second)
		if third == nil || string(third.Cursor) != "new" {
			t.Fatalf("%+v", third)
		}
		end.Receipts = nil
		if _, err := b.EndPoll(ctx, third, end); err != nil {
			t.Error(err)
		}
		// A node that starts again has not to wait for its own turns, but for the processes
		// of its earlier start.
		if b.turn(start, "src_2", "", time.Hour) == nil {
			t.Fatal("no turn")
		}
		b.abandon()
		again := open(t, b.db)
		if again.turn(start, "src_2", "", time.Hour) != nil {
			t.Error("it is asked while the old process may be there")
		}
		if again.count("polls WHERE source = 'src_2' AND lease = '' AND lease_until <= "+again.clockSQL()+" + ?", pollsEnd.Microseconds()) != 1 {
			t.Error("it waits for itself")
		}
		again.sql("UPDATE polls SET lease_until = 0")
		if again.turn(start, "src_2", "", time.Hour) == nil {
			t.Error("it waits for ever")
		}
		other := open(t, b.db, func(c *Config) { c.NodeName = "two" })
		if other.turn(start.Add(time.Hour), "src_2", "", time.Hour) != nil {
			t.Error("another node took the turn of one that lives")
		}
	})
}

// TestTurnsOfNobody are sources that are not asked.
func TestTurnsOfNobody(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		polled(b, "src_1")
		same := func(what string, off, on func(context.Context, *gen.Tx) error) {
			t.Helper()
			b.change(off)
			if got := b.turns(start); len(got) > 0 {
				t.Errorf("%s: %+v", what, got)
			}
			b.change(on)
			if got := b.turns(start); len(got) != 1 {
				t.Errorf("%s, and back: %+v", what, got)
			}
		}
		same("disabled", func(ctx context.Context, tx *gen.Tx) error {
			return tx.Source.UpdateOneID("src_1").SetEnabled(false).Exec(ctx)
		},
			func(ctx context.Context, tx *gen.Tx) error {
				return tx.Source.UpdateOneID("src_1").SetEnabled(true).Exec(ctx)
			})
		same("suspended", func(ctx context.Context, tx *gen.Tx) error {
			return tx.Organization.UpdateOneID(org).SetSuspendedAt(start).Exec(ctx)
		},
			func(ctx context.Context, tx *gen.Tx) error {
				return tx.Organization.UpdateOneID(org).ClearSuspendedAt().Exec(ctx)
			})
		same("not polled", func(ctx context.Context, tx *gen.Tx) error {
			return tx.Source.UpdateOneID("src_1").SetPollEverySeconds(0).Exec(ctx)
		},
			func(ctx context.Context, tx *gen.Tx) error {
				return tx.Source.UpdateOneID("src_1").SetPollEverySeconds(60).Exec(ctx)
			})
		if err := b.Hold(ctx); err != nil {
			t.Fatal(err)
		}
		if got := b.turns(start); len(got) > 0 {
			t.Errorf("held: %+v", got)
		}
		if err := b.Unhold(ctx); err != nil {
			t.Fatal(err)
		}
		p := b.turn(start, "src_1", "", time.Minute)
		b.change(func(ctx context.Context, tx *gen.Tx) error { return tx.Source.DeleteOneID("src_1").Exec(ctx) })
		if n := b.count("polls"); n > 0 {
			t.Errorf("a source that was deleted left %d rows", n)
		}
		if _, err := b.EndPoll(ctx, p, flow.PollEnd{At: start, Receipts: []flow.PolledReceipt{b.document("")}}); !errors.Is(err, flow.ErrPollLost) {
			t.Errorf("of a source that was deleted: %v", err)
		}
		if b.turn(start, "src_1", "", time.Minute) != nil || b.count("polls") > 0 {
			t.Error("a source that is not there has a turn")
		}
	})
}

// TestTurnsOfMany has two nodes ask the same sources as fast as they can: each document
// comes once, and no source is asked by two.
func TestTurnsOfMany(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		sources := []string{"src_1", "src_2", "src_3"}
		polled(b, sources...)
		nodes := []*bench{b, open(t, b.db, func(c *Config) { c.NodeName = "two" })}
		var mu sync.Mutex
		asked, ends := map[string]bool{}, map[string]int{}
		var all sync.WaitGroup
		for i := range 6 {
			all.Go(func() {
				b := nodes[i%2]
				for range 10 {
					for _, source := range sources {
						p, err := b.ClaimPoll(t.Context(), flow.DuePoll{Org: org, Source: source}, start, time.Hour)
						if err != nil {
							t.Error(err)
						}
						if p == nil {
							continue
						}
						mu.Lock()
						if asked[source] {
							t.Errorf("%s is asked by two", source)
						}
						asked[source] = true
						mu.Unlock()
						n, _ := strconv.Atoi(string(p.Cursor))
						r := b.document("")
						r.Source, r.Key = source, fmt.Sprint(n)
						mu.Lock()
						asked[source] = false
						mu.Unlock()
						if fresh, err := b.EndPoll(t.Context(), p, flow.PollEnd{At: start, Next: start, Cursor: fmt.Append(nil, n+1), Receipts: []flow.PolledReceipt{r}}); err != nil || fresh != 1 {
							t.Errorf("%d are new, %v", fresh, err)
						}
						mu.Lock()
						ends[source]++
						mu.Unlock()
					}
				}
			})
		}
		all.Wait()
		for _, source := range sources {
			if n := b.count("receipts WHERE source = ?", source); n == 0 || n != ends[source] {
				t.Errorf("%s has %d receipts of %d polls", source, n, ends[source])
			}
		}
	})
}
