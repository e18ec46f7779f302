package presence

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/server/flow"
)

const (
	roomOfLink = 1024             // deliveries that one agent has in hand
	workMost   = 64               // deliveries handed over at once …
	workBytes  = 1 << 20          // … or as many as have this size
	seenEvery  = 10 * time.Second // how often a link is noted to be alive
	overdue    = 30 * time.Second // beyond its timeout: an agent that is there and does not answer
	itemLimit  = 30 * time.Second // of a delivery without a timeout
)

// Roll keeps who is linked where, for people.
type Roll interface {
	Linked(ctx context.Context, org, presence string, a flow.Agent) error
	Seen(ctx context.Context, agents map[string][]string) error // by Presence
	Unlinked(ctx context.Context, presence, agent string) error
	Agents(ctx context.Context, presence string) ([]flow.AgentView, error)
}

// Config is what Links need.
type Config struct {
	Roll  Roll
	Clock clockwork.Clock
	Log   *slog.Logger
	Lease time.Duration // for which an agent keeps what it has when its link is cut; 30 s
	// Changed is told when a Presence gets its first link or loses its last.
	Changed func(presence string)
	// Resume records results of deliveries that nobody here waits for. recorded is called
	// for each that is durable, by its Try; unknown are those that will never be.
	Resume func(ctx context.Context, org, presence string, results []flow.AgentResult, recorded func(try string)) (unknown []string, err error)
}

// Links are the agents that are linked to this node, and what they have in hand. Its
// methods are safe for concurrent use.
type Links struct {
	c Config

	mu        sync.Mutex
	presences map[string]*present
	checks    map[string]*check
	draining  bool // what no agent is there for is handed back at once
	closed    bool
}

// present is a Presence with links, or with deliveries that wait for an agent to be back.
type present struct {
	links map[string]*link // by agent
	items map[string]*item // by Try
	queue []*item          // for which no link has room
}

// link is one agent's link.
type link struct {
	agent  flow.Agent
	cancel context.CancelCauseFunc
	wake   chan struct{}
	out    []*item // to be handed over, or once more after a cut
	checks []*check
	inHand int

	known map[string]given // endpoints that it has, by ID; of the goroutine that sends
}

// given is an endpoint as an agent has it.
type given struct {
	ref     string
	secrets map[string]string
}

// item is a delivery that was handed over and is not answered.
type item struct {
	work      flow.WorkDelivery
	endpoint  connectors.Endpoint
	connector string
	agent     string    // that has it; "" it waits for room
	due       time.Time // when the agent must have answered
	lost      time.Time // when that agent's link was cut; zero: it is there
	done      func(connectors.Result, func())
}

// check is a question that waits for its answer.
type check struct {
	id, connector string
	presence      string
	endpoint      connectors.Endpoint
	answer        chan string
}

// New makes Links; see Run.
func New(c Config) *Links {
	if c.Lease == 0 {
		c.Lease = 30 * time.Second
	}
	return &Links{c: c, presences: map[string]*present{}, checks: map[string]*check{}}
}

// Why a link ended.
var (
	ErrReplaced = errors.New("another agent has linked with the same key: each needs a data folder of its own")
	ErrClosing  = errors.New("the hub is stopping")
)

// Linked says whether an agent of the Presence is linked to this node.
func (l *Links) Linked(presence string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.presences[presence]
	return p != nil && len(p.links) > 0 && !l.closed
}

// Deliver hands a delivery to an agent: see dispatch.Presences.
func (l *Links) Deliver(presence, connector string, e connectors.Endpoint, d connectors.Delivery, attempt string, done func(connectors.Result, func())) {
	it := &item{work: flow.WorkDelivery{Try: attempt, Delivery: d}, endpoint: e, connector: connector, done: done}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.presences[presence]
	if p == nil || len(p.links) == 0 || l.closed {
		go done(connectors.Result{}, nil)
		return
	}
	p.items[attempt] = it
	p.queue = append(p.queue, it)
	l.share(p)
}

// share gives what waits to the links that have the least in hand.
func (l *Links) share(p *present) {
	now := l.c.Clock.Now()
	for len(p.queue) > 0 {
		var to *link
		for _, k := range p.links {
			if k.inHand < roomOfLink && (to == nil || k.inHand < to.inHand) {
				to = k
			}
		}
		if to == nil {
			return
		}
		it := p.queue[0]
		p.queue[0] = nil
		if p.queue = p.queue[1:]; len(p.queue) == 0 {
			p.queue = nil
		}
		to.give(it, now)
	}
}

