package server_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookyard/hookyard/server/servertest/program"
)

// signedUp makes a user of the acme world who can sign in, and does so.
func (w *acme) signedUp(name string, in program.Input) (id string, tokens *program.Tokens) {
	w.t.Helper()
	id = w.user(name, in)
	tokens, err := w.SignIn(w.t.Context(), id, name+"@example.com", passphrase)
	if err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
	return id, tokens
}

// enrol gives whoever signed in a second factor and returns its secret.
func enrol(t *testing.T, c *program.Client) (secret string, recovery []string) {
	t.Helper()
	var begun struct{ BeginSecondFactor struct{ Secret string } }
	if err := c.Do(t.Context(), `mutation ($p: String!) { beginSecondFactor(input: {password: $p}) { secret } }`, program.Input{"p": passphrase}, &begun); err != nil {
		t.Fatal(err)
	}
	var done struct {
		ConfirmSecondFactor struct{ RecoveryCodes []string }
	}
	if err := c.Do(t.Context(), `mutation ($c: String!) { confirmSecondFactor(input: {code: $c}) { recoveryCodes } }`,
		program.Input{"c": totp(t, begun.BeginSecondFactor.Secret, time.Now())}, &done); err != nil {
		t.Fatal(err)
	}
	return begun.BeginSecondFactor.Secret, done.ConfirmSecondFactor.RecoveryCodes
}

