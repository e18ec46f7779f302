package trigger

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"entgo.io/ent/dialect/sql/sqlgraph"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/project"
	"github.com/hookyard/hookyard/ent/gen/run"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/flow"
)

// Start has a project scanned for the viewer, with what is kept for it, and returns the
// run's ID. flow.ErrScanRunning: it is being scanned.
func (t *Triggers) Start(ctx context.Context, id string) (string, error) {
	p, err := t.c.DB.Client.Project.Get(ctx, id)
	if err != nil {
		return "", err
	}
	r, err := t.start(ctx, p, nil, connectors.TriggerCall{}, func(int64) error { return nil })
	if err != nil {
		return "", err
	}
	return r.ID, nil
}

// start makes a run of the project, with the setup that call brings, and carries it out.
// by is nil when no trigger asks; the context's viewer starts it in either case. ready is told
// the run's number before anything is done that could not be left: its error ends it there.
func (t *Triggers) start(ctx context.Context, p *gen.Project, by *gen.Trigger, call connectors.TriggerCall, ready func(scan int64) error) (*gen.Run, error) {
	world := t.c.Worlds(p.OrganizationID)
	t.mu.Lock()
	draining := t.draining
	t.mu.Unlock()
	if draining || world == nil {
		return nil, fmt.Errorf("start a scan: %w", flow.ErrUnavailable)
	}
	// Known beforehand in most cases; in the others the index says so.
	if busy, err := t.c.DB.Client.Run.Query().Where(run.ProjectID(p.ID), run.FinishedAtIsNil()).Exist(hub(ctx)); err != nil {
		return nil, fmt.Errorf("look whether the project is being scanned: %w", err)
	} else if busy {
		return nil, flow.ErrScanRunning
	}
	if err := t.c.Scanner.Ready(ctx, p.OrganizationID, p.Scanner); err != nil {
		return nil, &flow.ScannerAwayError{Connector: p.Scanner, Why: err}
	}
	id := t.c.IDs.New(ids.Run)
	scan := ids.Of(ids.Scan, p.OrganizationID, p.ID, id) // as ingest names what the project tells under this key
	key := connectors.NumberKey{Kind: "scan", ID: scan}
	numbers, err := t.c.Ledger.Numbers(ctx, p.OrganizationID, []connectors.NumberKey{key})
	if err != nil {
		return nil, fmt.Errorf("number a scan: %w", err)
	}
	if err := ready(int64(numbers[key])); err != nil {
		return nil, fmt.Errorf("write the answer: %w", err)
	}
	var (
		made  *gen.Run
		job   connectors.ScanJob
		lease = t.c.Ledger.Lease()
		now   = t.now()
	)
	err = t.c.DB.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
		if p, err = tx.Project.Get(hub(ctx), p.ID); err != nil { // as it is now
			return err
		}
		if err := approved(p, slices.Concat(call.Hosts, forms(call.Setup))); err != nil {
			return err
		}
		if p, job.Setup, err = t.keep(ctx, tx, p, call.Setup); err != nil {
			return err
		}
		if job.Scanner, err = t.scanner(world, p); err != nil {
			return err
		}
		limit := time.Duration(p.TimeLimitMinutes) * time.Minute
		c := tx.Run.Create().SetID(id).SetProjectID(p.ID).SetAssetGroupID(p.AssetGroupID).SetNumber(int(numbers[key])).SetScanID(scan).
			SetCreatedAt(now).SetDeadline(now.Add(limit)).SetLeaseNode(lease.Node).SetLeaseEpoch(lease.Epoch).SetStartedBy(viewer.FromContext(ctx).ID)
		if by != nil {
			c.SetTriggerID(by.ID)
		}
		if made, err = c.Save(ctx); err != nil {
			return err
		}
		return t.c.DB.Audit(ctx, store.Action{Action: store.StartScan, Noun: "Project", ID: p.ID, Name: p.Name, Group: p.AssetGroupID, Details: map[string]any{"runId": id}})
	})
	switch {
	case sqlgraph.IsUniqueConstraintError(err):
		return nil, flow.ErrScanRunning
	case err != nil:
		return nil, err
	}
	job.ID, job.Name, job.Timeout = scan, p.Name, time.Duration(p.TimeLimitMinutes)*time.Minute
	job.Target = connectors.Target{Kind: connectors.TargetKind(p.TargetKind), URL: p.TargetURL, Origins: origins(p)}
	t.launch(made, p, job, lease)
	return made, nil
}