func (k *link) give(it *item, now time.Time) {
	limit := it.work.Timeout
	if limit <= 0 {
		limit = itemLimit
	}
	it.agent, it.lost, it.due = k.agent.ID, time.Time{}, now.Add(limit+overdue)
	k.inHand++
	k.out = append(k.out, it)
	k.raise()
}

func (k *link) raise() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Link hands work to an agent until ctx ends, and returns why it ended. The first thing
// that is sent is empty: it says that the link is there.
func (l *Links) Link(ctx context.Context, org, presence string, a flow.Agent, send func(context.Context, flow.Work) error) error {
	if _, err := Seal(a.Key, "", nil); err != nil {
		return err
	}
	a.ID = AgentID(a.Key)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	k := &link{agent: a, cancel: cancel, wake: make(chan struct{}, 1), known: map[string]given{}}
	if err := send(ctx, flow.Work{}); err != nil {
		return err
	}
	if err := l.c.Roll.Linked(ctx, org, presence, a); err != nil {
		return fmt.Errorf("note the link: %w", err)
	}
	if !l.join(presence, k) {
		return ErrClosing
	}
	log := l.c.Log.With("presence", presence, "agent", a.ID, "name", a.Name)
	log.Info("an agent has linked", "version", a.Version)
	l.c.Changed(presence)
	err := l.serve(ctx, k, send)
	left := l.leave(presence, k)
	l.c.Changed(presence)
	log.Info("an agent's link has ended", "why", err, "in hand", left)
	if !errors.Is(err, ErrReplaced) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := l.c.Roll.Unlinked(ctx, presence, a.ID); err != nil {
			log.Warn("note the end of an agent's link", "err", err)
		}
	}
	return err
}

