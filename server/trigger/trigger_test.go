package trigger_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"go.uber.org/goleak"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/project"
	"github.com/hookyard/hookyard/ent/gen/run"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/secret"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/flow"
	"github.com/hookyard/hookyard/server/trigger"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("os/exec.(*Cmd).watchCtx"), goleak.IgnoreAnyFunction("internal/poll.runtime_pollWait"))
}

// world is one node's triggers on a real database, with a scanner that does as it is told.
type world struct {
	*trigger.Triggers
	t       *testing.T
	db      *store.DB
	clock   *clockwork.FakeClock
	org     string
	project string
	ctx     context.Context // of an Administrator

	jobs  chan *scanning
	swept chan struct{} // a token after each look at the lease, as every sweep takes

	mu     sync.Mutex
	lease  flow.Lease
	number int32
	sent   map[string]flow.Sent // by ID
	away   error                // why the scanner does not answer
	deaf   bool                 // nothing is accepted
	deafTo map[string]bool      // nor is what has one of these IDs
	box    *secret.Box
	// installed is what third parties' connectors speak with CI. nil: there are none.
	installed *connectors.Set
	// sealing is called before a setup is sealed, after its project was read. nil does nothing.
	sealing func()
}

// scanning is a scan in its scanner.
type scanning struct {
	job   connectors.ScanJob
	tell  func(connectors.ScanNews) error
	ctx   context.Context
	leave chan error
}

