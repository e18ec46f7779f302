package connectors

// Mimic is the ability to write the requests that the vendor itself sends, for trying a
// source out. It is pure: see the package's life cycle.
type Mimic interface {
	// Samples names what the vendor sends, in the order in which people see it.
	Samples() []string
	// Sample writes one of them, exactly as the vendor does but for the address.
	Sample(name string, m Mimicry) (Request, error)
}

// Mimicry is what is one's own about a sample.
type Mimicry struct {
	URL    string // where it goes
	Body   []byte // in place of the sample's; nil: the sample's
	Secret []byte // to sign with, where the vendor signs; nil: it is not signed
}
