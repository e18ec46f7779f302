// Package connectors is the contract between Hookyard and everything outside it.
//
// Place in the path of an event: a connector's Receiver turns a vendor's request
// into events (ingest), its Format writes an event down (route and render), and
// its Deliverer talks to the outside world (dispatch). Around that path, a Poller and an
// Enricher fetch what vendors do not send, a Trigger reads the calls of CI, and a Scanner
// runs scans. The package imports only the standard library, so a connector can be
// written against it alone.
//
// # Life cycle
//
//  1. The host asks for the Spec once, when the connector is loaded. A Spec is a
//     constant: the same value every time. Its abilities are the interfaces that the
//     connector implements, no more and no less.
//  2. Settings are checked against the Spec's schema when people save them, and again before
//     another version of the connector takes over. A connector may rely on that.
//  3. Receivers, Formats and Triggers are pure: no I/O, no clock, no globals, safe for
//     concurrent use, deterministic. Those that are shipped run in the hub's own process;
//     those of third parties in theirs, within a time limit. The hub signs and verifies:
//     the secrets of webhooks and sources never leave it.
//  4. Deliverers, Checkers, Pollers, Enrichers and Scanners do I/O and therefore run in a
//     process of their own, the plugin. They reach the outside only through the Host they are
//     given, and keep nothing in files: what must last goes into the Host's Memory.
//  5. Every call may come from many goroutines at once, and for many endpoints: nothing
//     of one endpoint may wait for another.
//  6. Deliver answers every item of its list exactly once, as soon as it is done, in any order.
//  7. When the context of a call ends, the call returns within a second (a Scan within
//     ten). What was not answered by then is in doubt, and the hub will hand it over again:
//     delivery is at least once, Delivery.ID is the key to recognise a repeat. Polls and
//     enrichments are repeated, too; scans are not.
//  8. A new version of a connector takes over while the old one finishes what it was handed.
//  9. The process ends within a second of its host's death.
//
// # Errors are decisions
//
// A Result says what the hub does next (Done, Retry, Permanent, Skipped) and whose
// fault a failure was; a *Failure says the same for calls that return an error. A Format
// that cannot say an event returns a *SkipError; a Receiver or Trigger that refuses a request
// returns a *RefuseError with the HTTP status. Any other error is a fault of the connector.
package connectors
