// Package plugins is the process boundary: both ends of the stream between the hub
// and a connector's process, and the only way from that process to the outside.
//
// Place in the path of an event: dispatch -> plugins/host -> Session (here, in the
// hub) -> stream -> Serve (here, in the plugin) -> the connector -> the world.
//
// Guarantees:
//   - A Session answers every item that it took exactly once, whatever becomes of
//     the process; an answer that nobody waits for is dropped and logged.
//   - Neither end ever waits for a slow item: each end has one writer that sends
//     what is queued, in lists, without timers.
//   - Every connection is checked against the endpoint's address policy after name
//     resolution, when it is dialled. With a forward proxy it is the proxy's address
//     that is dialled and checked; what the proxy reaches is the proxy's business.
//   - A plugin ends when its host does: it watches a pipe that only the host holds.
//   - Sizes are bounded at both ends; the hub does not trust the plugin's.
package plugins