// TestNobodyTakesOverTheMightier lets access managers with a part of the rights, or of the
// groups, reach for users who have more, in every way that could make them those users or
// shut them out; and for users that they may deal with, to see that the ways are open.
func TestNobodyTakesOverTheMightier(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		w := newAcme(t, url)
		clerks := w.role("clerk", "MANAGE_ACCESS", "RUN_SCANS", "SEND_EVENTS", "READ_PAYLOADS")
		// Keys are no way round it: each clerk asks with a session, and with a key.
		people := map[string]program.Input{
			"weak":  {"role": "CUSTOM", "customRoleId": clerks, "allGroups": true},
			"local": {"role": "CUSTOM", "customRoleId": clerks, "groupIds": w.groups([]string{"A"})},
		}
		ways := map[string]map[string]*program.Client{}
		for _, clerk := range []string{"weak", "local"} {
			_, in := w.signedUp(clerk, people[clerk])
			ways[clerk] = map[string]*program.Client{"session": w.holder(in.Token), "key": w.as[clerk]}
		}
		for _, v := range []struct {
			name   string
			rights program.Input
			of     map[string]string // what each clerk's tries come to
		}{
			{"boss", program.Input{"role": "ADMINISTRATOR"}, map[string]string{"weak": "FORBIDDEN", "local": "FORBIDDEN"}},
			{"chief", program.Input{"role": "MANAGER", "groupIds": w.groups([]string{"A"})}, map[string]string{"weak": "FORBIDDEN", "local": "FORBIDDEN"}},
			{"everywhere", program.Input{"role": "TESTER", "allGroups": true}, map[string]string{"weak": "ok", "local": "FORBIDDEN"}},
			{"elsewhere", program.Input{"role": "TESTER", "groupIds": w.groups([]string{"B"})}, map[string]string{"weak": "ok", "local": "FORBIDDEN"}},
			{"equal", program.Input{"role": "TESTER", "groupIds": w.groups([]string{"A"})}, map[string]string{"weak": "ok", "local": "ok"}},
		} {
			id, in := w.signedUp(v.name, v.rights)
			enrol(t, w.holder(in.Token))
			for clerk, want := range v.of {
				for way, c := range ways[clerk] {
					for _, try := range []struct{ what, query string }{
						{"a link", `mutation ($id: ID!) { createUserLink(input: {id: $id}) { link { url } } }`},
						{"rename", `mutation ($id: ID!) { updateUser(input: {id: $id, name: "x"}) { user { id } } }`},
						{"demote", `mutation ($id: ID!) { updateUser(input: {id: $id, role: REPORT_VIEWER, allGroups: false, groupIds: []}) { user { id } } }`},
						{"disable", `mutation ($id: ID!) { disableUser(input: {id: $id}) { user { id } } }`},
						{"delete", `mutation ($id: ID!) { deleteUser(input: {id: $id}) { deletedId } }`},
						{"unlink", `mutation ($id: ID!) { unlinkUser(input: {id: $id}) { unlinked } }`},
						{"a key in the name of", `mutation ($id: ID!) { createAPIKey(input: {name: "x", role: REPORT_VIEWER, ownerId: $id}) { key } }`},
						{"take over what is owned", `mutation ($id: ID!) { transferOwnership(input: {fromId: $id, stop: true}) { apiKeyIds } }`},
						{"end the sessions", `mutation ($id: ID!) { endUserSessions(input: {userId: $id}) { ended } }`},
						{"end a session", `mutation ($id: ID!, $s: ID!) { endSession(input: {id: $s}) { deletedId } u: endUserSessions(input: {userId: $id}) { ended } }`},
						{"take the second factor", `mutation ($id: ID!) { removeUserSecondFactor(input: {id: $id}) { user { id } } }`},
					} {
						if want == "ok" {
							continue // below, once
						}
						vars := program.Input{"id": id}
						if strings.Contains(try.query, "$s") {
							vars["s"] = in.SessionID
						}
						if got := verdict(c.Do(t.Context(), try.query, vars, nil)); got != want {
							t.Errorf("%s by a %s: %s %s: %s, want %s", clerk, way, try.what, v.name, got, want)
						}
					}
				}
				if got := asks(t, w.holder(in.Token)); got != "" {
					t.Fatalf("the session of %s after what %s tried: %q", v.name, clerk, got)
				}
			}
			if code := verdict(must(door(t, w.Client, "login", program.Input{"email": v.name + "@example.com", "password": passphrase, "body": true}))); code != "UNAUTHENTICATED" {
				t.Errorf("%s signs in without the second factor: %s", v.name, code)
			}
		}
		// The ways are open to where they lead.
		id, in := w.signedUp("junior", program.Input{"role": "TESTER", "groupIds": w.groups([]string{"A"})})
		for _, query := range []string{
			`mutation ($id: ID!) { updateUser(input: {id: $id, name: "x"}) { user { id } } }`,
			`mutation ($id: ID!) { unlinkUser(input: {id: $id}) { unlinked } }`,
			`mutation ($id: ID!) { endUserSessions(input: {userId: $id}) { ended } }`,
			`mutation ($id: ID!) { removeUserSecondFactor(input: {id: $id}) { user { id } } }`,
			`mutation ($id: ID!) { createUserLink(input: {id: $id}) { link { url } } }`,
			`mutation ($id: ID!) { deleteUser(input: {id: $id}) { deletedId } }`,
		} {
			if got := verdict(ways["local"]["session"].Do(t.Context(), query, program.Input{"id": id}, nil)); got != "ok" {
				t.Errorf("%s: %s", query, got)
			}
		}
		if got := asks(t, w.holder(in.Token)); got != "UNAUTHENTICATED" {
			t.Errorf("a session that was ended: %q", got)
		}
	})
}

// must is the error of a call at the door as verdict wants it.
func must(_ program.Tokens, code string) error {
	if code == "" {
		return nil
	}
	e := &program.Error{}
	e.Extensions.Code = code
	return e
}

