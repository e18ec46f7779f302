package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"go.uber.org/goleak"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/server/flow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 11, 22, 10, 0, 0, 123456000, time.UTC)

// bench is a ledger under test, with what it stands on.
type bench struct {
	*Ledger
	t     testing.TB
	db    *store.DB
	clock *clockwork.FakeClock
	ids   *ids.Maker
}

// each runs a test of the conformance suite on both databases.
func each(t *testing.T, run func(t *testing.T, b *bench)) {
	storetest.Each(t, func(t *testing.T, db *store.DB) { run(t, open(t, db)) })
}

func open(t testing.TB, db *store.DB, change ...func(*Config)) *bench {
	t.Helper()
	clock := clockwork.NewFakeClockAt(start)
	maker := ids.NewMaker(clock.Now)
	c := Config{Clock: clock, IDs: maker, NodeName: "one"}
	if db.Pool != nil {
		c.Postgres = db.Pool
	} else {
		c.SQLite = &SQLite{Write: db.Write, Read: db.Read}
	}
	for _, f := range change {
		f(&c)
	}
	l, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{Ledger: l, t: t, db: db, clock: clock, ids: c.IDs}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Errorf("close the ledger: %v", err)
		}
	})
	return b
}

// count counts the rows that a condition holds for.
func (b *bench) count(from string, args ...any) int {
	b.t.Helper()
	n := 0
	if err := b.read(b.t.Context(), "count", "SELECT count(*) FROM "+from, args, func(scan func(...any) error) error { return scan(&n) }); err != nil {
		b.t.Fatal(err)
	}
	return n
}

const org = "org_1"

// event is one with n deliveries, all to webhook whk_1 unless the caller changes them.
func (b *bench) event(n int) flow.NewEvent {
	id := b.ids.New(ids.Event)
	e := flow.NewEvent{
		ID: id, Org: org, Source: "src_1", Receipt: "rct_none", Type: connectors.ScanCompleted,
		Time: b.c.Clock.Now(), Received: b.c.Clock.Now(), Document: []byte(`{"id":"` + id + `"}`), Digest: []byte{1},
	}
	for range n {
		e.Deliveries = append(e.Deliveries, flow.NewDelivery{
			ID: b.ids.New(ids.Delivery), Webhook: "whk_1", Endpoint: "end_1", Rendering: documentKey, State: flow.Pending, Lease: true,
		})
	}
	return e
}

func (b *bench) receipt() *flow.Receipt {
	return &flow.Receipt{ID: b.ids.New(ids.Receipt), Org: org, Source: "src_1", At: b.clock.Now(), Method: "POST", ContentType: "application/json",
		Header: []byte(`[["A","b"]]`), Body: []byte("{\"raw\": \x00\xff}"), Remote: "192.0.2.1", State: flow.ReceiptAccepted}
}

