// Package agent is the process inside a private network: it links to the hub, makes the
// calls that the hub cannot, and tells what came of them.
//
// Place: at the far end of a link of package presence. It connects out, once, and listens
// nowhere; connectors run in their processes as they do at the hub.
//
// Guarantees:
//   - It calls only what its own list allows, whatever the hub says; an empty list is
//     nothing.
//   - What came of an attempt is in a file, with fsync, before it is told, and until the
//     hub says that it is durable there. What a crash interrupts is in doubt, and nothing else.
//   - An attempt that it is handed again, because the link was cut or the hub was restarted, is
//     not made again.
//   - Secrets are opened here and nowhere on the way. They are in no file and no log.
package agent
