// Package graph is the one API through which people and programs do everything:
// GraphQL over POST, server-sent events and websockets.
//
// Place: in front of storage (ent), the ledger and the parts of the server, which it
// knows as the small interfaces of Services. It is not on the path of an event, but
// for SendEvents, which is a door for events, and DeliveryLog, which shows the path's end.
//
// Guarantees:
//   - Without a viewer there is no answer. What a viewer may see and change is decided
//     by the rules of ent and by rule.Scope, not here: the checks here only give
//     better messages.
//   - Secrets go in and never come out; those that the hub makes are shown once.
//   - Every error has one of the codes of errors.go. What is the hub's own fault is
//     logged under an ID, and only the ID is told.
//   - A request is bounded before it runs: its bytes, tokens, root fields, pages and
//     cost; and while it runs: its time, and the time that a client takes to read.
//   - A change is committed when its answer comes, and read again for the answer.
//
// The resolvers' bodies check, call and return. They are in *.resolvers.go, whose heads
// gqlgen writes; everything else is beside them.
package graph

//go:generate go run gqlgen.go
