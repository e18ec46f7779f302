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
			got, err := b.ClaimWaiting(ctx, now, time.Minute, except)
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
