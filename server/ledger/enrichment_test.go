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
		claim := func(now time.Time) []flow.Waiting {
			t.Helper()
			got, err := b.ClaimWaiting(ctx, now, time.Minute, 10)
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
		got := claim(start)
		if len(got) != 1 || got[0].ID != r.ID || got[0].Attempt != 1 || got[0].Path != "/scan/1" || got[0].Query != "a=b" || got[0].Method != "GET" || !got[0].At.Equal(start) {
			t.Fatalf("claimed %+v", got)
		}
		if again := claim(start.Add(59 * time.Second)); len(again) > 0 {
			t.Errorf("claimed twice: %+v", again)
		}
		if err := b.PutOff(ctx, org, r.ID, start.Add(10*time.Second), "not today"); err != nil {
			t.Fatal(err)
		}
		if v := see(); v.State != flow.ReceiptWaiting || v.Note != "not today" || v.Attempts != 1 || !v.NextAt.Equal(start.Add(10*time.Second)) {
			t.Errorf("it waits as %+v", v)
		}
		if got = claim(start.Add(10 * time.Second)); len(got) != 1 || got[0].Attempt != 2 {
			t.Errorf("claimed %+v", got)
		}
		if err := b.Settle(ctx, org, r.ID, flow.ReceiptAccepted, "grp_1", ""); err != nil {
			t.Fatal(err)
		}
		if v := see(); v.State != flow.ReceiptAccepted || v.Note != "" || v.Group != "grp_1" || v.Attempts != 0 || !v.NextAt.IsZero() {
			t.Errorf("it ended as %+v", v)
		}
		if got = claim(start.Add(time.Hour)); len(got) > 0 {
			t.Errorf("claimed %+v", got)
		}
		if err := b.Await(ctx, org, r.ID); err != nil {
			t.Fatal(err)
		}
		if got = claim(start.Add(time.Hour)); len(got) != 1 || got[0].Attempt != 1 || see().State != flow.ReceiptWaiting {
			t.Errorf("once more: %+v", got)
		}
		if n := b.count("enrichments"); n != 1 {
			t.Errorf("%d rows", n)
		}
	})
}