// Scan implements trigger.Scanner.
func (w *world) Scan(ctx context.Context, _ string, job connectors.ScanJob, tell func(connectors.ScanNews) error) error {
	s := &scanning{job, tell, ctx, make(chan error)}
	w.jobs <- s
	select {
	case err := <-s.leave:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Send implements trigger.Events.
func (w *world) Send(_ context.Context, _, _, _ string, events []flow.Sent) ([]flow.Accepted, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deaf {
		return nil, flow.ErrUnavailable
	}
	for _, e := range events {
		if w.deafTo[e.ID] {
			return nil, flow.ErrUnavailable
		}
		w.sent[e.ID] = e
	}
	return make([]flow.Accepted, len(events)), nil
}

// Numbers implements trigger.Ledger.
func (w *world) Numbers(_ context.Context, _ string, keys []connectors.NumberKey) (map[connectors.NumberKey]int32, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.number++
	return map[connectors.NumberKey]int32{keys[0]: w.number}, nil
}

// Ready implements trigger.Scanner.
func (w *world) Ready(context.Context, string, string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.away
}

// Lease implements trigger.Ledger.
func (w *world) Lease() flow.Lease {
	select {
	case w.swept <- struct{}{}:
	default:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lease
}

// SealJSON implements trigger.Sealer.
func (w *world) SealJSON(id, field string, v any) ([]byte, error) {
	if w.sealing != nil {
		w.sealing()
	}
	return w.box.SealJSON(id, field, v)
}

// UnsealJSON implements trigger.Sealer.
func (w *world) UnsealJSON(id, field string, sealed []byte, v any) error {
	return w.box.UnsealJSON(id, field, sealed, v)
}

// step moves the clock on to the next sweep, which begins before it returns.
func (w *world) step() {
	w.t.Helper()
	select {
	case <-w.swept:
	default:
	}
	w.clock.Advance(5 * time.Second)
	select {
	case <-w.swept:
	case <-time.After(30 * time.Second):
		w.t.Fatal("nobody looks after the scans")
	}
}

func (w *world) events(kind connectors.EventType) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.sent {
		if e.Type == kind {
			n++
		}
	}
	return n
}

func newWorld(t *testing.T, db *store.DB) *world {
	t.Helper()
	w := &world{t: t, db: db, clock: clockwork.NewFakeClockAt(time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)), jobs: make(chan *scanning, 8), swept: make(chan struct{}, 1),
		lease: flow.Lease{Node: "nod_1", Epoch: 1}, sent: map[string]flow.Sent{}}
	box, err := secret.Open(t.Context(), secret.Config{KeyFile: filepath.Join(t.TempDir(), "key")})
	if err != nil {
		t.Fatal(err)
	}
	w.box = box
	set, err := connectors.NewSet(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.node("nod_1")
	if err := db.WithTx(viewer.SystemContext(t.Context()), func(ctx context.Context, tx *gen.Tx) error {
		org, err := tx.Organization.Create().SetName("Acme").Save(ctx)
		if err != nil {
			return err
		}
		g, err := tx.AssetGroup.Create().SetName("A").SetOrganizationID(org.ID).Save(ctx)
		if err != nil {
			return err
		}
		a, err := tx.Application.Create().SetName("a1").SetAssetGroup(g).SetOrganizationID(org.ID).Save(ctx)
		if err != nil {
			return err
		}
		p, err := tx.Project.Create().SetName("shop").SetOrganizationID(org.ID).SetApplicationID(a.ID).SetAssetGroupID(g.ID).SetTargetKind("WEB").
			SetTargetURL("https://shop.example.com").SetScanner("test").SetTimeLimitMinutes(60).Save(ctx)
		if err != nil {
			return err
		}
		w.org, w.project = org.ID, p.ID
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	w.ctx = viewer.NewContext(t.Context(), &viewer.Viewer{ID: "usr_ann", Name: "ann", Organization: w.org, Role: viewer.Administrator, Permissions: viewer.AllPermissions()})
	w.Triggers = trigger.New(trigger.Config{DB: db, Secrets: w, Connectors: set, Scanner: w, Events: w, Ledger: w,
		Worlds: func(string) *flow.World {
			return &flow.World{Organization: flow.Organization{ID: w.org}, Installed: w.installed}
		},
		Retentions: func() map[string]flow.Retention { return map[string]flow.Retention{w.org: {Events: 24 * time.Hour}} },
		IDs:        ids.NewMaker(w.clock.Now), Clock: w.clock, Log: slog.New(slog.DiscardHandler)})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		<-done
		if err := w.Drain(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return w
}

// change changes the project, in a transaction of its own.
func (w *world) change(set func(*gen.ProjectUpdateOne)) {
	w.t.Helper()
	if err := w.db.WithTx(w.ctx, func(ctx context.Context, tx *gen.Tx) error {
		u := tx.Project.UpdateOneID(w.project)
		set(u)
		return u.Exec(ctx)
	}); err != nil {
		w.t.Error(err)
	}
}

// node enters a node that lives.
func (w *world) node(id string) {
	w.t.Helper()
	if _, err := w.db.Client.ExecContext(w.t.Context(), "INSERT INTO nodes (id, name, epoch, heartbeat, version, dead) VALUES ($1, $1, 1, 0, '', 0)", id); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) start() (id string, s *scanning) {
	w.t.Helper()
	id, err := w.Start(w.ctx, w.project)
	if err != nil {
		w.t.Fatal(err)
	}
	return id, <-w.jobs
}

// ended moves the clock, sweep by sweep, until the run has ended.
func (w *world) ended(id string) *gen.Run {
	w.t.Helper()
	for range 1000 {
		r, err := w.db.Client.Run.Get(w.ctx, id)
		if err != nil {
			w.t.Fatal(err)
		}
		if r.FinishedAt != nil && !r.Untold {
			return r
		}
		w.step()
	}
	w.t.Fatalf("the run %s does not end", id)
	return nil
}

func each(t *testing.T, test func(t *testing.T, w *world)) {
	storetest.Each(t, func(t *testing.T, db *store.DB) { test(t, newWorld(t, db)) })
}

// TestOneAtATime starts many scans of a project at once.
func TestOneAtATime(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		results := make(chan error, 8)
		for range cap(results) {
			go func() {
				_, err := w.Start(w.ctx, w.project)
				results <- err
			}()
		}
		started := 0
		for range cap(results) {
			switch err := <-results; {
			case err == nil:
				started++
			case !errors.Is(err, flow.ErrScanRunning):
				t.Error(err)
			}
		}
		if started != 1 {
			t.Errorf("%d scans were started", started)
		}
		if n, err := w.db.Client.Run.Query().Count(w.ctx); err != nil || n != 1 {
			t.Errorf("there are %d runs, %v", n, err)
		}
		<-w.jobs
	})
}

// TestTimeLimit lets a scan run out of its time, and tells its scanner.
func TestTimeLimit(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		id, s := w.start()
		if s.job.Timeout != time.Hour || s.job.Target.Origins[0] != "https://shop.example.com" {
			t.Errorf("the job is %+v", s.job)
		}
		if err := s.tell(connectors.ScanNews{Kind: connectors.ScanBegan}); err != nil {
			t.Fatal(err)
		}
		begun := w.clock.Now()
		r := w.ended(id)
		if r.State != run.StateFAILED || r.FinishedAt.Sub(begun) < time.Hour || r.FinishedAt.Sub(begun) > time.Hour+time.Minute {
			t.Errorf("after %v the run is %s: %s", r.FinishedAt.Sub(begun), r.State, r.Reason)
		}
		<-s.ctx.Done()
		if err := s.tell(connectors.ScanNews{Kind: connectors.ScanProgressed, Percent: 99}); err == nil {
			t.Error("news of a scan that is over are taken")
		}
		if w.events(connectors.ScanStarted) != 1 || w.events(connectors.ScanFailed) != 1 || w.events(connectors.ScanProgress) != 0 {
			t.Errorf("told was %v", w.sent)
		}
	})
}

// TestLostRuns ends the runs of dead nodes, and leaves those of others that live.
func TestLostRuns(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.node("nod_2")
		w.mu.Lock()
		w.lease = flow.Lease{Node: "nod_2", Epoch: 1}
		w.mu.Unlock()
		id, s := w.start() // as the other node would
		w.mu.Lock()
		w.lease = flow.Lease{Node: "nod_1", Epoch: 1}
		w.mu.Unlock()
		if err := s.tell(connectors.ScanNews{Kind: connectors.ScanBegan}); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			w.step()
		}
		if r, err := w.db.Client.Run.Get(w.ctx, id); err != nil || r.FinishedAt != nil {
			t.Fatalf("the run of a living node is %+v, %v", r, err)
		}
		w.mu.Lock()
		w.deaf = true // and the end cannot be told at first
		w.mu.Unlock()
		if _, err := w.db.Client.ExecContext(t.Context(), "UPDATE nodes SET dead = 1 WHERE id = 'nod_2'"); err != nil {
			t.Fatal(err)
		}
		died := w.clock.Now()
		for range 1000 {
			select {
			case <-s.ctx.Done():
			default:
				w.step()
				continue
			}
			break
		}
		w.mu.Lock()
		w.deaf = false
		w.mu.Unlock()
		r := w.ended(id)
		if r.State != run.StateFAILED || r.FinishedAt.Sub(died) > time.Minute {
			t.Errorf("%v after its node's death the run is %s: %s", r.FinishedAt.Sub(died), r.State, r.Reason)
		}
		if n := w.events(connectors.ScanFailed); n != 1 {
			t.Errorf("the end was told %d times", n)
		}
	})
}

