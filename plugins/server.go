package plugins

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hookyard/hookyard/connectors"
	wirev1 "github.com/hookyard/hookyard/plugins/wire/v1"
)

// server is the plugin's end: it turns messages into calls of the connector and
// answers into messages.
type server struct {
	wirev1.UnimplementedPluginServer
	connector connectors.Connector
	hub       *asker // nil: connections are made here
}

// Describe implements wirev1.PluginServer.
func (s *server) Describe(context.Context, *wirev1.DescribeRequest) (*wirev1.DescribeResponse, error) {
	return descriptionToWire(DescriptionOf(s.connector)), nil
}

// Session implements wirev1.PluginServer.
func (s *server) Session(stream wirev1.Plugin_SessionServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	w := &worker{ctx: ctx, connector: s.connector, out: newOutbox[*wirev1.SessionResponse](), results: newOutbox[answer](), calls: map[uint64]*call{}}
	w.host = NewOutbound(slog.New(&logHandler{send: w.out.put}), nil)
	w.host.hub = s.hub
	defer w.host.Close()
	w.memory = &memory{send: w.out.put, ended: ctx.Done(), slots: make(chan struct{}, asksOfPlugin)}
	w.host.Memory = w.memory
	w.pure = newPure(s.connector)

	// Both outboxes share one writer, woken by either.
	w.out.wake = w.results.wake
	written := make(chan error, 1)
	go func() { written <- w.write(stream); cancel() }()
	read := make(chan error, 1)
	go func() { read <- w.read(stream) }()
	var err error
	select {
	case err = <-read:
	case err = <-written:
	}
	cancel()
	return err
}

// worker is one session in the plugin.
type worker struct {
	ctx       context.Context
	connector connectors.Connector
	host      *Outbound
	memory    *memory
	pure      pure
	out       *outbox[*wirev1.SessionResponse] // all but results
	results   *outbox[answer]

	taken expect[*wirev1.NewsTaken] // by token of the scan

	mu    sync.Mutex
	calls map[uint64]*call // by token of what is unanswered
}

type answer struct {
	token  uint64
	result connectors.Result
}

func (w *worker) read(stream wirev1.Plugin_SessionServer) error {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read from the host: %w", err)
		}
		switch m := m.GetMessage().(type) {
		case *wirev1.SessionRequest_Deliver:
			w.deliver(m.Deliver.GetItems())
		case *wirev1.SessionRequest_Endpoint:
			w.host.Put(endpointFromWire(m.Endpoint))
		case *wirev1.SessionRequest_Forget:
			w.host.Forget(m.Forget.GetRef())
		case *wirev1.SessionRequest_Check:
			w.check(m.Check)
		case *wirev1.SessionRequest_Cancel:
			for _, token := range m.Cancel.GetTokens() {
				w.cancel(token)
			}
		case *wirev1.SessionRequest_Call:
			w.call(m.Call)
		case *wirev1.SessionRequest_NewsTaken:
			w.taken.put(m.NewsTaken.GetToken(), m.NewsTaken)
		case *wirev1.SessionRequest_Told:
			w.memory.waiting.put(m.Told.GetNumber(), m.Told)
		case *wirev1.SessionRequest_Ping:
			w.out.put(&wirev1.SessionResponse{Message: &wirev1.SessionResponse_Pong{Pong: &wirev1.Pong{Number: m.Ping.GetNumber()}}})
		}
	}
}

func (w *worker) write(stream wirev1.Plugin_SessionServer) error {
	for {
		// Let those who are about to answer do so: longer lists cost less.
		runtime.Gosched()
		others, results := w.out.taken(), w.results.taken()
		if len(others)+len(results) == 0 {
			select {
			case <-w.results.wake:
				continue
			case <-w.ctx.Done():
				return w.ctx.Err()
			}
		}
		for _, m := range others {
			if err := stream.Send(m); err != nil {
				return fmt.Errorf("write to the host: %w", err)
			}
		}
		for len(results) > 0 {
			list := make([]*wirev1.Result, 0, min(len(results), maxBatch))
			for size := 0; len(results) > 0 && len(list) < maxBatch && size < batchBytes; results = results[1:] {
				r := &results[0].result
				list = append(list, resultToWire(results[0].token, r))
				if r.Response != nil {
					size += len(r.Response.Body)
				}
			}
			if err := stream.Send(&wirev1.SessionResponse{Message: &wirev1.SessionResponse_Results{Results: &wirev1.Results{Results: list}}}); err != nil {
				return fmt.Errorf("write results to the host: %w", err)
			}
		}
	}
}

// deliver starts one call per endpoint in the list, so that a connector that works
// on a whole list at once (one SQL insert) sees lists, and endpoints do not meet.
func (w *worker) deliver(items []*wirev1.Item) {
	for len(items) > 0 {
		ref := items[0].GetEndpoint()
		c := &call{worker: w, ref: ref}
		rest := items[:0]
		for _, item := range items {
			if item.GetEndpoint() != ref {
				rest = append(rest, item)
				continue
			}
			c.items = append(c.items, itemFromWire(item))
			c.tokens = append(c.tokens, item.GetToken())
		}
		items = rest
		w.start(c)
		go c.deliver()
	}
}