// TestOutsidersAreTheOrganizations: whoever manages access in one group only sets up no
// outside party, sees none and changes none, not even one that gives nothing.
func TestOutsidersAreTheOrganizations(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		w := newAcme(t, url)
		clerks := w.role("clerk", "MANAGE_ACCESS", "RUN_SCANS", "SEND_EVENTS", "READ_PAYLOADS")
		w.user("local", program.Input{"role": "CUSTOM", "customRoleId": clerks, "groupIds": w.groups([]string{"A"})})
		w.user("whole", program.Input{"role": "CUSTOM", "customRoleId": clerks, "allGroups": true})
		a := w.group["A"]
		provider := func(name, rules string) string {
			return `mutation { r: createIdentityProvider(input: {name: "` + name + `", issuer: "https://id.example.com", clientId: "hub", mapping: [` + rules + `]}) { identityProvider { id } } }`
		}
		issuer := func(name, rules string) string {
			return `mutation { r: createTrustedIssuer(input: {name: "` + name + `", issuer: "https://id.example.com", audience: "` + name + `", actsAs: ROLES, mapping: [` + rules + `]}) { trustedIssuer { id } } }`
		}
		rule := `{value: "x", role: TESTER, groupIds: ["` + a + `"]}`
		for who, want := range map[string]string{"local": "FORBIDDEN", "whole": "ok"} {
			for what, query := range map[string]string{
				"a provider without rules": provider(who+" 1", ""), "a provider": provider(who+" 2", rule),
				"an issuer without rules": issuer(who+" 3", ""), "an issuer": issuer(who+" 4", rule),
			} {
				if got := verdict(w.as[who].Do(t.Context(), query, nil, nil)); got != want {
					t.Errorf("%s makes %s: %s, want %s", who, what, got, want)
				}
			}
		}
		var made struct {
			R struct{ IdentityProvider struct{ ID string } }
			S struct{ TrustedIssuer struct{ ID string } }
		}
		both := strings.TrimSuffix(provider("mine", ""), " }") + strings.Replace(strings.TrimPrefix(issuer("mine", ""), "mutation {"), "r:", "s:", 1)
		if err := w.Do(t.Context(), both, nil, &made); err != nil {
			t.Fatal(err)
		}
		idp, tri := made.R.IdentityProvider.ID, made.S.TrustedIssuer.ID
		for what, query := range map[string]string{
			"change a provider": `mutation { updateIdentityProvider(input: {id: "` + idp + `", enabled: false}) { identityProvider { id } } }`,
			"delete a provider": `mutation { deleteIdentityProvider(input: {id: "` + idp + `"}) { deletedId } }`,
			"test a provider":   `mutation { testIdentityProvider(input: {id: "` + idp + `"}) { ok } }`,
			"change an issuer":  `mutation { updateTrustedIssuer(input: {id: "` + tri + `", enabled: false}) { trustedIssuer { id } } }`,
			"delete an issuer":  `mutation { deleteTrustedIssuer(input: {id: "` + tri + `"}) { deletedId } }`,
		} {
			if got := verdict(w.as["local"].Do(t.Context(), query, nil, nil)); got != "NOT_FOUND" {
				t.Errorf("%s: %s", what, got)
			}
		}
		var seen struct{ IdentityProviders, TrustedIssuers struct{ TotalCount int } }
		if err := w.as["local"].Do(t.Context(), `{ identityProviders { totalCount } trustedIssuers { totalCount } }`, nil, &seen); err != nil || seen.IdentityProviders.TotalCount+seen.TrustedIssuers.TotalCount != 0 {
			t.Errorf("sees %+v, %v", seen, err)
		}
	})
}

