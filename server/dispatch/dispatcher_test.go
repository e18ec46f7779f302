package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/server/flow"
)

func TestHappyPathNeverReadsTheQueue(t *testing.T) {
	b := start(t, always(arrived))
	id := b.accept("h0")
	h := b.next()
	b.recorded(1)
	r := b.ledger.of(id)[0]
	if r.State != flow.Succeeded || r.Number != 1 || r.URL != "https://example.com/in" || r.Result.Response.Status != 200 || r.Attempt == "" {
		t.Errorf("recorded %+v", r)
	}
	if h.connector != "webhook" || h.delivery.ID != id || h.delivery.Attempt != 1 || h.delivery.Timeout != 10*time.Second || h.delivery.Endpoint != "e0@1" {
		t.Errorf("handed over %+v", h)
	}
	if b.ledger.claims != 0 {
		t.Errorf("%d claims", b.ledger.claims)
	}
	if s := b.Stats(); s.Delivered != 1 || s.Bytes != 0 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
}

func TestRequest(t *testing.T) {
	b := start(t, nil, func(w *flow.World) {
		e := w.Endpoints["e0"]
		e.Headers = []connectors.Header{{Name: "X-Team", Value: "blue"}, {Name: "Authorization", Secret: "token"}, {Name: "content-type", Value: "text/x"}}
		e.Secrets = map[string]flow.Secret{"token": flow.NewSecret([]byte("Bearer s3cret"))}
		w.Organization.Allow = []connectors.AllowRule{{Host: "10.0.0.0/8"}}
	})
	h := b.webhook("h0")
	b.Reserve(h)
	due := b.ledger.insert(flow.Due{ID: "dlv_a", Org: "org", Webhook: "h0", Document: []byte("doc"),
		Rendering: &flow.Rendering{Rendered: connectors.Rendered{Method: "PUT", TargetSuffix: "/7", Body: []byte("body"),
			Header: []connectors.Header{{Name: "Content-Type", Value: "application/json"}, {Name: "Content-Language", Value: "en"}}}}}, true)
	b.Hand(due)
	call := b.next()
	r := call.delivery.Request
	want := "PUT https://example.com/in/7 [{Content-Language en } {X-Team blue } {Authorization Bearer s3cret token} {content-type text/x } {User-Agent Hookyard/1.2.3 }" +
		fmt.Sprintf(" {Webhook-Id dlv_a } {Webhook-Signature k1|%d|body }] body", epoch.Unix())
	if got := fmt.Sprintf("%s %s %s %s", r.Method, r.URL, fmt.Sprint(r.Header), r.Body); got != want {
		t.Errorf("request\n%s, want\n%s", got, want)
	}
	if call.endpoint.Secrets["token"] != "Bearer s3cret" || len(call.endpoint.Dial.Allow) != 1 || call.endpoint.Ref == "e0@1" || call.delivery.Endpoint != call.endpoint.Ref {
		t.Errorf("endpoint %+v", call.endpoint)
	}
	call.done(arrived)
	call.done(arrived) // a second answer is none
	b.recorded(1)
	for _, h := range b.ledger.of("dlv_a")[0].Result.Request.Header {
		if h.Name == "Authorization" && h.Value != "[secret:token]" {
			t.Errorf("recorded %+v", h)
		}
	}
	if r.Header[2].Value != "Bearer s3cret" {
		t.Error("masking changed the request itself")
	}
}

func TestSigningFails(t *testing.T) {
	b := start(t, always(arrived), func(w *flow.World) { w.Webhooks["h0"].Keys = []flow.Secret{{}} })
	id := b.accept("h0")
	b.recorded(1)
	if r := b.ledger.of(id)[0]; r.State != flow.Failed || r.Result.Fault != connectors.FaultSettings || r.Reason == "" {
		t.Errorf("recorded %+v", r)
	}
}

// PUB-27 and PUB-28.
func TestTimetable(t *testing.T) {
	b := start(t, always(refused))
	id := b.accept("h0")
	body := ""
	for n, offset := range []time.Duration{0, 1, 5, 30, 120} {
		due := epoch.Add(offset * time.Minute)
		if n > 0 {
			if at := b.ledger.of(id)[n-1].NextAt; !at.Equal(due) {
				t.Fatalf("attempt %d is announced for %s, want %s", n+1, at, due)
			}
			b.clock.Advance(due.Sub(b.clock.Now()) - time.Millisecond)
			b.none()
			b.clock.Advance(time.Millisecond)
		}
		h := b.next()
		if !h.at.Equal(due) || h.delivery.Attempt != n+1 || h.delivery.ID != id {
			t.Fatalf("attempt %d of %s at %s, want %d at %s", h.delivery.Attempt, h.delivery.ID, h.at, n+1, due)
		}
		if body != "" && string(h.delivery.Request.Body) != body {
			t.Fatal("the body changed")
		}
		body = string(h.delivery.Request.Body)
		b.recorded(n + 1)
	}
	last := b.ledger.of(id)[4]
	if last.State != flow.Failed || last.Number != 5 || !last.FirstFailed.Equal(epoch) {
		t.Errorf("ended as %+v", last)
	}
	b.clock.Advance(3 * time.Hour)
	b.none()
}

