package server_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/server/servertest/program"
)

// TestAnUnreadableOrganization damages a row of one organization: the other one's changes
// take effect, the hub starts, and nothing of the first is lost until it is put right.
func TestAnUnreadableOrganization(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		ctx := t.Context()
		s := newSink(t)
		dir := t.TempDir()
		h := startIn(t, dir, url, "--allow-private-targets")
		address, _ := world(t, h, s, "a")
		spare, err := h.CreateEndpoint(ctx, program.Input{"name": "spare", "connector": "webhook", "url": s.url + "/spare", "secrets": []program.Input{{"name": "bearer_token", "value": "hush"}}})
		if err != nil {
			t.Fatal(err)
		}
		said, err := tool(t, at(dir, url, "org", "create", "Beta", "--administrator", "beta@localhost")...)
		if err != nil {
			t.Fatal(err)
		}
		beta := as(h, lastLine(said))
		db, err := store.Open(ctx, store.Config{DataDir: dir, DatabaseURL: url, Existing: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}()
		for _, query := range []string{"UPDATE endpoints SET secrets = $1 WHERE id = $2", "UPDATE revisions SET n = n + 1 WHERE organization_id = (SELECT organization_id FROM endpoints WHERE id = $2 AND secrets = $1)"} {
			if _, err := db.Client.ExecContext(ctx, query, []byte("damaged"), spare); err != nil {
				t.Fatal(err)
			}
		}
		until(t, 20*time.Second, "it is noticed", func() bool { return metric(t, h, "hookyard_unreadable_organizations") == 1 })

		// It goes on as it was, and the other one's changes take effect.
		if err := send(h.HTTP, address, 1); err != nil {
			t.Fatal(err)
		}
		s.await(t, "a", []int{1}, 20*time.Second)
		theirs, _ := world(t, beta, s, "b")
		if err := send(h.HTTP, theirs, 1); err != nil {
			t.Fatal(err)
		}
		s.await(t, "b", []int{1}, 20*time.Second)

		// After a start nothing of it is known; who sends is asked to do so later.
		if err := errors.Join(h.Stop(), h.Start(ctx)); err != nil {
			t.Fatal(err)
		}
		if n := metric(t, h, "hookyard_unreadable_organizations"); n != 1 {
			t.Errorf("%v organizations are unreadable", n)
		}
		if err := send(h.HTTP, theirs, 2); err != nil {
			t.Error(err)
		}
		s.await(t, "b", []int{1, 2}, 20*time.Second)
		resp, err := h.HTTP.Post(address, "application/cloudevents+json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		if _ = resp.Body.Close(); resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("an event for it: %d", resp.StatusCode)
		}

		// Its people put it right.
		if err := h.Do(ctx, `mutation ($id: ID!) { deleteEndpoint(input: {id: $id}) { deletedId } }`, program.Input{"id": spare}, nil); err != nil {
			t.Fatal(err)
		}
		if err := send(h.HTTP, address, 2); err != nil {
			t.Error(err)
		}
		s.await(t, "a", []int{1, 2}, 20*time.Second)
		if n := metric(t, h, "hookyard_unreadable_organizations"); n != 0 {
			t.Errorf("%v organizations are unreadable", n)
		}
	})
}
