package connectors

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// The bounds of what the hub keeps for a connector. What exceeds them is refused with a
// *LimitError; Values are bytes.
const (
	MaxKey       = 256      // a state's key, either end of a link, a link's kind
	MaxState     = 64 << 10 // one state's value, a poll's cursor
	MaxStates    = 256      // states of one endpoint
	MaxLinkNote  = 4 << 10  // a link's note, its address
	MaxLinks     = 100_000  // links of one endpoint …
	MaxLinkBytes = 64 << 20 // … and all their notes and addresses
)

// Memory is what the hub keeps for a connector, durably and on every node: per endpoint,
// scanner or source, for as long as that exists. Nobody else's can be read or
// written. It is for small things: the work item that a finding became, a token that is
// costly to get. All calls may be made from many goroutines.
type Memory interface {
	// Link finds the link of one of our objects, LinkTo that of one of theirs, by kind and
	// ID. Without one they return a Link with Version 0, which can be filled in and set.
	Link(ctx context.Context, e Endpoint, kind, ours string) (Link, error)
	LinkTo(ctx context.Context, e Endpoint, kind, theirs string) (Link, error)
	// SetLink keeps a link, or removes it when Theirs is empty. ErrConflict: somebody
	// else has set it since it was read; read it again.
	SetLink(ctx context.Context, e Endpoint, l Link) error
	States
}

// States keeps values by a name of the connector's choice.
type States interface {
	// State returns a value, with Version 0 when there is none.
	State(ctx context.Context, e Endpoint, key string) (State, error)
	// SetState keeps a value, or removes it when it is empty. ErrConflict: as for links.
	SetState(ctx context.Context, e Endpoint, s State) error
}

// Link says that an object of ours is known at the other side as an object of theirs.
// One of ours has at most one link of a kind, and so has one of theirs.
type Link struct {
	Kind    string // the connector's word: "issue", "board", …
	Ours    string // the hub's ID: "fnd_…", "scn_…", "app_…"
	Theirs  string // their ID: "SEC-12"
	URL     string // where people look at theirs; may be empty
	Note    []byte // whatever else the connector needs to know of theirs; may be empty
	Version int64  // as it was read; 0 is not yet kept
}

// State is a value under a key.
type State struct {
	Key     string
	Value   []byte
	Version int64 // as it was read; 0 is not yet kept
}

// ErrConflict is a link or state that has changed since it was read.
var ErrConflict = errors.New("somebody else has changed it since it was read; read it again")

// LimitError is a value that the hub does not keep, because it is too large or one too many.
type LimitError struct{ Message string }

func (e *LimitError) Error() string { return e.Message }

// Check says whether a link keeps the bounds: *LimitError if not.
func (l Link) Check() error {
	switch {
	case l.Kind == "" || l.Ours == "":
		return &LimitError{"a link needs a kind and the ID of an object of ours"}
	case !keyable(l.Kind) || !keyable(l.Ours) || !keyable(l.Theirs):
		return &LimitError{fmt.Sprintf("a link's kind and IDs are text of at most %d bytes", MaxKey)}
	case len(l.URL) > MaxLinkNote || len(l.Note) > MaxLinkNote:
		return &LimitError{fmt.Sprintf("a link's note and address have at most %d bytes", MaxLinkNote)}
	case !storable(l.URL):
		return &LimitError{"a link's address must be text"}
	}
	return nil
}

// Check says whether a state keeps the bounds: *LimitError if not.
func (s State) Check() error {
	switch {
	case s.Key == "" || !keyable(s.Key):
		return &LimitError{fmt.Sprintf("a state's key is text of 1 to %d bytes", MaxKey)}
	case len(s.Value) > MaxState:
		return &LimitError{fmt.Sprintf("a state has at most %d bytes, not %d", MaxState, len(s.Value))}
	}
	return nil
}

func keyable(s string) bool { return len(s) <= MaxKey && storable(s) }

// storable says whether every database takes s as text.
func storable(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }
