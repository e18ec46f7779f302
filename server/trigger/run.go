package trigger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/run"
	"github.com/hookyard/hookyard/server/flow"
)

// What a report holds at most.
const (
	maxChecks     = 10_000
	maxCheckBytes = 4 << 20
)

// running is a run that this node carries out.
type running struct {
	*gen.Run // as it was made
	project  *gen.Project
	lease    flow.Lease
	cancel   context.CancelFunc

	// Of the scanner's goroutine only.
	began    bool
	progress int
	news     int
	checks   []connectors.ScanCheck
}

// launch hands a run to its scanner. It outlives the request that started it.
func (t *Triggers) launch(row *gen.Run, p *gen.Project, job connectors.ScanJob, lease flow.Lease) {
	ctx, cancel := context.WithCancel(hub(context.Background()))
	r := &running{Run: row, project: p, lease: lease, cancel: cancel}
	t.mu.Lock()
	t.active[r.ID] = r
	draining := t.draining
	t.working.Add(1)
	t.mu.Unlock()
	go func() {
		defer t.working.Done()
		defer t.forget(r)
		defer cancel()
		if draining {
			t.fail(ctx, r, "the hub was shut down while it ran")
			return
		}
		t.carry(ctx, r, job)
	}()
}

func (t *Triggers) forget(r *running) {
	t.mu.Lock()
	delete(t.active, r.ID)
	t.mu.Unlock()
}

// cancel has the scanner of a run ended, if this node carries it out.
func (t *Triggers) cancel(id string) {
	t.mu.Lock()
	r := t.active[id]
	t.mu.Unlock()
	if r != nil {
		r.cancel()
	}
}

// carry has the scan run to its end.
func (t *Triggers) carry(ctx context.Context, r *running, job connectors.ScanJob) {
	late := t.c.Clock.AfterFunc(job.Timeout, func() {
		t.fail(ctx, r, fmt.Sprintf("it took longer than its limit of %d minutes", r.project.TimeLimitMinutes))
	})
	defer late.Stop()
	err := t.c.Scanner.Scan(ctx, r.project.Scanner, job, func(n connectors.ScanNews) error { return t.hear(ctx, r, &n) })
	why := "the scanner stopped without saying how it ended"
	if err != nil {
		why = err.Error()
	}
	t.fail(ctx, r, why) // unless it has ended
}

// errOver tells a scanner that nobody wants its scan any more.
var errOver = errors.New("the scan is over: it was stopped, ran out of time or was taken for lost")

// hear keeps one piece of news: what has become of the run, then what is told of it.
func (t *Triggers) hear(ctx context.Context, r *running, n *connectors.ScanNews) error {
	r.news++
	at := n.Time.UTC().Truncate(time.Microsecond)
	if n.Time.IsZero() {
		at = t.now()
	}
	if !r.began && n.Kind != connectors.ScanDone {
		if err := t.begin(ctx, r, at); err != nil {
			return err
		}
	}
	switch n.Kind {
	case connectors.ScanBegan:
	case connectors.ScanProgressed:
		percent := min(max(n.Percent, 0), 100)
		if percent == r.progress {
			return nil
		}
		r.progress = percent
		if err := t.set(ctx, r, func(u *gen.RunUpdate) { u.SetProgress(percent) }); err != nil {
			return err
		}
		scan := t.scan(r.Run, r.project)
		scan.Progress = &percent
		return t.send(ctx, r.Run, flow.Sent{ID: r.key(strconv.Itoa(r.news)), Incoming: connectors.Incoming{Type: connectors.ScanProgress, Time: at, Data: connectors.Data{Scan: scan}}})
	case connectors.ScanFound:
		return t.found(ctx, r, at, n.Checks)
	case connectors.ScanDone:
		return t.done(ctx, r, n)
	default:
		return fmt.Errorf("%q is no kind of news", n.Kind)
	}
	return nil
}

// key makes what is told of a run one event, however often it is told.
func (r *running) key(of string) string { return r.ID + "/" + of }

func (t *Triggers) begin(ctx context.Context, r *running, at time.Time) error {
	if err := t.set(ctx, r, func(u *gen.RunUpdate) { u.SetState(run.StateRUNNING).SetStartedAt(at) }); err != nil {
		return err
	}
	r.began, r.StartedAt = true, &at
	return t.send(ctx, r.Run, flow.Sent{ID: r.key("started"), Incoming: connectors.Incoming{Type: connectors.ScanStarted, Time: at, Data: connectors.Data{Scan: t.scan(r.Run, r.project)}}})
}