func (l *Links) serve(ctx context.Context, k *link, send func(context.Context, flow.Work) error) error {
	for {
		work, err := l.next(k)
		if err != nil {
			return err
		}
		if len(work.Deliveries)+len(work.Checks) > 0 {
			if err := send(ctx, work); err != nil {
				return causeOf(ctx, err)
			}
			continue
		}
		select {
		case <-k.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// join adds a link. What its agent had in hand before a cut is handed to it again.
func (l *Links) join(presence string, k *link) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	p := l.presences[presence]
	if p == nil {
		p = &present{links: map[string]*link{}, items: map[string]*item{}}
		l.presences[presence] = p
	}
	if old := p.links[k.agent.ID]; old != nil {
		old.cancel(ErrReplaced)
	}
	p.links[k.agent.ID] = k
	now := l.c.Clock.Now()
	for _, it := range p.items {
		if it.agent == k.agent.ID {
			k.give(it, now)
		}
	}
	l.share(p)
	return true
}

// leave takes a link out and says how much its agent has in hand.
func (l *Links) leave(presence string, k *link) (inHand int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.presences[presence]
	if p == nil || p.links[k.agent.ID] != k {
		return 0 // it was replaced, or everything is closed
	}
	delete(p.links, k.agent.ID)
	now := l.c.Clock.Now()
	for _, it := range p.items {
		if it.agent == k.agent.ID {
			it.lost = now
			inHand++
			if l.draining {
				l.handBack(p, it)
			}
		}
	}
	for _, c := range k.checks {
		c.answer <- "The agent's link ended before it could answer; try again."
		delete(l.checks, c.id)
	}
	if len(p.links) == 0 {
		for _, it := range p.queue {
			l.handBack(p, it)
		}
		p.queue = nil
	}
	l.tidy(presence, p)
	return inHand
}

// handBack answers a delivery that nobody is known to have tried.
func (l *Links) handBack(p *present, it *item) {
	delete(p.items, it.work.Try)
	if k := p.links[it.agent]; k != nil && it.agent != "" {
		k.inHand--
		k.out = slices.DeleteFunc(k.out, func(o *item) bool { return o == it })
	}
	go it.done(connectors.Result{}, nil)
}

func (l *Links) tidy(presence string, p *present) {
	if len(p.links)+len(p.items) == 0 {
		delete(l.presences, presence)
	}
}

// next takes what is to be sent, and seals the secrets that the agent does not have yet.
// An endpoint is in it as it was at one revision only: an agent has the latest it was told.
func (l *Links) next(k *link) (flow.Work, error) {
	l.mu.Lock()
	n, size, refs := 0, 0, map[string]string{} // by endpoint
	differs := func(e *connectors.Endpoint) bool {
		ref, ok := refs[e.ID]
		if !ok {
			refs[e.ID] = e.Ref
		}
		return ok && ref != e.Ref
	}
	for n < len(k.out) && n < workMost && size < workBytes && !differs(&k.out[n].endpoint) {
		d := &k.out[n].work
		size += len(d.Event)
		if d.Request != nil {
			size += len(d.Request.Body)
		}
		n++
	}
	items, checks, later := k.out[:n:n], []*check(nil), []*check(nil)
	for _, c := range k.checks {
		if differs(&c.endpoint) {
			later = append(later, c)
		} else {
			checks = append(checks, c)
		}
	}
	k.out, k.checks = k.out[n:], later
	if len(k.out) == 0 {
		k.out = nil
	}
	l.mu.Unlock()
	var w flow.Work
	for _, it := range items {
		d, secrets := withoutSecrets(it.work)
		maps.Copy(secrets, it.endpoint.Secrets)
		if err := k.know(&w, it.connector, it.endpoint, secrets); err != nil {
			return w, err
		}
		w.Deliveries = append(w.Deliveries, d)
	}
	for _, c := range checks {
		if err := k.know(&w, c.connector, c.endpoint, c.endpoint.Secrets); err != nil {
			return w, err
		}
		w.Checks = append(w.Checks, flow.WorkCheck{ID: c.id, Endpoint: c.endpoint.Ref})
	}
	return w, nil
}

// withoutSecrets takes the values of secret headers out of a delivery.
func withoutSecrets(d flow.WorkDelivery) (flow.WorkDelivery, map[string]string) {
	secrets := map[string]string{}
	if d.Request == nil {
		return d, secrets
	}
	r := *d.Request
	r.Header = slices.Clone(r.Header)
	for i := range r.Header {
		if h := &r.Header[i]; h.Secret != "" {
			secrets[h.Secret], h.Value = h.Value, ""
		}
	}
	d.Request = &r
	return d, secrets
}

// know adds an endpoint to the work unless the agent has it with these secrets.
func (k *link) know(w *flow.Work, connector string, e connectors.Endpoint, secrets map[string]string) error {
	had := k.known[e.ID]
	if had.ref == e.Ref {
		more := false
		for name, v := range secrets {
			old, ok := had.secrets[name]
			more = more || !ok || old != v
		}
		if !more {
			return nil
		}
		all := maps.Clone(had.secrets)
		maps.Copy(all, secrets)
		secrets = all
	}
	sealed, err := Seal(k.agent.Key, e.Ref, secrets)
	if err != nil {
		return err
	}
	k.known[e.ID] = given{e.Ref, secrets}
	w.Endpoints = append(w.Endpoints, flow.WorkEndpoint{Ref: e.Ref, ID: e.ID, Connector: connector, URL: e.URL, Settings: e.Settings, Sealed: sealed})
	return nil
}

// Report takes what an agent says came of its work, and returns the attempts that it may
// forget: they are recorded, or nobody knows of them any more.
func (l *Links) Report(ctx context.Context, org, presence string, results []flow.AgentResult, checks []flow.AgentCheck) (forget []string, err error) {
	l.mu.Lock()
	for _, c := range checks {
		if asked := l.checks[c.ID]; asked != nil && asked.presence == presence {
			delete(l.checks, c.ID)
			asked.answer <- c.Error
		}
	}
	var strangers []flow.AgentResult
	known := map[int]*item{}
	for i, r := range results {
		if it := l.answered(presence, r.Try); it != nil {
			known[i] = it
		} else {
			strangers = append(strangers, r)
		}
	}
	l.mu.Unlock()
	recorded := make(chan string, len(results))
	for i, it := range known {
		try := results[i].Try
		it.done(results[i].Result, func() { recorded <- try })
	}
	if len(strangers) > 0 {
		if forget, err = l.c.Resume(ctx, org, presence, strangers, func(try string) { recorded <- try }); err != nil {
			l.c.Log.Warn("what an agent reports cannot be recorded yet; it will report it again", "presence", presence, "err", err)
			forget = nil
			results = results[:len(known)] // as many are waited for
		}
	}
	for waits := len(results) - len(forget); waits > 0; waits-- {
		select {
		case try := <-recorded:
			forget = append(forget, try)
		case <-ctx.Done():
			return forget, nil // the agent reports the others again
		}
	}
	return forget, nil
}

// answered takes an item out that an agent has answered; nil: there is none.
func (l *Links) answered(presence, try string) *item {
	p := l.presences[presence]
	if p == nil || p.items[try] == nil {
		return nil
	}
	it := p.items[try]
	delete(p.items, try)
	if k := p.links[it.agent]; k != nil {
		k.inHand--
		k.out = slices.DeleteFunc(k.out, func(o *item) bool { return o == it })
		l.share(p)
	} else if it.agent == "" {
		p.queue = slices.DeleteFunc(p.queue, func(o *item) bool { return o == it })
	}
	l.tidy(presence, p)
	return it
}

// Check asks an agent of the Presence whether an endpoint would work. The error's text is
// for people.
func (l *Links) Check(ctx context.Context, presence, connector string, e connectors.Endpoint) error {
	c := &check{id: rand.Text(), connector: connector, presence: presence, endpoint: e, answer: make(chan string, 1)}
	l.mu.Lock()
	var to *link
	if p := l.presences[presence]; p != nil && !l.closed {
		for _, k := range p.links {
			if to == nil || k.inHand < to.inHand {
				to = k
			}
		}
	}
	if to == nil {
		l.mu.Unlock()
		return errors.New("no agent of the Presence is linked to this node of the hub: see the Presence's agents")
	}
	l.checks[c.id] = c
	to.checks = append(to.checks, c)
	to.raise()
	l.mu.Unlock()
	select {
	case wrong := <-c.answer:
		if wrong != "" {
			return errors.New(wrong)
		}
		return nil
	case <-ctx.Done():
		l.mu.Lock()
		delete(l.checks, c.id)
		l.mu.Unlock()
		return fmt.Errorf("wait for the agent of the Presence: %w", ctx.Err())
	}
}

// Agents are the agents of a Presence, linked or not, for people.
func (l *Links) Agents(ctx context.Context, presence string) ([]flow.AgentView, error) {
	return l.c.Roll.Agents(ctx, presence)
}

// Run takes back what agents keep for too long, and notes who is there, until ctx ends.
func (l *Links) Run(ctx context.Context) {
	every, seen := l.c.Clock.NewTicker(time.Second), l.c.Clock.NewTicker(seenEvery)
	defer every.Stop()
	defer seen.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.Chan():
			l.expire()
		case <-seen.Chan():
			if agents := l.agents(); len(agents) > 0 {
				if err := l.c.Roll.Seen(ctx, agents); err != nil && ctx.Err() == nil {
					l.c.Log.Warn("note which agents are linked", "err", err)
				}
			}
		}
	}
}

