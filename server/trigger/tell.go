package trigger

import (
	"context"
	"fmt"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/run"
	"github.com/hookyard/hookyard/server/flow"
)

// scan is the run as the catalogue has it.
func (t *Triggers) scan(r *gen.Run, p *gen.Project) *connectors.Scan {
	kind := "web application"
	if connectors.TargetKind(p.TargetKind) == connectors.TargetAPI {
		kind = "API"
	}
	return &connectors.Scan{Key: r.ID, Name: p.Name, Type: kind, Status: "Running", Target: p.TargetURL, StartedAt: r.StartedAt}
}

// send hands events to ingest, in the name of the project, until they are accepted.
func (t *Triggers) send(ctx context.Context, r *gen.Run, events ...flow.Sent) error {
	p, err := t.c.DB.Client.Project.Get(hub(ctx), r.ProjectID)
	if err != nil {
		return fmt.Errorf("look the project up: %w", err)
	}
	for i := range events {
		events[i].Application, events[i].Source = p.ApplicationID, "/projects/"+p.ID
	}
	return t.persist(ctx, func() error {
		_, err := t.c.Events.Send(ctx, r.OrganizationID, p.ID, "", events)
		return err
	})
}

// announce makes the end of a run an event. The row says until then that it is to be done,
// and the event's key that it is done once.
func (t *Triggers) announce(ctx context.Context, r *gen.Run) {
	if err := t.tellEnd(ctx, r); err != nil {
		t.c.Log.Warn("the end of a scan is not told yet; it will be", "run", r.ID, "err", err)
	}
}

func (t *Triggers) tellEnd(ctx context.Context, r *gen.Run) error {
	p, err := t.c.DB.Client.Project.Get(hub(ctx), r.ProjectID)
	if err != nil {
		return fmt.Errorf("look the project up: %w", err)
	}
	scan, kind := t.scan(r, p), connectors.ScanFailed
	scan.FinishedAt = r.FinishedAt
	if r.StartedAt != nil && r.FinishedAt != nil {
		took := int(max(r.FinishedAt.Sub(*r.StartedAt), 0) / time.Second)
		scan.Duration = &took
	}
	switch r.State {
	case run.StateFINISHED:
		kind, scan.Status, scan.Counts = connectors.ScanCompleted, "Completed", count(r.Checks)
	case run.StateSTOPPED:
		scan.Status = "Stopped"
	default:
		scan.Status = "Failed"
	}
	if r.Reason != "" && kind == connectors.ScanFailed {
		scan.Errors = []string{r.Reason}
	}
	_, err = t.c.Events.Send(ctx, r.OrganizationID, p.ID, "", []flow.Sent{{ID: r.ID + "/ended", Application: p.ApplicationID,
		Incoming: connectors.Incoming{Type: kind, Time: or(r.FinishedAt), Source: "/projects/" + p.ID, Data: connectors.Data{Scan: scan}}}})
	if err != nil {
		return fmt.Errorf("tell of its end: %w", err)
	}
	return t.c.DB.Client.Run.Update().Where(run.ID(r.ID)).SetUntold(false).Exec(hub(ctx))
}

// count counts what was found. One finding of unknown severity leaves only the total known.
func count(checks []connectors.ScanCheck) *connectors.Counts {
	var n [6]int
	total := 0
	for _, c := range checks {
		if c.Finding != nil {
			total++
			n[max(c.Finding.Severity.Rank(), 0)]++
		}
	}
	out := &connectors.Counts{Total: &total}
	if n[0] == 0 {
		out.Info, out.Low, out.Medium, out.High, out.Critical = &n[1], &n[2], &n[3], &n[4], &n[5]
	}
	return out
}

func or(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
