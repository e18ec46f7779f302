package connectortest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hookyard/hookyard/connectors"
)

// RunMemory tests a host's Memory against the contract. one and other are endpoints that the
// host knows and that nothing is kept for.
func RunMemory(t *testing.T, m connectors.Memory, one, other connectors.Endpoint) {
	t.Run("links", func(t *testing.T) { testLinks(t, m, one, other) })
	t.Run("states", func(t *testing.T) { testStates(t, m, one, other) })
	t.Run("one of many is first", func(t *testing.T) { testRace(t, m, one) })
	t.Run("bounds", func(t *testing.T) { testBounds(t, m, other) })
}

func testLinks(t *testing.T, m connectors.Memory, one, other connectors.Endpoint) {
	ctx := t.Context()
	set := func(e connectors.Endpoint, l connectors.Link, want error) {
		t.Helper()
		if err := m.SetLink(ctx, e, l); !errors.Is(err, want) {
			t.Errorf("set %+v: %v, want %v", l, err, want)
		}
	}
	is := func(e connectors.Endpoint, ours, theirs string, version int64) connectors.Link {
		t.Helper()
		l, err := m.Link(ctx, e, "issue", ours)
		if err != nil {
			t.Fatal(err)
		}
		if l.Kind != "issue" || l.Ours != ours || l.Theirs != theirs || l.Version != version {
			t.Errorf("the link of %s is %+v, want %q at version %d", ours, l, theirs, version)
		}
		return l
	}
	to := func(e connectors.Endpoint, theirs, ours string) {
		t.Helper()
		if l, err := m.LinkTo(ctx, e, "issue", theirs); err != nil || l.Ours != ours || l.Theirs != theirs {
			t.Errorf("the link to %s is %+v, %v, want %q", theirs, l, err, ours)
		}
	}
	is(one, "fnd_1", "", 0)
	to(one, "SEC-1", "")
	set(one, connectors.Link{Kind: "issue", Ours: "fnd_1", Theirs: "SEC-1", URL: "https://x.example/1", Note: []byte{0, 0xff}}, nil)
	l := is(one, "fnd_1", "SEC-1", 1)
	if l.URL != "https://x.example/1" || !bytes.Equal(l.Note, []byte{0, 0xff}) {
		t.Errorf("it came back as %+v", l)
	}
	to(one, "SEC-1", "fnd_1")
	is(other, "fnd_1", "", 0) // each endpoint has its own
	if l, err := m.Link(ctx, one, "board", "fnd_1"); err != nil || l.Version != 0 {
		t.Errorf("another kind: %+v, %v", l, err)
	}
	set(one, connectors.Link{Kind: "issue", Ours: "fnd_1", Theirs: "SEC-2"}, connectors.ErrConflict) // set already
	set(one, connectors.Link{Kind: "issue", Ours: "fnd_2", Theirs: "SEC-1"}, connectors.ErrConflict) // theirs is taken
	set(one, connectors.Link{Kind: "issue", Ours: "fnd_2", Theirs: "SEC-2"}, nil)
	set(one, connectors.Link{Kind: "issue", Ours: "fnd_2", Theirs: "SEC-1", Version: 1}, connectors.ErrConflict)
	set(other, connectors.Link{Kind: "issue", Ours: "fnd_1", Theirs: "SEC-1"}, nil)
	l.Theirs = "SEC-3"
	set(one, l, nil)
	set(one, l, connectors.ErrConflict) // it has changed since
	l = is(one, "fnd_1", "SEC-3", 2)
	to(one, "SEC-1", "")
	set(one, connectors.Link{Kind: "issue", Ours: "fnd_1", Version: 1}, connectors.ErrConflict)
	l.Theirs = ""
	set(one, l, nil)
	is(one, "fnd_1", "", 0)
	is(other, "fnd_1", "SEC-1", 1)
	set(one, connectors.Link{Kind: "issue", Ours: "fnd_1"}, nil) // removing what is not there
	set(one, connectors.Link{Kind: "issue", Ours: "fnd_2"}, connectors.ErrConflict)
}

func testStates(t *testing.T, m connectors.Memory, one, other connectors.Endpoint) {
	ctx := t.Context()
	set := func(e connectors.Endpoint, s connectors.State, want error) {
		t.Helper()
		if err := m.SetState(ctx, e, s); !errors.Is(err, want) {
			t.Errorf("set %+v: %v, want %v", s, err, want)
		}
	}
	is := func(e connectors.Endpoint, value string, version int64) {
		t.Helper()
		if s, err := m.State(ctx, e, "token"); err != nil || s.Key != "token" || string(s.Value) != value || s.Version != version {
			t.Errorf("the state is %+v, %v, want %q at version %d", s, err, value, version)
		}
	}
	is(one, "", 0)
	set(one, connectors.State{Key: "token", Value: []byte("a\x00\xff")}, nil)
	is(one, "a\x00\xff", 1)
	is(other, "", 0)
	set(one, connectors.State{Key: "token", Value: []byte("b")}, connectors.ErrConflict)
	set(one, connectors.State{Key: "token", Value: []byte("b"), Version: 1}, nil)
	is(one, "b", 2)
	set(one, connectors.State{Key: "token", Version: 1}, connectors.ErrConflict)
	set(one, connectors.State{Key: "token", Version: 2}, nil)
	is(one, "", 0)
	set(one, connectors.State{Key: "token"}, nil)
}