func (b *bench) accept(events ...flow.NewEvent) []flow.Accepted {
	b.t.Helper()
	out, err := b.Accept(b.t.Context(), b.receipt(), events)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func due(e *flow.NewEvent, i int) *flow.Due {
	d := &e.Deliveries[i]
	return &flow.Due{ID: d.ID, Org: e.Org, Event: e.ID, Webhook: d.Webhook, Endpoint: d.Endpoint, Level: d.Level, App: e.App, Type: e.Type,
		Created: e.Received, Document: e.Document}
}

func (b *bench) result(d *flow.Due, state flow.DeliveryState) flow.Record {
	r := flow.Record{Due: d, Attempt: b.ids.New(ids.Attempt), Number: d.Attempts + 1, State: state, URL: "https://example.com/in", At: b.clock.Now(),
		Result: &connectors.Result{DeliveryID: d.ID, Outcome: connectors.Done, Started: b.clock.Now(),
			Request:  &connectors.Request{Method: "POST", Header: []connectors.Header{{Name: "A", Value: "b"}, {Name: "Auth", Value: "x", Secret: "token"}}},
			Response: &connectors.Response{Status: 200, Header: []connectors.Header{{Name: "C", Value: "d: e"}}, Body: []byte{0, 255}},
			Timing:   connectors.Timing{DNS: 1000, Connect: 2000, TLS: 3000, FirstByte: 4000, Total: 5000}}}
	if state == flow.Retrying {
		r.Result.Outcome, r.NextAt, r.FirstFailed = connectors.Retry, b.clock.Now().Add(time.Minute), b.clock.Now()
	}
	return r
}

func (b *bench) record(recs ...flow.Record) {
	b.t.Helper()
	if err := b.Record(b.t.Context(), recs...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) claim(limit int) []*flow.Due {
	b.t.Helper()
	dues, err := b.Claim(b.t.Context(), "whk_1", b.clock.Now(), limit)
	if err != nil {
		b.t.Fatal(err)
	}
	return dues
}

func (b *bench) entries(after int64) []flow.Entry {
	b.t.Helper()
	es, err := b.Tail(b.t.Context(), org, after, 1000)
	if err != nil {
		b.t.Fatal(err)
	}
	return es
}

func TestPathOfOneEvent(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		e := b.event(2)
		e.Deliveries[1].State, e.Deliveries[1].Reason, e.Deliveries[1].Lease = flow.SkippedState, "the webhook is disabled", false
		got := b.accept(e)
		if len(got) != 1 || got[0].ID != e.ID || got[0].Duplicate {
			t.Fatalf("accepted %+v", got)
		}
		if es := b.entries(0); len(es) != 1 || es[0].Seq != 1 || es[0].State != flow.SkippedState || es[0].Error != "the webhook is disabled" || es[0].Number != 0 {
			t.Fatalf("entries after accept: %+v", es)
		}
		if n := len(b.claim(10)); n != 0 {
			t.Fatalf("claimed %d deliveries that are leased", n)
		}
		d := due(&e, 0)
		b.record(b.result(d, flow.Retrying))
		if n := b.count("open_deliveries WHERE lease_node = '' AND state = 'RETRYING' AND attempts = 1"); n != 1 {
			t.Fatalf("%d deliveries retrying", n)
		}
		if n := len(b.claim(10)); n != 0 {
			t.Fatalf("claimed %d deliveries before they are due", n)
		}
		lanes, err := b.Backlog(t.Context(), b.clock.Now())
		if err != nil || len(lanes) != 1 || lanes[0].Webhook != "whk_1" || lanes[0].Org != org || !lanes[0].Due.Equal(start.Add(time.Minute)) {
			t.Fatalf("backlog %+v, %v", lanes, err)
		}
		b.clock.Advance(time.Minute)
		dues := b.claim(10)
		if len(dues) != 1 || dues[0].ID != d.ID || dues[0].Attempts != 1 || string(dues[0].Document) != string(e.Document) || !dues[0].FirstFailed.Equal(start) ||
			dues[0].Rendering != nil || dues[0].Lease != b.Lease() || !dues[0].Created.Equal(start) {
			t.Fatalf("claimed %+v", dues)
		}
		b.record(b.result(dues[0], flow.Succeeded))
		if open, ended := b.count("open_deliveries"), b.count("deliveries WHERE state = 'SUCCEEDED' AND attempts = 2"); open != 0 || ended != 1 {
			t.Fatalf("%d open, %d ended", open, ended)
		}
		es := b.entries(1)
		if len(es) != 2 || es[0].Seq != 2 || es[1].Seq != 3 || es[0].Number != 1 || es[1].Number != 2 || es[1].Status != 200 || es[1].Duration != 5*time.Microsecond {
			t.Fatalf("entries: %+v", es)
		}
		if n := b.count("receipts WHERE body = ?", []byte("{\"raw\": \x00\xff}")); n != 1 {
			t.Fatal("the receipt's bytes have changed")
		}
	})
}

