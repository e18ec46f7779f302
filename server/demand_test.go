package server_test

import (
	"testing"
	"time"

	"github.com/hookyard/hookyard/server/servertest/program"
)

// TestSecondFactorIsDemanded: once the organization demands a second factor, sessions by password
// of users without one can set it up and nothing else, at once and everywhere; keys and single sign-on
// are not asked for one.
func TestSecondFactorIsDemanded(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		w := newAcme(t, url)
		ctx := t.Context()
		_, ann := w.signedUp("ann", program.Input{"role": "ADMINISTRATOR"})
		_, bob := w.signedUp("bob", program.Input{"role": "MANAGER", "allGroups": true})
		_, has := w.signedUp("has", program.Input{"role": "TESTER"})
		enrol(t, w.holder(has.Token))
		open := watchLog(t, "ann", w.holder(ann.Token))
		demand := func(c *program.Client, on bool) string {
			return verdict(c.Do(ctx, `mutation ($on: Boolean!) { updateOrganization(input: {requireSecondFactor: $on}) { organization { requireSecondFactor } } }`, program.Input{"on": on}, nil))
		}
		clerk := w.role("clerk", "MANAGE_ACCESS")
		w.user("clerk", program.Input{"role": "CUSTOM", "customRoleId": clerk, "allGroups": true})
		if got := demand(w.as["clerk"], true); got != "FORBIDDEN" {
			t.Errorf("an access manager who is no Administrator: %s", got)
		}
		if got := demand(w.Client, true); got != "ok" {
			t.Fatal(got)
		}
		for _, o := range open { // ended before the change was answered, or so
			select {
			case <-o.ended:
			case <-time.After(5 * time.Second):
				t.Fatalf("%s is still open", o.name)
			}
		}
		// required asks what everybody may ask, and checks what it says.
		required := func(c *program.Client, want bool) {
			t.Helper()
			var got struct {
				Viewer struct{ SecondFactorRequired bool }
			}
			if err := c.Do(ctx, `{ __typename viewer { id role permissions secondFactorRequired } }`, nil, &got); err != nil || got.Viewer.SecondFactorRequired != want {
				t.Errorf("required: %t, want %t: %v", got.Viewer.SecondFactorRequired, want, err)
			}
		}
		for name, in := range map[string]*program.Tokens{"an Administrator": ann, "a Manager": bob} {
			c := w.holder(in.Token)
			required(c, true)
			for _, query := range []string{
				`{ users { edges { node { id } } } }`, `{ organization { id } }`, `{ viewer { id } webhooks { edges { node { id } } } }`,
				`query Q { ...F } fragment F on Query { webhooks { edges { node { id } } } }`,
				`mutation { createAPIKey(input: {name: "x", role: REPORT_VIEWER}) { key } }`,
				`mutation { updateOrganization(input: {requireSecondFactor: false}) { organization { id } } }`,
				`mutation { createUser(input: {email: "x@example.com", role: REPORT_VIEWER}) { user { id } } }`,
				`{ __schema { queryType { name } } }`,
			} {
				if got := verdict(c.Do(ctx, query, nil, nil)); got != "FORBIDDEN" {
					t.Errorf("%s asks %s: %s", name, query, got)
				}
			}
			if s, err := c.Subscribe(ctx, `subscription { deliveryLog { cursor } }`, nil); err == nil {
				if _, err := s.NextBatch(ctx); verdict(err) != "FORBIDDEN" {
					t.Errorf("%s watches: %v", name, err)
				}
				_ = s.Close()
			}
		}
		if got := asks(t, w.as["bob"]); got != "" {
			t.Errorf("bob's key: %q", got)
		}
		required(w.as["bob"], false)
		required(w.holder(has.Token), false)

		// The sign-in says so, too, and what is set up then counts for the session at once.
		var in struct {
			Token                string
			SecondFactorRequired bool
		}
		if _, err := w.Door(ctx, "login", program.Input{"email": "bob@example.com", "password": passphrase, "body": true}, &in); err != nil || !in.SecondFactorRequired {
			t.Fatalf("the sign-in: %+v, %v", in, err)
		}
		c := w.holder(in.Token)
		enrol(t, c)
		required(c, false)
		if got := verdict(c.Do(ctx, `{ webhooks { totalCount } }`, nil, nil)); got != "ok" {
			t.Errorf("with a second factor: %s", got)
		}
		// Taking it away puts the session where it was.
		if err := c.Do(ctx, `mutation ($p: String!) { removeSecondFactor(input: {password: $p}) { user { id } } }`, program.Input{"p": passphrase}, nil); err != nil {
			t.Fatal(err)
		}
		required(c, true)
		if got := demand(w.Client, false); got != "ok" {
			t.Fatal(got)
		}
		required(c, false)
		required(w.holder(ann.Token), false)
	})
}
