package ledger

import (
	"testing"
	"time"

	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/flow"
)

// TestWaitingReceipts follows a receipt from its acceptance to the end of its waiting.
func TestWaitingReceipts(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		r := &flow.Receipt{ID: b.ids.New(ids.Receipt), Org: org, Source: "src_1", At: start, Method: "GET", Header: []byte("[]"), Path: "/scan/1", Query: "a=b", State: flow.ReceiptWaiting}
		if _, err := b.Accept(ctx, r, nil); err != nil {
			t.Fatal(err)
		}
		claim := func(now time.Time, except ...string) *flow.Waiting {
			t.Helper()
			got, err := b.ClaimWaiting(ctx, now, time.Minute, time.Time{}, except)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		see := func() *flow.ReceiptView {
			t.Helper()
			v, err := b.Receipt(ctx, scope(t, org, viewer.Administrator), r.ID)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		if got := claim(start, "src_0", "src_1"); got != nil {
			t.Errorf("of a source that has its share: %+v", got)
		}
		if got, err := b.ClaimWaiting(ctx, start, time.Minute, start.Add(-time.Second), nil); err != nil || got != nil {
			t.Errorf("one that came later: %+v, %v", got, err)
		}
		if n, oldest, err := b.WaitingReceipts(ctx); err != nil || n != 1 || oldest.Sub(start).Abs() > time.Millisecond {
			t.Errorf("%d wait, since %v; %v", n, oldest, err)
		}
		got := claim(start, "src_0")
		if got == nil || got.ID != r.ID || got.Attempt != 1 || got.Path != "/scan/1" || got.Query != "a=b" || got.Method != "GET" || !got.At.Equal(start) {
			t.Fatalf("claimed %+v", got)
		}
		if again := claim(start.Add(59 * time.Second)); again != nil {
			t.Errorf("claimed twice: %+v", again)
		}
		if err := b.PutOff(ctx, org, r.ID, start.Add(10*time.Second), "not today"); err != nil {
			t.Fatal(err)
		}
		if v := see(); v.State != flow.ReceiptWaiting || v.Note != "not today" || v.Attempts != 1 || !v.NextAt.Equal(start.Add(10*time.Second)) {
			t.Errorf("it waits as %+v", v)
		}
		if got = claim(start.Add(10 * time.Second)); got == nil || got.Attempt != 2 {
			t.Errorf("claimed %+v", got)
		}
		if err := b.Settle(ctx, org, r.ID, flow.ReceiptAccepted, "grp_1", ""); err != nil {
			t.Fatal(err)
		}
		if v := see(); v.State != flow.ReceiptAccepted || v.Note != "" || v.Group != "grp_1" || v.Attempts != 0 || !v.NextAt.IsZero() {
			t.Errorf("it ended as %+v", v)
		}
		if got = claim(start.Add(time.Hour)); got != nil {
			t.Errorf("claimed %+v", got)
		}
		if n, oldest, err := b.WaitingReceipts(ctx); err != nil || n != 0 || !oldest.IsZero() {
			t.Errorf("%d wait, since %v; %v", n, oldest, err)
		}
		if err := b.Await(ctx, org, r.ID); err != nil {
			t.Fatal(err)
		}
		if got = claim(start.Add(time.Hour)); got == nil || got.Attempt != 1 || see().State != flow.ReceiptWaiting {
			t.Errorf("once more: %+v", got)
		}
		if n := b.count("enrichments"); n != 1 {
			t.Errorf("%d rows", n)
		}
	})
}

// TestWaitingIsKept has retention come by while a receipt waits.
func TestWaitingIsKept(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		waits, gone := b.receipt(), b.receipt()
		waits.State = flow.ReceiptWaiting
		for _, r := range []*flow.Receipt{waits, gone} {
			if _, err := b.Accept(ctx, r, nil); err != nil {
				t.Fatal(err)
			}
		}
		const day = 24 * time.Hour
		b.clock.Advance(10 * day)
		retain := func(keep map[string]flow.Retention, bodies, receipts int) {
			t.Helper()
			for more := true; more; {
				done, err := b.Retain(ctx, keep)
				if err != nil {
					t.Fatal(err)
				}
				more = done.More
			}
			if n, all := b.count("receipts WHERE body IS NOT NULL"), b.count("receipts"); n != bodies || all != receipts {
				t.Errorf("%d of %d receipts have bodies, want %d of %d", n, all, bodies, receipts)
			}
		}
		retain(map[string]flow.Retention{org: {Payloads: 5 * day}}, 1, 2)
		retain(map[string]flow.Retention{org: {Events: 5 * day}, "org_2": {Events: 100 * day}}, 1, 1)
		retain(map[string]flow.Retention{org: {Events: 5 * day}}, 1, 1) // by partition on PostgreSQL
		got, err := b.ClaimWaiting(ctx, b.clock.Now(), time.Minute, time.Time{}, nil)
		if err != nil || got == nil || string(got.Body) != string(waits.Body) {
			t.Fatalf("what waited is %+v, %v", got, err)
		}
		if err := b.Settle(ctx, org, waits.ID, flow.ReceiptRejected, "", "given up"); err != nil {
			t.Fatal(err)
		}
		b.clock.Advance(day) // within which what was passed over is looked at again
		retain(map[string]flow.Retention{org: {Events: 5 * day}}, 0, 0)
	})
}
