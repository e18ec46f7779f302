package dispatch

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/server/flow"
)

// gate is a Presence whose link the test makes and cuts.
type gate struct {
	mu     sync.Mutex
	linked bool
	calls  chan passed
}

type passed struct {
	attempt  string
	delivery connectors.Delivery
	done     func(connectors.Result, func())
}

func (g *gate) Linked(string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.linked
}

func (g *gate) Deliver(_, _ string, _ connectors.Endpoint, d connectors.Delivery, attempt string, done func(connectors.Result, func())) {
	g.calls <- passed{attempt, d, done}
}

func (g *gate) link(b *bench, on bool) {
	g.mu.Lock()
	g.linked = on
	g.mu.Unlock()
	b.Linked("prs")
}

// through makes a dispatcher whose one endpoint is called by a Presence.
func through(t *testing.T) (*bench, *gate) {
	g := &gate{calls: make(chan passed, 100)}
	b := start(t, nil, func(w *flow.World) { w.Endpoints["e0"].Presence = "prs" })
	b.stop()
	b.gate = g
	b.run()
	return b, g
}

// Without a link deliveries wait in the ledger, and no attempt is made or counted.
func TestDeliveriesWaitForTheirPresence(t *testing.T) {
	b, g := through(t)
	first := b.accept("h0")
	b.none()
	b.until("the lease to be given up", func() bool { return b.ledger.leased() == 0 })
	second := b.accept("h0")
	if b.ledger.leased() != 0 {
		t.Error("a delivery was born leased although nobody can make it")
	}
	g.link(b, true)
	got := map[string]passed{}
	for range 2 {
		p := <-g.calls
		got[p.delivery.ID] = p
	}
	var recorded sync.WaitGroup
	for _, id := range []string{first, second} {
		p := got[id]
		if p.attempt == "" || p.delivery.Attempt != 1 {
			t.Fatalf("%s was handed over as %+v", id, p)
		}
		recorded.Add(1)
		p.done(arrived, recorded.Done)
	}
	recorded.Wait() // the agent may forget it now
	if r := b.ledger.of(first); len(r) != 1 || r[0].State != flow.Succeeded || r[0].Attempt != got[first].attempt {
		t.Errorf("recorded %+v", r)
	}
	if len(b.sender.calls) > 0 {
		t.Error("the hub itself made a call")
	}
}

// What nobody is known to have tried goes back to the ledger without a trace.
func TestDeliveryIsHandedBack(t *testing.T) {
	b, g := through(t)
	g.link(b, true)
	id := b.accept("h0")
	p := <-g.calls
	g.link(b, false)
	p.done(connectors.Result{}, nil)
	b.until("the lease to be given up", func() bool { return b.ledger.leased() == 0 })
	if r := b.ledger.of(id); len(r) > 0 {
		t.Errorf("recorded %+v", r)
	}
	if s := b.Stats(); s.InFlight != 0 || s.Bytes != 0 {
		t.Errorf("%+v", s)
	}
	g.link(b, true)
	if p = <-g.calls; p.delivery.ID != id || p.delivery.Attempt != 1 {
		t.Errorf("handed over as %+v", p.delivery)
	}
	p.done(arrived, nil)
	b.recorded(1)
}

// What came of an attempt that an earlier life had handed over is judged as today's.
func TestLateResult(t *testing.T) {
	b, _ := through(t)
	due := b.ledger.insert(flow.Due{ID: "dlv_1", Org: "org", Event: "evt", Webhook: "h0", Endpoint: "e0", Created: b.clock.Now()}, true)
	recorded := make(chan struct{})
	r := refused
	r.Started = b.clock.Now()
	r.Request = &connectors.Request{Method: "POST", URL: "https://inside"}
	b.Late(due, "att_1", 1, r, func() { close(recorded) })
	<-recorded
	got := b.ledger.of("dlv_1")
	if len(got) != 1 || got[0].Attempt != "att_1" || got[0].Number != 1 || got[0].State != flow.Retrying || got[0].URL != "https://inside" || !got[0].NextAt.After(b.clock.Now()) {
		t.Errorf("recorded %+v", got)
	}
	if s := b.Stats(); s.Bytes != 0 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
}