// found keeps checks for the report and tells of the findings among them that are news.
func (t *Triggers) found(ctx context.Context, r *running, at time.Time, checks []connectors.ScanCheck) error {
	var events []flow.Sent
	for i, c := range checks {
		if c.Key == "" {
			return fmt.Errorf("a check needs a key")
		}
		kind := connectors.FindingDiscovered
		known := slices.IndexFunc(r.checks, func(x connectors.ScanCheck) bool { return x.Key == c.Key })
		var before *connectors.Finding
		if known < 0 {
			r.checks = append(r.checks, c)
		} else {
			before, r.checks[known] = r.checks[known].Finding, c
		}
		switch {
		case c.Finding == nil || reflect.DeepEqual(before, c.Finding):
			continue
		case before != nil:
			kind = connectors.FindingChanged
		}
		events = append(events, flow.Sent{ID: fmt.Sprintf("%s.%d", r.key(strconv.Itoa(r.news)), i), Incoming: connectors.Incoming{Type: kind, Time: at, Data: connectors.Data{Finding: finding(r.Run, &c)}}})
	}
	slices.SortStableFunc(r.checks, func(a, b connectors.ScanCheck) int { return strings.Compare(a.Key, b.Key) })
	if b, err := json.Marshal(r.checks); err != nil {
		return fmt.Errorf("write the checks down: %w", err)
	} else if len(r.checks) > maxChecks || len(b) > maxCheckBytes {
		return fmt.Errorf("it has told of more than %d checks or %d bytes, which no report holds", maxChecks, maxCheckBytes)
	}
	if err := t.set(ctx, r, func(u *gen.RunUpdate) { u.SetChecks(r.checks) }); err != nil {
		return err
	}
	for chunk := range slices.Chunk(events, 100) {
		if err := t.send(ctx, r.Run, chunk...); err != nil {
			return err
		}
	}
	return nil
}

// finding is what a check has found, as the catalogue has it: the same finding in each
// scan of the project.
func finding(r *gen.Run, c *connectors.ScanCheck) *connectors.Finding {
	f := *c.Finding
	f.ID, f.ScanKey = "", r.ID
	if f.Key == "" {
		f.Key = c.Key
	}
	if f.Title == "" {
		f.Title = c.Title
	}
	if f.Status == "" {
		f.Status = "open"
	}
	if f.Severity.Rank() < 0 {
		f.Severity = connectors.SeverityUnknown
	}
	return &f
}

func (t *Triggers) done(ctx context.Context, r *running, n *connectors.ScanNews) error {
	state := run.State(n.End)
	if !n.End.Ended() {
		return fmt.Errorf("%q is no end of a scan", n.End)
	}
	return t.end(ctx, r, state, n.Note)
}

// set changes the row of a run that has not ended and is this node's to carry out.
func (t *Triggers) set(ctx context.Context, r *running, change func(*gen.RunUpdate)) error {
	return t.persist(ctx, func() error {
		u := t.c.DB.Client.Run.Update().Where(run.ID(r.ID), run.FinishedAtIsNil(), run.LeaseNode(r.lease.Node), run.LeaseEpoch(r.lease.Epoch))
		change(u)
		n, err := u.Save(hub(ctx))
		if err == nil && n == 0 {
			return errOver
		}
		return err
	})
}

// patience is how long news of a scan are tried to be kept.
const patience = 2 * time.Minute

// persist does something until the database has taken it; a scan must not be lost because
// the database is away for a moment. It ends when that does not go away.
func (t *Triggers) persist(ctx context.Context, do func() error) error {
	for until := t.now().Add(patience); ; {
		err := do()
		if err == nil || errors.Is(err, errOver) || errors.Is(err, flow.ErrNotFound) {
			return err
		}
		if t.now().After(until) {
			t.c.Log.Error("news of a scan cannot be kept", "err", err)
			return fmt.Errorf("for %v the hub could not keep what the scanner told", patience)
		}
		t.c.Log.Warn("news of a scan cannot be kept; it is tried again", "err", err)
		select {
		case <-t.c.Clock.After(time.Second):
		case <-ctx.Done():
			return errors.Join(errOver, err)
		}
	}
}

// fail ends a run as failed, unless it has ended, and its scanner.
func (t *Triggers) fail(ctx context.Context, r *running, why string) {
	if err := t.end(ctx, r, run.StateFAILED, why); err != nil && !errors.Is(err, errOver) {
		t.c.Log.Error("a scan cannot be ended; it will be taken for lost", "run", r.ID, "err", err)
	}
	r.cancel()
}

// end is the end of a run: once, and told of at least until it is an event.
func (t *Triggers) end(ctx context.Context, r *running, state run.State, reason string) error {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := t.set(bounded, r, func(u *gen.RunUpdate) { ending(u, state, reason, t.now()) }); err != nil {
		return err
	}
	t.c.Ended(string(state))
	row, err := t.c.DB.Client.Run.Get(hub(bounded), r.ID)
	if err != nil {
		return nil // it has ended; the sweep tells of it
	}
	t.announce(bounded, row)
	return nil
}

func ending(u *gen.RunUpdate, state run.State, reason string, at time.Time) {
	u.SetState(state).SetFinishedAt(at).SetUntold(true)
	if reason != "" {
		u.SetReason(clip(reason))
	}
	if state == run.StateFINISHED {
		u.SetProgress(100)
	}
}

func clip(s string) string {
	const most = 1000
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