// keep replaces those parts of what is kept for the project that are given, and returns
// the whole.
func (t *Triggers) keep(ctx context.Context, tx *gen.Tx, p *gen.Project, given connectors.ScanSetup) (*gen.Project, connectors.ScanSetup, error) {
	var kept connectors.ScanSetup
	if len(p.Setup) > 0 {
		if err := t.c.Secrets.UnsealJSON(p.ID, project.FieldSetup, p.Setup, &kept); err != nil {
			return nil, kept, fmt.Errorf("open what is kept for the project: %w", err)
		}
	}
	before, err := json.Marshal(kept)
	if err != nil {
		return nil, kept, fmt.Errorf("write the setup down: %w", err)
	}
	setup := tidy(given.Over(kept))
	after, err := json.Marshal(setup)
	if err != nil {
		return nil, kept, fmt.Errorf("write the setup down: %w", err)
	}
	if bytes.Equal(before, after) {
		return p, setup, nil
	}
	// Of a project that is another one meanwhile nothing is kept: what was forgotten with its
	// old target must not come back for the new one.
	u := tx.Project.UpdateOneID(p.ID).Where(project.Revision(p.Revision)).SetSetupAt(t.now())
	if string(after) == "{}" {
		u.ClearSetup().ClearSetupAt()
	} else {
		sealed, err := t.c.Secrets.SealJSON(p.ID, project.FieldSetup, setup)
		if err != nil {
			return nil, kept, fmt.Errorf("seal the setup: %w", err)
		}
		u.SetSetup(sealed)
	}
	p, err = u.Save(hub(ctx)) // whoever may start a scan may do this
	if gen.IsNotFound(err) {
		err = fmt.Errorf("the project was changed at the same time: %w", flow.ErrUnavailable)
	}
	return p, setup, err
}

// tidy leaves out parts that have been cleared.
func tidy(s connectors.ScanSetup) connectors.ScanSetup {
	if s.Basic != nil && *s.Basic == (connectors.BasicAuth{}) {
		s.Basic = nil
	}
	if len(s.Logins) == 0 {
		s.Logins = nil
	}
	if len(s.Parameters) == 0 {
		s.Parameters = nil
	}
	if string(s.APISpec) == "null" {
		s.APISpec = nil
	}
	return s
}

// scanner is the project's scanner as its connector sees it.
func (t *Triggers) scanner(w *flow.World, p *gen.Project) (connectors.Endpoint, error) {
	e := connectors.Endpoint{Ref: fmt.Sprintf("%s@%d", p.ID, p.Revision), ID: p.ID, Organization: p.OrganizationID, Role: connectors.RoleScanner,
		Secrets: map[string]string{}, Dial: connectors.DialPolicy{Open: t.c.Open}}
	settings := p.Settings
	if settings == nil {
		settings = map[string]any{}
	}
	var err error
	if e.Settings, err = json.Marshal(settings); err != nil {
		return e, fmt.Errorf("write the scanner's settings down: %w", err)
	}
	if len(p.Secrets) > 0 {
		if err := t.c.Secrets.UnsealJSON(p.ID, project.FieldSecrets, p.Secrets, &e.Secrets); err != nil {
			return e, fmt.Errorf("open the scanner's secrets: %w", err)
		}
	}
	e.Dial.Origins = origins(p)
	e.Dial.Allow = slices.Concat(w.Organization.Allow, w.Groups[p.AssetGroupID].Allow)
	if len(e.Dial.Allow) > 0 {
		sum := fnv.New64a()
		fmt.Fprint(sum, e.Dial.Allow)
		e.Ref = fmt.Sprintf("%s-%x", e.Ref, sum.Sum64())
	}
	return e, nil
}

// Stop ends a run for the viewer. flow.ErrScanEnded: it has ended.
func (t *Triggers) Stop(ctx context.Context, id string) error {
	var row *gen.Run
	err := t.c.DB.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) (err error) {
		if row, err = tx.Run.Get(ctx, id); err != nil {
			return err
		}
		if row.FinishedAt != nil {
			return flow.ErrScanEnded
		}
		row, err = tx.Run.UpdateOneID(id).Where(run.FinishedAtIsNil()).SetState(run.StateSTOPPED).SetReason("It was stopped by " + viewer.FromContext(ctx).Name + ".").
			SetFinishedAt(t.now()).SetUntold(true).Save(ctx)
		if gen.IsNotFound(err) {
			return flow.ErrScanEnded
		} else if err != nil {
			return err
		}
		p, err := row.QueryProject().Only(hub(ctx))
		if err != nil {
			return fmt.Errorf("look the project up: %w", err)
		}
		return t.c.DB.Audit(ctx, store.Action{Action: store.StopScan, Noun: "Project", ID: p.ID, Name: p.Name, Group: row.AssetGroupID, Details: map[string]any{"runId": id}})
	})
	if err != nil {
		return err
	}
	t.c.Ended(string(row.State))
	t.cancel(id)
	t.announce(context.WithoutCancel(ctx), row)
	return nil
}

// hub is a context in which the hub itself does what the viewer's rights do not reach;
// the audit log still says who that was.
func hub(ctx context.Context) context.Context { return viewer.SystemContext(ctx) }
