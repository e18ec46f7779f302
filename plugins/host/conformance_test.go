package host

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/connectortest"
	"github.com/hookyard/hookyard/connectors/webhook"
)

// A shipped connector keeps its promises through a real process too.
func TestAShippedConnectorConformsThroughItsProcess(t *testing.T) {
	s := start(t, nil, webhook.Connector{}.Spec().Name)
	if got, want := s.Specs(), []connectors.Spec{webhook.Connector{}.Spec()}; !reflect.DeepEqual(got, want) {
		t.Errorf("the description came through as %+v, not %+v", got, want)
	}
	connectortest.Run(t, remote{s: s})
}

// remote is the connector but for its deliveries, which a supervised process makes.
type remote struct {
	webhook.Connector
	s *Supervisor
}

func (r remote) Deliver(ctx context.Context, h connectors.Host, items []connectors.Delivery, done func(connectors.Result)) error {
	answers := make(chan connectors.Result, len(items))
	open := map[string]bool{}
	for _, d := range items {
		e, known := h.Endpoint(d.Endpoint)
		if !known {
			e = connectors.Endpoint{Ref: d.Endpoint, ID: d.Endpoint}
		}
		e.Dial.Open = []string{"127.0.0.0/8"}
		open[d.ID] = true
		r.s.Deliver(r.Spec().Name, e, d, func(res connectors.Result) { answers <- res })
	}
	for len(open) > 0 {
		select {
		case res := <-answers:
			delete(open, res.DeliveryID)
			done(res)
		case <-ctx.Done(): // the hub cancels by giving up
			for id := range open {
				done(connectors.Result{DeliveryID: id, Outcome: connectors.Retry, Fault: connectors.FaultConnector, Started: time.Now(), Error: "cancelled"})
			}
			return nil
		}
	}
	return nil
}

func (r remote) Check(ctx context.Context, _ connectors.Host, e connectors.Endpoint) error {
	e.Dial.Open = []string{"127.0.0.0/8"}
	return r.s.Check(ctx, r.Spec().Name, e)
}

// 20 receivers that never answer, and one that does, through the connector that
// people use most.
func TestHangingReceiversDelayNobody(t *testing.T) {
	name := webhook.Connector{}.Spec().Name
	s := start(t, nil, name)
	quick := connectortest.NewServer(t, func(http.ResponseWriter, *http.Request) {})
	entered := make(chan struct{}, 200)
	hanging := connectortest.NewServer(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		entered <- struct{}{}
		<-r.Context().Done()
	})
	var wg sync.WaitGroup
	for i := range 200 {
		e := endpoint(1 + i%20)
		e.URL, e.Dial.Open = hanging, []string{"127.0.0.0/8"}
		wg.Add(1)
		s.Deliver(name, e, delivery(fmt.Sprintf("dlv_h%d", i), http.MethodPost, e), func(connectors.Result) { wg.Done() })
	}
	for range 200 {
		<-entered
	}
	e := endpoint(0)
	e.URL, e.Dial.Open = quick, []string{"127.0.0.0/8"}
	for i := range 500 {
		answer := make(chan connectors.Result, 1)
		d := delivery(fmt.Sprintf("dlv_q%d", i), http.MethodPost, e)
		d.Timeout = 5 * time.Second
		s.Deliver(name, e, d, func(r connectors.Result) { answer <- r })
		if r := <-answer; r.Outcome != connectors.Done {
			t.Fatalf("got %+v", r)
		}
	}
	if st := s.Stats()[0]; st.InFlight != 200 {
		t.Errorf("%d hang, not 200", st.InFlight)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_ = s.Close(ended)
	wg.Wait()
}