// PUB-29.
func TestRecoveryStopsRetries(t *testing.T) {
	n := 0
	b := start(t, func(handed) *connectors.Result {
		if n++; n == 3 {
			return &arrived
		}
		return &refused
	})
	id := b.accept("h0")
	b.next()
	for i, d := range []time.Duration{time.Minute, 4 * time.Minute} {
		b.recorded(i + 1)
		b.clock.Advance(d)
		b.next()
	}
	b.recorded(3)
	if s := b.ledger.of(id)[2].State; s != flow.Succeeded {
		t.Errorf("ended %s", s)
	}
	b.clock.Advance(3 * time.Hour)
	b.none()
}

func TestRetryAfterDelaysAndNeverHastens(t *testing.T) {
	after := 10 * time.Minute
	b := start(t, func(handed) *connectors.Result { r := refused; r.RetryAfter = after; return &r })
	id := b.accept("h0")
	b.next()
	b.recorded(1)
	if at := b.ledger.of(id)[0].NextAt; !at.Equal(epoch.Add(10 * time.Minute)) {
		t.Fatalf("next at %s", at)
	}
	after = time.Second
	b.clock.Advance(10 * time.Minute)
	b.next()
	b.recorded(2)
	if at := b.ledger.of(id)[1].NextAt; !at.Equal(epoch.Add(30 * time.Minute)) {
		t.Fatalf("then at %s", at)
	}
}

func TestNext(t *testing.T) {
	min := func(n float64) time.Time { return epoch.Add(time.Duration(n * float64(time.Minute))) }
	for _, c := range []struct {
		name         string
		started, now time.Time
		after        time.Duration
		want         time.Time
	}{
		{"first failure", min(-0.1), min(0), 0, min(1)},
		{"in time", min(1), min(1.1), 0, min(5)},
		{"overdue by two slots runs once", min(40), min(40.1), 0, min(120)},
		{"a slot that passes meanwhile is due now", min(1), min(6), 0, min(6)},
		{"used up", min(120), min(121), 0, time.Time{}},
		{"never years", min(0), min(0), 1e6 * time.Hour, min(24 * 60)},
	} {
		if got, ok := next(defaultRetries(), epoch, c.started, c.now, c.after); !got.Equal(c.want) || ok == c.want.IsZero() {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// P-R9: a retry that fell due while the hub was down runs once at start.
func TestRestart(t *testing.T) {
	b := start(t, always(refused))
	id := b.accept("h0")
	b.next()
	b.recorded(1)
	b.stop()
	b.clock.Advance(40 * time.Minute)
	b.run()
	b.next()
	b.recorded(2)
	b.none()
	if r := b.ledger.of(id)[1]; !r.NextAt.Equal(epoch.Add(120*time.Minute)) || r.Number != 2 {
		t.Errorf("then %+v", r)
	}
}

func TestPauseAndResume(t *testing.T) {
	b := start(t, nil)
	for range 20 { // 16 in flight, 4 queued
		b.accept("h0")
	}
	var flying []handed
	for range 16 {
		flying = append(flying, b.next())
	}
	b.set("h0", flow.WebhookPaused)
	b.until("leases to be given up", func() bool { return b.ledger.leased() == 16 })
	for _, h := range flying {
		h.done(arrived) // what was handed over ends as always
	}
	b.recorded(16)
	b.accept("h0")
	b.none()
	if n := b.ledger.in(flow.Pending); n != 5 || b.ledger.leased() != 0 {
		t.Fatalf("%d wait, %d leased", n, b.ledger.leased())
	}
	b.set("h0", flow.WebhookActive)
	for i := range 5 {
		h := b.next()
		if want := fmt.Sprintf("dlv_%06d", 17+i); h.delivery.ID != want {
			t.Errorf("%s came when it was the turn of %s", h.delivery.ID, want)
		}
		h.done(arrived)
	}
	b.recorded(21)
}

func TestEndpointDisabledAndOrganizationSuspendedHold(t *testing.T) {
	for name, set := range map[string]func(w *flow.World, off bool){
		"endpoint":     func(w *flow.World, off bool) { w.Endpoints["e0"].Enabled = !off },
		"organization": func(w *flow.World, off bool) { w.Organization.Suspended = off },
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, always(arrived), func(w *flow.World) { set(w, true) })
			b.accept("h0")
			b.until("the lease to be given up", func() bool { return b.ledger.leased() == 0 })
			b.none()
			b.change(func(w *flow.World) { set(w, false) })
			b.Changed("org")
			b.next()
			b.recorded(1)
		})
	}
}

