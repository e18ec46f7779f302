// Package host runs the connectors' processes: it starts them from a catalog, hands
// deliveries to them, watches their health and replaces those that crash or hang.
//
// Place in the path of an event: between dispatch, which decides what is attempted
// when, and the plugin's process, which attempts it.
//
// Guarantees:
//   - Deliver never waits for a process, and every item is answered exactly once.
//     What a dead or hung process leaves unanswered is answered with Retry and
//     FaultConnector: it may be handed over again and need not count as an attempt.
//   - A connector that is missing or broken keeps neither the hub nor the others
//     from starting; it is tried again, ever more slowly.
//   - What runs is the file that was checked: it is opened once, hashed and executed
//     by its descriptor. The hub's own file is opened once for its lifetime, so that
//     an upgrade in place does not change what a restarted connector runs.
//   - A process sees nothing of the hub's environment but a short list, is in a
//     process group of its own, and leaves no files behind.
package host
