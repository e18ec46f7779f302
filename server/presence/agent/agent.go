package agent

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/server/presence"
)

const (
	firstPause  = 250 * time.Millisecond // between tries to link, doubling …
	longPause   = 5 * time.Second        // … to this
	refusedWait = 15 * time.Second       // after the hub has refused the key
	reportMost  = 64                     // outcomes told at once …
	reportBytes = 1 << 20                // … or as many as have this size
	reporters   = 4                      // tellings under way at a time
	tellWithin  = 40 * time.Second       // the hub answers within 30 s
)

// Connectors make the calls, in processes of their own.
type Connectors interface {
	// Deliver returns at once and calls done exactly once, from another goroutine.
	Deliver(connector string, e connectors.Endpoint, d connectors.Delivery, done func(connectors.Result))
	Check(ctx context.Context, connector string, e connectors.Endpoint) error
}

// Config is what an Agent needs.
type Config struct {
	Hub        string                 // its address: "https://hub.example.com"
	Key        func() (string, error) // of the Presence; asked before each link
	Name       string                 // for people
	Version    string
	DataDir    string
	Allow      []connectors.AllowRule // targets that may be called; none: nothing may
	Connectors Connectors
	Client     *http.Client // to the hub: proxy and certificates
	Log        *slog.Logger
	StopWithin time.Duration // for what is in flight at the end; 15 s
}

// Agent is one agent; Open makes it, Run runs it.
type Agent struct {
	c       Config
	key     *presence.Key
	journal *journal
	lock    *os.File

	mu        sync.Mutex
	endpoints map[string]*known   // by Ref
	doing     map[string]string   // attempts being made: the ID by which the hub knows each, by slot
	made      map[string]*outcome // not yet known to be durable at the hub, by slot
	tell      []*outcome          // of those, what is to be told
	news      chan struct{}       // there is something to tell, or less to do
	checks    []checked           // answers to be told
}

// known is an endpoint as the hub has handed it over.
type known struct {
	connectors.Endpoint
	connector string
	secrets   connectors.Endpoint // all of them, also the values of secret headers: what must not come back
}

type checked struct {
	ID    string `json:"id"`
	Error string `json:"error"`
}

// Open takes the data folder, makes a key at the first start and reads what an earlier
// life could not tell the hub.
func Open(c Config) (_ *Agent, err error) {
	if c.StopWithin == 0 {
		c.StopWithin = 15 * time.Second
	}
	a := &Agent{c: c, endpoints: map[string]*known{}, doing: map[string]string{}, made: map[string]*outcome{}, news: make(chan struct{}, 1)}
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	if a.lock, err = os.OpenFile(filepath.Join(c.DataDir, "presence.lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	if err := syscall.Flock(int(a.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another agent is running in %s: stop it or choose another --data-dir", c.DataDir), a.lock.Close())
	}
	if a.key, err = readKey(c.DataDir); err != nil {
		return nil, errors.Join(err, a.lock.Close())
	}
	var left []*outcome
	if a.journal, left, err = openJournal(c.DataDir); err != nil {
		return nil, errors.Join(err, a.lock.Close())
	}
	for _, o := range left {
		a.made[slot(o.DeliveryID, o.Number)] = o
	}
	a.tell = left
	return a, nil
}

// readKey reads the agent's own key, and makes one at the first start.
func readKey(dir string) (*presence.Key, error) {
	file := filepath.Join(dir, "presence.key")
	b, err := os.ReadFile(file)
	if err == nil {
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
		if err != nil {
			return nil, fmt.Errorf("read %s: it is not a key in base64", file)
		}
		return presence.ParseKey(raw)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the agent's key: %w", err)
	}
	k, err := presence.NewKey()
	if err != nil {
		return nil, err
	}
	raw, err := k.Bytes()
	if err != nil {
		return nil, fmt.Errorf("write the agent's key: %w", err)
	}
	if err := os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(raw)+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("write the agent's key: %w", err)
	}
	return k, nil
}

