package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/flow"
)

const canary = "ann.canary@example.com"

// spoken is an event that names a person everywhere that it can: with a receipt, a
// rendering, a scan, one delivery that has failed and one that is open.
func (b *bench) spoken(text string) flow.NewEvent {
	b.t.Helper()
	e, r := b.event(2), b.receipt()
	e.Receipt = r.ID
	e.Document = []byte(`{"owner":"` + text + `"}`)
	e.Subject = b.ids.New(ids.Scan)
	e.Catalogue = &flow.CatalogueRow{Scan: &connectors.Scan{ID: e.Subject, Key: e.Subject, Name: "nightly", Actor: &connectors.Actor{ID: text, Name: text, Email: text}}}
	e.Renderings = []flow.Rendering{{Event: e.ID, Key: "slack", Rendered: connectors.Rendered{Header: []connectors.Header{{Name: "X-Owner", Value: text}}, Body: []byte(text)}}}
	e.Deliveries[1].Rendering = "slack"
	e.Deliveries[1].Lease = false
	r.Body, r.Query = []byte("owner="+strings.Replace(text, "@", "%40", 1)), "by="+text
	r.Header = []byte(`[["From","` + text + `"]]`)
	if _, err := b.Accept(b.t.Context(), r, []flow.NewEvent{e}); err != nil {
		b.t.Fatal(err)
	}
	res := b.result(due(&e, 0), flow.Failed)
	res.Reason = "it said: " + text
	res.Result.Error = res.Reason
	res.Result.Response.Body = []byte("hello " + text)
	res.Result.Request.Header = []connectors.Header{{Name: "X-Owner", Value: text}}
	b.record(res)
	return e
}

// left counts where a text still is.
func (b *bench) left(text string) int {
	b.t.Helper()
	n := 0
	for _, q := range []string{"SELECT document FROM events", "SELECT body FROM renderings", "SELECT header FROM renderings", "SELECT body FROM receipts", "SELECT header FROM receipts",
		"SELECT query FROM receipts", "SELECT response_body FROM entries", "SELECT request_header FROM entries", "SELECT error FROM entries", "SELECT reason FROM deliveries", "SELECT reason FROM open_deliveries",
		"SELECT actor_id FROM scans", "SELECT actor_name FROM scans", "SELECT actor_email FROM scans", "SELECT reason FROM erasures"} {
		if err := b.read(b.t.Context(), "look", q, nil, func(scan func(...any) error) error {
			var v []byte
			err := scan(&v)
			if person(text)(v) {
				n++
			}
			return err
		}); err != nil {
			b.t.Fatal(err)
		}
	}
	return n
}

func TestErase(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		e, other := b.spoken(canary), b.spoken("bob@example.com")
		admin := scope(t, org, viewer.Administrator)
		if n := b.left(canary); n != 13 {
			t.Fatalf("the person is in %d places", n)
		}
		for name, s := range map[string]error{"another organization": flow.ErrNotFound} {
			if _, err := b.Erase(t.Context(), scope(t, "org_2", viewer.Administrator), e.ID, flow.Erasure{}); !errors.Is(err, s) {
				t.Errorf("%s: %v", name, err)
			}
		}
		by := flow.Erasure{At: b.clock.Now(), ByID: "usr_1", By: "Eve", Reason: "asked to"}
		n, err := b.Erase(t.Context(), admin, e.ID, by)
		if err != nil || n != 1 {
			t.Fatalf("cancelled %d, %v", n, err)
		}
		if n := b.left(canary); n != 0 {
			t.Errorf("the person is in %d places still", n)
		}
		if n := b.left("bob@example.com"); n != 13 {
			t.Errorf("another is in %d places", n)
		}
		got, err := b.Erasures(t.Context(), admin, []string{e.ID, other.ID})
		if err != nil || len(got) != 1 || got[e.ID] == nil || *got[e.ID] != by {
			t.Errorf("tombstones %v, %v", got, err)
		}
		if got, err := b.Erasures(t.Context(), scope(t, "org_2", viewer.Administrator), []string{e.ID}); err != nil || len(got) != 0 {
			t.Errorf("another organization sees %v, %v", got, err)
		}
		if ev, err := b.Event(t.Context(), admin, e.ID); err != nil || ev.Document != nil || ev.Type != e.Type {
			t.Errorf("what is left: %+v, %v", ev, err)
		}
		d, err := b.Delivery(t.Context(), admin, e.Deliveries[1].ID)
		if err != nil || d.State != flow.Cancelled || d.Reason != erasedReason {
			t.Errorf("the open delivery: %+v, %v", d, err)
		}
		d, err = b.Delivery(t.Context(), admin, e.Deliveries[0].ID)
		if err != nil || d.State != flow.Failed || d.Attempts != 1 {
			t.Errorf("the failed delivery: %+v, %v", d, err)
		}
		if done, err := b.RedeliverMatching(t.Context(), admin, flow.DeliveryFilter{IDs: []string{e.Deliveries[0].ID, e.Deliveries[1].ID}}, 10, false); err != nil || done.Matched != 0 {
			t.Errorf("delivered again: %+v, %v", done, err)
		}
		// What was in flight is heard of, without what it says; once more changes nothing.
		late := b.result(due(&e, 1), flow.Succeeded)
		late.Result.Response.Body = []byte(canary)
		b.record(late)
		if n := b.left(canary); n != 0 {
			t.Errorf("a late answer brought the person back to %d places", n)
		}
		if n, err := b.Erase(t.Context(), admin, e.ID, flow.Erasure{By: "Mallory"}); err != nil || n != 0 {
			t.Errorf("again: %d, %v", n, err)
		}
		if got, _ := b.Erasures(t.Context(), admin, []string{e.ID}); got[e.ID] == nil || got[e.ID].By != "Eve" {
			t.Error("the tombstone was written over")
		}
	})
}

