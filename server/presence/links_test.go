package presence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"go.uber.org/goleak"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/server/flow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type noRoll struct{}

func (noRoll) Linked(context.Context, string, string, flow.Agent) error { return nil }
func (noRoll) Seen(context.Context, map[string][]string) error          { return nil }
func (noRoll) Unlinked(context.Context, string, string) error           { return nil }
func (noRoll) Agents(context.Context, string) ([]flow.AgentView, error) { return nil, nil }

// bench is Links with a clock of the test's, and what came of deliveries.
type bench struct {
	*testing.T
	*Links
	clock   *clockwork.FakeClock
	results chan connectors.Result
	resumed chan flow.AgentResult
}

func newBench(t *testing.T) *bench {
	b := &bench{T: t, clock: clockwork.NewFakeClock(), results: make(chan connectors.Result, 100), resumed: make(chan flow.AgentResult, 100)}
	b.Links = New(Config{Roll: noRoll{}, Clock: b.clock, Log: slog.New(slog.DiscardHandler), Changed: func(string) {},
		Resume: func(_ context.Context, _, _ string, all []flow.AgentResult, recorded func(string)) (unknown []string, err error) {
			for _, r := range all {
				b.resumed <- r
				if r.DeliveryID == "dlv_gone" {
					unknown = append(unknown, r.Try)
				} else {
					recorded(r.Try)
				}
			}
			return unknown, nil
		}})
	return b
}

// deliver hands over a delivery by the name of its attempt.
func (b *bench) deliver(try string) {
	b.Deliver("prs_1", "webhook", connectors.Endpoint{Ref: "end_1@1", ID: "end_1", Secrets: map[string]string{"password": "swordfish"}},
		connectors.Delivery{ID: "dlv_" + try, Attempt: 1, Endpoint: "end_1@1", Timeout: 10 * time.Second,
			Request: &connectors.Request{Method: "POST", Header: []connectors.Header{{Name: "Authorization", Value: "Bearer swordfish", Secret: "header:Authorization"}}}},
		try, func(r connectors.Result, recorded func()) {
			if recorded != nil {
				recorded()
			}
			b.results <- r
		})
}

// linked is an agent's end of a link.
type linked struct {
	key  *Key
	work chan flow.Work
	end  context.CancelFunc
	over chan error
}

func (b *bench) link(key *Key) *linked {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	k := &linked{key: key, work: make(chan flow.Work, 100), end: cancel, over: make(chan error, 1)}
	go func() {
		k.over <- b.Link(ctx, "org_1", "prs_1", flow.Agent{Name: "a", Key: key.Public}, func(_ context.Context, w flow.Work) error { k.work <- w; return nil })
	}()
	<-k.work // the first is empty
	for !slices.Contains(b.agents()["prs_1"], AgentID(key.Public)) {
		runtime.Gosched() // it is about to be there
	}
	return k
}

// tries waits for so many deliveries.
func (k *linked) tries(n int) (out []string) {
	for len(out) < n {
		for _, d := range (<-k.work).Deliveries {
			out = append(out, d.Try)
		}
	}
	slices.Sort(out)
	return out
}

func (k *linked) cut() { k.end(); <-k.over }

func keys(t *testing.T, n int) (list []*Key) {
	t.Helper()
	for range n {
		k, err := NewKey()
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, k)
	}
	return list
}

func (b *bench) report(tries ...string) []string {
	b.Helper()
	var all []flow.AgentResult
	for _, try := range tries {
		all = append(all, flow.AgentResult{Try: try, Number: 1, Result: connectors.Result{DeliveryID: "dlv_" + try, Outcome: connectors.Done}})
	}
	forget, err := b.Report(context.Background(), "org_1", "prs_1", all, nil)
	if err != nil {
		b.Fatal(err)
	}
	slices.Sort(forget)
	return forget
}