// Run links to the hub, again and again, until ctx ends; then it takes nothing new, and
// finishes and tells what it has in hand.
func (a *Agent) Run(ctx context.Context) error {
	parts, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := make(chan struct{})
	var writing sync.WaitGroup
	a.journal.written, a.journal.failed = a.written, func(err error) { cancel(err) }
	writing.Go(func() { a.journal.run(stop) })
	defer func() {
		cancel(nil)
		close(stop)
		writing.Wait()
		_ = a.lock.Close()
	}()
	a.c.Log.Info("this agent", "key", presence.AgentID(a.key.Public), "hub", a.c.Hub, "allowed targets", len(a.c.Allow), "to be told from before", len(a.tell))
	if len(a.c.Allow) == 0 {
		a.c.Log.Warn("no target may be called: name them with " + AllowSetting)
	}
	for pause := firstPause; ; {
		linked, err := a.link(ctx, parts)
		if cause := context.Cause(parts); cause != nil {
			return cause // the journal
		}
		if ctx.Err() != nil {
			return nil
		}
		if linked {
			pause = firstPause
		}
		wait := pause/2 + rand.N(pause) //nolint:gosec // it spreads the load, no more
		pause = min(2*pause, longPause)
		var no *refusal
		if errors.As(err, &no) {
			wait = refusedWait
		}
		a.c.Log.Warn("no link to the hub", "why", err, "next try in", wait.Round(time.Millisecond))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// link is one link to the hub, until it is cut or ctx ends. linked says that there was one.
func (a *Agent) link(ctx, parts context.Context) (linked bool, err error) {
	key, err := a.c.Key()
	if err != nil {
		return false, err
	}
	s, err := dial(ctx, a.c.Client, a.c.Hub, key, a.c.Version)
	if err != nil {
		return false, err
	}
	life, cut := context.WithCancelCause(parts)
	var all sync.WaitGroup
	all.Go(func() { cut(s.run(life)) })
	defer func() {
		cut(nil)
		all.Wait()
		a.mu.Lock()
		a.checks = nil // nobody waits for the answers any more
		a.mu.Unlock()
	}()
	// What was made before is told first: the hub would have it made again.
	for a.toTell() {
		if !a.report(life, s) {
			return false, context.Cause(life)
		}
		if ctx.Err() != nil {
			return false, nil
		}
	}
	over := make(chan struct{})
	var once sync.Once
	in := map[string]any{"name": a.c.Name, "version": a.c.Version, "publicKey": base64.StdEncoding.EncodeToString(a.key.Public)}
	id, err := s.start(life, askWork, map[string]any{"in": in}, func(m message) {
		if m.Type == "next" {
			if err := a.take(life, m); err != nil {
				cut(err)
			}
			return
		}
		if m.Type == "error" && len(m.Payload) > 0 {
			cut(fmt.Errorf("the hub refuses the link: %s", m.Payload))
		}
		once.Do(func() { close(over) })
	})
	if err != nil {
		return false, err
	}
	for range reporters {
		all.Go(func() {
			for a.wait(life) {
				a.report(life, s)
			}
		})
	}
	select {
	case <-life.Done():
		return true, context.Cause(life)
	case <-over:
		cut(errors.New("the hub has ended the link"))
		return true, context.Cause(life)
	case <-ctx.Done():
	}
	a.finish(life, s, id, over)
	_ = s.conn.Close(1000, "")
	return true, nil
}

// finish ends a link in good order: nothing new, and what is in hand is made and told.
func (a *Agent) finish(ctx context.Context, s *socket, id string, over <-chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, a.c.StopWithin)
	defer cancel()
	if err := s.stop(ctx, id); err != nil {
		return
	}
	select {
	case <-over:
	case <-ctx.Done():
		return
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		a.mu.Lock()
		n := len(a.doing) + len(a.made)
		a.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			a.c.Log.Warn("stopping with work in hand; what was made is told at the next start", "attempts", n)
			return
		}
	}
}

