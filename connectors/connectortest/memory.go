package connectortest

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/hookyard/hookyard/connectors"
)

// Memory is a connectors.Memory for tests, with the promises and the bounds of the hub's.
type Memory struct {
	MaxLinks, MaxLinkBytes int // as in the contract; may be made less

	mu     sync.Mutex
	links  map[[2]string][]connectors.Link // by endpoint and kind
	states map[[2]string]connectors.State  // by endpoint and key
}

// NewMemory makes an empty one.
func NewMemory() *Memory {
	return &Memory{MaxLinks: connectors.MaxLinks, MaxLinkBytes: connectors.MaxLinkBytes, links: map[[2]string][]connectors.Link{}, states: map[[2]string]connectors.State{}}
}

// Link implements connectors.Memory.
func (m *Memory) Link(_ context.Context, e connectors.Endpoint, kind, ours string) (connectors.Link, error) {
	return m.link(e, connectors.Link{Kind: kind, Ours: ours}, func(l connectors.Link) bool { return l.Ours == ours })
}

// LinkTo implements connectors.Memory.
func (m *Memory) LinkTo(_ context.Context, e connectors.Endpoint, kind, theirs string) (connectors.Link, error) {
	return m.link(e, connectors.Link{Kind: kind, Theirs: theirs}, func(l connectors.Link) bool { return l.Theirs == theirs })
}

func (m *Memory) link(e connectors.Endpoint, none connectors.Link, is func(connectors.Link) bool) (connectors.Link, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.links[[2]string{e.ID, none.Kind}] {
		if is(l) {
			l.Note = bytes.Clone(l.Note)
			return l, nil
		}
	}
	return none, nil
}

// SetLink implements connectors.Memory.
func (m *Memory) SetLink(_ context.Context, e connectors.Endpoint, l connectors.Link) error {
	if err := l.Check(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at := [2]string{e.ID, l.Kind}
	var rest []connectors.Link
	version := int64(0)
	for _, other := range m.links[at] {
		switch {
		case other.Ours == l.Ours:
			version = other.Version
		case l.Theirs != "" && other.Theirs == l.Theirs:
			return connectors.ErrConflict
		default:
			rest = append(rest, other)
		}
	}
	if version != l.Version {
		return connectors.ErrConflict
	}
	if l.Theirs != "" {
		if links, size := m.size(e.ID); l.Version == 0 && links >= m.MaxLinks || size+len(l.URL)+len(l.Note) > m.MaxLinkBytes {
			return &connectors.LimitError{Message: fmt.Sprintf("%d links with %d bytes are kept for it, which is the most", links, size)}
		}
		l.Version++
		l.Note = bytes.Clone(l.Note)
		rest = append(rest, l)
	}
	m.links[at] = rest
	return nil
}

// size is how many links an endpoint has, and the bytes of their notes and addresses.
func (m *Memory) size(endpoint string) (n, size int) {
	for at, list := range m.links {
		if at[0] != endpoint {
			continue
		}
		n += len(list)
		for _, l := range list {
			size += len(l.URL) + len(l.Note)
		}
	}
	return n, size
}

// State implements connectors.Memory.
func (m *Memory) State(_ context.Context, e connectors.Endpoint, key string) (connectors.State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.states[[2]string{e.ID, key}]
	s.Key, s.Value = key, bytes.Clone(s.Value)
	return s, nil
}

// SetState implements connectors.Memory.
func (m *Memory) SetState(_ context.Context, e connectors.Endpoint, s connectors.State) error {
	if err := s.Check(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at := [2]string{e.ID, s.Key}
	old, known := m.states[at]
	if old.Version != s.Version {
		return connectors.ErrConflict
	}
	if len(s.Value) == 0 {
		delete(m.states, at)
		return nil
	}
	if n := m.count(e.ID); !known && n >= connectors.MaxStates {
		return &connectors.LimitError{Message: fmt.Sprintf("%d states are kept for it, which is the most", n)}
	}
	s.Version++
	s.Value = bytes.Clone(s.Value)
	m.states[at] = s
	return nil
}

func (m *Memory) count(endpoint string) (n int) {
	for at := range m.states {
		if at[0] == endpoint {
			n++
		}
	}
	return n
}