// testRace has many set the same at once: one of them is first, and all others are told.
func testRace(t *testing.T, m connectors.Memory, e connectors.Endpoint) {
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			err := m.SetLink(t.Context(), e, connectors.Link{Kind: "race", Ours: "fnd_9", Theirs: fmt.Sprintf("SEC-%d", i)})
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, connectors.ErrConflict) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := won.Load(); n != 1 {
		t.Errorf("%d were first, not one", n)
	}
}

func testBounds(t *testing.T, m connectors.Memory, e connectors.Endpoint) {
	ctx := t.Context()
	long := string(bytes.Repeat([]byte("x"), connectors.MaxKey+1))
	refused := func(what string, err error) {
		t.Helper()
		var limit *connectors.LimitError
		if !errors.As(err, &limit) || limit.Message == "" {
			t.Errorf("%s: %v is no *LimitError with a message", what, err)
		}
	}
	refused("a link of nothing", m.SetLink(ctx, e, connectors.Link{Kind: "issue", Theirs: "SEC-1"}))
	refused("a long ID", m.SetLink(ctx, e, connectors.Link{Kind: "issue", Ours: "fnd_1", Theirs: long}))
	refused("a long note", m.SetLink(ctx, e, connectors.Link{Kind: "issue", Ours: "fnd_1", Theirs: "x", Note: make([]byte, connectors.MaxLinkNote+1)}))
	refused("a state without a key", m.SetState(ctx, e, connectors.State{Value: []byte("x")}))
	refused("a long key", m.SetState(ctx, e, connectors.State{Key: long, Value: []byte("x")}))
	refused("a large state", m.SetState(ctx, e, connectors.State{Key: "x", Value: make([]byte, connectors.MaxState+1)}))
	if err := m.SetState(ctx, e, connectors.State{Key: "x", Value: make([]byte, connectors.MaxState)}); err != nil {
		t.Errorf("the largest state: %v", err)
	}
	var err error
	for i := 0; i <= connectors.MaxStates && err == nil; i++ {
		err = m.SetState(ctx, e, connectors.State{Key: fmt.Sprint(i), Value: []byte("x")})
	}
	refused("one state too many", err)
}

// RunLinkBounds tests a Memory that keeps so many links of an endpoint, and so many bytes with
// them. one and other are as for RunMemory.
func RunLinkBounds(t *testing.T, m connectors.Memory, one, other connectors.Endpoint, links, size int) {
	ctx := t.Context()
	link := func(n, note int) connectors.Link {
		return connectors.Link{Kind: "issue", Ours: fmt.Sprint("fnd_", n), Theirs: fmt.Sprint("SEC-", n), Note: make([]byte, note)}
	}
	set := func(what string, e connectors.Endpoint, l connectors.Link, fits bool) {
		t.Helper()
		err := m.SetLink(ctx, e, l)
		var limit *connectors.LimitError
		if fits && err != nil || !fits && (!errors.As(err, &limit) || limit.Message == "") {
			t.Fatalf("%s: %v", what, err)
		}
	}
	for n := range links {
		set("a link of the most", one, link(n, 1), true)
	}
	set("one too many", one, link(links, 1), false)
	another := link(links, 1)
	another.Kind = "board"
	set("one of another kind", one, another, false)
	first := link(0, 2)
	first.Version = 1
	set("a change", one, first, true)
	first.Theirs, first.Version = "", 2
	set("a removal", one, first, true)
	set("one in its place", one, link(links, 1), true)
	set("one too many again", one, link(0, 1), false)

	n := 0
	for ; (n+1)*connectors.MaxLinkNote <= size; n++ {
		set("a note", other, link(n, connectors.MaxLinkNote), true)
	}
	if n == 0 || n >= links {
		t.Fatalf("bounds of %d links and %d bytes do not suit this test", links, size)
	}
	set("a note too many", other, link(n, connectors.MaxLinkNote), false)
	small := link(n, 0)
	set("a link without", other, small, true)
	small.Note, small.Version = make([]byte, connectors.MaxLinkNote), 1
	set("that grows", other, small, false)
}