// take takes a piece of work.
func (a *Agent) take(ctx context.Context, m message) error {
	var data struct{ PresenceWork work }
	if err := readAnswer(m.Payload, &data); err != nil {
		return err
	}
	w := &data.PresenceWork
	if len(w.Endpoints)+len(w.Deliveries)+len(w.Checks) == 0 {
		a.c.Log.Info("linked to the hub")
	}
	for i := range w.Endpoints {
		if err := a.know(&w.Endpoints[i]); err != nil {
			return err
		}
	}
	for i := range w.Deliveries {
		a.attempt(&w.Deliveries[i])
	}
	for _, c := range w.Checks {
		go a.check(ctx, c.ID, a.endpoint(c.Endpoint))
	}
	return nil
}

// know takes an endpoint over and forgets the one that it replaces.
func (a *Agent) know(e *endpoint) error {
	secrets, err := a.key.Open(e.Ref, e.SealedSecrets)
	if err != nil {
		return err
	}
	k := &known{connector: e.Connector, secrets: connectors.Endpoint{Secrets: secrets},
		Endpoint: connectors.Endpoint{Ref: e.Ref, ID: e.ID, URL: e.URL, Settings: e.Settings, Secrets: map[string]string{}, Dial: a.policy()}}
	for name, v := range secrets {
		if !strings.HasPrefix(name, "header:") { // those go into requests, and to no connector
			k.Secrets[name] = v
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for ref, old := range a.endpoints {
		if old.ID == e.ID {
			delete(a.endpoints, ref)
		}
	}
	a.endpoints[e.Ref] = k
	return nil
}

func (a *Agent) endpoint(ref string) *known {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.endpoints[ref]
}

// attempt makes an attempt, unless it was made or is being made already.
func (a *Agent) attempt(d *delivery) {
	a.mu.Lock()
	if _, underWay := a.doing[d.slot()]; underWay {
		a.doing[d.slot()] = d.Attempt
		a.mu.Unlock()
		return
	}
	if o := a.made[d.slot()]; o != nil {
		if o.Attempt != d.Attempt { // the hub knows it under another ID by now
			again := *o
			again.Attempt = d.Attempt
			a.made[d.slot()] = &again
			a.tell = append(a.tell, &again)
		}
		a.mu.Unlock()
		a.raise()
		return
	}
	a.doing[d.slot()] = d.Attempt
	a.mu.Unlock()
	k := a.endpoint(d.Endpoint)
	if k == nil {
		a.done(d, nil, connectors.Result{Outcome: connectors.Retry, Fault: connectors.FaultConnector, Started: time.Now(), Error: "the agent was not told of the endpoint"})
		return
	}
	out := connectors.Delivery{ID: d.DeliveryID, Attempt: d.Number, Endpoint: d.Endpoint, Timeout: time.Duration(d.Timeout * float64(time.Millisecond)), Event: d.Event}
	if r := d.Request; r != nil {
		out.Request = &connectors.Request{Method: r.Method, URL: r.URL, Body: d.RequestBody}
		for _, h := range r.Headers {
			line := connectors.Header{Name: h.Name, Value: h.Value, Secret: h.Sealed}
			if h.Sealed != "" {
				line.Value = k.secrets.Secrets[h.Sealed]
			}
			out.Request.Header = append(out.Request.Header, line)
		}
	}
	if err := a.refused(&k.Endpoint); err != nil {
		a.done(d, out.Request, connectors.Result{Outcome: connectors.Permanent, Fault: connectors.FaultPolicy, Started: time.Now(), Error: "The" + strings.TrimPrefix(err.Error(), "the") + "."})
		return
	}
	a.c.Connectors.Deliver(k.connector, k.Endpoint, out, func(r connectors.Result) {
		k.secrets.ConcealIn(&r) // before it is written down
		a.done(d, out.Request, r)
	})
}

// done writes down what came of an attempt.
func (a *Agent) done(d *delivery, request *connectors.Request, r connectors.Result) {
	o := outcomeOf(d, request, r)
	a.mu.Lock()
	o.Attempt = a.doing[d.slot()]
	delete(a.doing, d.slot())
	a.made[d.slot()] = o
	a.mu.Unlock()
	a.journal.add(o)
}

// written is told of outcomes that are on disk.
func (a *Agent) written(all ...*outcome) {
	a.mu.Lock()
	for _, o := range all {
		if now := a.made[slot(o.DeliveryID, o.Number)]; now != nil {
			a.tell = append(a.tell, now)
		}
	}
	a.mu.Unlock()
	a.raise()
}

func (a *Agent) raise() {
	select {
	case a.news <- struct{}{}:
	default:
	}
}

func (a *Agent) check(ctx context.Context, id string, k *known) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err := errors.New("the agent was not told of the endpoint")
	if k != nil {
		if err = a.refused(&k.Endpoint); err == nil {
			err = a.c.Connectors.Check(ctx, k.connector, k.Endpoint)
		}
	}
	c := checked{ID: id}
	if err != nil {
		c.Error = err.Error()
		if k != nil {
			c.Error = k.secrets.Conceal(c.Error)
		}
	}
	a.mu.Lock()
	a.checks = append(a.checks, c)
	a.mu.Unlock()
	a.raise()
}

func (a *Agent) toTell() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.tell)+len(a.checks) > 0
}

