package host

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/plugins"
)

const (
	healthyAfter    = time.Minute // a process that lived this long is no repeated crash
	quarantineAfter = 10          // crashes in a row
	neverUp         = 3           // failed starts in a row of what has never been up
	quarantineRetry = time.Minute // before the next start in quarantine, doubling …
	quarantineMost  = 15 * time.Minute
	holdFor         = 1 * time.Second // items wait for a start that is due within this …
	holdMost        = 4096            // … and there are at most so many of them
)

// connector is one entry of the catalog over time: process after process.
type connector struct {
	entry Entry
	cfg   *Config
	log   *slog.Logger
	tried chan struct{} // closed when the first start has succeeded or failed
	ended chan struct{} // closed when run has returned

	cancel  context.CancelFunc // of run
	asked   chan struct{}      // closed when there is something to do for what is idle
	freed   chan struct{}      // somebody has let it out of quarantine
	diary   *diary             // nil: nobody reads it
	secrets atomic.Pointer[strings.Replacer]

	mu        sync.Mutex
	state     State
	process   *process // nil: none is up
	spec      *connectors.Spec
	about     *plugins.Description
	held      []held
	suspects  suspects
	nextStart time.Time
	starts    int
	expired   int
	lastError string
	leaving   error // why nothing new is taken
}

var (
	errStopping = errors.New("the hub is stopping")
	errReplaced = errors.New("this version of the connector is not used any more")
	errHung     = errors.New("the process gave no sign of life") // but was still there
)

// held is an item that waits for the process to start.
type held struct {
	endpoint connectors.Endpoint
	delivery connectors.Delivery
	at       time.Time
	done     func(connectors.Result)
}

func newConnector(cfg *Config, e Entry) *connector {
	c := &connector{entry: e, cfg: cfg, state: Starting, tried: make(chan struct{}), ended: make(chan struct{}),
		asked: make(chan struct{}), freed: make(chan struct{}, 1)}
	if e.OnDemand {
		c.state = Idle
	}
	log := cfg.Logger.With("connector", e.Name)
	if e.Package != nil {
		c.diary = &diary{}
		c.secrets.Store(e.Redact)
		log = slog.New(&redacting{Handler: log.With("organization", e.Organization, "package", e.Package.Version).Handler(), diary: c.diary, secrets: &c.secrets})
	}
	c.log = limited(log, cfg.Clock)
	return c
}

// update takes over what may change of an entry while its process runs.
func (c *connector) update(e Entry) {
	c.secrets.Store(e.Redact)
	c.mu.Lock()
	freed := e.Released.After(c.entry.Released)
	c.entry.Released = e.Released
	freed = freed && c.state == Quarantined
	c.mu.Unlock()
	if freed {
		select {
		case c.freed <- struct{}{}:
		default:
		}
	}
}

// run keeps a process up until ctx ends.
func (c *connector) run(ctx context.Context, dir string) {
	if c.entry.OnDemand {
		select {
		case <-c.asked:
		case <-ctx.Done():
			c.stopped()
			return
		}
	}
	for crashes := 0; ; {
		p, err := c.begin(ctx, dir)
		if err == nil {
			began := c.cfg.Clock.Now()
			c.up(p)
			err = c.watch(ctx, p)
			c.down(p, err == nil)
			if c.cfg.Clock.Since(began) >= healthyAfter {
				crashes = 0
			}
		}
		if ctx.Err() != nil {
			c.stopped()
			return
		}
		if crashes++; errors.Is(err, plugins.ErrFlood) && c.entry.Package != nil {
			crashes = max(crashes, c.limit()) // it would do so again
		}
		wait := c.backoff(crashes)
		c.crashed(err, crashes, wait)
		timer := c.cfg.Clock.NewTimer(wait)
		select {
		case <-timer.Chan():
		case <-c.freed:
			timer.Stop()
			crashes = 0
			c.log.Info("somebody let the connector out of quarantine")
			c.mu.Lock()
			c.nextStart = time.Time{}
			told := c.turn(Restarting)
			c.mu.Unlock()
			c.tell(told)
		case <-ctx.Done():
			timer.Stop()
			c.stopped()
			return
		}
	}
}

// turn changes the state, but for one that is draining, and says whether Ready changes by
// that. The mutex is held.
func (c *connector) turn(to State) (told bool) {
	if c.state == Draining {
		return false
	}
	told = (c.state == Quarantined) != (to == Quarantined)
	c.state = to
	return told
}

// tell is called, without the mutex, with what turn said.
func (c *connector) tell(told bool) {
	if told && c.entry.Package != nil {
		c.cfg.Changed(c.entry.Organization)
	}
}

// begin starts a process that is what its package promised.
func (c *connector) begin(ctx context.Context, dir string) (*process, error) {
	p, err := startProcess(ctx, c.cfg, &c.entry, dir, c.log, c.lost)
	if err != nil || c.entry.Package == nil {
		return p, err
	}
	if err := c.entry.Package.agrees(p.about); err != nil {
		p.stop(true)
		return nil, err
	}
	return p, nil
}

// redact takes the organization's secrets out of a text.
func (c *connector) redact(s string) string {
	if r := c.secrets.Load(); r != nil {
		return r.Replace(s)
	}
	return s
}

// limit is how many crashes in a row lead into quarantine.
func (c *connector) limit() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.starts == 0 && c.entry.Package != nil {
		return neverUp
	}
	return quarantineAfter
}

func (c *connector) backoff(crashes int) time.Duration {
	if over := crashes - c.limit(); over >= 0 {
		if c.entry.Package == nil {
			over = 0 // everybody waits for it
		}
		return max(min(quarantineRetry<<min(over, 10), quarantineMost), c.cfg.BackoffMax)
	}
	return min(c.cfg.BackoffMin<<(crashes-1), c.cfg.BackoffMax)
}

