package graph

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/watch"
)

// stream is the delivery log over one of the transports; next gives false at its end.
type stream struct {
	next func() (logAnswer, bool)
}

// streams opens the log over each transport.
func (w *world) streams(as string) map[string]stream {
	w.t.Helper()
	c := w.dial(as)
	c.follow(nil, "")
	socket := stream{next: func() (a logAnswer, more bool) {
		m, err := c.next()
		if err != nil {
			if code := websocket.CloseStatus(err); code != closeExpired {
				w.t.Errorf("the socket was closed with %d (%v), want %d", code, err, closeExpired)
			}
			return a, false
		}
		if m.Type == "complete" {
			return a, true
		}
		if err := json.Unmarshal(m.Payload, &a); err != nil {
			w.t.Fatal(err)
		}
		return a, true
	}}

	body, _ := json.Marshal(map[string]any{"query": logQuery})
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, w.server.URL, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Authorization", "Bearer "+as)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = resp.Body.Close() })
	lines := bufio.NewScanner(resp.Body)
	events := stream{next: func() (a logAnswer, more bool) {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				if err := json.Unmarshal([]byte(data), &a); err != nil {
					w.t.Fatal(err)
				}
				return a, true
			}
		}
		return a, false
	}}
	out := map[string]stream{"websocket": socket, "events": events}
	for name, s := range out {
		if a, more := s.next(); !more || !a.Data.DeliveryLog.Heartbeat {
			w.t.Fatalf("%s: the first batch is %+v", name, a)
		}
	}
	return out
}

// TestStreamsEndWithTheirRights takes rights away in every way in which the viewer of a
// credential can change. When Recheck has returned, streams show nothing more.
func TestStreamsEndWithTheirRights(t *testing.T) {
	for name, change := range map[string]func(*world, *viewer.Viewer) *viewer.Viewer{
		"the credential is gone":   func(*world, *viewer.Viewer) *viewer.Viewer { return nil },
		"all groups are withdrawn": func(_ *world, v *viewer.Viewer) *viewer.Viewer { v.AllGroups = false; return v },
		"one group is given for all": func(w *world, v *viewer.Viewer) *viewer.Viewer {
			v.AllGroups, v.Groups = false, []string{w.vars["red"]}
			return v
		},
		"the role is another": func(_ *world, v *viewer.Viewer) *viewer.Viewer {
			v.Role, v.Permissions = viewer.ReportViewer, viewer.ReportViewer.Permissions()
			return v
		},
		"one permission is gone": func(_ *world, v *viewer.Viewer) *viewer.Viewer { v.Permissions = v.Permissions[1:]; return v },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, storetest.Open(t, store.Config{DataDir: t.TempDir()}), Options{Recheck: time.Hour}, watch.Options{Tick: time.Millisecond})
			w.webhookForAll()
			w.viewer("watcher", viewer.Manager)
			w.viewers["watcher"].AllGroups = true
			open := w.streams("watcher")
			others := w.dial("admin")
			others.follow(nil, "")
			others.batch()
			w.api.Recheck(t.Context(), w.org) // nothing has changed: all go on
			w.deliver(1)
			for name, s := range open {
				for a := (logAnswer{}); len(a.Data.DeliveryLog.Entries) == 0; {
					var more bool
					if a, more = s.next(); !more || len(a.Errors) > 0 {
						t.Fatalf("%s ended without a reason: %+v", name, a)
					}
				}
			}

			w.mu.Lock()
			v := *w.viewers["watcher"]
			w.viewers["watcher"] = change(w, &v)
			w.mu.Unlock()
			w.api.Recheck(t.Context(), w.org)
			w.deliver(3)
			for name, s := range open {
				told := false
				for {
					a, more := s.next()
					if !more {
						break
					}
					if n := len(a.Data.DeliveryLog.Entries); n > 0 {
						t.Errorf("%s: %d entries after the rights were taken away", name, n)
					}
					told = told || len(a.Errors) == 1 && a.Errors[0].Extensions.Code == Unauthenticated
				}
				if !told && name == "events" { // a socket says it with its close code
					t.Errorf("%s: ended without a word", name)
				}
			}
			if ids, _ := others.entries(4); len(ids) != 4 {
				t.Errorf("another viewer saw %d of 4 entries", len(ids))
			}
		})
	}
}

// A change between the look at the credential and the registration of the stream does
// not get lost.
func TestChangeWhileAStreamBegins(t *testing.T) {
	w := newWorld(t, storetest.Open(t, store.Config{DataDir: t.TempDir()}), Options{}, watch.Options{})
	s := &session{h: w.api, header: "Bearer manager"}
	looks := w.api.looked()
	v, _, _ := w.api.authenticate(t.Context(), s.header)
	w.mu.Lock()
	delete(w.viewers, "manager")
	w.mu.Unlock()
	w.api.Recheck(t.Context(), w.org)
	ctx, cancel := context.WithCancelCause(t.Context())
	if err := s.begin(ctx, v, cancel, looks); err != nil {
		t.Fatal(err)
	}
	defer s.end()
	if s.revoked() == nil || ctx.Err() == nil {
		t.Error("the stream began with a credential that is gone")
	}
}