// The receipt goes with the event, so it takes access to all that the receipt gave.
func TestEraseOfASharedReceipt(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		red, blue, r := b.event(0), b.event(0), b.receipt()
		red.Group, blue.Group, red.Receipt, blue.Receipt = "grp_1", "grp_2", r.ID, r.ID
		if _, err := b.Accept(t.Context(), r, []flow.NewEvent{red, blue}); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Erase(t.Context(), scope(t, org, viewer.Manager, "grp_1"), red.ID, flow.Erasure{}); !errors.Is(err, flow.ErrShared) {
			t.Errorf("one group: %v", err)
		}
		if _, err := b.Erase(t.Context(), scope(t, org, viewer.Manager, "grp_1"), blue.ID, flow.Erasure{}); !errors.Is(err, flow.ErrNotFound) {
			t.Errorf("another group's: %v", err)
		}
		if _, err := b.Erase(t.Context(), scope(t, org, viewer.Manager, "grp_1", "grp_2"), red.ID, flow.Erasure{}); err != nil {
			t.Errorf("both groups: %v", err)
		}
	})
}

func TestErasePerson(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		var all []flow.NewEvent
		for range 3 {
			all = append(all, b.spoken(strings.ToUpper(canary)))
		}
		b.spoken("jo" + canary) // another person
		for range 2 * personBatch {
			all = append(all, b.event(0))
		}
		b.accept(all[3:]...)
		lost := b.receipt() // gave nothing
		lost.Body, lost.State, lost.Note = []byte("<"+canary+">"), flow.ReceiptRejected, "nobody knows "+canary
		if _, err := b.Accept(t.Context(), lost, nil); err != nil {
			t.Fatal(err)
		}
		admin, by := scope(t, org, viewer.Administrator), flow.Erasure{At: b.clock.Now(), By: "Eve", Reason: "asked to"}
		if _, err := b.ErasePerson(t.Context(), scope(t, org, viewer.Manager, "grp_1"), canary, by, "", false); err == nil {
			t.Error("a group's member searched the organization")
		}
		if _, err := b.ErasePerson(t.Context(), admin, canary, by, "nonsense:1", false); !errors.Is(err, flow.ErrNotFound) {
			t.Errorf("a cursor that is none: %v", err)
		}
		dry, err := b.ErasePerson(t.Context(), admin, canary, by, "", true)
		if err != nil || dry.Events != 3 || dry.Receipts != 1 || dry.Objects != 3 || dry.Attempts != 3+3 || dry.Next != "" || dry.Looked < 2*personBatch {
			t.Errorf("a dry run: %+v, %v", dry, err)
		}
		if n := b.left(canary); n == 0 {
			t.Fatal("a dry run erased")
		}
		// From a cursor in the middle it finds what is behind it.
		part, err := b.ErasePerson(t.Context(), admin, canary, by, "scans:", true)
		if err != nil || part.Events != 0 || part.Objects != 3 {
			t.Errorf("the second half: %+v, %v", part, err)
		}
		done, err := b.ErasePerson(t.Context(), admin, canary, by, "", false)
		if err != nil || done.Events != 3 || done.Receipts != 1 || done.Next != "" {
			t.Errorf("erased %+v, %v", done, err)
		}
		if n := b.left(canary); n != 0 {
			t.Errorf("the person is in %d places still", n)
		}
		if n := b.left("jo" + canary); n != 13 {
			t.Errorf("another person is in %d places", n)
		}
		if n := b.count("erasures"); n != 3 {
			t.Errorf("%d tombstones", n)
		}
	})
}