func (w *worker) check(m *wirev1.Check) {
	c := &call{worker: w, ref: m.GetEndpoint(), tokens: []uint64{m.GetToken()}}
	w.start(c)
	go c.check()
}

// start makes the call's tokens known and holds its endpoint.
func (w *worker) start(c *call) {
	c.open = len(c.tokens)
	c.ctx, c.stop = context.WithCancel(w.ctx)
	w.host.hold(c.ref)
	w.mu.Lock()
	for _, token := range c.tokens {
		w.calls[token] = c
	}
	w.mu.Unlock()
}

func (w *worker) cancel(token uint64) {
	w.mu.Lock()
	c := w.calls[token]
	if c != nil && !c.told {
		delete(w.calls, token)
	}
	w.mu.Unlock()
	if c != nil {
		c.settle(token)
	}
}

// call is one call of the connector: items of one endpoint, or anything else.
type call struct {
	worker *worker
	ref    string // "": it needs no endpoint
	told   bool   // it is answered even when it was cancelled: a scan
	items  []connectors.Delivery
	tokens []uint64 // of items; answered or cancelled when they are
	ctx    context.Context
	stop   context.CancelFunc

	mu   sync.Mutex
	open int
}

// What becomes of a token. Real ones begin at 1 and never get so high.
const (
	answered  uint64 = 0
	cancelled uint64 = math.MaxUint64
)

// settle takes the token out of the call and, with the last one, ends its context.
func (c *call) settle(token uint64) {
	c.mu.Lock()
	for i, t := range c.tokens {
		if t == token {
			c.tokens[i] = cancelled
			c.open--
		}
	}
	last := c.open == 0
	c.mu.Unlock()
	if last {
		c.stop()
	}
}

// done is what the connector calls.
func (c *call) done(r connectors.Result) {
	token := answered
	c.mu.Lock()
	for i := range c.items {
		if c.items[i].ID == r.DeliveryID && c.tokens[i] != answered {
			if token = c.tokens[i]; token != cancelled {
				c.tokens[i] = answered
				c.open--
			}
			break
		}
	}
	c.mu.Unlock()
	switch token {
	case cancelled: // the hub has given it up
		return
	case answered:
		c.worker.host.Log().Warn("a result that nobody waits for was dropped", "delivery", r.DeliveryID)
		return
	}
	w := c.worker
	w.mu.Lock()
	delete(w.calls, token)
	w.mu.Unlock()
	bound(&r)
	w.results.put(answer{token: token, result: r})
}

func (c *call) deliver() {
	w := c.worker
	defer c.stop()
	defer w.host.release(c.ref)
	reason := "the connector gave no answer"
	started := time.Now()
	if err := c.guard(func() error {
		d, ok := w.connector.(connectors.Deliverer)
		if !ok {
			return errors.New("this connector cannot deliver")
		}
		return d.Deliver(c.ctx, w.host, c.items, c.done)
	}); err != nil {
		reason = "the connector broke: " + err.Error()
	}
	c.mu.Lock()
	open := c.open
	c.mu.Unlock()
	if open == 0 {
		return
	}
	for _, d := range c.unanswered() {
		c.done(connectors.Result{DeliveryID: d, Outcome: connectors.Retry, Fault: connectors.FaultConnector, Started: started,
			Timing: connectors.Timing{Total: time.Since(started)}, Error: reason})
	}
}

func (c *call) unanswered() (ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, t := range c.tokens {
		if t != answered && t != cancelled {
			ids = append(ids, c.items[i].ID)
		}
	}
	return ids
}

func (c *call) check() {
	w, token := c.worker, c.tokens[0]
	defer c.stop()
	defer w.host.release(c.ref)
	err := c.guard(func() error {
		k, ok := w.connector.(connectors.Checker)
		if !ok {
			return errors.New("this connector cannot check an endpoint")
		}
		e, ok := w.host.Endpoint(c.ref)
		if !ok {
			return unknownRef(c.ref)
		}
		return k.Check(c.ctx, w.host, e)
	})
	w.mu.Lock()
	_, waiting := w.calls[token]
	delete(w.calls, token)
	w.mu.Unlock()
	if !waiting {
		return
	}
	m := &wirev1.CheckDone{Token: token}
	if err != nil {
		m.Error = clip(err.Error())
		if m.Error == "" {
			m.Error = "the check failed without a reason"
		}
	}
	w.out.put(&wirev1.SessionResponse{Message: &wirev1.SessionResponse_CheckDone{CheckDone: m}})
}

// answer says what came of the token's call, unless nobody waits any more.
func (c *call) answer(token uint64, a *wirev1.Answer) {
	w := c.worker
	w.mu.Lock()
	_, waiting := w.calls[token]
	delete(w.calls, token)
	w.mu.Unlock()
	if waiting {
		a.Token = token
		w.out.put(&wirev1.SessionResponse{Message: &wirev1.SessionResponse_Answer{Answer: a}})
	}
}

// guard turns a panic of the connector into an error: the other endpoints go on.
func (c *call) guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.worker.host.Log().Error("the connector panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return f()
}
