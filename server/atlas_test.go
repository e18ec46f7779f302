package server

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/hookyard/hookyard/server/flow"
)

// shaky reads worlds, but for those that it cannot.
type shaky struct {
	revisions map[string]int64
	broken    map[string]error
}

func (s *shaky) Revisions(context.Context) (map[string]int64, error) { return s.revisions, nil }

func (s *shaky) World(_ context.Context, org string) (*flow.World, error) {
	if err := s.broken[org]; err != nil {
		return nil, err
	}
	return &flow.World{Organization: flow.Organization{ID: org}, Sources: map[string]*flow.Source{"src_" + org: {ID: "src_" + org, Token: org}}}, nil
}

// One organization that cannot be read keeps the others from nothing.
func TestOneOrganizationCannotBeRead(t *testing.T) {
	s := &shaky{revisions: map[string]int64{"a": 1, "b": 1, "c": 1}, broken: map[string]error{"c": errors.New("a secret does not open")}}
	var log bytes.Buffer
	a := newAtlas(s, slog.New(slog.NewTextHandler(&log, nil)))
	var changed []string
	a.changed = func(org string) { changed = append(changed, org) }
	refresh := func(want ...string) {
		t.Helper()
		changed = nil
		if err := a.refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if slices.Sort(changed); !slices.Equal(changed, want) {
			t.Errorf("%v have changed, want %v", changed, want)
		}
	}
	revision := func(org string) int64 {
		if w := a.World(org); w != nil {
			return w.Revision
		}
		return 0
	}
	// At the start.
	refresh("a", "b")
	if !a.Unread() || revision("a") != 1 || revision("b") != 1 || revision("c") != 0 {
		t.Errorf("%d, %d, %d; unread %v", revision("a"), revision("b"), revision("c"), a.Unread())
	}
	if _, src := a.Source("a"); src == nil {
		t.Error("the source of an organization that can be read is not known")
	}
	refresh() // and each second
	// Later: it is as it was.
	s.broken["b"], s.revisions["b"], s.revisions["a"] = errors.New("a schema is damaged"), 2, 2
	refresh("a")
	if revision("a") != 2 || revision("b") != 1 {
		t.Errorf("%d, %d", revision("a"), revision("b"))
	}
	if a.apply(t.Context(), "b") || !a.apply(t.Context(), "a") {
		t.Error("what is in force and what is not was not told apart")
	}
	if _, src := a.Source("b"); src == nil {
		t.Error("the source of an organization that could be read is not known any more")
	}
	if n := len(a.current.Load().unread); n != 2 {
		t.Errorf("%d are counted", n)
	}
	// Once it can be read, without another change.
	s.broken = nil
	refresh("b", "c")
	if a.Unread() || revision("b") != 2 || revision("c") != 1 || len(a.current.Load().unread) != 0 || !a.apply(t.Context(), "b") {
		t.Errorf("%d, %d; unread %v", revision("b"), revision("c"), a.current.Load().unread)
	}
	for words, want := range map[string]int{"cannot be read;": 2, "a secret does not open": 1, "a schema is damaged": 1, "can be read again": 2} {
		if n := strings.Count(log.String(), words); n != want {
			t.Errorf("%q is in the log %d times, want %d:\n%s", words, n, want, &log)
		}
	}
	// A database that is away is nobody's fault.
	ctx, cancel := context.WithCancel(t.Context())
	s.revisions["a"]++
	s.broken = map[string]error{"a": context.Canceled}
	cancel()
	if err := a.refresh(ctx); !errors.Is(err, context.Canceled) || len(a.current.Load().unread) != 0 {
		t.Errorf("given up: %v", err)
	}
}