// TestNews keeps what scanners tell: checks by their key, findings as they change.
func TestNews(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		id, s := w.start()
		found := func(c ...connectors.ScanCheck) {
			t.Helper()
			if err := s.tell(connectors.ScanNews{Kind: connectors.ScanFound, Checks: c}); err != nil {
				t.Fatal(err)
			}
		}
		check := func(key string, severity connectors.Severity) connectors.ScanCheck {
			return connectors.ScanCheck{Key: key, Class: key, Title: key, Finding: &connectors.Finding{Title: key, Severity: severity}}
		}
		found(check("xss", "high"), connectors.ScanCheck{Key: "ssl", Class: "ssl", Title: "TLS"})
		found(check("xss", "high"))     // nothing new
		found(check("xss", "critical")) // it has changed
		if err := s.tell(connectors.ScanNews{Kind: connectors.ScanFound, Checks: []connectors.ScanCheck{{Class: "x"}}}); err == nil {
			t.Error("a check without a key is taken")
		}
		if err := s.tell(connectors.ScanNews{Kind: connectors.ScanDone, End: connectors.ScanFinished}); err != nil {
			t.Fatal(err)
		}
		s.leave <- nil
		r := w.ended(id)
		if r.State != run.StateFINISHED || len(r.Checks) != 2 || r.Checks[1].Finding.Severity != "critical" || r.Progress != 100 {
			t.Errorf("the run is %+v", r)
		}
		for kind, want := range map[connectors.EventType]int{connectors.ScanStarted: 1, connectors.FindingDiscovered: 1, connectors.FindingChanged: 1, connectors.ScanCompleted: 1, connectors.ScanFailed: 0} {
			if n := w.events(kind); n != want {
				t.Errorf("%s was told %d times, want %d", kind, n, want)
			}
		}
		done := w.sent[id+"/ended"].Data.Scan
		if done.ID != "" || done.Key != id || *done.Counts.Critical != 1 || *done.Counts.High != 0 || *done.Counts.Total != 1 {
			t.Errorf("told was %+v", done)
		}
		// After a day, which is how long events are kept here, it is forgotten.
		w.clock.Advance(25 * time.Hour)
		for range 100 {
			if n, err := w.db.Client.Run.Query().Count(w.ctx); err != nil || n == 0 {
				return
			}
			w.step()
		}
		t.Error("an old run is still there")
	})
}