func TestKeys(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		keyed := func(key, state string, digest byte, app string) flow.NewEvent {
			e := b.event(1)
			e.Key, e.State, e.Digest, e.App = key, state, []byte{digest}, app
			return e
		}
		type want struct {
			dup, conflict, unmapped bool
		}
		check := func(name string, got []flow.Accepted, want ...want) {
			t.Helper()
			for i := range want {
				if g := got[i]; g.Duplicate != want[i].dup || g.Conflict != want[i].conflict || g.Unmapped != want[i].unmapped {
					t.Errorf("%s, event %d: %+v, want %+v", name, i, g, want[i])
				}
			}
		}
		odd := "a\x00\xff"
		first := keyed(odd, "", 1, "app_1")
		check("new", b.accept(first), want{})
		again := b.accept(keyed(odd, "", 1, "app_1"))
		check("again", again, want{dup: true})
		if again[0].ID != first.ID {
			t.Errorf("the repeat stands for %s, want %s", again[0].ID, first.ID)
		}
		check("other bytes", b.accept(keyed(odd, "", 2, "app_1")), want{dup: true, conflict: true})
		check("twice in one call", b.accept(keyed("b", "", 1, ""), keyed("b", "", 1, ""), keyed("b", "", 3, "")), want{}, want{dup: true, unmapped: true}, want{dup: true, conflict: true, unmapped: true})
		check("states in one call", b.accept(keyed("t", "Open", 1, ""), keyed("t", "Open", 1, ""), keyed("t", "Closed", 2, "")), want{}, want{dup: true, unmapped: true}, want{})
		check("states later", b.accept(keyed("t", "Closed", 2, ""), keyed("t", "Open", 1, "app_1"), keyed("t", "Open", 1, "app_1")), want{dup: true, unmapped: true}, want{}, want{dup: true})
		other := keyed(odd, "", 1, "")
		other.Source = "src_2"
		check("another source", b.accept(other), want{})
		if n := b.count("events"); n != 6 {
			t.Errorf("%d events, want 6", n)
		}
		if n := b.count("open_deliveries"); n != 6 {
			t.Errorf("%d deliveries, want 6", n)
		}
	})
}

func TestManyAcceptOneKey(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		const callers, keys = 64, 10
		var mu sync.Mutex
		stands := map[string]map[string]bool{}
		fresh := 0
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for k := range keys {
					e := b.event(1)
					e.Key = fmt.Sprint(k)
					got, err := b.Accept(t.Context(), b.receipt(), []flow.NewEvent{e})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					if stands[e.Key] == nil {
						stands[e.Key] = map[string]bool{}
					}
					stands[e.Key][got[0].ID] = true
					if !got[0].Duplicate {
						fresh++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if fresh != keys || b.count("events") != keys || b.count("receipts") != callers*keys {
			t.Errorf("%d fresh, %d events, %d receipts", fresh, b.count("events"), b.count("receipts"))
		}
		for k, s := range stands {
			if len(s) != 1 {
				t.Errorf("key %s stands for %d events", k, len(s))
			}
		}
	})
}

func TestPoisonFailsAlone(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		known := b.receipt()
		if _, err := b.Accept(t.Context(), known, nil); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				r := b.receipt()
				if i%10 == 3 {
					r.ID = known.ID // the primary key refuses it
				}
				_, err := b.Accept(t.Context(), r, []flow.NewEvent{b.event(1)})
				if bad := i%10 == 3; bad != (err != nil) || errors.Is(err, flow.ErrUnavailable) {
					t.Errorf("call %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if n := b.count("events"); n != 90 {
			t.Errorf("%d events, want 90", n)
		}
	})
}

func TestFencing(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		e := b.event(1)
		b.accept(e)
		d := due(&e, 0)
		d.Lease = b.Lease()
		if err := b.Join(t.Context()); err != nil { // as after a restart
			t.Fatal(err)
		}
		got := b.claim(1)
		if len(got) != 1 || got[0].ID != d.ID {
			t.Fatalf("claimed %v", got)
		}
		b.record(b.result(d, flow.Succeeded)) // too late
		if n := b.count("open_deliveries"); n != 1 {
			t.Fatal("a late result has ended the delivery")
		}
		b.record(b.result(got[0], flow.Succeeded))
		b.record(b.result(got[0], flow.Failed)) // later still
		if n := b.count("deliveries WHERE state = 'SUCCEEDED'"); n != 1 || b.count("deliveries") != 1 {
			t.Fatal("the delivery has not ended once")
		}
		if es := b.entries(0); len(es) != 3 {
			t.Fatalf("%d entries, want all three attempts", len(es))
		}
	})
}

func TestCrash(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		want := map[string]bool{}
		for i := range 50 {
			e := b.event(2)
			e.Deliveries[1].Lease = false
			b.accept(e)
			want[e.Deliveries[1].ID] = true
			if i%2 == 0 {
				b.record(b.result(due(&e, 0), flow.Succeeded))
			} else {
				want[e.Deliveries[0].ID] = true
			}
		}
		b.abandon()
		second := open(t, b.db)
		if old, now := b.Lease(), second.Lease(); old.Node != now.Node || now.Epoch <= old.Epoch {
			t.Fatalf("lease %+v after %+v", now, old)
		}
		got := map[string]bool{}
		for {
			dues := second.claim(7)
			if len(dues) == 0 {
				break
			}
			for _, d := range dues {
				if got[d.ID] {
					t.Errorf("%s came twice", d.ID)
				}
				got[d.ID] = true
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d deliveries came back, want %d", len(got), len(want))
		}
		for id := range want {
			if !got[id] {
				t.Errorf("%s was lost", id)
			}
		}
	})
}

