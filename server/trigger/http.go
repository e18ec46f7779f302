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
	speaks, installed, ok := t.speaker(row)
	if !ok {
		return row.Kind, refusal(http.StatusServiceUnavailable, "this hub cannot answer triggers of kind "+row.Kind+" at the moment; nothing was started, ask again later")
	}
	reply, err = t.serve(w, r, speaks, row, rest)
	if err != nil {
		t.c.Log.Warn("a trigger's connector does not answer", "kind", row.Kind, "trigger", row.ID, "err", err)
		return row.Kind, refusal(http.StatusServiceUnavailable, "the connector "+flow.Provider(row.Kind)+", which answers this trigger, does not do so now; nothing was started, ask again later")
	}
	if installed {
		reply = flow.Guest(reply)
	}
	return row.Kind, reply
}

// speaker knows the language of a trigger's callers. installed says that it is a third
// party's: its process may not answer.
func (t *Triggers) speaker(row *gen.Trigger) (speaks connectors.Trigger, installed, ok bool) {
	set := t.c.Connectors
	if installed = flow.Provider(row.Kind) != ""; installed {
		w := t.c.Worlds(row.OrganizationID)
		if w == nil || w.Installed == nil {
			return nil, true, false
		}
		set = w.Installed
	}
	speaks, ok = set.Trigger(row.Kind)
	return speaks, installed, ok
}

// unanswered is what a third party's process did not answer, rather than what it said.
type unanswered interface {
	error
	Unanswered()
}

// written has an answer written. An error: there is none.
func written(speaks connectors.Trigger, call connectors.TriggerCall, result connectors.TriggerResult) (connectors.Reply, error) {
	if x, ok := speaks.(interface {
		AnswerOf(c connectors.TriggerCall, r connectors.TriggerResult) (connectors.Reply, error)
	}); ok {
		return x.AnswerOf(call, result)
	}
	return speaks.Answer(call, result), nil
}

// serve reads the call, does it and has the answer written: of what it begins, before it is
// begun. An error: the connector gives no answer, and nothing was begun.
func (t *Triggers) serve(w http.ResponseWriter, r *http.Request, speaks connectors.Trigger, row *gen.Trigger, rest string) (connectors.Reply, error) {
	var call connectors.TriggerCall
	refuse := func(err error) (connectors.Reply, error) {
		result := t.refused(err)
		reply, err := written(speaks, call, result)
		if err != nil { // the hub's words, then
			reply = refusal(result.Refused.Status, result.Refused.Message)
		}
		return reply, nil
	}
	if err := t.admit(row); err != nil {
		return refuse(err)
	}
	body, err := t.read(w, r)
	if err != nil {
		return refuse(err)
	}
	p, header := row.Edges.Project, r.Header
	if flow.Provider(row.Kind) != "" {
		header = flow.Shown(header)
	}
	var none unanswered
	call, err = speaks.Call(connectors.Inbound{Method: r.Method, Path: rest, Header: header, Query: r.URL.Query(), Body: body, ReceivedAt: t.now(),
		ContentType: r.Header.Get("Content-Type")}, connectors.TargetKind(p.TargetKind))
	switch {
	case errors.As(err, &none):
		return connectors.Reply{}, err
	case err != nil:
		return refuse(err)
	}
	// The address is the credential: who has it may have this project scanned, and no more.
	ctx := viewer.NewContext(r.Context(), &viewer.Viewer{ID: row.ID, Name: row.Name, Organization: row.OrganizationID,
		Permissions: []viewer.Permission{viewer.RunScans}, Groups: []string{row.AssetGroupID}})
	switch call.Verb {
	case connectors.TriggerStart:
		var reply connectors.Reply
		_, err := t.start(ctx, p, row, call, func(scan int64) (err error) {
			reply, err = written(speaks, call, connectors.TriggerResult{Report: connectors.ScanReport{Scan: scan, State: connectors.ScanQueued}})
			return err
		})
		switch {
		case errors.As(err, &none):
			return reply, err
		case err != nil:
			return refuse(err)
		}
		return reply, nil
	case connectors.TriggerStatus, connectors.TriggerReport:
		return written(speaks, call, t.report(ctx, row, call))
	}
	return refuse(connectors.Refuse(http.StatusNotFound, "", "there is nothing at this address"))
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
	var away *flow.ScannerAwayError
	switch {
	case errors.As(err, &why):
		return connectors.TriggerResult{Refused: why}
	case errors.Is(err, flow.ErrScanRunning):
		return connectors.TriggerResult{Reason: connectors.TriggerRunning, Refused: &connectors.RefuseError{Status: http.StatusConflict, Message: "a scan is running already"}}
	case errors.As(err, &away):
		t.c.Log.Warn("a scan was not started", "err", err)
		return connectors.TriggerResult{Refused: &connectors.RefuseError{Status: http.StatusServiceUnavailable, Message: "the connector " + away.Connector + ", which scans the project, does not answer now; nothing was started, ask again later"}}
	}
	t.c.Log.Error("a trigger's call failed", "err", err)
	return connectors.TriggerResult{Refused: &connectors.RefuseError{Status: http.StatusServiceUnavailable, Message: "the hub cannot do this now; nothing was started, ask again"}}
}

// refusal is an answer to somebody whose language is not known.
func refusal(status int, message string) connectors.Reply {
	b, _ := json.Marshal(map[string]string{"message": message}) // a map of strings
	return connectors.Reply{Status: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: b}
}
