package connectors

// Connector is anything that can describe itself. Its abilities are the
// interfaces that it implements besides: FormatProvider and ReceiverProvider
// (pure), Deliverer and Checker (with I/O).
type Connector interface {
	Spec() Spec
}

// FormatProvider is the ability to write events down.
type FormatProvider interface {
	Formats() []Format
}

// ReceiverProvider is the ability to read requests into events.
type ReceiverProvider interface {
	Receivers() []Receiver
}