func TestDisabledSkipsAndDeletedCancels(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*flow.World)
		state  flow.DeliveryState
	}{
		{"disabled", func(w *flow.World) { w.Webhooks["h0"].State = flow.WebhookDisabled }, flow.SkippedState},
		{"unverified", func(w *flow.World) { w.Webhooks["h0"].State = flow.WebhookUnverified }, flow.SkippedState},
		{"webhook deleted", func(w *flow.World) { delete(w.Webhooks, "h0") }, flow.Cancelled},
		{"endpoint deleted", func(w *flow.World) { delete(w.Endpoints, "e0") }, flow.Cancelled},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := start(t, nil)
			for range 100 { // 16 in flight, 48 queued, 36 in the ledger
				b.accept("h0")
			}
			for range 16 {
				h := b.next()
				defer h.done(arrived)
			}
			b.change(c.change)
			b.Changed("org")
			b.until("the rest to end", func() bool { return b.ledger.in(c.state) == 84 })
			r := b.ledger.of("dlv_000100")[0]
			if r.Reason == "" || r.Number != 0 || r.Result != nil || r.Attempt == "" {
				t.Errorf("recorded %+v", r)
			}
			b.none()
		})
	}
}

// What belongs to an organization goes with it, wherever it was deleted.
func TestOrganizationDeleted(t *testing.T) {
	b := start(t, nil)
	for range 100 { // 16 in flight, 48 queued, 36 in the ledger
		b.accept("h0")
	}
	var flying []handed
	for range 16 {
		flying = append(flying, b.next())
	}
	b.change(func(w *flow.World) { w.Organization.Suspended = true })
	b.Changed("org")
	b.until("the queue to be given up", func() bool { return b.ledger.leased() == 16 })
	if s := b.Stats(); len(s.Lanes) != 1 {
		t.Errorf("suspended: %+v", s)
	}
	b.delete()
	for i, h := range flying {
		if i == 0 {
			h.done(crashed)
			continue
		}
		h.done(arrived)
	}
	b.recorded(16)
	b.none()
	if s := b.Stats(); len(s.Lanes)+len(s.Endpoints)+s.Queued+int(s.Bytes) > 0 {
		t.Errorf("there is still %+v", s)
	}
}

// What a lane has read before its payload was erased does not go out, nor what it is
// reading then.
func TestErasedIsNotSent(t *testing.T) {
	b := start(t, nil)
	for range 100 { // 16 in flight, 48 queued, 36 in the ledger
		b.accept("h0")
	}
	var flying []handed
	for range 16 {
		flying = append(flying, b.next())
	}
	b.erase("dlv_000050")
	b.clock.Advance(time.Millisecond)
	b.ledger.mu.Lock()
	b.ledger.onClaim = sync.OnceFunc(func() { b.erase("dlv_000020") })
	b.ledger.mu.Unlock()
	for _, h := range flying {
		h.done(arrived)
	}
	sent := map[string]int{}
	for range 100 - 16 - 2 {
		h := b.next()
		sent[h.delivery.ID]++
		h.done(arrived)
	}
	b.recorded(98)
	b.none()
	if sent["dlv_000050"]+sent["dlv_000020"] > 0 || len(sent) != 82 {
		t.Errorf("%d sent: %v", len(sent), sent)
	}
}

