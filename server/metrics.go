package server

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/plugins/host"
	"github.com/hookyard/hookyard/server/auth"
	"github.com/hookyard/hookyard/server/ledger"
)

// metrics are the figures that /metrics shows. Counts that parts keep themselves are
// read when somebody asks; docs/operations.md lists them all.
type metrics struct {
	hub      *Hub
	requests *prometheus.CounterVec
	polls    *prometheus.CounterVec
	triggers *prometheus.CounterVec
	scans    *prometheus.CounterVec
	accepted prometheus.Counter
	signIns  *prometheus.CounterVec
	sso      *prometheus.CounterVec
	issuers  *prometheus.CounterVec
	group    prometheus.Histogram
	commit   prometheus.Histogram
}

func newMetrics(h *Hub, triggers []connectors.Trigger) *metrics {
	m := &metrics{
		hub: h,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hookyard_inbound_requests_total",
			Help: "Requests of sources, by the source's kind and what became of them."}, []string{"kind", "outcome"}),
		polls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hookyard_polls_total",
			Help: "Polls of sources that have ended, by the source's kind and what became of them: answered, failed, or lost with what they gave, to be polled again."}, []string{"kind", "outcome"}),
		triggers: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hookyard_trigger_calls_total",
			Help: "Calls at triggers, by the trigger's kind and the answer's HTTP status."}, []string{"kind", "status"}),
		scans: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hookyard_scans_total",
			Help: "Scans of the hub's own that have ended, by how: FINISHED, FAILED or STOPPED."}, []string{"state"}),
		signIns: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hookyard_sign_ins_total",
			Help: "What happened at the door, by how it was tried and what became of it."}, []string{"method", "outcome"}),
		accepted: prometheus.NewCounter(prometheus.CounterOpts{Name: "hookyard_events_accepted_total", Help: "New events that are durable."}),
		sso: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hookyard_single_sign_ons_total",
			Help: "Sign-ins at identity providers that have ended, by what became of them."}, []string{"outcome"}),
		issuers: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hookyard_issuer_fetches_total",
			Help: "Looks at what outside issuers publish, by whether they answered."}, []string{"outcome"}),
		group: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "hookyard_ledger_group_size", Help: "Calls committed together.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256}}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "hookyard_ledger_commit_seconds", Help: "Time to write and commit a group.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .25, 1, 5}}),
	}
	h.registry.MustRegister(m.requests, m.polls, m.triggers, m.scans, m.accepted, m.signIns, m.sso, m.issuers, m.group, m.commit, m,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	// What has not happened yet is 0 rather than missing, so that an alert can be set on it.
	for _, outcome := range []auth.Outcome{auth.OK, auth.Failed, auth.Throttled} {
		m.signIns.WithLabelValues(auth.ByPassword, string(outcome))
	}
	m.signIns.WithLabelValues(auth.ByRefresh, string(auth.Reused))
	for _, state := range []connectors.ScanState{connectors.ScanFinished, connectors.ScanBroken, connectors.ScanStopped} {
		m.scans.WithLabelValues(string(state))
	}
	for _, t := range triggers {
		m.triggers.WithLabelValues(t.Kind(), "200")
	}
	for _, v := range []*prometheus.CounterVec{m.sso, m.issuers} {
		v.WithLabelValues("ok")
	}
	return m
}

// received is told of the end of each inbound request.
func (m *metrics) received(kind, outcome string, events int) {
	m.requests.WithLabelValues(kind, outcome).Inc()
	m.accepted.Add(float64(events))
}

// polled is told of the end of each poll.
func (m *metrics) polled(kind, outcome string) { m.polls.WithLabelValues(kind, outcome).Inc() }

// triggered is told of each call at a trigger.
func (m *metrics) triggered(kind string, status int) {
	m.triggers.WithLabelValues(kind, strconv.Itoa(status)).Inc()
}

// scanned is told of the end of each scan.
func (m *metrics) scanned(state string) { m.scans.WithLabelValues(state).Inc() }

// committed is told of each group that the ledger has committed.
func (m *metrics) committed(c ledger.Commit) {
	m.group.Observe(float64(c.Calls))
	m.commit.Observe(c.Took.Seconds())
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("hookyard_"+name, help, labels, nil)
}

