package connectors

import "context"

// Enricher is the ability to fetch what a receipt only names. It runs in the plugin's
// process. A Receiver asks for it with Received.Enrich; the hub has answered the sender by
// then and keeps the receipt until it is enriched, however often it has to try.
type Enricher interface {
	// Enrich fetches the document that the Receiver reads in place of the receipt's body.
	// It is called again after a failure, on any node, so it should change nothing at
	// the other side. An error is a decision: a *Failure says whether and when to try again;
	// any other error is tried again and is the connector's fault.
	Enrich(ctx context.Context, h Host, e Enrichment) (Document, error)
}

// Enrichment is one receipt to be enriched.
type Enrichment struct {
	Source  Endpoint
	Kind    string // of the Receiver
	Receipt string // the hub's ID, the same at each try
	Attempt int    // 1, 2, …
	Request Inbound
}

// Document is bytes for a Receiver to read.
type Document struct {
	// Key names the document within its source. What was polled twice under one key is
	// one receipt, for 400 days. "" is none. Not used by Enrich.
	Key         string
	ContentType string
	Body        []byte // at most MaxDocument bytes
}

// MaxDocument is how large a Document may be, in bytes.
const MaxDocument = 8 << 20