// A connector's process knows the endpoints that something is sent to, as they are.
func TestProcessesForget(t *testing.T) {
	forgets := func(b *bench, what, want string) {
		t.Helper()
		if n := len(b.sender.forgot); n != len(want)/2 {
			t.Errorf("%s: forgot %d endpoints, not %q", what, n, want)
		}
		for len(b.sender.forgot) > 0 {
			if got := <-b.sender.forgot; got != want {
				t.Errorf("%s: forgot %s, not %q", what, got, want)
			}
		}
	}
	b := start(t, nil, func(w *flow.World) { addWebhook(w, "h1", "e0") })
	for _, h := range []string{"h0", "h1"} {
		b.accept(h)
		b.next().done(arrived)
	}
	b.recorded(2)
	for _, c := range []struct {
		what   string
		change func(*flow.World)
		want   string
	}{
		{"nothing", func(*flow.World) {}, ""},
		{"the endpoint changed", func(w *flow.World) { w.Endpoints["e0"].Revision++ }, "e0"},
		{"one of two webhooks deleted", func(w *flow.World) { delete(w.Webhooks, "h1") }, ""},
		{"the webhook goes elsewhere", func(w *flow.World) { addWebhook(w, "h0", "e1") }, "e0"},
		{"the organization is suspended", func(w *flow.World) { w.Organization.Suspended = true }, "e1"},
		{"and no longer", func(w *flow.World) { w.Organization.Suspended = false }, ""},
		{"webhook and endpoint deleted", func(w *flow.World) { delete(w.Webhooks, "h0"); delete(w.Endpoints, "e1") }, "e1"},
	} {
		b.change(c.change)
		b.Changed("org")
		forgets(b, c.what, c.want)
	}
	b.until("lanes to end", func() bool { s := b.Stats(); return len(s.Lanes)+len(s.Endpoints) == 0 })

	// What was handed over while that changed is the last that the process hears of it.
	b.change(func(w *flow.World) { addWebhook(w, "h2", "e2") })
	b.accept("h2")
	h := b.next()
	b.change(func(w *flow.World) { w.Endpoints["e2"].Revision++ })
	b.Changed("org")
	forgets(b, "in flight", "e2")
	h.done(arrived)
	b.recorded(3)
	forgets(b, "no longer in flight", "e2")
}

// A node whose World lags must not cancel what another node has accepted.
func TestUnknownWebhookWaitsForTheWorld(t *testing.T) {
	b := start(t, always(arrived))
	b.ledger.insert(flow.Due{ID: "dlv_new", Org: "org", Webhook: "h1"}, false)
	b.clock.Advance(2 * time.Second)
	b.none()
	b.change(func(w *flow.World) { addWebhook(w, "h1", "e1") })
	b.Changed("org")
	b.next()
	b.recorded(1)
	b.ledger.insert(flow.Due{ID: "dlv_old", Org: "org", Webhook: "h2"}, false)
	b.none()
	b.clock.Advance(unknown)
	b.toSweep.raise()
	b.until("it to be cancelled", func() bool { return b.ledger.in(flow.Cancelled) == 1 })
}

func TestFullLaneWaitsInTheLedger(t *testing.T) {
	b := start(t, nil)
	for range 300 {
		b.accept("h0")
	}
	if n := b.ledger.leased(); n != 64 {
		t.Errorf("%d leased", n)
	}
	for i := range 300 {
		h := b.next()
		if want := fmt.Sprintf("dlv_%06d", i+1); h.delivery.ID != want {
			t.Errorf("%s came when it was the turn of %s", h.delivery.ID, want)
		}
		h.done(arrived)
	}
	b.recorded(300)
	b.clock.Advance(recheck)
	b.none()
	if s := b.Stats(); s.Lanes[0].Backlog || s.Bytes != 0 {
		t.Errorf("%+v", s)
	}
	before := b.ledger.claimed
	b.accept("h0")
	b.next().done(arrived)
	b.recorded(301)
	if b.ledger.claimed != before {
		t.Error("the happy path read the queue")
	}
}

// A delivery that was refused credit may be committed behind the claim that empties the
// ledger; it does not have to wait for the sweep.
func TestRefusedBehindTheClaim(t *testing.T) {
	b := start(t, nil)
	for range 64 {
		b.accept("h0")
	}
	if b.Reserve(b.webhook("h0")) {
		t.Fatal("credit beyond the lane's capacity")
	}
	for range 64 {
		b.next().done(arrived)
	}
	b.recorded(64)
	b.until("a claim that finds nothing", func() bool { return !b.Stats().Lanes[0].Backlog })
	b.ledger.insert(flow.Due{ID: "dlv_late", Org: "org", Webhook: "h0"}, false)
	b.clock.Advance(recheck)
	b.next()
}

