package trigger_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/secret"
	"github.com/hookyard/hookyard/server/trigger"
)

// far is a third party's connector, as an organization has it: its process answers, or not.
type far struct {
	w          *world
	deaf, mute bool // Call and Answer are not answered
	setup      connectors.ScanSetup
	saw        http.Header
	before     int // runs that there were when the last answer was written
}

type awayError struct{ error }

func (awayError) Unanswered() {}

func (*far) Spec() connectors.Spec                { return connectors.Spec{Name: "far"} }
func (f *far) Triggers() []connectors.Trigger     { return []connectors.Trigger{f} }
func (*far) Kind() string                         { return "far/calls" }
func (*far) Snippets(string) []connectors.Snippet { return nil }

func (f *far) Call(in connectors.Inbound, _ connectors.TargetKind) (connectors.TriggerCall, error) {
	f.saw = in.Header
	if f.deaf {
		return connectors.TriggerCall{}, awayError{errors.New("nobody is there")}
	}
	return connectors.TriggerCall{Verb: connectors.TriggerStart, Setup: f.setup}, nil
}

func (f *far) Answer(connectors.TriggerCall, connectors.TriggerResult) connectors.Reply {
	panic("nobody could know that there was no answer")
}

func (f *far) AnswerOf(_ connectors.TriggerCall, r connectors.TriggerResult) (connectors.Reply, error) {
	f.before = f.runs()
	if f.mute {
		return connectors.Reply{}, awayError{errors.New("nobody is there")}
	}
	reply := connectors.Reply{Status: http.StatusFound, Header: http.Header{"Content-Type": {"text/plain"}, "Location": {"/"}}, Body: []byte("it begins")}
	if r.Refused != nil {
		reply.Status, reply.Body = r.Refused.Status, []byte("no: "+r.Refused.Message)
	}
	return reply, nil
}

func (f *far) runs() int {
	n, err := f.w.db.Client.Run.Query().Count(f.w.ctx)
	if err != nil {
		f.w.t.Error(err)
	}
	return n
}

// TestAnInstalledConnectorsTrigger starts scans that it can answer for, and no others.
func TestAnInstalledConnectorsTrigger(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		f := &far{w: w}
		set, err := connectors.NewSet([]connectors.Connector{f})
		if err != nil {
			t.Fatal(err)
		}
		w.installed = set
		if err := w.db.WithTx(w.ctx, func(ctx context.Context, tx *gen.Tx) error {
			p, err := tx.Project.Get(ctx, w.project)
			if err != nil {
				return err
			}
			return tx.Trigger.Create().SetName("calls").SetKind("far/calls").SetProjectID(p.ID).SetAssetGroupID(p.AssetGroupID).SetTokenHash(secret.Hash("token")).Exec(ctx)
		}); err != nil {
			t.Fatal(err)
		}
		call := func(status int, text string, runs int) *httptest.ResponseRecorder {
			t.Helper()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, trigger.Prefix+"token", nil)
			r.Header.Set("Authorization", "Bearer hush-hush")
			got := httptest.NewRecorder()
			w.ServeHTTP(got, r)
			if got.Code != status || !strings.Contains(got.Body.String(), text) || f.runs() != runs {
				t.Errorf("got %d %s, and there are %d runs; want %d %s, and %d", got.Code, got.Body, f.runs(), status, text, runs)
			}
			return got
		}
		inHubsWords := func(got *httptest.ResponseRecorder) {
			t.Helper()
			var x struct{ Message string }
			if err := json.Unmarshal(got.Body.Bytes(), &x); err != nil || x.Message == "" {
				t.Errorf("the answer is %s, %v", got.Body, err)
			}
		}
		const away = "the connector far, which answers this trigger, does not do so now; nothing was started"
		f.deaf = true
		inHubsWords(call(http.StatusServiceUnavailable, away, 0))
		f.deaf, f.mute = false, true
		inHubsWords(call(http.StatusServiceUnavailable, away, 0))
		f.mute = false
		f.setup = connectors.ScanSetup{Logins: []connectors.Login{{URL: "https://evil.example.com/login", Username: "u", Password: "p"}}}
		call(http.StatusUnprocessableEntity, "no: \"https://evil.example.com\" is not among the origins", 0)
		f.setup = connectors.ScanSetup{Logins: []connectors.Login{{URL: "https://shop.example.com/login", Username: "u", Password: "p"}}}
		w.mu.Lock()
		w.away = errors.New("it is in quarantine")
		w.mu.Unlock()
		call(http.StatusServiceUnavailable, "no: the connector test, which scans the project, does not answer now; nothing was started", 0)
		if _, err := w.Start(w.ctx, w.project); err == nil || f.runs() != 0 {
			t.Errorf("a scan that nobody can run: %v", err)
		}
		w.mu.Lock()
		w.away = nil
		w.mu.Unlock()
		got := call(http.StatusOK, "it begins", 1)
		if f.before != 0 || got.Header().Get("Location") != "" || got.Header().Get("Content-Type") != "text/plain" || f.saw.Get("Authorization") != "[secret]" {
			t.Errorf("there were %d runs when the answer was written; it has %v; the connector saw %v", f.before, got.Header(), f.saw)
		}
		<-w.jobs
		call(http.StatusConflict, "no: a scan is running already", 1)
		f.mute = true // a refusal is one in the hub's words, too
		inHubsWords(call(http.StatusConflict, "a scan is running already", 1))
	})
}