// TestKeysAreNarrowedWithTheirOwner: a key has at once no more than its owner has left.
func TestKeysAreNarrowedWithTheirOwner(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		w := newAcme(t, url)
		owner := w.user("owner", program.Input{"role": "ADMINISTRATOR"})
		key := w.as["owner"] // of an Administrator, by its own row
		nodes := map[string]*program.Client{"one": key}
		if url != "" {
			two := second(t, w.Hub, w.dir, url)
			nodes["two"] = two.As(key.Key)
			until(t, 3*time.Second, "the node knows the key", func() bool { return asks(t, nodes["two"]) == "" })
		}
		hook := w.create("organization", program.Input{"global": true})
		type access struct {
			Viewer struct {
				Role                  string
				Permissions, GroupIDs []string
				AllGroups             bool
			}
		}
		for _, step := range []struct {
			what      string
			change    program.Input
			role      string
			all       bool
			groups    []string
			may, sees string // to change the organization's webhook; whether it can manage access
		}{
			{"as it was", program.Input{"name": "x"}, "ADMINISTRATOR", true, nil, "ok", "ok"},
			{"a Manager of all groups", program.Input{"role": "MANAGER", "allGroups": true}, "MANAGER", true, nil, "ok", "FORBIDDEN"},
			{"a Manager of A", program.Input{"allGroups": false, "groupIds": w.groups([]string{"A"})}, "MANAGER", false, w.groups([]string{"A"}), "NOT_FOUND", "FORBIDDEN"},
			{"a Tester of B", program.Input{"role": "TESTER", "groupIds": w.groups([]string{"B"})}, "TESTER", false, w.groups([]string{"B"}), "NOT_FOUND", "FORBIDDEN"},
		} {
			step.change["id"] = owner
			if err := w.Do(t.Context(), `mutation ($in: UpdateUserInput!) { updateUser(input: $in) { user { id } } }`, program.Input{"in": step.change}, nil); err != nil {
				t.Fatal(err)
			}
			for node, c := range nodes { // rights are read at each call, on every node
				var got access
				if err := c.Do(t.Context(), `{ viewer { role permissions groupIds allGroups } }`, nil, &got); err != nil {
					t.Fatal(err)
				}
				v := got.Viewer
				if v.Role != step.role || v.AllGroups != step.all || !step.all && !slices.Equal(v.GroupIDs, step.groups) {
					t.Errorf("%s, node %s: %+v", step.what, node, v)
				}
				if may := verdict(c.Do(t.Context(), `mutation ($id: ID!) { updateWebhook(input: {id: $id, description: "x"}) { webhook { id } } }`, program.Input{"id": hook}, nil)); may != step.may {
					t.Errorf("%s, node %s: a change of the webhook: %s, want %s", step.what, node, may, step.may)
				}
				name := fmt.Sprintf("%s at %s", step.what, node)
				if sees := verdict(c.Do(t.Context(), `mutation ($n: String!) { createRole(input: {name: $n, permissions: []}) { role { id } } }`, program.Input{"n": name}, nil)); sees != step.sees {
					t.Errorf("%s, node %s: a new role: %s, want %s", step.what, node, sees, step.sees)
				}
			}
		}
	})
}

// TestAnAdministratorStays lets Administrators demote, disable and delete each other at
// once, again and again, on two nodes where there are two: one is always left.
func TestAnAdministratorStays(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		w := newAcme(t, url)
		hubs := []*program.Hub{w.Hub, w.Hub}
		if url != "" {
			hubs[1] = second(t, w.Hub, w.dir, url)
		}
		// The organization's first Administrator goes last: until then the others are a crowd.
		var first struct {
			Users struct {
				Edges []struct{ Node struct{ ID string } }
			}
		}
		if err := w.Do(t.Context(), `{ users(where: {role: ADMINISTRATOR}) { edges { node { id } } } }`, nil, &first); err != nil {
			t.Fatal(err)
		}
		root := first.Users.Edges[0].Node.ID
		keeper := w.holder(w.newKey(t, "keeper", program.Input{"role": "ADMINISTRATOR"})) // of the organization: no user
		for round, try := range []string{
			`mutation ($id: ID!) { updateUser(input: {id: $id, role: TESTER}) { user { id } } }`,
			`mutation ($id: ID!) { disableUser(input: {id: $id}) { user { id } } }`,
			`mutation ($id: ID!) { deleteUser(input: {id: $id}) { deletedId } }`,
			`mutation ($id: ID!) { updateUser(input: {id: $id, role: TESTER}) { user { id } } }`,
		} {
			var ids [2]string
			var keys [2]string
			for i := range ids {
				name := fmt.Sprintf("admin-%d-%d", round, i)
				ids[i] = w.user(name, program.Input{"role": "ADMINISTRATOR"})
				keys[i] = w.as[name].Key
			}
			// Nobody else is one: the first Administrator steps back.
			if err := keeper.Do(t.Context(), `mutation ($id: ID!) { updateUser(input: {id: $id, role: TESTER}) { user { id } } }`, program.Input{"id": root}, nil); err != nil {
				t.Fatal(err)
			}
			begin := make(chan struct{})
			var verdicts [2]string
			var both sync.WaitGroup
			for i := range ids {
				c := hubs[i].As(keys[i])
				until(t, 3*time.Second, "the node knows the Administrator", func() bool { return asks(t, c) == "" })
				both.Go(func() {
					<-begin
					verdicts[i] = verdict(c.Do(context.WithoutCancel(t.Context()), try, program.Input{"id": ids[1-i]}, nil))
				})
			}
			close(begin)
			both.Wait()
			var left struct {
				Users struct {
					Edges []struct {
						Node struct{ DisabledAt *time.Time }
					}
				}
			}
			if err := keeper.Do(t.Context(), `{ users(where: {role: ADMINISTRATOR, disabledAtIsNil: true}) { edges { node { disabledAt } } } }`, nil, &left); err != nil {
				t.Fatal(err)
			}
			if n := len(left.Users.Edges); n != 1 {
				t.Errorf("round %d: %d Administrators are left after %v", round, n, verdicts)
			}
			if slices.Index(verdicts[:], "ok") < 0 || verdicts[0] == verdicts[1] {
				t.Errorf("round %d: the verdicts are %v: one succeeds, the other does not", round, verdicts)
			}
			// Order again: the first Administrator is one, the others are gone.
			if err := keeper.Do(t.Context(), `mutation ($id: ID!) { updateUser(input: {id: $id, role: ADMINISTRATOR}) { user { id } } }`, program.Input{"id": root}, nil); err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				_ = keeper.Do(t.Context(), `mutation ($id: ID!) { deleteUser(input: {id: $id}) { deletedId } }`, program.Input{"id": id}, nil)
			}
		}
	})
}

