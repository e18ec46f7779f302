package server_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hookyard/hookyard/server/servertest/program"
)

// tap is an address that notices whoever connects to it.
func tap(t *testing.T) (address string, touched chan struct{}) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	touched = make(chan struct{}, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			touched <- struct{}{}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return ln.Addr().String(), touched
}

// ends sends one event and returns the log's entry that ends its delivery.
func ends(t *testing.T, h *program.Hub, address string, n int) program.Entry {
	t.Helper()
	log, err := h.DeliveryLog(t.Context(), nil, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	if err := send(h.HTTP, address, n); err != nil {
		t.Fatal(err)
	}
	for {
		b, err := log.NextBatch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range b.Entries {
			if e.State != "RETRYING" {
				return e
			}
		}
	}
}

// TestPrivateTargets sees what the operator and the Administrator close stay closed,
// from the event to the log.
func TestPrivateTargets(t *testing.T) {
	s := newSink(t)
	allow := func(t *testing.T, h *program.Hub, rules ...program.Input) {
		t.Helper()
		if err := h.Do(t.Context(), `mutation ($r: [AllowRuleInput!]) { updateOrganization(input: {allowTargets: $r}) { organization { id } } }`,
			program.Input{"r": rules}, nil); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("closed", func(t *testing.T) {
		closed, touched := tap(t)
		h := start(t, "")
		address, _ := world(t, h, &sink{url: "http://" + closed}, "a")
		e := ends(t, h, address, 1)
		if e.State != "FAILED" || !strings.Contains(e.Error, "open-targets") && !strings.Contains(e.Error, "allow-private-targets") {
			t.Errorf("the log says %+v", e)
		}
		// An allow list opens nothing that the operator has closed.
		allow(t, h, program.Input{"host": "127.0.0.1"})
		if e := ends(t, h, address, 2); e.State != "FAILED" || !strings.Contains(e.Error, "private-targets") {
			t.Errorf("with an allow list the log says %+v", e)
		}
		select {
		case <-touched:
			t.Error("a closed target was connected to")
		default:
		}
	})
	t.Run("opened", func(t *testing.T) {
		h := start(t, "", "--open-targets", "127.0.0.0/8")
		address, _ := world(t, h, s, "a")
		if e := ends(t, h, address, 1); e.State != "SUCCEEDED" {
			t.Errorf("the log says %+v", e)
		}
		s.await(t, "a", []int{1}, time.Second)
		s.forget()
		allow(t, h, program.Input{"host": "hooks.example.com"})
		if e := ends(t, h, address, 2); e.State != "FAILED" || !strings.Contains(e.Error, "targets of the organization") {
			t.Errorf("with another host on the list the log says %+v", e)
		}
		if n := s.count(); n != 0 {
			t.Errorf("%d arrived although the list does not name the host", n)
		}
		allow(t, h, program.Input{"host": "hooks.example.com"}, program.Input{"host": "127.0.0.1"})
		if e := ends(t, h, address, 3); e.State != "SUCCEEDED" {
			t.Errorf("with the host on the list the log says %+v", e)
		}
	})
}