// wait waits until there is something to tell; false when ctx ends.
func (a *Agent) wait(ctx context.Context) bool {
	for !a.toTell() {
		select {
		case <-a.news:
		case <-ctx.Done():
			return false
		}
	}
	return ctx.Err() == nil
}

// report tells the hub of a piece of what was made; false when the link is no good.
func (a *Agent) report(ctx context.Context, s *socket) bool {
	all, checks := a.batch()
	if len(all)+len(checks) == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, tellWithin)
	defer cancel()
	in := map[string]any{"results": all, "checks": checks}
	if len(all) == 0 {
		in["results"] = []any{}
	}
	if len(checks) == 0 {
		delete(in, "checks")
	}
	var data struct{ ReportPresenceWork struct{ Forget []string } }
	err := s.ask(ctx, askReport, map[string]any{"in": in}, &data)
	if err != nil && ctx.Err() == nil {
		a.c.Log.Warn("the hub did not take what was made; it is told again", "attempts", len(all), "err", err)
	}
	forget := map[string]bool{}
	for _, id := range data.ReportPresenceWork.Forget {
		forget[id] = true
	}
	var gone []*outcome
	a.mu.Lock()
	for _, o := range all {
		switch key := slot(o.DeliveryID, o.Number); {
		case a.made[key] != o:
		case forget[o.Attempt]:
			delete(a.made, key)
			gone = append(gone, o)
		default:
			a.tell = append(a.tell, o)
		}
	}
	a.mu.Unlock()
	if len(gone) > 0 {
		a.journal.forget(gone...)
	}
	if err != nil || len(all) > 0 && len(gone) == 0 {
		select { // whatever it is, it is not over at once
		case <-ctx.Done():
		case <-time.After(firstPause):
		}
	}
	return ctx.Err() == nil
}

// batch takes a piece of what is to be told.
func (a *Agent) batch() (all []*outcome, checks []checked) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for size := 0; n < len(a.tell) && len(all) < reportMost && size < reportBytes; n++ {
		if o := a.tell[n]; a.made[slot(o.DeliveryID, o.Number)] == o { // else it is told under another ID
			size += o.size()
			all = append(all, o)
		}
	}
	a.tell, checks, a.checks = a.tell[n:], a.checks, nil
	if len(a.tell) > 0 {
		a.raise() // for the next reporter
	}
	return all, checks
}