func (l *Links) agents() map[string][]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string][]string{}
	for id, p := range l.presences {
		for agent := range p.links {
			all[id] = append(all[id], agent)
		}
	}
	return all
}

// expire hands back what an agent has not answered in time, or was not back for.
func (l *Links) expire() {
	now := l.c.Clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, p := range l.presences {
		n := 0
		for _, it := range p.items {
			lost := !it.lost.IsZero() && now.Sub(it.lost) >= l.c.Lease
			if lost || it.agent != "" && it.lost.IsZero() && now.After(it.due) {
				l.handBack(p, it)
				n++
			}
		}
		if n > 0 {
			l.c.Log.Warn("an agent did not answer; what it had in hand may be sent once more", "presence", id, "deliveries", n)
			l.share(p)
			l.tidy(id, p)
		}
	}
}

// Drain hands back at once what no agent is there for, from now on: the hub is about to
// stop, and waits for the rest.
func (l *Links) Drain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draining = true
	for id, p := range l.presences {
		for _, it := range p.items {
			if !it.lost.IsZero() {
				l.handBack(p, it)
			}
		}
		l.tidy(id, p)
	}
}

// Close hands back everything that is not answered, and takes nothing new.
func (l *Links) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for id, p := range l.presences {
		for _, it := range p.items {
			l.handBack(p, it)
		}
		for _, k := range p.links {
			k.cancel(ErrClosing)
		}
		delete(l.presences, id)
	}
}

// Stats is how things stand.
type Stats struct{ Links, InHand, Waiting int }

// Stats returns how things stand.
func (l *Links) Stats() (s Stats) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.presences {
		s.Links += len(p.links)
		s.Waiting += len(p.queue)
		s.InHand += len(p.items) - len(p.queue)
	}
	return s
}