func (b *bench) waits(want connectors.Outcome) {
	b.Helper()
	if r := <-b.results; r.Outcome != want {
		b.Errorf("a delivery was answered %q, want %q", r.Outcome, want)
	}
}

func TestWithoutALinkNothingIsTaken(t *testing.T) {
	b := newBench(t)
	b.deliver("1")
	b.waits("")
	if b.Linked("prs_1") {
		t.Error("linked")
	}
}

// An agent that comes back in time is handed what it had once more, with the same names;
// one that does not loses it.
func TestCutLink(t *testing.T) {
	b, ks := newBench(t), keys(t, 2)
	k := b.link(ks[0])
	b.deliver("1")
	b.deliver("2")
	if got := k.tries(2); !slices.Equal(got, []string{"1", "2"}) {
		t.Fatal(got)
	}
	if got := b.report("1"); !slices.Equal(got, []string{"1"}) {
		t.Errorf("may forget %v", got)
	}
	b.waits(connectors.Done)
	k.cut()
	b.clock.Advance(20 * time.Second)
	b.expire()
	k = b.link(ks[0])
	if got := k.tries(1); !slices.Equal(got, []string{"2"}) {
		t.Errorf("handed over again: %v", got)
	}
	k.cut()
	other := b.link(ks[1])
	b.clock.Advance(31 * time.Second)
	b.expire()
	b.waits("") // the ledger's again, for the other agent
	if s := b.Stats(); s.InHand != 0 || s.Links != 1 {
		t.Errorf("%+v", s)
	}
	// Who comes back too late is listened to all the same.
	if got := b.report("2"); !slices.Equal(got, []string{"2"}) {
		t.Errorf("may forget %v", got)
	}
	if r := <-b.resumed; r.Try != "2" {
		t.Errorf("resumed %s", r.Try)
	}
	if got := b.report("gone"); !slices.Equal(got, []string{"gone"}) {
		t.Errorf("what nobody knows is not forgotten: %v", got)
	}
	other.cut()
}

// Each delivery is with one agent, and they have about the same.
func TestAgentsShare(t *testing.T) {
	b, ks := newBench(t), keys(t, 2)
	one, two := b.link(ks[0]), b.link(ks[1])
	for _, try := range []string{"1", "2", "3", "4"} {
		b.deliver(try)
	}
	if all := append(one.tries(2), two.tries(2)...); len(slices.Compact(slices.Sorted(slices.Values(all)))) != 4 {
		t.Errorf("shared as %v", all)
	}
	b.Close()
	for range 4 {
		b.waits("")
	}
	for _, k := range []*linked{one, two} {
		if err := <-k.over; !errors.Is(err, ErrClosing) {
			t.Errorf("a link ended with %v", err)
		}
	}
	b.deliver("5")
	b.waits("")
}

// A copy of a data folder must not make two agents out of one.
func TestSameAgentTwice(t *testing.T) {
	b, ks := newBench(t), keys(t, 1)
	k := b.link(ks[0])
	b.deliver("1")
	k.tries(1)
	again := b.link(ks[0])
	if err := <-k.over; !errors.Is(err, ErrReplaced) {
		t.Errorf("the first link ended with %v", err)
	}
	if got := again.tries(1); !slices.Equal(got, []string{"1"}) {
		t.Errorf("handed over: %v", got)
	}
	b.report("1")
	b.waits(connectors.Done)
	again.cut()
}