// page is a browser's page of the hub: it has the cookie jar, and sends what scripts send.
type page struct {
	*http.Client
	hub *program.Hub
}

// calls a door as a page of the hub's own origin does; foreign as one of another.
func (p page) calls(t *testing.T, name, body string, foreign bool) (status int, cookie *http.Cookie) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.hub.URL+"/auth/"+name, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Hookyard-Request", "1")
	r.Header.Set("Origin", p.hub.URL)
	if foreign {
		r.Header.Set("Origin", "https://evil.example.com")
	}
	resp, err := p.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	for _, c := range resp.Cookies() {
		cookie = c
	}
	return resp.StatusCode, cookie
}

// TestCookies signs in as a browser does, renews the session by the cookie, and signs out.
func TestCookies(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		w := newAcme(t, url)
		w.signedUp("ann", program.Input{"role": "TESTER"})
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		p := page{&http.Client{Jar: jar, Timeout: 10 * time.Second}, w.Hub}
		t.Cleanup(p.CloseIdleConnections)
		status, first := p.calls(t, "login", `{"email": "ann@example.com", "password": "`+passphrase+`"}`, false)
		if status != http.StatusOK || first == nil || !first.HttpOnly || first.SameSite != http.SameSiteStrictMode || first.Path != "/auth/" || first.Secure {
			t.Fatalf("the sign-in: %d %v", status, first)
		}
		status, second := p.calls(t, "refresh", `{}`, false)
		if status != http.StatusOK || second == nil || second.Value == first.Value {
			t.Fatalf("the renewal: %d %v", status, second)
		}
		if status, _ := p.calls(t, "refresh", `{}`, true); status != http.StatusForbidden {
			t.Errorf("a renewal by a foreign page: %d", status)
		}
		if status, c := p.calls(t, "refresh", `{}`, false); status != http.StatusOK || c == nil || c.Value == second.Value {
			t.Fatalf("the renewal after it: %d %v", status, c)
		}
		if status, _ := p.calls(t, "logout", `{}`, true); status != http.StatusForbidden {
			t.Errorf("a sign-out by a foreign page: %d", status)
		}
		status, gone := p.calls(t, "logout", `{}`, false)
		if status != http.StatusNoContent || gone == nil || gone.MaxAge >= 0 || gone.Value != "" || gone.Path != "/auth/" {
			t.Errorf("the sign-out: %d %v", status, gone)
		}
		if status, _ := p.calls(t, "refresh", `{}`, false); status != http.StatusUnauthorized {
			t.Errorf("a renewal after the sign-out: %d", status)
		}
		if _, code := door(t, w.Client, "refresh", program.Input{"refreshToken": second.Value}); code != "UNAUTHENTICATED" {
			t.Errorf("an old token after the sign-out: %q", code)
		}
	})
}
