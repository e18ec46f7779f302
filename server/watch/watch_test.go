package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/flow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeTail is a ledger's tail in memory. Seqs of an organization have holes, as they
// have where organizations share a sequence.
type fakeTail struct {
	mu      sync.Mutex
	seq     int64
	oldest  int64
	entries []flow.Entry
	wake    func(string)
	reads   atomic.Int64
	read    chan struct{} // when not nil, told of every Tail
	err     error
}

func (t *fakeTail) append(es ...flow.Entry) []flow.Entry {
	t.mu.Lock()
	for i := range es {
		t.seq += 1 + int64(i%2)
		es[i].Seq = t.seq
		t.entries = append(t.entries, es[i])
	}
	wake := t.wake
	t.mu.Unlock()
	if wake != nil {
		wake(es[0].Org)
	}
	return es
}

func (t *fakeTail) removeTo(seq int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.oldest = seq + 1
	t.entries = slices.DeleteFunc(t.entries, func(e flow.Entry) bool { return e.Seq <= seq })
}

func (t *fakeTail) Tail(_ context.Context, org string, after int64, limit int) ([]flow.Entry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reads.Add(1)
	if t.read != nil {
		select {
		case t.read <- struct{}{}:
		default:
		}
	}
	if t.err != nil {
		return nil, t.err
	}
	i, _ := slices.BinarySearchFunc(t.entries, after+1, func(e flow.Entry, s int64) int { return int(e.Seq - s) })
	var out []flow.Entry
	for ; i < len(t.entries) && len(out) < limit; i++ {
		if t.entries[i].Org == org {
			out = append(out, t.entries[i])
		}
	}
	return out, nil
}

func (t *fakeTail) LastSeq(context.Context, string) (int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seq, t.err
}

func (t *fakeTail) OldestSeq(context.Context, string) (int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.oldest, nil
}

func entry(i int) flow.Entry {
	return flow.Entry{ID: fmt.Sprintf("att_%d", i), Org: "org_1", Webhook: fmt.Sprintf("whk_%d", i%3),
		Level: []string{"", "grp_a", "grp_b"}[i%3], Type: connectors.ScanCompleted, State: flow.Succeeded}
}

