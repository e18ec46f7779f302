package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// A past is written from its oldest event on.
func TestSoakAges(t *testing.T) {
	p := soakPlan{length: 10 * time.Minute, saturated: time.Minute}
	const n, day = 9000, 24 * time.Hour
	last := p.age(0, n)
	due, soon := 0, 0
	for i := range n {
		age := p.age(i, n)
		if age > last || age < 0 {
			t.Fatalf("event %d is %v old after one of %v", i, age, last)
		}
		if last = age; age > day {
			due++
		} else if age > day-p.length-p.saturated {
			soon++
		}
	}
	if due < n/3-1 || due > n/3+1 || soon < n/3-1 || soon > n/3+1 {
		t.Errorf("of %d events %d are due, %d will be", n, due, soon)
	}
}

// A forwarder that swallows one event and sends another twice must be found out.
func TestRunCountsWhatIsLostAndTwice(t *testing.T) {
	rec := newReceiver()
	addr, err := rec.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rec.Close() }()
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		times := 1
		switch n.Add(1) {
		case 5:
			times = 0
		case 7:
			times = 2
		}
		for range times {
			resp, err := http.Post("http://"+addr+"/e0", "application/json", bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				continue
			}
			_ = resp.Body.Close()
		}
	}))
	defer server.Close()
	res, err := run(context.Background(), rec, runConfig{
		Endpoints: 1, Wait: 300 * time.Millisecond,
		Send: SendConfig{Method: "POST", URL: server.URL + "/", Headers: []string{"Content-Type: application/json"}, Body: cloudEvent, Pad: pad(), N: 50, C: 4},
	}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if res.Accepted != 50 || res.Delivered != 49 || res.Lost != 1 || res.Dups != 1 || !res.TimedOut {
		t.Errorf("accepted %d delivered %d lost %d twice %d timed out %v; want 50 49 1 1 true", res.Accepted, res.Delivered, res.Lost, res.Dups, res.TimedOut)
	}
}

func TestCloudEventIsAKibibyte(t *testing.T) {
	const id, at = "mibnc2x1.123456", "2026-01-01T00:00:00Z"
	body := parseTemplate(cloudEvent).render(nil, func(b []byte, slot string) []byte {
		switch slot {
		case "id":
			return append(b, id...)
		case "time":
			return append(b, at...)
		case "ts":
			return append(b, "1767225600000000000"...)
		}
		return append(b, bytes.Repeat([]byte("x"), pad())...)
	})
	if len(body) != eventSize {
		t.Errorf("%d bytes, want %d", len(body), eventSize)
	}
}
