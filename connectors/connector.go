package connectors

// Connector is anything that can describe itself. Its abilities are the
// interfaces that it implements besides: FormatProvider, ReceiverProvider and
// TriggerProvider (pure); Deliverer, Checker, Poller, Enricher and Scanner (with I/O).
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
