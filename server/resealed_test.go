package server_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/server/servertest/program"
)

// sealedValues reads every sealed value of a hub's database, by table, column and row.
func sealedValues(t *testing.T, dir, url string) map[string][]byte {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{DataDir: dir, DatabaseURL: url, Existing: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	out := map[string][]byte{}
	for _, c := range gen.SealedColumns() {
		func() {
			rows, err := db.Client.QueryContext(t.Context(), fmt.Sprintf(`SELECT id, %q FROM %q WHERE %q IS NOT NULL`, c.Column, c.Table, c.Column))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = rows.Close() }()
			n := 0
			for ; rows.Next(); n++ {
				var id string
				var value []byte
				if err := rows.Scan(&id, &value); err != nil {
					t.Fatal(err)
				}
				out[c.Table+"."+c.Column+" of "+id] = value
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				t.Errorf("nothing is sealed in %s.%s: this test does not show that it is sealed anew", c.Table, c.Column)
			}
		}()
	}
	return out
}

// TestRotateOnRunningHubs exchanges the key that seals under running hubs, two nodes on
// PostgreSQL of which each has a copy of the key file: every sealed value of every noun
// is another one afterwards, and every secret works on both nodes, before and after they
// start anew with only the new key.
func TestRotateOnRunningHubs(t *testing.T) {
	onEach(t, func(t *testing.T, dbURL string) {
		dir := t.TempDir()
		one := startIn(t, dir, dbURL, "--allow-private-targets", "--node-name", "one")
		nodes := []*program.Hub{one}
		dirs := []string{dir}
		if dbURL != "" {
			other := t.TempDir()
			nodes, dirs = append(nodes, secondIn(t, other, one, dir, dbURL)), append(dirs, other)
		}
		ctx := t.Context()
		s := newSink(t)
		callbacks := make([]string, len(nodes))
		for i, h := range nodes {
			callbacks[i] = h.URL + "/auth/oidc/callback"
		}
		p := newLoginProvider(t, "the client's secret", callbacks...)
		p.person("cid", "cid@example.com", true, "leads")

		// One of everything that is sealed.
		const bearer, authorization, sourceKey = "a bearer's token", "Basic c291cmNlOnBhc3M=", "whsec_c2VjcmV0IG9mIGEgc291cmNlLCBsb25nIGVub3VnaA=="
		endpoint, err := one.CreateEndpoint(ctx, program.Input{"name": "e", "connector": "webhook", "url": s.url + "/e", "secrets": []program.Input{{"name": "bearer_token", "value": bearer}}})
		if err != nil {
			t.Fatal(err)
		}
		_, signing, err := one.CreateWebhook(ctx, program.Input{"name": "w", "endpointId": endpoint, "global": true, "format": "hookyard"})
		if err != nil {
			t.Fatal(err)
		}
		_, address, err := one.CreateSource(ctx, program.Input{"name": "s", "kind": "cloudevents", "authorization": authorization, "secrets": []string{sourceKey}})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := one.CreateSource(ctx, program.Input{"name": "a", "kind": "appscan", "settings": program.Input{"service_url": s.url, "key_id": "id"},
			"settingSecrets": []program.Input{{"name": "key_secret", "value": "a key's secret"}}}); err != nil {
			t.Fatal(err)
		}
		group, err := one.CreateAssetGroup(ctx, "g")
		if err != nil {
			t.Fatal(err)
		}
		app, err := one.CreateApplication(ctx, "a", group)
		if err != nil {
			t.Fatal(err)
		}
		st := newStage(t)
		_, ci := st.project(one.Client, app, nil)
		scan := trigger(t, ci, payload(t, "trigger_payload_web.json"))
		st.begun()
		st.end(ci, scan, connectors.ScanFinished)
		var made struct {
			CreateIdentityProvider struct{ IdentityProvider struct{ ID string } }
			CreateUser             struct{ User struct{ ID string } }
		}
		if err := one.Do(ctx, `mutation ($in: CreateIdentityProviderInput!) { createIdentityProvider(input: $in) { identityProvider { id } }
			createUser(input: {email: "ann@example.com", role: TESTER}) { user { id } } }`, program.Input{"in": program.Input{"name": "Login", "issuer": p.server.URL,
			"clientId": "hookyard", "clientSecret": "the client's secret", "mapping": []program.Input{{"value": "leads", "role": "TESTER"}}}}, &made); err != nil {
			t.Fatal(err)
		}
		session, err := one.SignIn(ctx, made.CreateUser.User.ID, "ann@example.com", passphrase)
		if err != nil {
			t.Fatal(err)
		}
		_, recovery := enrol(t, one.As(session.Token))

		sent := 0
		works := func(when string) {
			t.Helper()
			for i, h := range nodes {
				at := fmt.Sprintf("%s, node %d", when, i+1)
				// A source's secrets, an endpoint's and a webhook's: an event comes in and goes out.
				sent++
				var status int
				until(t, 10*time.Second, at+": the source is known", func() bool {
					status = post(t, h.URL+address[len(one.URL):], sent, authorization)
					return status/100 == 2
				})
				if status := post(t, h.URL+address[len(one.URL):], sent+1_000_000, "Basic d3Jvbmc="); status != http.StatusUnauthorized {
					t.Errorf("%s: another authorization: %d", at, status)
				}
				s.await(t, "e", []int{sent}, 10*time.Second)
				s.mu.Lock()
				head, body := s.head["e"].Clone(), bytes.Clone(s.body["e"])
				s.mu.Unlock()
				if got := head.Get("Authorization"); got != "Bearer "+bearer {
					t.Errorf("%s: the endpoint's credential is %q", at, got)
				}
				if w, err := standardwebhooks.NewWebhook(signing); err != nil || w.Verify(body, head) != nil {
					t.Errorf("%s: the signature is not right: %v", at, err)
				}
				// The signing keys of tokens, a session's chain, a second factor.
				if got := asks(t, h.As(exchange(t, h))); got != "" {
					t.Errorf("%s: a token of the node: %s", at, got)
				}
				next, code := door(t, h.Client, "refresh", program.Input{"refreshToken": session.RefreshToken})
				if code != "" {
					t.Fatalf("%s: renew a session: %s", at, code)
				}
				session.RefreshToken = next.RefreshToken
				if _, code := door(t, h.Client, "login", program.Input{"email": "ann@example.com", "password": passphrase, "code": recovery[0], "body": true}); code != "" {
					t.Errorf("%s: a second factor: %s", at, code)
				}
				recovery = recovery[1:]
				// The client's secret at an identity provider.
				b := newBrowser(t)
				if status, code, words, _ := b.goes(t, h.URL+"/auth/oidc/"+made.CreateIdentityProvider.IdentityProvider.ID+"/start"); status != http.StatusSeeOther {
					t.Errorf("%s: single sign-on: %d %s %s", at, status, code, words)
				}
			}
		}
		works("before")
		before := sealedValues(t, dir, dbURL)

		// The operator's way with two machines: run it, copy the file, run it again.
		rotate := at(dir, dbURL, "secrets", "rotate", "--wait", "2s")
		said, err := tool(t, rotate...)
		for copies := 0; err != nil && len(nodes) > 1 && copies < 3; copies++ {
			if !strings.Contains(err.Error(), "copy") {
				t.Fatal(err)
			}
			works("half-way")
			key, e := os.ReadFile(filepath.Join(dir, "hookyard.key"))
			if e == nil {
				e = os.WriteFile(filepath.Join(dirs[1], "hookyard.key"), key, 0o600)
			}
			if e != nil {
				t.Fatal(e)
			}
			said, err = tool(t, rotate...)
		}
		if err != nil {
			t.Fatalf("%v after %s", err, said)
		}
		works("after")
		after := sealedValues(t, dir, dbURL)
		for what, old := range before {
			if now, there := after[what]; !there || bytes.Equal(now, old) {
				t.Errorf("%s was not sealed anew", what)
			}
		}
		key, err := os.ReadFile(filepath.Join(dir, "hookyard.key"))
		if err != nil {
			t.Fatal(err)
		}
		for i, h := range nodes {
			if err := errors.Join(h.Stop(), os.WriteFile(filepath.Join(dirs[i], "hookyard.key"), key, 0o600), h.Start(ctx)); err != nil {
				t.Fatal(err)
			}
		}
		works("started anew")
	})
}

// post sends an event with an Authorization and returns the status.
func post(t *testing.T, address string, n int, authorization string) int {
	t.Helper()
	body := fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/test","type":"scan.completed","data":{"scan":{"key":"%d","name":"scan"},"attributes":{"n":%d}}}`, n, n, n)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/cloudevents+json")
	r.Header.Set("Authorization", authorization)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}