func TestHangingLanesDisturbNobody(t *testing.T) {
	b := start(t, func(h handed) *connectors.Result {
		if h.endpoint.ID == "e0" {
			return &arrived
		}
		return nil
	}, func(w *flow.World) {
		for i := 1; i <= 20; i++ {
			addWebhook(w, fmt.Sprint("h", i), fmt.Sprint("e", i))
		}
	})
	for i := range 21 * 200 {
		b.accept(fmt.Sprint("h", i%21))
	}
	b.until("the healthy lane", func() bool { b.clock.Advance(time.Millisecond); return b.ledger.in(flow.Succeeded) == 200 })
	b.until("the other lanes to fill", func() bool { s := b.Stats(); return s.InFlight == 20*firstWindow && s.Queued == 20*48 })
}

func TestBreaker(t *testing.T) {
	ok := false
	b := start(t, nil)
	answer := func(h handed) {
		if ok {
			h.done(arrived)
		} else {
			h.done(refused)
		}
	}
	for range 40 {
		b.accept("h0")
	}
	for i := range 10 {
		answer(b.next())
		if open := b.Stats().Endpoints[0].Open; open != (i == 9) {
			t.Fatalf("after %d failures open is %v", i+1, open)
		}
	}
	for b.Stats().InFlight > 0 { // since before it opened
		answer(b.next())
	}
	b.until("the queue to be given up", func() bool { return b.ledger.leased() == 0 })
	id := b.accept("h0")
	b.none()
	if n := len(b.ledger.of(id)); n != 0 {
		t.Fatalf("%d records of a delivery that waits", n)
	}
	for _, wait := range []time.Duration{5, 10, 20} {
		b.clock.Advance(wait*time.Second - time.Millisecond)
		b.none()
		b.clock.Advance(time.Millisecond)
		h := b.next()
		b.none() // one at a time
		answer(h)
		b.until("the probe to be judged", func() bool { return !b.Stats().Endpoints[0].Probing })
	}
	ok = true
	b.clock.Advance(40 * time.Second)
	answer(b.next())
	if s := b.Stats(); s.Endpoints[0].Open || s.Lanes[0].Window != minWindow {
		t.Errorf("%+v", s)
	}
	b.until("all to arrive", func() bool {
		for len(b.sender.calls) > 0 {
			answer(b.next())
		}
		b.clock.Advance(10 * time.Second)
		return b.ledger.in(flow.Succeeded) == 41
	})
}

// A lone failing delivery keeps its timetable, and an endpoint that fails now and then
// keeps its breaker closed.
func TestBreakerNeedsVolumeAndShare(t *testing.T) {
	var e breaker
	for i := range 200 {
		if e.answered(nil, i%4 == 0, i%4 != 0, epoch.Add(time.Duration(i)*time.Second)) {
			t.Fatalf("opened at %d, 75 %% failing", i)
		}
	}
	e = breaker{}
	for i := range 100 {
		if e.answered(nil, false, true, epoch.Add(time.Duration(i)*10*time.Second)) {
			t.Fatal("opened at 6 failures a minute")
		}
	}
}

func TestOpenBreakerTriesWithTheNextDelivery(t *testing.T) {
	b := start(t, nil, func(w *flow.World) { w.Webhooks["h0"].Retries = []time.Duration{} })
	for range 10 {
		b.accept("h0")
		b.next().done(refused)
	}
	b.recorded(10)
	b.clock.Advance(5 * time.Second)
	b.none()
	b.accept("h0")
	b.next().done(arrived)
	if b.Stats().Endpoints[0].Open {
		t.Error("still open")
	}
	// A new revision of the endpoint starts anew.
	for range 40 {
		b.accept("h0")
		b.next().done(refused)
		if b.Stats().Endpoints[0].Open {
			break
		}
	}
	b.change(func(w *flow.World) { w.Endpoints["e0"].Revision++ })
	b.Changed("org")
	b.accept("h0")
	if h := b.next(); h.endpoint.Ref != "e0@2" {
		t.Errorf("handed to %s", h.endpoint.Ref)
	}
}

func TestRate(t *testing.T) {
	b := start(t, always(arrived), func(w *flow.World) { w.Endpoints["e0"].Rate, w.Endpoints["e0"].Burst = 2, 3 })
	for range 9 {
		b.accept("h0")
	}
	for i := range 9 {
		if i >= 3 {
			b.until("the lane to wait", func() bool {
				b.Dispatcher.mu.Lock()
				defer b.Dispatcher.mu.Unlock()
				return !b.lanes["h0"].running && b.lanes["h0"].wakeAt.After(b.clock.Now())
			})
			b.clock.Advance(499 * time.Millisecond)
			b.none()
			b.clock.Advance(time.Millisecond)
		}
		b.next()
	}
}

