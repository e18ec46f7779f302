package dispatch

import (
	"testing"
	"time"

	"github.com/hookyard/hookyard/server/flow"
)

// swept waits until a sweep that begins now is over.
func (b *bench) swept() {
	b.t.Helper()
	for len(b.ledger.looked) > 0 {
		<-b.ledger.looked
	}
	for range 3 { // the first may be one that had begun, the third begins when the second has ended
		b.toSweep.raise()
		<-b.ledger.looked
	}
}

// A claim that was made and whose answer was lost leaves leases that nobody knows of.
func TestStrayLeases(t *testing.T) {
	b := start(t, always(arrived))
	b.none()
	b.ledger.mu.Lock()
	b.ledger.lose = 1
	b.ledger.mu.Unlock()
	for _, id := range []string{"dlv_1", "dlv_2", "dlv_3"} {
		b.ledger.insert(flow.Due{ID: id, Org: "org", Webhook: "h0", Endpoint: "e0", Created: epoch, Document: []byte("{}")}, false)
	}
	b.until("them to be missed", func() bool { b.toSweep.raise(); return !b.Stats().Stray.IsZero() })
	if s := b.Stats(); s.Down || !s.Stray.Equal(epoch) {
		t.Errorf("%+v", s)
	}
	b.clock.Advance(strayAfter - time.Second)
	b.none()
	if n := b.ledger.leased(); n != 3 {
		t.Errorf("%d are leased: they may have been on their way", n)
	}
	b.clock.Advance(time.Second)
	b.until("all to be delivered", func() bool { return b.ledger.in(flow.Succeeded) == 3 })
	b.clock.Advance(strayEvery)
	b.swept()
	if s := b.Stats(); !s.Stray.IsZero() {
		t.Errorf("one is due since %v still", s.Stray)
	}
}

// What waits, flies, is to be recorded or is in doubt is in somebody's hands.
func TestLeasesInHandAreKept(t *testing.T) {
	b := start(t, nil)
	for range 40 {
		b.accept("h0")
	}
	refuse := func(id string) { b.ledger.mu.Lock(); b.ledger.refuse = id; b.ledger.mu.Unlock() }
	first := b.next()
	refuse(first.delivery.ID) // so that it is set aside
	first.done(arrived)
	var flying []handed
	for range 16 {
		flying = append(flying, b.next())
	}
	for range 5 {
		b.clock.Advance(strayEvery)
		b.swept()
	}
	if n := b.ledger.leased(); n != 40 {
		t.Errorf("%d of 40 are leased", n)
	}
	refuse("")
	for _, h := range flying {
		h.done(arrived)
	}
	for range 40 - 17 {
		b.next().done(arrived)
	}
	b.until("all to be recorded", func() bool { b.clock.Advance(time.Second); return b.ledger.in(flow.Succeeded) == 40 })
	b.recorded(40)
}

// A delivery that is on its way from the ledger now, and was when strays were looked for
// before, has been in hand between.
func TestClaimedTwiceIsNoStray(t *testing.T) {
	b := start(t, nil)
	claimed, answer := make(chan struct{}), make(chan struct{})
	b.ledger.mu.Lock()
	b.ledger.onClaim = func() { claimed <- struct{}{}; <-answer }
	b.ledger.mu.Unlock()
	b.ledger.insert(flow.Due{ID: "dlv_1", Org: "org", Webhook: "h0", Endpoint: "e0", Created: epoch, Document: []byte("{}")}, false)
	b.toSweep.raise()
	<-claimed
	look := func() {
		b.Dispatcher.mu.Lock()
		b.strayAt = time.Time{}
		b.Dispatcher.mu.Unlock()
		b.swept()
	}
	look()
	if b.Stats().Stray.IsZero() {
		t.Fatal("nobody misses it")
	}
	b.clock.Advance(strayEvery)
	look()
	if b.ledger.leased() != 1 {
		t.Fatal("it was given up while it was claimed")
	}
	answer <- struct{}{}
	b.next().done(refused)
	b.recorded(1)
	b.clock.Advance(time.Minute) // its retry
	<-claimed
	b.ledger.mu.Lock()
	b.ledger.onClaim = nil
	b.ledger.mu.Unlock()
	look()
	if n := b.ledger.leased(); n != 1 || b.Stats().Stray.IsZero() {
		t.Errorf("%d are leased", n)
	}
	answer <- struct{}{}
	b.next().done(arrived)
	b.recorded(2)
}