// gauges describes the figures that are read when somebody asks.
func gauges() map[string]*prometheus.Desc {
	return map[string]*prometheus.Desc{
		"attempts":  describe("attempts_total", "Attempts made."),
		"ended":     describe("deliveries_total", "Deliveries by what became of them; retried counts failures that will be tried again.", "outcome"),
		"queued":    describe("deliveries_queued", "Deliveries in memory that wait for their turn."),
		"inflight":  describe("deliveries_in_flight", "Deliveries handed to a connector and not answered."),
		"unsaved":   describe("results_unrecorded", "Results that wait to be recorded."),
		"bytes":     describe("deliveries_bytes", "Size of the deliveries in memory."),
		"age":       describe("queue_age_seconds", "How long the delivery that has been due longest has been due."),
		"lanes":     describe("lanes", "Lanes with something to do, by state: busy, or with a backlog in the ledger.", "state"),
		"endpoints": describe("endpoints", "Endpoints that had something to do since the start, by the state of their breaker.", "breaker"),
		"restarts":  describe("plugin_restarts_total", "Starts of a connector's process after the first.", "connector"),
		"plugin":    describe("plugin_up", "1 while a connector's process takes work, or would be started for it.", "connector"),
		"sandbox":   describe("sandbox", "1 for each part of third parties' connectors' sandbox that this system has.", "part"),
		"links":     describe("presence_links", "Agents of Presences that are linked to this node."),
		"remote":    describe("presence_deliveries", "Deliveries with this node's Presences, by state: in hand of an agent, or waiting for one with room.", "state"),
		"processes": describe("connector_processes", "Processes of connectors that third parties have made, by state.", "connector", "version", "state"),
		"stranded":  describe("connector_stranded_endpoints", "Endpoints, and sources, webhooks, triggers and projects, whose connector is a package that no running node has.", "package"),
		"receipts":  describe("receipts_waiting", "Receipts that wait to be read or enriched."),
		"oldest":    describe("receipts_waiting_age_seconds", "How long the receipt that has waited longest has waited."),
		"unread":    describe("unreadable_organizations", "Organizations whose configuration cannot be read."),
		"waiting":   describe("ledger_waiting_calls", "Calls that wait to be committed."),
		"watchers":  describe("watchers", "Live subscribers of the delivery log."),
		"polling":   describe("polls_running", "Sources that this node is asking."),
		"scanning":  describe("scans_running", "Scans that this node carries out."),
		"held":      describe("held", "1 while a restored hub holds all deliveries."),
	}
}

// Describe is part of prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range gauges() {
		out <- d
	}
}

// Collect is part of prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	d := gauges()
	gauge := func(name string, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d[name], prometheus.GaugeValue, v, labels...)
	}
	count := func(name string, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d[name], prometheus.CounterValue, v, labels...)
	}
	h := m.hub
	if h.dispatch == nil || h.triggers == nil { // the hub is still opening
		return
	}
	s := h.dispatch.Stats()
	count("attempts", float64(s.Attempts))
	count("ended", float64(s.Delivered), "succeeded")
	count("ended", float64(s.Failed), "failed")
	count("ended", float64(s.Retried), "retried")
	count("ended", float64(s.Skipped), "skipped")
	count("ended", float64(s.Cancelled), "cancelled")
	gauge("queued", float64(s.Queued))
	gauge("inflight", float64(s.InFlight))
	gauge("unsaved", float64(s.Unrecorded))
	gauge("bytes", float64(s.Bytes))
	gauge("held", one(s.Held))
	gauge("polling", float64(h.ingest.Polling()))
	gauge("scanning", float64(h.triggers.Running()))
	var busy, backlog, closed, open, probing int
	for _, l := range s.Lanes {
		if l.Queued+l.InFlight > 0 {
			busy++
		}
		if l.Backlog {
			backlog++
		}
	}
	for _, e := range s.Endpoints {
		switch {
		case e.Probing:
			probing++
		case e.Open:
			open++
		default:
			closed++
		}
	}
	gauge("lanes", float64(busy), "busy")
	gauge("lanes", float64(backlog), "backlog")
	gauge("endpoints", float64(closed), "closed")
	gauge("endpoints", float64(open), "open")
	gauge("endpoints", float64(probing), "probing")
	type kind struct{ name, version, state string }
	processes := map[kind]int{}
	for _, p := range h.plugins.Stats() {
		if p.Organization != "" {
			processes[kind{p.Name, p.Version, string(p.State)}]++
			continue
		}
		count("restarts", float64(p.Restarts), p.Name)
		gauge("plugin", one(p.State == host.Running || p.State == host.Idle), p.Name)
	}
	for _, p := range h.plugins.Sandbox().Parts {
		gauge("sandbox", one(p.Active), p.Name)
	}
	l := h.presences.Stats()
	gauge("links", float64(l.Links))
	gauge("remote", float64(l.InHand), "in_hand")
	gauge("remote", float64(l.Waiting), "waiting")
	for k, n := range processes {
		gauge("processes", float64(n), k.name, k.version, k.state)
	}
	w := h.ledger.Stats()
	gauge("waiting", float64(w.Calls+w.Records))
	gauge("watchers", float64(h.watch.Watchers()))
	gauge("unread", float64(len(h.atlas.current.Load().unread)))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if stranded, err := h.shelf.stranded(ctx); err == nil {
		for name, n := range stranded {
			gauge("stranded", float64(n), name)
		}
	}
	now := h.clock.Now()
	if n, oldest, err := h.ledger.WaitingReceipts(ctx); err == nil {
		age := 0.0
		if n > 0 {
			age = now.Sub(oldest).Seconds()
		}
		gauge("receipts", float64(n))
		gauge("oldest", age)
	}
	if lanes, err := h.ledger.Backlog(ctx, now); err == nil {
		age := 0.0
		if !s.Stray.IsZero() {
			age = now.Sub(s.Stray).Seconds()
		}
		for _, l := range lanes {
			age = max(age, now.Sub(l.Due).Seconds())
		}
		gauge("age", age)
	}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
