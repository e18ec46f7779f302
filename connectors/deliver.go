package connectors

import "context"

// Deliverer is the ability to deliver. It runs in the plugin's process.
type Deliverer interface {
	// Deliver makes one attempt of each item and calls done exactly once per item,
	// as soon as it is known, from any goroutine. It returns when all are answered.
	// Items are independent: a slow one must not hold up the others. An error means
	// that the connector itself is broken; unanswered items are then handed over again.
	Deliver(ctx context.Context, h Host, items []Delivery, done func(Result)) error
}

// Checker is the ability to say whether an endpoint, source or scanner would work.
type Checker interface {
	// Check tries it without changing anything there: "test connection". The error's text
	// is for the person who set it up: what is wrong and what to do, no secrets.
	Check(ctx context.Context, h Host, e Endpoint) error
}