func scope(t interface{ Fatal(...any) }, groups ...string) rule.Scope {
	v := &viewer.Viewer{ID: "usr_1", Organization: "org_1", Role: viewer.Tester, Groups: groups}
	if groups == nil {
		v.Role = viewer.Administrator
	}
	s, err := rule.LedgerScope(viewer.NewContext(context.Background(), v))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newTestWatch(o Options) (*Watch, *fakeTail) {
	tail := &fakeTail{}
	w := New(tail, o)
	tail.wake = w.Wake
	return w, tail
}

// follow runs Follow in the background and hands its batches and its end out.
func follow(ctx context.Context, w *Watch, s rule.Scope, f flow.EntryFilter, after *int64) (<-chan flow.EntryBatch, <-chan error) {
	batches, end := make(chan flow.EntryBatch), make(chan error, 1)
	go func() {
		end <- w.Follow(ctx, s, f, after, func(ctx context.Context, b flow.EntryBatch) error {
			select {
			case batches <- b:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	return batches, end
}

func TestFollowStartsNowAndSeesWhatComes(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	w, tail := newTestWatch(Options{Clock: clockwork.NewFakeClock()})
	tail.append(entry(0))
	batches, end := follow(ctx, w, scope(t), flow.EntryFilter{}, nil)
	first := <-batches
	if !first.Heartbeat || first.Cursor != tail.seq {
		t.Fatalf("first batch %+v, want an empty one at %d", first, tail.seq)
	}
	if got := w.Watchers(); got != 1 {
		t.Errorf("%d watchers, want 1", got)
	}
	want := tail.append(entry(1), entry(2))
	b := <-batches
	if len(b.Entries) != 2 || b.Entries[1].ID != want[1].ID || b.Cursor != want[1].Seq {
		t.Errorf("batch %+v, want %+v", b, want)
	}
	cancel()
	if err := <-end; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

func TestTickHoldsReadsTogether(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	clock := clockwork.NewFakeClock()
	w, tail := newTestWatch(Options{Clock: clock})
	batches, end := follow(ctx, w, scope(t), flow.EntryFilter{}, nil)
	<-batches
	tail.append(entry(0))
	<-batches // at once
	reads := tail.reads.Load()
	for i := range 20 {
		tail.append(entry(i))
	}
	if err := clock.BlockUntilContext(ctx, 3); err != nil { // poll, heartbeat, tick
		t.Fatal(err)
	}
	if n := tail.reads.Load(); n != reads {
		t.Errorf("%d reads within the tick", n-reads)
	}
	clock.Advance(100 * time.Millisecond)
	if b := <-batches; len(b.Entries) != 20 {
		t.Errorf("%d entries in one list, want 20", len(b.Entries))
	}
	cancel()
	<-end
}

func TestHeartbeatMovesTheCursor(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	clock := clockwork.NewFakeClock()
	w, tail := newTestWatch(Options{Clock: clock, Heartbeat: time.Second, Poll: time.Hour})
	batches, end := follow(ctx, w, scope(t), flow.EntryFilter{Webhook: "whk_none"}, nil)
	<-batches
	all, allEnd := follow(ctx, w, scope(t), flow.EntryFilter{}, nil)
	<-all
	last := tail.append(entry(0))[0].Seq
	<-all // the view has moved
	if err := clock.BlockUntilContext(ctx, 4); err != nil {
		t.Fatal(err)
	}
	clock.Advance(time.Second)
	if b := <-batches; !b.Heartbeat || b.Cursor != last {
		t.Errorf("heartbeat %+v, want cursor %d", b, last)
	}
	cancel()
	<-end
	<-allEnd
}

func TestALostWakeUpCostsAPoll(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	clock := clockwork.NewFakeClock()
	w, tail := newTestWatch(Options{Clock: clock})
	batches, end := follow(ctx, w, scope(t), flow.EntryFilter{}, nil)
	<-batches
	tail.mu.Lock()
	tail.wake = nil
	tail.mu.Unlock()
	tail.append(entry(0))
	if err := clock.BlockUntilContext(ctx, 2); err != nil {
		t.Fatal(err)
	}
	clock.Advance(2 * time.Second)
	if b := <-batches; len(b.Entries) != 1 {
		t.Errorf("got %+v", b)
	}
	cancel()
	<-end
}

func TestScopeAndFilter(t *testing.T) {
	tests := map[string]struct {
		scope  rule.Scope
		filter flow.EntryFilter
		want   []string
	}{
		"all":         {scope(t), flow.EntryFilter{}, []string{"att_0", "att_1", "att_2", "att_3"}},
		"group":       {scope(t, "grp_a"), flow.EntryFilter{}, []string{"att_1"}},
		"no group":    {scope(t, "grp_x"), flow.EntryFilter{}, nil},
		"webhook":     {scope(t), flow.EntryFilter{Webhook: "whk_0"}, []string{"att_0", "att_3"}},
		"other state": {scope(t), flow.EntryFilter{States: []flow.DeliveryState{flow.Failed}}, nil},
		"types":       {scope(t), flow.EntryFilter{Types: []connectors.EventType{connectors.ScanCompleted}, Webhook: "whk_2"}, []string{"att_2"}},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			w, tail := newTestWatch(Options{Clock: clockwork.NewFakeClock()})
			tail.append(entry(0), entry(1), entry(2), entry(3), flow.Entry{ID: "foreign", Org: "org_2"})
			batches, end := follow(ctx, w, c.scope, c.filter, new(int64))
			var got []string
			for _, e := range (<-batches).Entries {
				got = append(got, e.ID)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("sees %v, want %v", got, c.want)
			}
			cancel()
			<-end
		})
	}
}

func TestCursorOutsideOfTheLogIsExpired(t *testing.T) {
	w, tail := newTestWatch(Options{Clock: clockwork.NewFakeClock()})
	for i := range 10 {
		tail.append(entry(i))
	}
	tail.removeTo(5)
	for _, after := range []int64{3, 11} {
		_, end := follow(context.Background(), w, scope(t), flow.EntryFilter{}, &after)
		if err := <-end; !errors.Is(err, flow.ErrExpired) {
			t.Errorf("cursor %d: %v, want ErrExpired", after, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	after := int64(5)
	batches, end := follow(ctx, w, scope(t), flow.EntryFilter{}, &after)
	if b := <-batches; len(b.Entries) != 5 {
		t.Errorf("%d entries after the oldest valid cursor, want 5", len(b.Entries))
	}
	cancel()
	<-end
}

func TestSlowWatcherIsCutOffAndComesBack(t *testing.T) {
	clock := clockwork.NewFakeClock()
	w, tail := newTestWatch(Options{Clock: clock, SendLimit: time.Second, Ring: 4})
	batches, end := follow(context.Background(), w, scope(t), flow.EntryFilter{}, nil)
	cursor := (<-batches).Cursor
	tail.append(entry(0))
	// Nobody takes the second batch: poll, heartbeat, tick and the send limit run.
	if err := clock.BlockUntilContext(context.Background(), 4); err != nil {
		t.Fatal(err)
	}
	clock.Advance(time.Second)
	if err := <-end; !errors.Is(err, flow.ErrSlow) {
		t.Fatalf("ended with %v, want ErrSlow", err)
	}
	for i := 1; i < 30; i++ {
		tail.append(entry(i))
	}
	ctx, cancel := context.WithCancel(context.Background())
	batches, end = follow(ctx, w, scope(t), flow.EntryFilter{}, &cursor)
	if b := <-batches; len(b.Entries) != 30 || b.Entries[0].ID != "att_0" {
		t.Errorf("came back to %d entries, want 30", len(b.Entries))
	}
	cancel()
	<-end
}

func TestLedgerFailureAtStartIsToldAndForgotten(t *testing.T) {
	w, tail := newTestWatch(Options{Clock: clockwork.NewFakeClock()})
	tail.err = errors.New("database is gone")
	_, end := follow(context.Background(), w, scope(t), flow.EntryFilter{}, nil)
	if err := <-end; !errors.Is(err, tail.err) {
		t.Fatalf("ended with %v", err)
	}
	tail.err = nil
	ctx, cancel := context.WithCancel(context.Background())
	batches, end := follow(ctx, w, scope(t), flow.EntryFilter{}, nil)
	<-batches
	cancel()
	<-end
	if err := w.Follow(ctx, rule.Scope{}, flow.EntryFilter{}, nil, nil); !errors.Is(err, rule.ErrNoViewer) {
		t.Errorf("without a viewer: %v", err)
	}
}

// Whoever reads, leaves and comes back with the last cursor has in the end read
// exactly what its scope and filter let through, in order.
func TestGaplessAcrossReconnects(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w, tail := newTestWatch(Options{Tick: time.Millisecond, Poll: 5 * time.Millisecond, Heartbeat: 5 * time.Millisecond,
			Ring: rapid.IntRange(1, 40).Draw(rt, "ring"), Batch: rapid.IntRange(1, 30).Draw(rt, "batch")})
		total := rapid.IntRange(1, 300).Draw(rt, "entries")
		writers := rapid.IntRange(1, 4).Draw(rt, "writers")
		type watcher struct {
			scope  rule.Scope
			filter flow.EntryFilter
			stays  int // batches per connection
			got    []flow.Entry
		}
		watchers := make([]*watcher, rapid.IntRange(1, 5).Draw(rt, "watchers"))
		for i := range watchers {
			s := scope(rt)
			if rapid.Bool().Draw(rt, "grouped") {
				s = scope(rt, "grp_a", "grp_b")
			}
			watchers[i] = &watcher{scope: s, stays: rapid.IntRange(1, 6).Draw(rt, "stays"),
				filter: flow.EntryFilter{Webhook: rapid.SampledFrom([]string{"", "whk_1"}).Draw(rt, "webhook")}}
		}
		var writing, reading sync.WaitGroup
		written := make(chan struct{})
		for k := range writers {
			writing.Add(1)
			go func() {
				defer writing.Done()
				for i := k; i < total; i += writers {
					tail.append(entry(i))
				}
			}()
		}
		for _, x := range watchers {
			reading.Add(1)
			go func() {
				defer reading.Done()
				cursor := int64(0)
				for {
					ctx, cancel := context.WithCancel(context.Background())
					batches, end := follow(ctx, w, x.scope, x.filter, &cursor)
					for range x.stays {
						b := <-batches
						x.got = append(x.got, b.Entries...)
						cursor = b.Cursor
						if len(b.Entries) == 0 {
							break // come back
						}
					}
					cancel()
					<-end
					select {
					case <-written:
						if last, _ := tail.LastSeq(ctx, ""); cursor == last {
							return
						}
					default:
					}
				}
			}()
		}
		writing.Wait()
		close(written)
		reading.Wait()
		for i, x := range watchers {
			var want []int64
			for _, e := range tail.entries {
				if x.scope.Sees(e.Org, e.Level) && x.filter.Match(&e) {
					want = append(want, e.Seq)
				}
			}
			var got []int64
			for _, e := range x.got {
				got = append(got, e.Seq)
			}
			if !slices.Equal(got, want) {
				rt.Fatalf("watcher %d: read %v, want %v", i, got, want)
			}
		}
	})
}