func TestMaxInFlight(t *testing.T) {
	b := start(t, nil, func(w *flow.World) { w.Endpoints["e0"].MaxInFlight = 2 })
	for range 10 {
		b.accept("h0")
	}
	h := b.next()
	b.next()
	b.none()
	h.done(arrived)
	b.next()
	b.none()
}

func TestWindowFollowsTheEndpoint(t *testing.T) {
	w := newWindow()
	round := func(took time.Duration, failed, full bool) {
		w.full = full
		for range w.size {
			w.answered(took, failed)
		}
	}
	for range 6 {
		round(5*time.Millisecond, false, true)
	}
	if w.size != maxWindow {
		t.Errorf("grew to %d", w.size)
	}
	for range 4 {
		round(time.Second, false, true)
	}
	if w.size != 16 {
		t.Errorf("shrank to %d", w.size)
	}
	for range 9 {
		round(time.Millisecond, true, true)
	}
	if w.size != minWindow {
		t.Errorf("shrank to %d", w.size)
	}
	round(time.Millisecond, false, false)
	if w.size != minWindow {
		t.Error("grew although nothing waited")
	}
}

func TestBrokenConnectorIsNotCounted(t *testing.T) {
	b := start(t, nil)
	for range 20 {
		b.accept("h0")
	}
	var flying []handed
	for range 16 {
		flying = append(flying, b.next())
	}
	for _, h := range flying { // the process dies with what it has
		h.done(crashed)
	}
	b.recorded(16)
	b.clock.Advance(crashPause)
	b.next().done(arrived) // one tries whether it is back
	for range 19 {
		b.next().done(arrived)
	}
	b.recorded(16 + 20)
	if s := b.Stats(); s.Endpoints[0].Open || b.ledger.in(flow.Succeeded) != 20 {
		t.Errorf("%+v", s)
	}
}

// A connector, or the hub for one that does not start, says when it is worth trying.
func TestBrokenConnectorIsLeftAlone(t *testing.T) {
	b := start(t, nil)
	first, second := b.accept("h0"), b.accept("h0")
	for _, after := range []time.Duration{0, 30 * time.Second} {
		r := crashed
		r.RetryAfter = after
		b.next().done(r)
	}
	b.recorded(2)
	if at := b.ledger.of(first)[0].NextAt; !at.Equal(epoch.Add(crashPause)) {
		t.Errorf("the first is tried again at %s", at)
	}
	if at := b.ledger.of(second)[0].NextAt; !at.Equal(epoch.Add(30 * time.Second)) {
		t.Errorf("the second is tried again at %s", at)
	}
	b.clock.Advance(30*time.Second - time.Millisecond)
	b.none()
	b.clock.Advance(time.Millisecond)
	b.next().done(arrived)
	b.next().done(arrived)
}

func TestConnectorThatStaysBroken(t *testing.T) {
	b := start(t, always(crashed))
	id := b.accept("h0")
	for n := range maxCrashes {
		b.next()
		b.recorded(n + 1)
		r := b.ledger.of(id)[n]
		if r.State != flow.Retrying || !r.FirstFailed.IsZero() || r.NextAt.Sub(b.clock.Now()) > crashMost {
			t.Fatalf("after crash %d: %+v", n+1, r)
		}
		b.clock.Advance(crashMost)
	}
	b.next()
	b.recorded(maxCrashes + 1)
	r := b.ledger.of(id)[maxCrashes]
	if r.NextAt.Sub(b.clock.Now()) != time.Minute || r.FirstFailed.IsZero() {
		t.Errorf("then %+v", r)
	}
	if b.Stats().Endpoints[0].Open {
		t.Error("the endpoint's breaker opened")
	}
}

// What was forgiven a delivery that ends elsewhere is not kept for ever.
func TestForgivenIsForgotten(t *testing.T) {
	b := start(t, nil)
	id := b.accept("h0")
	b.next().done(crashed)
	b.recorded(1)
	b.ledger.mu.Lock()
	b.ledger.byID[id].state = flow.Cancelled
	b.ledger.mu.Unlock()
	for _, c := range []struct {
		after time.Duration
		kept  int
	}{{forgetAfter, 1}, {strayEvery, 0}} {
		b.clock.Advance(c.after)
		b.swept()
		b.Dispatcher.mu.Lock()
		if n := len(b.lanes["h0"].forgiven); n != c.kept {
			t.Errorf("after another %v %d are kept", c.after, n)
		}
		b.Dispatcher.mu.Unlock()
	}
}

