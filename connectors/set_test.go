package connectors_test

import (
	"strings"
	"testing"

	"github.com/hookyard/hookyard/connectors"
)

type named struct {
	name, format, kind string
}

func (n named) Spec() connectors.Spec            { return connectors.Spec{Name: n.name} }
func (n named) Formats() []connectors.Format     { return []connectors.Format{format(n.format)} }
func (n named) Receivers() []connectors.Receiver { return []connectors.Receiver{receiver(n.kind)} }

type format string

func (f format) Name() string                     { return string(f) }
func (format) EventTypes() []connectors.EventType { return nil }
func (format) Render(*connectors.Event, connectors.RenderOptions) (connectors.Rendered, error) {
	return connectors.Rendered{}, nil
}

type receiver string

func (r receiver) Kind() string { return string(r) }
func (receiver) Receive(connectors.Inbound) (connectors.Received, error) {
	return connectors.Received{}, nil
}

func TestSetRefusesSharedNames(t *testing.T) {
	one := named{"one", "f1", "k1"}
	for _, c := range []struct {
		other named
		want  string
	}{
		{named{"two", "f2", "k2"}, ""},
		{named{"one", "f2", "k2"}, `two connectors are named "one"`},
		{named{"two", "f1", "k2"}, `connector "two": there is already a format "f1"`},
		{named{"two", "f2", "k1"}, `connector "two": there is already a receiver "k1"`},
	} {
		set, err := connectors.NewSet([]connectors.Connector{one, c.other})
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if f, ok := set.Format("f2"); !ok || f.Name() != "f2" {
			t.Error("f2 is not found")
		}
		if _, ok := set.Receiver("f2"); ok {
			t.Error("a receiver f2 is found")
		}
		if len(set.Connectors()) != 2 || len(set.Formats()) != 2 || len(set.Receivers()) != 2 {
			t.Error("the lists are not complete")
		}
	}
}
