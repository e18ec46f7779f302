package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/servertest/program"
)

// watcher reads a delivery log until it ends.
type watcher struct {
	name    string
	entries chan string   // their events
	ended   chan struct{} // closed at the end
}

// watchLog opens the log over both transports as the holder of a credential.
func watchLog(t *testing.T, name string, c *program.Client) []*watcher {
	t.Helper()
	read := func(transport string, next func() (program.Batch, error)) *watcher {
		w := &watcher{name: name + " over " + transport, entries: make(chan string, 1000), ended: make(chan struct{})}
		go func() {
			defer close(w.ended)
			for {
				b, err := next()
				if err != nil {
					return
				}
				for _, e := range b.Entries {
					w.entries <- e.EventID
				}
			}
		}()
		return w
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	socket, err := c.DeliveryLog(ctx, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]string{"query": `subscription { deliveryLog { cursor heartbeat entries { eventId } } }`})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL+"/graphql", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Authorization", "Bearer "+c.Key)
	resp, err := http.DefaultClient.Do(req) // c.HTTP has a time limit
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	lines := bufio.NewScanner(resp.Body)
	event := func() (b program.Batch, err error) {
		var got struct {
			Data   struct{ DeliveryLog program.Batch }
			Errors []*program.Error
		}
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				if err := json.Unmarshal([]byte(data), &got); err != nil {
					return b, err
				}
				if len(got.Errors) > 0 {
					return b, got.Errors[0]
				}
				return got.Data.DeliveryLog, nil
			}
		}
		return b, http.ErrBodyReadAfterClose
	}
	if _, err := event(); err != nil { // the stream is established
		t.Fatal(err)
	}
	return []*watcher{
		read("a websocket", func() (program.Batch, error) { return socket.NextBatch(ctx) }),
		read("server-sent events", event),
	}
}