func TestDatabaseLost(t *testing.T) {
	b := start(t, nil)
	for range 30 {
		b.accept("h0")
	}
	var flying []handed
	for range 16 {
		flying = append(flying, b.next())
	}
	b.ledger.set(flow.ErrUnavailable)
	for _, h := range flying {
		h.done(arrived)
	}
	b.until("the loss to be noticed", func() bool { return b.Stats().Down })
	if b.Reserve(b.webhook("h0")) {
		t.Error("credit was given while the database is lost")
	}
	for len(b.sender.calls) > 0 { // handed over before the loss was noticed
		b.next().done(arrived)
	}
	b.ledger.set(nil)
	b.until("recovery", func() bool {
		for len(b.sender.calls) > 0 {
			b.next().done(arrived)
		}
		b.clock.Advance(100 * time.Millisecond)
		return b.ledger.in(flow.Succeeded) == 30
	})
	if n := len(b.ledger.log); n != 30 {
		t.Errorf("%d records for 30 deliveries", n)
	}
}

// A full disk answers reads; that alone does not start anything again.
func TestDiskFull(t *testing.T) {
	b := start(t, nil)
	b.accept("h0")
	flying := b.next()
	set := func(full bool) { b.ledger.mu.Lock(); b.ledger.full = full; b.ledger.mu.Unlock() }
	set(true)
	flying.done(arrived)
	b.until("the loss to be noticed", func() bool { return b.Stats().Down })
	b.accept("h0")
	before := b.ledger.claims
	for range 5 {
		b.clock.Advance(time.Second)
		b.none()
		if !b.Stats().Down {
			t.Fatal("went on although nothing can be written")
		}
	}
	if n := b.ledger.claims - before; n < 5 || n > 20 {
		t.Errorf("%d claims tried in 5 s", n)
	}
	set(false)
	b.until("both", func() bool {
		b.clock.Advance(time.Second)
		if len(b.sender.calls) > 0 {
			b.next().done(arrived)
		}
		return b.ledger.in(flow.Succeeded) == 2
	})
}

// When the others have given this node up, what is queued may be theirs. The ledger has taken
// it back: giving it up once more would take it from whoever has claimed it since.
func TestLeaseLost(t *testing.T) {
	b := start(t, nil)
	for range 20 {
		b.accept("h0")
	}
	for range 16 {
		b.next()
	}
	b.ledger.mu.Lock()
	for _, r := range b.ledger.rows {
		r.leased = false
	}
	b.ledger.mu.Unlock()
	b.lease.Add(1)
	b.toSweep.raise()
	b.until("all to be claimed anew", func() bool { return b.ledger.leased() == 20 })
	b.swept()
	if s := b.Stats(); s.Queued != 20 || b.ledger.leased() != 20 {
		t.Errorf("%d queued, %d leased", s.Queued, b.ledger.leased())
	}
}

// A node that has not renewed its lease for long hands nothing over under it.
func TestLeaseTooOld(t *testing.T) {
	b := start(t, nil)
	renew := func() {
		at := b.clock.Now().Add(10 * time.Second)
		b.good.Store(&at)
	}
	renew()
	for range 20 {
		b.accept("h0")
	}
	var flying []handed
	for range 16 {
		flying = append(flying, b.next())
	}
	b.clock.Advance(10*time.Second + time.Nanosecond)
	flying[0].done(arrived) // there is room for another
	b.until("the rest to be given up", func() bool { return b.ledger.leased() == 15 })
	b.none()
	if b.Reserve(b.webhook("h0")) {
		t.Error("credit was given")
	}
	renew()
	b.toSweep.raise()
	b.next()
	for _, h := range flying[1:] {
		h.done(arrived)
	}
	for range 3 {
		b.next()
	}
	b.none()
}

// One result that the ledger refuses fails alone, and is not forgotten.
func TestRefusedRecordFailsAlone(t *testing.T) {
	b := start(t, nil)
	b.ledger.refuse = "dlv_000003"
	for range 10 {
		b.accept("h0")
	}
	for range 10 {
		b.next().done(arrived)
	}
	b.until("the others", func() bool { b.clock.Advance(100 * time.Millisecond); return b.ledger.in(flow.Succeeded) == 9 })
	b.ledger.mu.Lock()
	b.ledger.refuse = ""
	b.ledger.mu.Unlock()
	b.until("the last", func() bool { b.clock.Advance(100 * time.Millisecond); return b.ledger.in(flow.Succeeded) == 10 })
}

