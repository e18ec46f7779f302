package server_test

import (
	"testing"
	"time"

	"github.com/hookyard/hookyard/server/servertest/program"
)

// TestLogIsGapless reads the delivery log under load, cuts the socket again and again,
// stops and starts the hub once, goes on with the last cursor each time, and compares
// what it got with one unbroken reading from the start.
func TestLogIsGapless(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := newSink(t)
		h := start(t, url, "--allow-private-targets")
		address, _ := world(t, h, s, "a", "b")
		from := mark(t, h)
		l := startLoad(300, 8, address)
		var got []string
		cursor := from
		read := func(until func() bool) {
			t.Helper()
			log, err := h.DeliveryLog(t.Context(), nil, cursor)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = log.Close() }()
			for !until() {
				b, err := log.NextBatch(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range b.Entries {
					got = append(got, e.ID)
				}
				cursor = b.Cursor
			}
		}
		for i := 1; i <= 6; i++ {
			read(func() bool { return len(got) >= 150*i })
			if i == 3 {
				if err := h.Stop(); err != nil {
					t.Fatal(err)
				}
				if err := h.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		accepted := l.end()
		s.await(t, "a", accepted, 20*time.Second)
		s.await(t, "b", accepted, 20*time.Second)
		read(func() bool { return len(got) >= 2*len(accepted) })

		var whole []string
		log, err := h.DeliveryLog(t.Context(), nil, from)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = log.Close() }()
		for len(whole) < len(got) {
			b, err := log.NextBatch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range b.Entries {
				whole = append(whole, e.ID)
			}
		}
		seen := map[string]bool{}
		for i, id := range got {
			if seen[id] {
				t.Fatalf("entry %d of %d came twice", i, len(got))
			}
			seen[id] = true
			if id != whole[i] {
				t.Fatalf("entry %d of %d is %s, and %s in one reading", i, len(got), id, whole[i])
			}
		}
		if n := len(accepted) * 2; len(got) != n {
			t.Errorf("%d entries for %d deliveries", len(got), n)
		}
	})
}

// TestCursorOfAnotherLog sees a cursor that this hub did not give refused in words.
func TestCursorOfAnotherLog(t *testing.T) {
	h := start(t, "")
	log, err := h.DeliveryLog(t.Context(), nil, "not a cursor")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	_, err = log.NextBatch(t.Context())
	if refusal, ok := err.(*program.Error); !ok || refusal.Extensions.Code != "BAD_USER_INPUT" { //nolint:errorlint // as it came
		t.Errorf("the hub said %v", err)
	}
}
