package main

import (
	"context"
	"io"
	"time"
)

// profile is one way of loading a server.
type profile struct {
	name     string
	what     string
	lay      layout
	rate     float64       // events/s, open loop; 0 saturates with a closed loop
	length   time.Duration // of sending
	conns    int
	warm     int
	wait     time.Duration
	settle   time.Duration
	faults   string
	killAt   time.Duration
	watchers int
	pair     bool     // part of a pair: run as often as pairs are
	servers  []string // which it is for
	o        startOptions
}

const noisy = "e8=hang,e9=500"

// profiles are the bench; saturated is how long the saturating ones send.
func profiles(saturated time.Duration) []profile {
	all := []string{"sqlite", "postgres", "ceiling"}
	hub := all[:2]
	one, fan, rr := layout{"fan", 1}, layout{"fan", 10}, layout{"rr", 10}
	minute, idle := time.Minute, 15*time.Second
	return []profile{
		{name: "P1", what: "one endpoint, saturated", lay: one, length: saturated, conns: 64, warm: 500, wait: 2 * minute, settle: idle, servers: all},
		{name: "P1m", what: "one endpoint, 200 events/s", lay: one, rate: 200, length: 15 * time.Second, conns: 64, warm: 200, wait: minute / 2, settle: idle, servers: all},
		{name: "P2", what: "one event to ten endpoints, saturated", lay: fan, length: saturated / 2, conns: 32, warm: 100, wait: 2 * minute, settle: idle, servers: all},
		{name: "P3b", what: "ten endpoints in turn, 200 events/s", lay: rr, rate: 200, length: 20 * time.Second, conns: 64, warm: 200, wait: minute / 2, settle: time.Second, pair: true, servers: hub},
		{name: "P3", what: "the same, one hangs and one answers 500", lay: rr, rate: 200, length: 20 * time.Second, conns: 64, warm: 200, wait: minute, settle: time.Second, faults: noisy, pair: true, servers: hub},
		{name: "P3xb", what: "ten endpoints in turn, 400 events/s", lay: rr, rate: 400, length: 20 * time.Second, conns: 128, warm: 200, wait: minute / 2, settle: time.Second, pair: true, servers: hub},
		{name: "P3x", what: "the same, one hangs and one answers 500", lay: rr, rate: 400, length: 20 * time.Second, conns: 128, warm: 200, wait: minute, settle: time.Second, faults: noisy, pair: true, servers: hub},
		{name: "P4", what: "kill -9 at 200 events/s", lay: one, rate: 200, length: 20 * time.Second, conns: 64, warm: 200, wait: minute, settle: idle, killAt: 8 * time.Second, servers: hub},
		{name: "P4s", what: "kill -9 at 1,000 events/s", lay: one, rate: 1000, length: 12 * time.Second, conns: 128, warm: 200, wait: minute, settle: idle, killAt: 5 * time.Second, servers: hub},
		{name: "W", what: "1,000 watchers, 200 events/s", lay: rr, rate: 200, length: 30 * time.Second, conns: 64, warm: 200, wait: minute / 2, settle: idle, watchers: 1000, servers: hub},
		{name: "P1d", what: "P1 with 1 ms before each flush of PostgreSQL's log", lay: one, length: saturated, conns: 64, warm: 500, wait: 2 * minute, settle: idle, servers: hub[1:], o: startOptions{commitDelay: true}},
	}
}

// measure runs the profile once against a fresh start of the target.
func measure(ctx context.Context, t target, p profile, rec *Receiver, log io.Writer) (res Result, err error) {
	s, err := t.start(ctx, p.lay, p.o)
	if err != nil {
		return Result{}, err
	}
	defer func() {
		if stopped := s.stop(); err == nil {
			err = stopped
		}
	}()
	var w *watchers
	if p.watchers > 0 {
		if w, err = watch(ctx, s.client, p.watchers, s.webhooks); err != nil {
			return Result{}, err
		}
		defer func() { _ = w.close() }()
	}
	res, err = run(ctx, rec, s.load(t.name, p), log)
	if err != nil || w == nil {
		return res, err
	}
	res.Watchers, res.Entries = p.watchers, w.entries.Load()
	res.EntriesShort = int64(w.everything)*int64(p.warm+res.Delivered) - w.unfiltered.Load()
	return res, w.close()
}

// load is the run that the profile asks for.
func (s *served) load(server string, p profile) runConfig {
	cfg := runConfig{
		Server: server, Profile: p.name, Endpoints: p.lay.endpoints, Mode: p.lay.mode, Faults: p.faults,
		Roots: s.roots, Warm: p.warm, Wait: p.wait, Settle: p.settle,
		Send: SendConfig{Method: "POST", URL: s.url, Headers: []string{s.header}, Body: s.body, Targets: s.targets, Pad: pad(), C: p.conns},
	}
	if p.rate > 0 {
		cfg.Send.Rate, cfg.Send.N = p.rate, int(p.rate*p.length.Seconds())
	} else {
		cfg.Send.For, cfg.Send.N = p.length, 1<<24
	}
	if p.killAt > 0 {
		cfg.KillAt, cfg.RestartAfter, cfg.Restart, cfg.InFlight = p.killAt, time.Second, s.restart, s.inFlight
	}
	return cfg
}