// watch returns nil when ctx ends, else why the process must be replaced. Beats are
// counted rather than time, so that a machine that slept does not blame the process.
func (c *connector) watch(ctx context.Context, p *process) error {
	beat := c.cfg.Clock.NewTicker(c.cfg.PingEvery)
	defer beat.Stop()
	missed, number := 0, uint64(0)
	for {
		select {
		case <-p.session.Ended():
			return p.session.Err()
		case <-ctx.Done():
			return nil
		case <-beat.Chan():
			if n := p.session.Expire(); n > 0 {
				c.log.Warn("the connector did not answer in time", "items", n)
				c.mu.Lock()
				c.expired += n
				c.mu.Unlock()
			}
			if p.session.Ponged() < number {
				if missed++; time.Duration(missed)*c.cfg.PingEvery >= c.cfg.PingTimeout {
					return errHung
				}
				continue
			}
			if err := p.overfull(); err != nil {
				return err
			}
			missed = 0
			number++
			p.session.Ping(number)
			c.beat()
		}
	}
}

func (c *connector) up(p *process) {
	c.mu.Lock()
	c.process, c.spec, c.nextStart = p, &p.spec, time.Time{}
	c.about = &p.about
	c.starts++
	told := c.turn(Running)
	waiting := c.unhold()
	c.suspects.tried, c.suspects.width = 0, 1
	c.mu.Unlock()
	c.triedOnce()
	c.log.Info("connector started", "version", p.spec.Version, "pid", p.runner.ID())
	for _, h := range waiting {
		c.deliver(h.endpoint, h.delivery, h.done)
	}
	c.tell(told)
}

func (c *connector) down(p *process, healthy bool) {
	c.mu.Lock()
	c.process = nil
	if c.state == Running {
		c.state = Restarting
	}
	c.mu.Unlock()
	p.stop(healthy)
}

func (c *connector) crashed(err error, crashes int, wait time.Duration) {
	limit := c.limit()
	c.mu.Lock()
	c.lastError = c.redact(err.Error())
	c.nextStart = c.cfg.Clock.Now().Add(wait)
	state := Restarting
	if crashes >= limit {
		state = Quarantined
	}
	told := c.turn(state)
	var answer []held
	if wait > holdFor {
		answer = c.unhold()
	}
	c.mu.Unlock()
	c.triedOnce()
	c.log.Error("connector is down", "error", err, "crashes", crashes, "state", state, "next_start_in", wait)
	for _, h := range answer {
		h.done(plugins.Broken(h.delivery.ID, h.at, wait, "the connector's process does not start"))
	}
	c.tell(told)
}

func (c *connector) stopped() {
	c.mu.Lock()
	c.state = Stopped
	answer := c.unhold()
	c.mu.Unlock()
	c.triedOnce()
	for _, h := range answer {
		h.done(plugins.Broken(h.delivery.ID, h.at, 0, errStopping.Error()))
	}
}

// triedOnce is called by run's goroutine only.
func (c *connector) triedOnce() {
	select {
	case <-c.tried:
	default:
		close(c.tried)
	}
}

// deliver hands an item to the process, now or when it is its turn, or holds it for one
// that is due soon, or answers it.
func (c *connector) deliver(e connectors.Endpoint, d connectors.Delivery, done func(connectors.Result)) {
	var ended *process
	c.mu.Lock()
	if c.suspects.strikes[d.ID] > 0 && c.state == Running {
		c.suspect(held{e, d, c.cfg.Clock.Now(), done})
		c.mu.Unlock()
		return
	}
	for c.process != ended && c.state == Running {
		p := c.process
		c.mu.Unlock()
		if p.session.Deliver(e, d, done) {
			return
		}
		c.mu.Lock() // it has just ended; run will find out too
		if ended = p; c.process == nil {
			break
		}
	}
	c.hold(held{e, d, c.cfg.Clock.Now(), done})
	c.mu.Unlock()
}

// hold keeps an item for the process that is due soon, or answers it. The mutex is held.
func (c *connector) hold(h held) {
	now := c.cfg.Clock.Now()
	if c.state == Draining || c.state == Stopped {
		go h.done(plugins.Broken(h.delivery.ID, now, 0, cmp.Or(c.leaving, errStopping).Error()))
		return
	}
	c.wake()
	wait := time.Duration(0) // a start is under way
	if !c.nextStart.IsZero() {
		wait = max(c.nextStart.Sub(now), 0)
	}
	if wait <= holdFor && len(c.held) < holdMost {
		c.held = append(c.held, h)
		return
	}
	go h.done(plugins.Broken(h.delivery.ID, now, max(wait, c.cfg.BackoffMin), "the connector is down: "+c.lastError))
}

// unhold returns everything that waits, and nothing does any more. The mutex is held.
func (c *connector) unhold() []held {
	all := append(c.held, c.suspects.waiting...)
	c.held, c.suspects.waiting = nil, nil
	return all
}

// wake has an idle connector started. The mutex is held.
func (c *connector) wake() {
	if c.state == Idle {
		c.state = Starting
		close(c.asked)
	}
}

// drain refuses what is new and answers what was not yet handed over.
func (c *connector) drain(why error) {
	c.mu.Lock()
	if c.state != Stopped {
		c.state, c.leaving = Draining, why
	}
	answer := c.unhold()
	c.mu.Unlock()
	for _, h := range answer {
		h.done(plugins.Broken(h.delivery.ID, h.at, 0, why.Error()))
	}
}

// idle waits until nothing is in flight.
func (c *connector) idle(ctx context.Context) error {
	c.mu.Lock()
	p := c.process
	c.mu.Unlock()
	if p == nil {
		return nil
	}
	select {
	case <-p.session.Idle():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
