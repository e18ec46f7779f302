// Package schema declares the nouns that people edit and read: their columns, their
// edges, and by ent/rule who may see and change them. Everything in ent/gen follows
// from here (go generate ./ent).
//
// Guarantees: every table has the organization's ID; no secret has a GraphQL field,
// filter or order; nothing is readable or changeable without a viewer. The ledger's
// tables (receipts, events, deliveries, entries) are not here: they are written and
// read in bulk by hand-written SQL.
package schema