// TestRightsBiteAtOnce takes rights away from somebody who is watching. On the node that
// made the change nothing more comes after its answer; the others follow within a second
// or so; the next call fails; and the webhooks go on firing.
func TestRightsBiteAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		w := newAcme(t, url)
		nodes := map[string]*program.Hub{"one": w.Hub}
		if url != "" {
			nodes["two"] = second(t, w.Hub, w.dir, url)
		}
		w.create("A", program.Input{"global": true})
		db, err := store.Open(t.Context(), store.Config{DataDir: w.dir, DatabaseURL: w.url, Existing: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		// elsewhere changes a user as another node or the operator would.
		elsewhere := func(id string, change func(*gen.UserUpdateOne)) {
			t.Helper()
			err := db.WithTx(viewer.SystemContext(t.Context()), func(ctx context.Context, tx *gen.Tx) error {
				u := tx.User.UpdateOneID(id)
				change(u)
				return u.Exec(ctx)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		call := func(mutation string, in program.Input) {
			t.Helper()
			input := strings.ToUpper(mutation[:1]) + mutation[1:] + "Input"
			if err := w.Do(t.Context(), `mutation ($in: `+input+`!) { `+mutation+`(input: $in) { __typename } }`, program.Input{"in": in}, nil); err != nil {
				t.Fatalf("%s: %v", mutation, err)
			}
		}
		role := w.role("watcher", "READ_PAYLOADS", "RUN_SCANS")
		for _, c := range []struct {
			name   string
			here   bool // the change is made by a call to node one, so that it bites there before the answer
			change func(user string)
			after  string // what the next call comes to
			sees   bool   // whether it sees what happened in the group
		}{
			{"the key is deleted", true, func(string) { w.deleteKey(t, "key of the-key-is-deleted") }, "UNAUTHENTICATED", false},
			{"the role is another", true, func(user string) { call("updateUser", program.Input{"id": user, "role": "REPORT_VIEWER"}) }, "ok", true},
			{"the group is taken away", true, func(user string) {
				call("updateUser", program.Input{"id": user, "groupIds": []string{w.group["B"]}})
			}, "ok", false},
			{"the role has a permission less", true, func(string) {
				call("updateRole", program.Input{"id": role, "permissions": []string{"RUN_SCANS"}})
			}, "ok", true},
			{"the user is disabled", true, func(user string) { call("disableUser", program.Input{"id": user}) }, "UNAUTHENTICATED", false},
			{"the user is disabled elsewhere", false, func(user string) {
				elsewhere(user, func(u *gen.UserUpdateOne) { u.SetDisabledAt(time.Now().UTC()) })
			}, "UNAUTHENTICATED", false},
			{"the group is taken away elsewhere", false, func(user string) {
				elsewhere(user, func(u *gen.UserUpdateOne) { u.ClearGroups() })
			}, "ok", false},
			{"the organization is suspended", false, func(string) {
				if _, err := tool(t, at(w.dir, w.url, "org", "suspend", "Acme")...); err != nil {
					t.Fatal(err)
				}
			}, "UNAUTHENTICATED", false},
		} {
			t.Run(c.name, func(t *testing.T) {
				w.t = t
				name := strings.ReplaceAll(c.name, " ", "-")
				in := program.Input{"role": "MANAGER", "groupIds": []string{w.group["A"]}}
				if c.name == "the role has a permission less" {
					in["role"], in["customRoleId"] = "CUSTOM", role
				}
				user := w.user(name, in)
				var open []*watcher
				for node, h := range nodes {
					client := &program.Client{URL: h.URL, Key: w.as[name].Key, HTTP: h.HTTP}
					var got struct{ Viewer struct{ ID string } }
					until(t, 3*time.Second, "the node knows the credential", func() bool {
						return client.Do(t.Context(), `{ viewer { id } }`, nil, &got) == nil
					})
					open = append(open, watchLog(t, node, client)...)
				}
				w.arrived(t, w.publish("scan.completed", "a1"))
				for _, o := range open {
					<-o.entries
				}

				c.change(user)
				changed := time.Now()
				late := -1
				if c.here {
					late = w.publish("scan.completed", "a1") // at once
				}
				for _, o := range open {
					select {
					case <-o.ended:
					case <-time.After(5 * time.Second):
						t.Fatalf("%s is still open", o.name)
					}
					if took := time.Since(changed); took > 2500*time.Millisecond {
						t.Errorf("%s took %v to end", o.name, took)
					}
					here := c.here && strings.HasPrefix(o.name, "one")
					if n := len(o.entries); n > 0 && here {
						t.Errorf("%s: %d entries after the change was answered", o.name, n)
					}
				}
				var got struct {
					Events struct{ Edges []struct{ Cursor string } }
				}
				if v := verdict(w.as[name].Do(t.Context(), `{ events(first: 1) { edges { cursor } } }`, nil, &got)); v != c.after {
					t.Errorf("the next call: %s, want %s", v, c.after)
				}
				if sees := len(got.Events.Edges) > 0; sees != c.sees {
					t.Errorf("the next call sees what happened in the group: %t", sees)
				}
				if c.name != "the organization is suspended" { // that stops everything
					w.arrived(t, w.publish("scan.completed", "a1"))
				}
				if late > 0 {
					w.arrived(t, late)
				}
			})
		}
	})
}

// arrived waits until the events have arrived at the sink of group A.
func (w *acme) arrived(t *testing.T, events ...int) {
	t.Helper()
	w.sink.await(t, "A", events, 10*time.Second)
}

// newKey makes an API key and returns it.
func (w *acme) newKey(t *testing.T, name string, in program.Input) string {
	t.Helper()
	in["name"] = name
	var got struct{ R struct{ Key string } }
	if err := w.Do(t.Context(), `mutation ($in: CreateAPIKeyInput!) { r: createAPIKey(input: $in) { key } }`, program.Input{"in": in}, &got); err != nil {
		t.Fatal(err)
	}
	return got.R.Key
}

// deleteKey deletes the API key of that name.
func (w *acme) deleteKey(t *testing.T, name string) {
	t.Helper()
	var got struct {
		APIKeys struct {
			Edges []struct{ Node struct{ ID string } }
		}
	}
	if err := w.Do(t.Context(), `query ($n: String!) { apiKeys(where: {name: $n}) { edges { node { id } } } }`, program.Input{"n": name}, &got); err != nil {
		t.Fatal(err)
	}
	for _, e := range got.APIKeys.Edges {
		if err := w.Do(t.Context(), `mutation ($id: ID!) { deleteAPIKey(input: {id: $id}) { deletedId } }`, program.Input{"id": e.Node.ID}, nil); err != nil {
			t.Fatal(err)
		}
	}
}