func TestRenderings(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		e := b.event(5)
		for i, key := range []string{"holm", "holm", rawKey, documentKey, "appscan"} {
			e.Deliveries[i].Rendering, e.Deliveries[i].Lease = key, false
		}
		e.Renderings = []flow.Rendering{{Event: e.ID, Key: "holm", Rendered: connectors.Rendered{Method: "PUT", TargetSuffix: "/x", Header: []connectors.Header{{Name: "Content-Type", Value: "text/x"}}, Body: []byte{0, 1}}},
			{Event: e.ID, Key: "appscan", Rendered: connectors.Rendered{Method: "GET", TargetSuffix: "/x"}}}
		r := b.receipt()
		e.Receipt = r.ID
		if _, err := b.Accept(t.Context(), r, []flow.NewEvent{e}); err != nil {
			t.Fatal(err)
		}
		dues := b.claim(10)
		if len(dues) != 5 {
			t.Fatalf("%d dues", len(dues))
		}
		holm := dues[0].Rendering
		if holm != dues[1].Rendering || holm.Method != "PUT" || holm.TargetSuffix != "/x" || string(holm.Body) != "\x00\x01" || len(holm.Header) != 1 || holm.Header[0].Value != "text/x" {
			t.Errorf("holm: %+v", holm)
		}
		raw := dues[2].Rendering
		if string(raw.Body) != string(r.Body) || raw.Header[0].Value != r.ContentType {
			t.Errorf("raw: %+v", raw)
		}
		if dues[3].Rendering != nil || string(dues[3].Document) != string(e.Document) {
			t.Errorf("hookyard: %+v", dues[3])
		}
		if got := dues[4].Rendering; got == nil || got.Method != "GET" || got.TargetSuffix != "/x" || len(got.Body) != 0 { // no body is not a lost one
			t.Errorf("appscan: %+v", got)
		}
	})
}

// An event may be written down in many ways; a claim reads those that it sends.
func TestClaimReadsWhatItSends(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		e := b.event(1)
		for _, key := range []string{"appscan", "holm", "slack"} {
			e.Renderings = append(e.Renderings, flow.Rendering{Event: e.ID, Key: key, Rendered: connectors.Rendered{Body: []byte(key)}})
		}
		e.Deliveries[0].Rendering, e.Deliveries[0].Lease = "holm", false
		b.accept(e)
		read := 0
		of := b.Ledger.db
		b.Ledger.db = &observed{database: of, read: func(sql string, rows int) {
			if strings.Contains(sql, "FROM renderings") {
				read += rows
			}
		}}
		dues := b.claim(1)
		b.Ledger.db = of
		if len(dues) != 1 || dues[0].Rendering == nil || string(dues[0].Rendering.Body) != "holm" || read != 1 {
			t.Errorf("claimed %v with %d renderings", dues, read)
		}
	})
}

