// Package connectors is the contract between Hookyard and everything outside it.
//
// Place in the path of an event: a connector's Receiver turns a vendor's request
// into events (ingest), its Format writes an event down (route and render), and
// its Deliverer talks to the outside world (dispatch). The package imports only
// the standard library, so a connector can be written against it alone.
//
// # Life cycle
//
//  1. The host asks for the Spec once, when the connector is loaded. A Spec is a
//     constant: the same value every time.
//  2. Receivers and Formats are pure: no I/O, no clock, no globals, safe for
//     concurrent use, deterministic. They may run in the hub's own process.
//  3. Deliverers and Checkers do I/O and therefore run in a process of their own,
//     the plugin. They reach the outside only through the Host they are given.
//  4. Deliver is called from many goroutines at once. Every item of the list is
//     answered exactly once, as soon as it is done, in any order.
//  5. When the context of a call ends, the call returns within a second. What was
//     not answered by then is in doubt, and the hub will hand it over again:
//     delivery is at least once, Delivery.ID is the key to recognise a repeat.
//  6. The process ends within a second of its host's death.
//
// # Errors are decisions
//
// A Result says what the hub does next (Done, Retry, Permanent, Skipped) and whose
// fault a failure was. A Format that cannot say an event returns a *SkipError; a
// Receiver that refuses a request returns a *RefuseError with the HTTP status.
package connectors
