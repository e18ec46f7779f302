package connectors_test

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/connectortest"
	"pgregory.net/rapid"
)

// reference is what encoding/json makes of v without HTML escapes.
func reference(t interface{ Fatal(...any) }, v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func TestAppendEventIsWhatEncodingJSONWrites(t *testing.T) {
	for _, typ := range connectors.EventTypes() {
		for _, e := range []*connectors.Event{connectortest.Event(typ), connectortest.Sparse(typ), {Type: typ}} {
			got, err := connectors.AppendEvent([]byte("before"), e)
			if err != nil {
				t.Fatal(err)
			}
			if want := "before" + reference(t, e); string(got) != want {
				t.Errorf("%s:\ngot  %s\nwant %s", typ, got, want)
			}
			var back connectors.Event
			if err := json.Unmarshal(got[len("before"):], &back); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(&back, e) {
				t.Errorf("%s: read back as %s", typ, reference(t, back))
			}
		}
	}
}

func TestEveryMemberIsWritten(t *testing.T) {
	// A member that somebody adds to a noun and forgets in the writer shows here: the
	// samples set every member, and encoding/json knows them all.
	for _, typ := range connectors.EventTypes() {
		d := reflect.ValueOf(connectortest.Event(typ).Data)
		for i := range d.NumField() {
			noun := d.Field(i)
			if noun.Kind() != reflect.Pointer || noun.IsNil() {
				continue
			}
			for j := range noun.Elem().NumField() {
				f := noun.Elem().Type().Field(j)
				if noun.Elem().Field(j).IsZero() && f.Name != "Errors" {
					t.Errorf("the sample of %s does not set %s.%s", typ, noun.Elem().Type(), f.Name)
				}
			}
		}
	}
}

func TestAppendEventRefusesWhatJSONCannotHold(t *testing.T) {
	nan := math.NaN()
	for name, e := range map[string]*connectors.Event{
		"year":       {Time: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"score":      {Data: connectors.Data{Finding: &connectors.Finding{CVSS3: &nan}}},
		"attributes": {Data: connectors.Data{Attributes: json.RawMessage(`{`)}},
	} {
		if b, err := connectors.AppendEvent([]byte("x"), e); err == nil || string(b) != "x" {
			t.Errorf("%s: got %s, %v", name, b, err)
		}
	}
}

func TestAppendStringReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) + rapid.String().Draw(t, "text")
		b := connectors.AppendString(nil, s)
		var back string
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		if want := string([]rune(s)); back != want {
			t.Fatalf("%q came back as %q", want, back)
		}
	})
}

func BenchmarkAppendEvent(b *testing.B) {
	e := connectortest.Event(connectors.ScanCompleted)
	buf := make([]byte, 0, 2048)
	for b.Loop() {
		if _, err := connectors.AppendEvent(buf, e); err != nil {
			b.Fatal(err)
		}
	}
}