// What became of a delivery may be in the words of a receiver that knows whom it is about,
// whatever the event says.
func TestErasePersonInReasons(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		said := func() flow.NewEvent {
			e := b.event(4)
			b.accept(e)
			for i, state := range []flow.DeliveryState{flow.Failed, flow.SkippedState, flow.Retrying} {
				r := b.result(due(&e, i), state)
				r.Reason = "it said: ask " + canary
				r.Result.Error = r.Reason
				b.record(r)
			}
			return e
		}
		e, admin := said(), scope(t, org, viewer.Administrator)
		if n := b.left(canary); n != 6 {
			t.Fatalf("the person is in %d places", n)
		}
		done, err := b.ErasePerson(t.Context(), admin, canary, flow.Erasure{}, "", false)
		if err != nil || done.Attempts != 6 || done.Events != 0 || done.Next != "" {
			t.Errorf("erased %+v, %v", done, err)
		}
		if n := b.left(canary); n != 0 {
			t.Errorf("the person is in %d places still", n)
		}
		for i, state := range []flow.DeliveryState{flow.Failed, flow.SkippedState, flow.Retrying, flow.Attempting} {
			d, err := b.Delivery(t.Context(), admin, e.Deliveries[i].ID)
			if err != nil || d.State != state || i < 3 && d.Reason != erasedText || i == 3 && d.Reason != "" {
				t.Errorf("delivery %d: %+v, %v", i, d, err)
			}
		}
		e = said()
		if _, err := b.Erase(t.Context(), admin, e.ID, flow.Erasure{}); err != nil {
			t.Fatal(err)
		}
		if n := b.left(canary); n != 0 {
			t.Errorf("the person is in %d places after the event was erased", n)
		}
	})
}

func TestPersonIsFoundWhole(t *testing.T) {
	find := person("ann+x@example.com")
	for _, s := range []string{"ann+x@example.com", "<Ann+X@Example.COM>", "a=ann%2Bx%40example.com&b", `"ann\u002bx\u0040example.com"`, "by:ann+x@example.com.", "%3Cann+x@example.com%3E"} {
		if !find([]byte(s)) {
			t.Errorf("not found in %s", s)
		}
	}
	for _, s := range []string{"", "joann+x@example.com", "ann+x@example.community", "ann+x@example.com.au", "ann+x@example.com-x", "annx@example.com"} {
		if find([]byte(s)) {
			t.Errorf("found in %s", s)
		}
	}
}

// On SQLite nothing of what was erased is in the file any more once the journal is
// written back.
func TestErasedIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	db, err := store.Open(t.Context(), store.Config{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	b := open(t, db)
	long := strings.Repeat("x", 20_000)
	e := b.spoken(canary)
	f := b.event(0)
	f.Document = []byte(fmt.Sprintf(`{"owner":%q,"text":%q}`, canary, long))
	b.accept(f)
	for _, id := range []string{e.ID, f.ID} {
		if _, err := b.Erase(t.Context(), scope(t, org, viewer.Administrator), id, flow.Erasure{}); err != nil {
			t.Fatal(err)
		}
	}
	var busy, pages, moved int
	if err := db.Write.QueryRowContext(t.Context(), "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved); err != nil || busy != 0 {
		t.Fatalf("busy %d, %v", busy, err)
	}
	file, err := os.ReadFile(dir + "/" + store.File)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(file, []byte(canary)) || bytes.Contains(file, []byte(long[:1000])) {
		t.Error("what was erased is still in the file")
	}
}
