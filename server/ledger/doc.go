// Package ledger is the durable record of receipts, events, deliveries and attempts.
//
// Place: between ingest and dispatch, and again after dispatch. Accept makes an event
// and everything it is due to durable in one transaction; Record makes durable what
// came of an attempt; Claim hands out what waits; Tail is what watchers read; the
// methods that take a rule.Scope are what people read.
//
// Guarantees, the same on SQLite and PostgreSQL:
//   - When Accept or Record returns nil, everything it was given is committed. When
//     Accept fails, nothing of it is, or (a connection that was lost during a commit)
//     all of it is: the sender sends again, and the key makes it one event.
//   - A key is one event per source within its window.
//   - An open delivery is leased to at most one node at one of its starts. What a node
//     records after it has lost a lease is kept as an entry and changes nothing else.
//   - Entries are numbered without a gap, in the order in which they become visible.
//   - The event of an open delivery is never removed.
//
// Writers form groups without a timer: a group is what arrived while the previous one
// was committed. A group that fails because of one row is halved until that row fails
// alone.
package ledger