// TestStop ends a scan on somebody's wish, and a broken scanner's; Drain ends the rest.
func TestStop(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		id, s := w.start()
		if err := w.Stop(w.ctx, id); err != nil {
			t.Fatal(err)
		}
		<-s.ctx.Done()
		if r := w.ended(id); r.State != run.StateSTOPPED || r.Reason != "It was stopped by ann." {
			t.Errorf("the run is %s: %s", r.State, r.Reason)
		}
		if err := w.Stop(w.ctx, id); !errors.Is(err, flow.ErrScanEnded) {
			t.Errorf("stopping it again gives %v", err)
		}
		id, s = w.start()
		s.leave <- errors.New("the scanner's process ended")
		if r := w.ended(id); r.State != run.StateFAILED || r.Reason != "the scanner's process ended" {
			t.Errorf("the run is %s: %s", r.State, r.Reason)
		}
		id, _ = w.start()
		if err := w.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r := w.ended(id); r.State != run.StateFAILED {
			t.Errorf("after the shutdown the run is %s", r.State)
		}
		if _, err := w.Start(w.ctx, w.project); !errors.Is(err, flow.ErrUnavailable) {
			t.Errorf("a hub that shuts down starts a scan: %v", err)
		}
		for who, v := range map[string]*viewer.Viewer{
			"nobody":              nil,
			"a Report Viewer":     {ID: "usr_eve", Organization: w.org, AllGroups: true},
			"somebody elsewhere":  {ID: "usr_eve", Organization: "org_other", Role: viewer.Administrator, Permissions: viewer.AllPermissions()},
			"one of other groups": {ID: "usr_eve", Organization: w.org, Permissions: viewer.AllPermissions(), Groups: []string{"grp_other"}},
		} {
			ctx := t.Context()
			if v != nil {
				ctx = viewer.NewContext(ctx, v)
			}
			if err := w.Stop(ctx, id); err == nil || errors.Is(err, flow.ErrScanEnded) && who != "a Report Viewer" {
				t.Errorf("%s: stopping a scan gives %v", who, err)
			}
		}
	})
}

