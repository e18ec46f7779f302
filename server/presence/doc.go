// Package presence links the agents of Presences, which run inside private networks, to
// this node: they call in and make the calls that the hub cannot.
//
// Place: beside the connectors' processes, behind dispatch: what dispatch hands over goes
// to an agent's link and comes back as a result. The agent itself is in presence/agent.
//
// Guarantees:
//   - Every delivery that is handed over is answered exactly once: with what an agent says
//     came of it, or with nothing when none is known to have tried; it is then the ledger's
//     again. Until then it is leased to this node.
//   - Each delivery is with one agent. An agent whose link was cut keeps what it has for
//     Config.Lease: back within that time it is handed the same again, and knows what it
//     has made already.
//   - An agent may forget a result once it is durable, and not before. Results of
//     deliveries that this node knows nothing of (it was restarted, or the agent was linked
//     to another one) are recorded all the same.
//   - Secrets leave sealed for the one agent that is to use them.
//
// How it works: one mutex, under which nothing slow happens and nobody else is called.
package presence
