package server_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/server/servertest/program"
)

// TestUnmappedThenMapped keeps an event that no mapping knows, maps it later and tells
// the webhooks of its group, once.
func TestUnmappedThenMapped(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		ctx := t.Context()
		s := newSink(t)
		dir := t.TempDir()
		h := startIn(t, dir, url, "--allow-private-targets")
		group, err := h.CreateAssetGroup(ctx, "group")
		if err != nil {
			t.Fatal(err)
		}
		app, err := h.CreateApplication(ctx, "application", group)
		if err != nil {
			t.Fatal(err)
		}
		source, address, err := h.CreateSource(ctx, program.Input{"name": "events", "kind": "cloudevents"})
		if err != nil {
			t.Fatal(err)
		}
		for name, in := range map[string]program.Input{
			"global": {"global": true},
			"scoped": {"scopeGroupIds": []string{group}},
			"group":  {"assetGroupId": group, "global": true},
			"app":    {"applicationIds": []string{app}},
		} {
			endpoint, err := h.CreateEndpoint(ctx, program.Input{"name": name, "connector": "webhook", "url": s.url + "/" + name, "sharedGroupIds": []string{group}})
			if err != nil {
				t.Fatal(err)
			}
			in["name"], in["endpointId"], in["format"] = name, endpoint, "hookyard"
			if _, _, err := h.CreateWebhook(ctx, in); err != nil {
				t.Fatal(err)
			}
		}
		events := []int{1, 2, 3}
		for _, n := range events {
			if err := send(h.HTTP, address, n); err != nil {
				t.Fatal(err)
			}
		}
		s.await(t, "global", events, 5*time.Second)
		own := []string{"scoped", "group", "app"}
		for _, e := range own {
			if n := len(s.missing(e, events)); n != 3 {
				t.Errorf("%d unmapped events came to %s", 3-n, e)
			}
		}
		unmapped := func() int {
			t.Helper()
			var got struct {
				Events struct{ Edges []struct{} }
			}
			if err := h.Do(ctx, `{ events(filter: {unmapped: true}) { edges { node { id } } } }`, nil, &got); err != nil {
				t.Fatal(err)
			}
			return len(got.Events.Edges)
		}
		if n := unmapped(); n != 3 {
			t.Errorf("%d of 3 events are kept as unmapped", n)
		}

		reprocess := func(dry bool) (matched, fresh int) {
			t.Helper()
			var got struct {
				R struct {
					Matched  int
					EventIDs []string `json:"eventIds"`
				}
			}
			if err := h.Do(ctx, `mutation ($in: ReprocessReceiptsInput!) { r: reprocessReceipts(input: $in) { matched eventIds } }`,
				program.Input{"in": program.Input{"filter": program.Input{"sourceIds": []string{source}}, "dryRun": dry}}, &got); err != nil {
				t.Fatal(err)
			}
			return got.R.Matched, len(got.R.EventIDs)
		}
		if matched, fresh := reprocess(false); matched != 3 || fresh != 0 {
			t.Errorf("with the old mapping: %d receipts, %d new events", matched, fresh)
		}
		if err := h.Do(ctx, `mutation ($in: UpdateSourceInput!) { updateSource(input: $in) { source { id } } }`,
			program.Input{"in": program.Input{"id": source, "mapping": program.Input{"default": app}}}, nil); err != nil {
			t.Fatal(err)
		}
		if matched, fresh := reprocess(true); matched != 3 || fresh != 0 {
			t.Errorf("dry run: %d receipts, %d new events", matched, fresh)
		}
		if matched, fresh := reprocess(false); matched != 3 || fresh != 3 {
			t.Errorf("with the new mapping: %d receipts, %d new events", matched, fresh)
		}
		if matched, fresh := reprocess(false); matched != 3 || fresh != 0 {
			t.Errorf("once more: %d receipts, %d new events", matched, fresh)
		}
		if err := h.Do(ctx, `mutation ($id: ID!) { disableSource(input: {id: $id}) { source { id } } }`, program.Input{"id": source}, nil); err != nil {
			t.Fatal(err)
		}
		through := program.Input{"in": program.Input{"type": "scan.completed", "sourceId": source, "scan": program.Input{"key": "s", "name": "s"}}}
		if err := h.Do(ctx, `mutation ($in: SendEventInput!) { sendEvent(input: $in) { result { eventId } } }`, through, nil); err == nil || !strings.Contains(err.Error(), "CONFLICT") {
			t.Errorf("through a disabled source: %v", err)
		}
		if err := h.Do(ctx, `mutation ($id: ID!) { enableSource(input: {id: $id}) { source { id } } }`, program.Input{"id": source}, nil); err != nil {
			t.Fatal(err)
		}
		forgetKeys(t, dir, url)
		if matched, fresh := reprocess(false); matched != 3 || fresh != 0 {
			t.Errorf("after a week: %d receipts, %d new events", matched, fresh)
		}
		// What comes now is mapped, and comes after all of that.
		if err := send(h.HTTP, address, 4); err != nil {
			t.Fatal(err)
		}
		for _, e := range append(own, "global") {
			s.await(t, e, []int{1, 2, 3, 4}, 10*time.Second)
			if n := len(s.twice(e)); n > 0 {
				t.Errorf("%d events came twice to %s", n, e)
			}
		}
	})
}

// forgetKeys does what retention does after a week.
func forgetKeys(t *testing.T, dir, url string) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{DataDir: dir, DatabaseURL: url, Existing: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Client.ExecContext(t.Context(), "DELETE FROM keys")
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}