func TestUnrecordedResultsAreBounded(t *testing.T) {
	b := start(t, always(arrived))
	b.cfg.MaxUnrecorded = 20
	b.ledger.mu.Lock() // the ledger is slow: nothing is recorded until it goes on
	for i := range 60 {
		due := &flow.Due{ID: fmt.Sprint("dlv_", i), Org: "org", Webhook: "h0"}
		r := &row{due: *due, state: flow.Pending, leased: true}
		b.ledger.rows, b.ledger.byID[due.ID] = append(b.ledger.rows, r), r
		b.Hand(due)
	}
	for range 20 {
		b.next()
	}
	b.until("the lane to stop", func() bool { b.Dispatcher.mu.Lock(); defer b.Dispatcher.mu.Unlock(); return !b.lanes["h0"].running })
	if s := b.Stats(); s.Unrecorded < 20 || s.Unrecorded > 20+takeAtOnce {
		t.Errorf("%+v", s)
	}
	b.ledger.mu.Unlock()
	b.until("the rest", func() bool { return b.ledger.in(flow.Succeeded) == 60 })
}

func TestDrain(t *testing.T) {
	b := start(t, nil)
	for range 40 {
		b.accept("h0")
	}
	var flying []handed
	for range 16 {
		flying = append(flying, b.next())
	}
	drained := make(chan error, 1)
	go func() { drained <- b.Drain(context.Background()) }()
	b.until("the queue to be given up", func() bool { return b.ledger.leased() == 16 })
	for _, h := range flying {
		h.done(arrived)
	}
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	if n := len(b.ledger.log); n != 16 || b.ledger.leased() != 0 {
		t.Errorf("%d recorded, %d leased", n, b.ledger.leased())
	}
	if b.Reserve(b.webhook("h0")) {
		t.Error("credit was given after the end")
	}
}

func TestDrainGivesUpWhatHangs(t *testing.T) {
	b := start(t, nil)
	b.accept("h0")
	h := b.next()
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("time is up"))
	if err := b.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	if b.ledger.leased() != 0 {
		t.Error("still leased")
	}
	h.done(arrived) // late, and kept
	b.recorded(1)
}

func TestHold(t *testing.T) {
	b := start(t, always(arrived))
	b.Hold(true)
	b.accept("h0")
	b.none()
	b.Hold(false)
	b.next()
	b.recorded(1)
}

func TestUnreserve(t *testing.T) {
	b := start(t, nil)
	h := b.webhook("h0")
	for n := range 64 {
		if !b.Reserve(h) {
			t.Fatalf("refused after %d", n)
		}
	}
	b.Unreserve(h, 64)
	if !b.Reserve(h) {
		t.Error("no credit although all was given back")
	}
}

func TestDisownedIsDeliveredAllTheSame(t *testing.T) {
	b := start(t, nil)
	b.ledger.insert(flow.Due{ID: "dlv_doubt", Org: "org", Webhook: "h0", Endpoint: "e0", Created: epoch, Document: []byte("{}")}, true)
	b.Disown("dlv_doubt", "dlv_never_committed")
	b.none()
	b.clock.Advance(doubtOver)
	h := b.next()
	if h.delivery.ID != "dlv_doubt" {
		t.Errorf("%s was handed over", h.delivery.ID)
	}
	h.done(connectors.Result{DeliveryID: h.delivery.ID, Outcome: connectors.Done})
	b.recorded(1)
	b.none()
}

func TestMemoryIsBounded(t *testing.T) {
	b := start(t, nil, func(w *flow.World) { addWebhook(w, "h1", "e1"); addWebhook(w, "h2", "e2"); addWebhook(w, "h3", "e3") })
	b.cfg.MaxBytes = 10 * weight(&flow.Due{Document: []byte(`{"id":"evt"}`)})
	for i := range 40 {
		b.accept(fmt.Sprint("h", i/10))
	}
	if n := b.ledger.leased(); n > 4*(minWindow+1) {
		t.Errorf("%d leased", n)
	}
	if s := b.Stats(); s.Lanes[3].InFlight == 0 && s.Lanes[3].Queued == 0 {
		t.Errorf("the last lane got nothing: %+v", s)
	}
	for range 40 {
		b.next().done(arrived)
	}
	b.recorded(40)
}

func TestConnectorThatTakesEvents(t *testing.T) {
	b := start(t, nil)
	b.cfg.Via = func(_ *flow.World, e *flow.Endpoint) (Via, bool) { return Via{Process: e.Connector}, true }
	b.accept("h0")
	if d := b.next().delivery; d.Request != nil || string(d.Event) != `{"id":"evt"}` {
		t.Errorf("%+v", d)
	}
}
