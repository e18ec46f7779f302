// Package scalar writes the values that GraphQL has no type of its own for, and that
// the generated code in graph/gen therefore needs help with.
//
// Place: a leaf of the API. Words that mean "none" in Go ("", 0) become null here
// where the schema says that a value may be missing.
package scalar

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/99designs/gqlgen/graphql"

	"github.com/hookyard/hookyard/connectors"
)

// MarshalJSON writes a JSON document as it is; nothing is null.
func MarshalJSON(doc json.RawMessage) graphql.Marshaler {
	if len(doc) == 0 {
		return graphql.Null
	}
	return graphql.WriterFunc(func(w io.Writer) { _, _ = w.Write(doc) })
}

// UnmarshalJSON takes any value.
func UnmarshalJSON(v any) (json.RawMessage, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("not a JSON value: %w", err)
	}
	return b, nil
}

// MarshalDocument writes a JSON document as it is; nothing is null.
func MarshalDocument(doc []byte) graphql.Marshaler { return MarshalJSON(doc) }

// UnmarshalDocument takes any value.
func UnmarshalDocument(v any) ([]byte, error) { return UnmarshalJSON(v) }

// MarshalEventType writes the kind of an event.
func MarshalEventType(t connectors.EventType) graphql.Marshaler {
	return graphql.MarshalString(string(t))
}

// UnmarshalEventType reads the kind of an event.
func UnmarshalEventType(v any) (connectors.EventType, error) {
	s, err := graphql.UnmarshalString(v)
	if t := connectors.EventType(s); err != nil || t.Valid() {
		return t, err
	}
	return "", fmt.Errorf("%q is no kind of event; see eventTypes", s)
}

// MarshalSeverity writes a severity.
func MarshalSeverity(s connectors.Severity) graphql.Marshaler {
	return graphql.MarshalString(string(s))
}

// UnmarshalSeverity reads a severity.
func UnmarshalSeverity(v any) (connectors.Severity, error) {
	s, err := graphql.UnmarshalString(v)
	if w := connectors.Severity(s); err != nil || w.Rank() >= 0 {
		return w, err
	}
	return "", fmt.Errorf("%q is no severity: info, low, medium, high or critical", s)
}

// MarshalMilliseconds writes a duration as a number of milliseconds.
func MarshalMilliseconds(d time.Duration) graphql.Marshaler {
	return graphql.WriterFunc(func(w io.Writer) {
		var b [24]byte
		_, _ = w.Write(strconv.AppendFloat(b[:0], float64(d.Microseconds())/1000, 'f', -1, 64))
	})
}

// UnmarshalMilliseconds reads a number of milliseconds.
func UnmarshalMilliseconds(v any) (time.Duration, error) {
	f, err := graphql.UnmarshalFloat(v)
	return time.Duration(f * float64(time.Millisecond)), err
}

// MarshalOutcome writes an outcome, null for none.
func MarshalOutcome(o connectors.Outcome) graphql.Marshaler { return word(string(o)) }

// UnmarshalOutcome reads an outcome.
func UnmarshalOutcome(v any) (connectors.Outcome, error) {
	s, err := graphql.UnmarshalString(v)
	return connectors.Outcome(s), err
}

// MarshalFault writes a fault, null for none.
func MarshalFault(f connectors.Fault) graphql.Marshaler { return word(string(f)) }

// UnmarshalFault reads a fault.
func UnmarshalFault(v any) (connectors.Fault, error) {
	s, err := graphql.UnmarshalString(v)
	return connectors.Fault(s), err
}

func word(s string) graphql.Marshaler {
	if s == "" {
		return graphql.Null
	}
	return graphql.MarshalString(s)
}

// Body is bytes that were sent or received.
type Body []byte

// Size is how many bytes there are.
func (b Body) Size() int { return len(b) }

// Text is the bytes as text, nil when they are not UTF-8.
func (b Body) Text() *string {
	if !utf8.Valid(b) {
		return nil
	}
	s := string(b)
	return &s
}

// Base64 is the bytes in base64.
func (b Body) Base64() string { return base64.StdEncoding.EncodeToString(b) }