// TestNoSetupForANewTarget changes a project's target, which has its setup forgotten, while
// a scan of it is being started.
func TestNoSetupForANewTarget(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		if w.db.Dialect != store.Postgres {
			t.Skip("on SQLite nobody else writes meanwhile")
		}
		// What is kept has a part that is tidied away, so that it is written anew.
		kept, err := w.box.SealJSON(w.project, project.FieldSetup, connectors.ScanSetup{Basic: &connectors.BasicAuth{}, Parameters: []connectors.ScanParameter{{In: "HEADER", Name: "a", Value: "b"}}})
		if err != nil {
			t.Fatal(err)
		}
		w.change(func(u *gen.ProjectUpdateOne) { u.SetSetup(kept) })
		w.sealing = func() {
			w.change(func(u *gen.ProjectUpdateOne) { u.SetTargetURL("https://other.example.com").ClearSetup() })
		}
		if _, err := w.Start(w.ctx, w.project); !errors.Is(err, flow.ErrUnavailable) {
			t.Errorf("the start gives %v", err)
		}
		if p, err := w.db.Client.Project.Get(w.ctx, w.project); err != nil || len(p.Setup) > 0 {
			t.Errorf("the setup is back: %v", err)
		}
		w.sealing = nil
		if _, s := w.start(); s.job.Target.URL != "https://other.example.com" || s.job.Setup.Parameters != nil {
			t.Errorf("the next scan is %+v", s.job)
		}
	})
}

// TestBrokenScannerIsNotStarted leaves nothing behind of a scan that cannot be started.
func TestBrokenScannerIsNotStarted(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.change(func(u *gen.ProjectUpdateOne) { u.SetSecrets([]byte("not sealed")) })
		if _, err := w.Start(w.ctx, w.project); err == nil || errors.Is(err, flow.ErrScanRunning) {
			t.Errorf("the start gives %v", err)
		}
		if n, err := w.db.Client.Run.Query().Count(w.ctx); err != nil || n != 0 {
			t.Errorf("there are %d runs, %v", n, err)
		}
	})
}

// TestNewsThatCannotBeKept ends a scan whose news nobody takes, well before its time limit.
func TestNewsThatCannotBeKept(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		id, s := w.start()
		w.mu.Lock()
		w.deafTo = map[string]bool{id + "/started": true}
		w.mu.Unlock()
		told := make(chan error, 1)
		go func() { told <- s.tell(connectors.ScanNews{Kind: connectors.ScanBegan}) }()
		for range 360 { // half of its time
			select {
			case err := <-told:
				if err == nil {
					t.Error("news that could not be kept were taken")
				}
				s.leave <- err
				if r := w.ended(id); r.State != run.StateFAILED || !strings.Contains(r.Reason, "could not keep") {
					t.Errorf("the run is %s: %s", r.State, r.Reason)
				}
				return
			default:
				w.step()
			}
		}
		t.Error("it is tried for ever")
	})
}

// TestEndsThatCannotBeTold has more of them than one sweep takes, before one that can.
func TestEndsThatCannotBeTold(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.mu.Lock()
		w.deafTo = map[string]bool{}
		w.mu.Unlock()
		p, err := w.db.Client.Project.Get(w.ctx, w.project)
		if err != nil {
			t.Fatal(err)
		}
		maker, now := ids.NewMaker(w.clock.Now), w.clock.Now().UTC()
		var last string
		for i := range 101 {
			last = maker.New(ids.Run)
			if i < 100 {
				w.mu.Lock()
				w.deafTo[last+"/ended"] = true
				w.mu.Unlock()
			}
			if err := w.db.Client.Run.Create().SetID(last).SetProjectID(p.ID).SetAssetGroupID(p.AssetGroupID).SetNumber(1000 + i).SetScanID(ids.Of(ids.Scan, w.org, last)).
				SetCreatedAt(now).SetDeadline(now).SetLeaseNode("nod_1").SetLeaseEpoch(1).SetStartedBy("usr_ann").
				SetState(run.StateFAILED).SetFinishedAt(now).SetUntold(true).Exec(w.ctx); err != nil {
				t.Fatal(err)
			}
		}
		w.ended(last)
	})
}
