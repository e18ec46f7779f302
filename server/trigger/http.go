package trigger

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/run"
	"github.com/hookyard/hookyard/ent/gen/trigger"
	"github.com/hookyard/hookyard/ent/secret"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/flow"
)

// Prefix is the path below which every trigger has its address: Prefix + token.
const Prefix = "/webhook/"

// ServeHTTP answers one call at a trigger's address.
func (t *Triggers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, rest, below := strings.Cut(strings.TrimPrefix(r.URL.Path, Prefix), "/")
	if below {
		rest = "/" + rest
	}
	kind, reply := t.answer(w, r, token, rest)
	t.c.Called(kind, reply.Status)
	for name, values := range reply.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(reply.Status)
	_, _ = w.Write(reply.Body)
}

// answer does what is asked. kind is the trigger's, "unknown" without one.
func (t *Triggers) answer(w http.ResponseWriter, r *http.Request, token, rest string) (kind string, reply connectors.Reply) {
	row, err := t.c.DB.Client.Trigger.Query().Where(trigger.TokenHash(secret.Hash(token))).WithProject().Only(hub(r.Context()))
	switch {
	case gen.IsNotFound(err):
		return "unknown", refusal(http.StatusNotFound, "no trigger has this address; ask whoever looks after the project for the current one")
	case err != nil:
		t.c.Log.Error("look a trigger up", "err", err)
		return "unknown", refusal(http.StatusServiceUnavailable, "the hub cannot answer now; ask again")
	}
	speaks, ok := t.c.Connectors.Trigger(row.Kind)
	if !ok {
		return row.Kind, refusal(http.StatusServiceUnavailable, "this hub cannot answer triggers of kind "+row.Kind+" at the moment")
	}
	call, result := t.call(w, r, speaks, row, rest)
	return row.Kind, speaks.Answer(call, result)
}

// call reads the call and does it.
func (t *Triggers) call(w http.ResponseWriter, r *http.Request, speaks connectors.Trigger, row *gen.Trigger, rest string) (connectors.TriggerCall, connectors.TriggerResult) {
	if err := t.admit(row); err != nil {
		return connectors.TriggerCall{}, t.refused(err)
	}
	body, err := t.read(w, r)
	if err != nil {
		return connectors.TriggerCall{}, t.refused(err)
	}
	p := row.Edges.Project
	call, err := speaks.Call(connectors.Inbound{Method: r.Method, Path: rest, Header: r.Header, Query: r.URL.Query(), Body: body, ReceivedAt: t.now(),
		ContentType: r.Header.Get("Content-Type")}, connectors.TargetKind(p.TargetKind))
	if err != nil {
		return call, t.refused(err)
	}
	// The address is the credential: who has it may have this project scanned, and no more.
	ctx := viewer.NewContext(r.Context(), &viewer.Viewer{ID: row.ID, Name: row.Name, Organization: row.OrganizationID,
		Permissions: []viewer.Permission{viewer.RunScans}, Groups: []string{row.AssetGroupID}})
	switch call.Verb {
	case connectors.TriggerStart:
		made, err := t.start(ctx, p, row, call)
		if err != nil {
			return call, t.refused(err)
		}
		return call, connectors.TriggerResult{Report: connectors.ScanReport{Scan: int64(made.Number), State: connectors.ScanQueued}}
	case connectors.TriggerStatus, connectors.TriggerReport:
		return call, t.report(ctx, row, call)
	}
	return call, t.refused(connectors.Refuse(http.StatusNotFound, "", "there is nothing at this address"))
}

func (t *Triggers) admit(row *gen.Trigger) error {
	switch w := t.c.Worlds(row.OrganizationID); {
	case w == nil || w.Organization.Suspended:
		return connectors.Refuse(http.StatusForbidden, "", "the organization is suspended; nothing was started")
	case !row.Enabled:
		return connectors.Refuse(http.StatusForbidden, "", "this trigger is disabled; nothing was started")
	}
	return nil
}

func (t *Triggers) read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, t.c.MaxBody))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, connectors.Refuse(http.StatusRequestEntityTooLarge, "", "the body is larger than %d bytes, the limit of this hub", t.c.MaxBody)
	case err != nil:
		return nil, connectors.Refuse(http.StatusBadRequest, "", "the body did not arrive whole; send again")
	}
	return body, nil
}

// report is a run that this very trigger has started.
func (t *Triggers) report(ctx context.Context, by *gen.Trigger, call connectors.TriggerCall) connectors.TriggerResult {
	q := t.c.DB.Client.Run.Query().Where(run.TriggerID(by.ID), run.Number(int(call.Scan)))
	if call.Verb == connectors.TriggerStatus {
		q.Select(run.FieldState, run.FieldStartedAt, run.FieldFinishedAt, run.FieldNumber) // not the checks
	}
	row, err := q.Only(ctx)
	switch {
	case gen.IsNotFound(err):
		return connectors.TriggerResult{Reason: connectors.TriggerUnknown, Refused: &connectors.RefuseError{Status: http.StatusNotFound, Message: "there is no such scan"}}
	case err != nil:
		return t.refused(err)
	case call.Verb == connectors.TriggerReport && row.FinishedAt == nil:
		return connectors.TriggerResult{Reason: connectors.TriggerNotReady, Refused: &connectors.RefuseError{Status: http.StatusConflict, Message: "the scan has not ended"}}
	}
	return connectors.TriggerResult{Report: connectors.ScanReport{Scan: int64(row.Number), State: connectors.ScanState(row.State),
		Started: or(row.StartedAt), Finished: or(row.FinishedAt), Checks: row.Checks}}
}

// refused finds the words for an error.
func (t *Triggers) refused(err error) connectors.TriggerResult {
	var why *connectors.RefuseError
	switch {
	case errors.As(err, &why):
		return connectors.TriggerResult{Refused: why}
	case errors.Is(err, flow.ErrScanRunning):
		return connectors.TriggerResult{Reason: connectors.TriggerRunning, Refused: &connectors.RefuseError{Status: http.StatusConflict, Message: "a scan is running already"}}
	}
	t.c.Log.Error("a trigger's call failed", "err", err)
	return connectors.TriggerResult{Refused: &connectors.RefuseError{Status: http.StatusServiceUnavailable, Message: "the hub cannot do this now; nothing was started, ask again"}}
}

// refusal is an answer to somebody whose language is not known.
func refusal(status int, message string) connectors.Reply {
	b, _ := json.Marshal(map[string]string{"message": message}) // a map of strings
	return connectors.Reply{Status: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: b}
}