// A late failure is judged by the webhook's timetable, whatever the webhook may send now,
// and by this clock, whatever the agent's says.
func TestLateFailures(t *testing.T) {
	const ahead = 3 * time.Hour
	for _, c := range []struct {
		name    string
		change  func(*flow.World)
		began   time.Duration // by the agent's clock, after it was made
		next    time.Duration // after now
		started time.Duration // as recorded
	}{
		{"active", func(*flow.World) {}, time.Second, 7 * time.Minute, time.Second},
		{"paused", func(w *flow.World) { w.Webhooks["h0"].State = flow.WebhookPaused }, time.Second, 7 * time.Minute, time.Second},
		{"disabled", func(w *flow.World) { w.Webhooks["h0"].State = flow.WebhookDisabled }, time.Second, 7 * time.Minute, time.Second},
		{"endpoint disabled", func(w *flow.World) { w.Endpoints["e0"].Enabled = false }, time.Second, 7 * time.Minute, time.Second},
		{"suspended", func(w *flow.World) { w.Organization.Suspended = true }, time.Second, 7 * time.Minute, time.Second},
		{"endpoint deleted", func(w *flow.World) { delete(w.Endpoints, "e0") }, time.Second, 7 * time.Minute, time.Second},
		{"webhook deleted", func(w *flow.World) { delete(w.Webhooks, "h0") }, time.Second, time.Minute, time.Second},
		{"clock ahead", func(*flow.World) {}, ahead, 7 * time.Minute, time.Minute},
		{"clock behind", func(*flow.World) {}, -ahead, 7 * time.Minute, 0},
		{"paused, clock ahead", func(w *flow.World) { w.Webhooks["h0"].State = flow.WebhookPaused }, ahead, 7 * time.Minute, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := start(t, nil, func(w *flow.World) {
				w.Webhooks["h0"].Retries = []time.Duration{7 * time.Minute}
				w.Endpoints["e0"].Secrets = map[string]flow.Secret{"token": flow.NewSecret([]byte("open sesame"))}
			}, c.change)
			due := b.ledger.insert(flow.Due{ID: "dlv_1", Org: "org", Event: "evt", Webhook: "h0", Endpoint: "e0", Created: epoch}, true)
			b.clock.Advance(time.Minute)
			r := refused
			r.Started, r.Error = epoch.Add(c.began), "it said: open sesame"
			b.Late(due, "att_1", 1, r, nil)
			b.recorded(1)
			got := b.ledger.of("dlv_1")[0]
			if got.State != flow.Retrying || got.NextAt.Sub(b.clock.Now()) != c.next {
				t.Errorf("%s, next at %v: %s", got.State, got.NextAt, got.Reason)
			}
			if at := got.Result.Started.Sub(epoch); at != c.started {
				t.Errorf("it began %v after it was made", at)
			}
			if _, known := b.world.Endpoints["e0"]; known && b.world.Webhooks["h0"] != nil && got.Result.Error != "it said: [secret:token]" {
				t.Errorf("recorded %q", got.Result.Error)
			}
		})
	}
}

// asking is a format with a handshake.
type asking struct{ signed }

func (asking) Required() bool { return true }

func (asking) Challenge(connectors.Challenge) (connectors.Rendered, error) {
	return connectors.Rendered{Method: "HEAD"}, nil
}

func (asking) Granted(_ connectors.Challenge, r *connectors.Response) (connectors.Grant, error) {
	if r.Status != 200 {
		return connectors.Grant{}, errors.New("it said no")
	}
	return connectors.Grant{}, nil
}

// The hub itself must not knock where only the Presence can, or may.
func TestHandshakeGoesThroughThePresence(t *testing.T) {
	b, g := through(t)
	b.cfg.Formats = func(*flow.World, string) connectors.Format { return asking{} }
	if _, err := b.Challenge(t.Context(), "org", "h0", "https://hub"); !errors.Is(err, flow.ErrUnavailable) || len(b.sender.calls) > 0 {
		t.Errorf("without a link: %v, %d calls of the hub's own", err, len(b.sender.calls))
	}
	g.link(b, true)
	for _, c := range []struct {
		result      connectors.Result
		yes, silent bool // silent: the address has said neither yes nor no
	}{
		{arrived, true, false},
		{connectors.Result{}, false, true}, // the link was cut
		{connectors.Result{Outcome: connectors.Retry, Fault: connectors.FaultConnector, Error: "its process broke"}, false, true},
		{connectors.Result{Outcome: connectors.Retry, Fault: connectors.FaultTarget, Error: "connection refused"}, false, false},
	} {
		go func() {
			p := <-g.calls
			p.done(c.result, nil)
		}()
		if _, err := b.Challenge(t.Context(), "org", "h0", "https://hub"); (err == nil) != c.yes || errors.Is(err, flow.ErrUnavailable) != c.silent {
			t.Errorf("answered %+v: %v", c.result, err)
		}
	}
	gone, leave := context.WithCancel(t.Context())
	go func() { <-g.calls; leave() }()
	if _, err := b.Challenge(gone, "org", "h0", "https://hub"); !errors.Is(err, flow.ErrUnavailable) {
		t.Errorf("who asked has gone: %v", err)
	}
	if len(b.sender.calls) > 0 {
		t.Error("the hub itself made a call")
	}
}
