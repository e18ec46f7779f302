package connectors

import "fmt"

// Set is a list of connectors with their formats, receivers and triggers by name. It is
// immutable once made and safe for concurrent use.
type Set struct {
	list      []Connector
	formats   []Format
	receivers []Receiver
	triggers  []Trigger
	byName    map[string]Connector
	byFormat  map[string]Format
	byKind    map[string]reader
	byTrigger map[string]Trigger
}

// reader is a receiver and whose it is.
type reader struct {
	Receiver
	of Connector
}

// NewSet makes a set. A name that two connectors, formats, receivers or triggers share is an error.
func NewSet(list []Connector) (*Set, error) {
	s := &Set{list: list, byName: map[string]Connector{}, byFormat: map[string]Format{}, byKind: map[string]reader{},
		byTrigger: map[string]Trigger{}}
	for _, c := range list {
		name := c.Spec().Name
		if _, taken := s.byName[name]; taken {
			return nil, fmt.Errorf("two connectors are named %q", name)
		}
		s.byName[name] = c
		if p, ok := c.(FormatProvider); ok {
			for _, f := range p.Formats() {
				if _, taken := s.byFormat[f.Name()]; taken {
					return nil, fmt.Errorf("connector %q: there is already a format %q", name, f.Name())
				}
				s.byFormat[f.Name()] = f
				s.formats = append(s.formats, f)
			}
		}
		if p, ok := c.(ReceiverProvider); ok {
			for _, r := range p.Receivers() {
				if _, taken := s.byKind[r.Kind()]; taken {
					return nil, fmt.Errorf("connector %q: there is already a receiver %q", name, r.Kind())
				}
				s.byKind[r.Kind()] = reader{r, c}
				s.receivers = append(s.receivers, r)
			}
		}
		if p, ok := c.(TriggerProvider); ok {
			for _, t := range p.Triggers() {
				if _, taken := s.byTrigger[t.Kind()]; taken {
					return nil, fmt.Errorf("connector %q: there is already a trigger %q", name, t.Kind())
				}
				s.byTrigger[t.Kind()] = t
				s.triggers = append(s.triggers, t)
			}
		}
	}
	return s, nil
}

// Connectors returns all connectors in the order of the list; do not change it.
func (s *Set) Connectors() []Connector { return s.list }

// Formats returns all formats in the order of the list; do not change it.
func (s *Set) Formats() []Format { return s.formats }

// Receivers returns all receivers in the order of the list; do not change it.
func (s *Set) Receivers() []Receiver { return s.receivers }

// Triggers returns all triggers in the order of the list; do not change it.
func (s *Set) Triggers() []Trigger { return s.triggers }

// Connector returns the connector of a Spec's name; ok is false when there is none.
func (s *Set) Connector(name string) (c Connector, ok bool) { c, ok = s.byName[name]; return }

// Format returns the format of a name; ok is false when there is none.
func (s *Set) Format(name string) (f Format, ok bool) { f, ok = s.byFormat[name]; return }

// Receiver returns the receiver of a kind; ok is false when there is none.
func (s *Set) Receiver(kind string) (r Receiver, ok bool) {
	x, ok := s.byKind[kind]
	return x.Receiver, ok
}

// Reader returns the connector whose receiver reads sources of a kind; ok is false when
// there is none.
func (s *Set) Reader(kind string) (c Connector, ok bool) {
	x, ok := s.byKind[kind]
	return x.of, ok
}

// Trigger returns the trigger of a kind; ok is false when there is none.
func (s *Set) Trigger(kind string) (t Trigger, ok bool) { t, ok = s.byTrigger[kind]; return }