// An agent has an endpoint as it was told of it last, so another revision is for the next
// piece of work, with everything behind it.
func TestOneRevisionAtATime(t *testing.T) {
	b, ks := newBench(t), keys(t, 1)
	k := &link{agent: flow.Agent{Key: ks[0].Public}, known: map[string]given{}}
	for i, ref := range []string{"end_1@1", "end_2@1", "end_1@2", "end_2@1", "end_1@1"} {
		e := connectors.Endpoint{Ref: ref, ID: ref[:5]}
		k.out = append(k.out, &item{work: flow.WorkDelivery{Try: fmt.Sprint(i), Delivery: connectors.Delivery{Endpoint: ref}}, endpoint: e})
	}
	for _, ref := range []string{"end_1@2", "end_3@1", "end_3@2"} {
		k.checks = append(k.checks, &check{id: ref, endpoint: connectors.Endpoint{Ref: ref, ID: ref[:5]}})
	}
	has := map[string]string{} // as the agent keeps them
	var did []string
	for {
		w, err := b.next(k)
		if err != nil {
			t.Fatal(err)
		}
		if len(w.Deliveries)+len(w.Checks) == 0 {
			break
		}
		for _, e := range w.Endpoints {
			has[e.ID] = e.Ref
		}
		for _, d := range w.Deliveries {
			if has[d.Endpoint[:5]] != d.Endpoint {
				t.Errorf("delivery %s is for %s, and the agent has %s", d.Try, d.Endpoint, has[d.Endpoint[:5]])
			}
			did = append(did, d.Try)
		}
		for _, c := range w.Checks {
			if has[c.Endpoint[:5]] != c.Endpoint {
				t.Errorf("a check is for %s, and the agent has %s", c.Endpoint, has[c.Endpoint[:5]])
			}
			did = append(did, c.ID)
		}
	}
	if want := []string{"0", "1", "end_3@1", "2", "3", "end_1@2", "end_3@2", "4"}; !slices.Equal(did, want) {
		t.Errorf("handed over %v, want %v", did, want)
	}
}

// An agent that is there and does not answer loses what it has.
func TestSilentAgent(t *testing.T) {
	b, ks := newBench(t), keys(t, 1)
	k := b.link(ks[0])
	b.deliver("1")
	k.tries(1)
	b.clock.Advance(39 * time.Second)
	b.expire()
	if s := b.Stats(); s.InHand != 1 {
		t.Errorf("%+v", s)
	}
	b.clock.Advance(2 * time.Second)
	b.expire()
	b.waits("")
	k.cut()
}

// Secrets travel sealed, once for an endpoint; what is in a request names them.
func TestSecretsTravelSealed(t *testing.T) {
	b, ks := newBench(t), keys(t, 1)
	k := b.link(ks[0])
	b.deliver("1")
	w := <-k.work
	if len(w.Endpoints) != 1 || w.Deliveries[0].Request.Header[0].Value != "" || w.Deliveries[0].Request.Header[0].Secret != "header:Authorization" {
		t.Fatalf("%+v", w)
	}
	got, err := ks[0].Open(w.Endpoints[0].Ref, w.Endpoints[0].Sealed)
	if err != nil || got["password"] != "swordfish" || got["header:Authorization"] != "Bearer swordfish" {
		t.Errorf("sealed: %v, %v", got, err)
	}
	b.deliver("2")
	if w := <-k.work; len(w.Endpoints) > 0 {
		t.Error("an endpoint that the agent has was sent again")
	}
	k.cut()
	b.Close()
}

func TestCheck(t *testing.T) {
	b, ks := newBench(t), keys(t, 1)
	e := connectors.Endpoint{Ref: "end_1@1", ID: "end_1"}
	if err := b.Check(t.Context(), "prs_1", "webhook", e); err == nil {
		t.Error("checked without a link")
	}
	k := b.link(ks[0])
	for _, wrong := range []string{"", "There is no such host."} {
		var asking sync.WaitGroup
		asking.Go(func() {
			if err := b.Check(t.Context(), "prs_1", "webhook", e); (err == nil) != (wrong == "") || err != nil && err.Error() != wrong {
				t.Errorf("the check says %v, want %q", err, wrong)
			}
		})
		w := <-k.work
		if _, err := b.Report(t.Context(), "org_1", "prs_1", nil, []flow.AgentCheck{{ID: w.Checks[0].ID, Error: wrong}}); err != nil {
			t.Error(err)
		}
		asking.Wait()
	}
	k.cut()
}
