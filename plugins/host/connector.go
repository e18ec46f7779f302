package host

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/plugins"
	"github.com/hookyard/hookyard/plugins/sandbox"
)

const (
	healthyAfter    = time.Minute     // a process that lived this long is no repeated crash
	quarantineAfter = 10              // crashes in a row
	quarantineRetry = time.Minute     // between starts in quarantine
	holdFor         = 1 * time.Second // items wait for a start that is due within this …
	holdMost        = 4096            // … and there are at most so many of them
)

// connector is one entry of the catalog over time: process after process.
type connector struct {
	entry Entry
	cfg   *Config
	log   *slog.Logger
	tried chan struct{} // closed when the first start has succeeded or failed

	mu        sync.Mutex
	state     State
	process   *process // nil: none is up
	spec      *connectors.Spec
	about     *plugins.Description
	held      []held
	nextStart time.Time
	starts    int
	expired   int
	lastError string
}

var (
	errStopping = errors.New("the hub is stopping")
	errHung     = errors.New("the process gave no sign of life") // but was still there
)

// held is an item that waits for the process to start.
type held struct {
	endpoint connectors.Endpoint
	delivery connectors.Delivery
	at       time.Time
	done     func(connectors.Result)
}

// run keeps a process up until ctx ends.
func (c *connector) run(ctx context.Context, box *sandbox.Box, dir string) {
	for crashes := 0; ; {
		p, err := startProcess(ctx, c.cfg, box, &c.entry, dir, c.log)
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
		crashes++
		wait := c.backoff(crashes)
		c.crashed(err, crashes, wait)
		timer := c.cfg.Clock.NewTimer(wait)
		select {
		case <-timer.Chan():
		case <-ctx.Done():
			timer.Stop()
			c.stopped()
			return
		}
	}
}

func (c *connector) backoff(crashes int) time.Duration {
	if crashes >= quarantineAfter {
		return max(quarantineRetry, c.cfg.BackoffMax)
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
		}
	}
}

func (c *connector) up(p *process) {
	c.mu.Lock()
	c.process, c.spec, c.nextStart = p, &p.spec, time.Time{}
	c.about = &p.about
	c.starts++
	if c.state != Draining {
		c.state = Running
	}
	waiting := c.held
	c.held = nil
	c.mu.Unlock()
	c.triedOnce()
	c.log.Info("connector started", "version", p.spec.Version, "pid", p.runner.ID())
	for _, h := range waiting {
		c.deliver(h.endpoint, h.delivery, h.done)
	}
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
	c.mu.Lock()
	c.lastError = err.Error()
	c.nextStart = c.cfg.Clock.Now().Add(wait)
	if c.state != Draining {
		c.state = Restarting
		if crashes >= quarantineAfter {
			c.state = Quarantined
		}
	}
	state := c.state
	var answer []held
	if wait > holdFor {
		answer, c.held = c.held, nil
	}
	c.mu.Unlock()
	c.triedOnce()
	c.log.Error("connector is down", "error", err, "crashes", crashes, "state", state, "next_start_in", wait)
	for _, h := range answer {
		h.done(plugins.Broken(h.delivery.ID, h.at, wait, "the connector's process does not start"))
	}
}

func (c *connector) stopped() {
	c.mu.Lock()
	c.state = Stopped
	answer := c.held
	c.held = nil
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

// deliver hands an item to the process, or holds it for one that is due soon, or
// answers it.
func (c *connector) deliver(e connectors.Endpoint, d connectors.Delivery, done func(connectors.Result)) {
	var ended *process
	c.mu.Lock()
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
	defer c.mu.Unlock()
	now := c.cfg.Clock.Now()
	if c.state == Draining || c.state == Stopped {
		go done(plugins.Broken(d.ID, now, 0, errStopping.Error()))
		return
	}
	wait := time.Duration(0) // a start is under way
	if !c.nextStart.IsZero() {
		wait = max(c.nextStart.Sub(now), 0)
	}
	if wait <= holdFor && len(c.held) < holdMost {
		c.held = append(c.held, held{e, d, now, done})
		return
	}
	go done(plugins.Broken(d.ID, now, max(wait, c.cfg.BackoffMin), "the connector is down: "+c.lastError))
}

// drain refuses what is new and answers what was not yet handed over.
func (c *connector) drain() {
	c.mu.Lock()
	if c.state != Stopped {
		c.state = Draining
	}
	answer := c.held
	c.held = nil
	c.mu.Unlock()
	for _, h := range answer {
		h.done(plugins.Broken(h.delivery.ID, h.at, 0, errStopping.Error()))
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