func TestCatalogue(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		n := func(n int) *int { return &n }
		yes := true
		at := start.Add(-time.Hour)
		scan := ids.Of(ids.Scan, org, "src_1", "s")
		one, two, three := b.event(0), b.event(0), b.event(0)
		one.App, one.Group = "app_1", "grp_1"
		one.Catalogue = &flow.CatalogueRow{Scan: &connectors.Scan{ID: scan, Key: "s", Name: "Weekly \x00\xff", StartedAt: &at, Counts: &connectors.Counts{High: n(0), Total: n(3)}, Errors: []string{"x"}}}
		two.Catalogue = &flow.CatalogueRow{Scan: &connectors.Scan{ID: scan, Key: "s", Status: "Running", Actor: &connectors.Actor{Name: "Ann"}}}
		three.Catalogue = &flow.CatalogueRow{Scan: &connectors.Scan{ID: scan, Key: "s", Status: "Finished", Counts: &connectors.Counts{High: n(2)}}}
		b.accept(one, two)
		b.accept(three)
		q := "scans WHERE id = ? AND status = 'Finished' AND name LIKE 'Weekly%' AND high = 2 AND total = 3 AND critical IS NULL AND application_id = 'app_1' AND actor_name = 'Ann' AND \"commit\" = ''"
		if b.count(q, scan) != 1 {
			t.Error("a later event has erased what was known, or did not add what it knew")
		}
		f := b.event(0)
		f.Catalogue = &flow.CatalogueRow{Finding: &connectors.Finding{ID: ids.Of(ids.Finding, org, "src_1", "f"), Key: "f", Title: "SQLi", New: &yes, Types: []string{"a", "b"}}}
		tk := b.event(0)
		tk.Catalogue = &flow.CatalogueRow{Ticket: &connectors.Ticket{ID: ids.Of(ids.Ticket, org, "src_1", "t"), Key: "t", Number: n(7)}}
		rp := b.event(0)
		rp.Catalogue = &flow.CatalogueRow{Report: &connectors.Report{ID: ids.Of(ids.Report, org, "src_1", "r"), Key: "r", Format: "pdf"}}
		if known, err := b.FindingKnown(t.Context(), org, "src_1", "f"); known || err != nil {
			t.Errorf("known %v, %v", known, err)
		}
		b.accept(f, tk, rp)
		if known, err := b.FindingKnown(t.Context(), org, "src_1", "f"); !known || err != nil {
			t.Errorf("known %v, %v", known, err)
		}
		// ent reads what was written.
		if rows, err := b.db.Client.QueryContext(t.Context(), "SELECT vulnerability_types FROM findings"); err != nil {
			t.Error(err)
		} else {
			var raw []byte
			var list []string
			if !rows.Next() || rows.Scan(&raw) != nil || json.Unmarshal(raw, &list) != nil || strings.Join(list, " ") != "a b" {
				t.Errorf("types %s", raw)
			}
			rows.Close()
		}
	})
}

func TestNumbers(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		key := func(i int) connectors.NumberKey {
			return connectors.NumberKey{Kind: "ticket", ID: fmt.Sprintf("tkt_%02d", i)}
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		all := map[connectors.NumberKey]int32{}
		for w := range 8 {
			wg.Go(func() {
				for i := range 20 {
					b.nums.mu.Lock()
					clear(b.nums.known)
					b.nums.mu.Unlock()
					got, err := b.Numbers(t.Context(), org, []connectors.NumberKey{key(i), key((i + w) % 20)})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					for k, n := range got {
						if old, ok := all[k]; ok && old != n {
							t.Errorf("%v was %d and is %d", k, old, n)
						}
						all[k] = n
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		seen := map[int32]bool{}
		for _, n := range all {
			seen[n] = true
		}
		for n := int32(1); n <= 20; n++ {
			if !seen[n] {
				t.Errorf("number %d is not given", n)
			}
		}
		if got, err := b.Numbers(t.Context(), "org_2", []connectors.NumberKey{key(5)}); err != nil || got[key(5)] != 1 {
			t.Errorf("another organization: %v, %v", got, err)
		}
	})
}

func TestLeased(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		expect := func(what string, want ...string) {
			t.Helper()
			got, err := b.Leased(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(want) {
				t.Errorf("%s: leased %v, want %v", what, got, want)
			}
			for _, id := range want {
				if at := got[id]; !at.Equal(start) {
					t.Errorf("%s: %s is due since %v", what, id, at)
				}
			}
		}
		e := b.event(4)
		e.Deliveries[2].Lease = false
		e.Deliveries[3].Lease, e.Deliveries[3].Rendering = false, "holm" // which nobody has written
		b.accept(e)
		expect("accepted", e.Deliveries[0].ID, e.Deliveries[1].ID)
		b.record(b.result(due(&e, 0), flow.Succeeded))
		expect("recorded", e.Deliveries[1].ID)
		if err := b.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
		expect("at another start")
		// What cannot be ended for want of its payload takes nobody with it.
		b.queue.close()
		if got := b.claim(9); len(got) != 2 {
			t.Errorf("claimed %d", len(got))
		}
		expect("claimed", e.Deliveries[1].ID, e.Deliveries[2].ID, e.Deliveries[3].ID)
		if err := b.Release(t.Context(), []string{e.Deliveries[1].ID, e.Deliveries[3].ID}); err != nil {
			t.Fatal(err)
		}
		expect("given up", e.Deliveries[2].ID)
	})
}
