package host

import (
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// patient hands an item over again until its connector is not to blame for what becomes of
// it, as a lane does, and counts how often it was.
func patient(s *Supervisor, e connectors.Endpoint, d connectors.Delivery, broke *atomic.Int32, done func(connectors.Result)) {
	s.Deliver("obedient", e, d, func(r connectors.Result) {
		if r.Fault == connectors.FaultConnector {
			broke.Add(1)
			go patient(s, e, d, broke, done)
			return
		}
		done(r)
	})
}

// Of 50 deliveries one kills whichever process it is handed to. The others arrive, and it is found.
func TestAPoisonedDeliveryIsFound(t *testing.T) {
	s := start(t, nil)
	const items, poison = 50, 17
	all := func(round string) (most int32, fault connectors.Fault) {
		var broke [items]atomic.Int32
		results := make([]connectors.Result, items)
		var open sync.WaitGroup
		for i := range items {
			e := endpoint(i % 5)
			d := delivery(round+strconv.Itoa(i), "OK", e)
			if i == poison {
				d = delivery("dlv_poison", "EXIT", e)
			}
			open.Add(1)
			patient(s, e, d, &broke[i], func(r connectors.Result) { results[i] = r; open.Done() })
		}
		waitFor(t, &open)
		for i, r := range results {
			if n := broke[i].Load(); i != poison {
				most = max(most, n)
				if r.Outcome != connectors.Done {
					t.Errorf("%s%d ended as %+v", round, i, r)
				}
			}
		}
		r := results[poison]
		if r.Outcome != connectors.Retry || r.Error == "" {
			t.Errorf("the poison ended as %+v", r)
		}
		return most, r.Fault
	}
	most, fault := all("a")
	if fault != connectors.FaultDelivery {
		t.Errorf("%q is to blame for the poison", fault)
	}
	if st := s.Stats()[0]; most > 2 || st.Restarts > guilty || st.Held != 0 {
		t.Errorf("others were lost up to %d times; %+v", most, st)
	}
	// It is known from now on: it takes along what happens to be on its way, once.
	deliver(t, s, endpoint(0), delivery("dlv_between", "OK", endpoint(0))) // there is a process again
	restarts := s.Stats()[0].Restarts
	most, fault = all("b")
	if st := s.Stats()[0]; fault != connectors.FaultDelivery || most > 1 || st.Restarts > restarts+1 {
		t.Errorf("the second time others were lost up to %d times, because of %q; %+v, after %d", most, fault, st, restarts)
	}
}

// A connector that answers nothing any more is not excused by what it was given.
func TestABrokenConnectorBlamesNoDelivery(t *testing.T) {
	s := start(t, nil)
	e := endpoint(1)
	for i := range 2 * guilty {
		if r := deliver(t, s, e, delivery("dlv_1", "EXIT", e)); r.Outcome != connectors.Retry || r.Fault != connectors.FaultConnector {
			t.Errorf("after %d processes: %+v", i+1, r)
		}
	}
}

// Who was in flight when somebody killed the process is suspected, and acquitted, though
// endpoints that hang are among them.
func TestSuspectsAreAcquitted(t *testing.T) {
	j := newJournal()
	s := start(t, slog.New(j))
	j.await(t, "connector started")
	var broke atomic.Int32
	var all sync.WaitGroup
	hand := func(id, method string) (answered chan connectors.Result) {
		answered = make(chan connectors.Result, 1)
		e := endpoint(len(id))
		d := delivery(id, method, e)
		s.Deliver("obedient", e, d, func(r connectors.Result) { answered <- r })
		return answered
	}
	const items = 40
	hanging := make([]chan connectors.Result, items)
	for i := range hanging {
		hanging[i] = hand(fmt.Sprint("dlv_", i), "HANG")
	}
	deliver(t, s, endpoint(0), delivery("dlv_first", "OK", endpoint(0))) // what came before it has arrived
	_ = syscall.Kill(s.Stats()[0].PID, syscall.SIGKILL)
	for i := range hanging {
		if r := <-hanging[i]; r.Fault != connectors.FaultConnector {
			t.Fatalf("got %+v", r)
		}
		e := endpoint(i)
		if i < items/2 {
			s.Deliver("obedient", e, delivery(fmt.Sprint("dlv_", i), "HANG", e), func(connectors.Result) {})
			continue
		}
		all.Add(1)
		patient(s, e, delivery(fmt.Sprint("dlv_", i), "OK", e), &broke, func(connectors.Result) { all.Done() })
	}
	waitFor(t, &all) // long before those that hang are given up
	if st := s.Stats()[0]; broke.Load() > 0 || st.Restarts != 1 {
		t.Errorf("%d were lost again; %+v", broke.Load(), st)
	}
	c := s.table.Load().list[0]
	c.mu.Lock()
	if n := len(c.suspects.strikes); n > items/2 {
		t.Errorf("%d are still suspected", n)
	}
	c.mu.Unlock()
}

// waitFor fails when it takes too long.
func waitFor(t testing.TB, all *sync.WaitGroup) {
	t.Helper()
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("not everything was answered")
	}
}
