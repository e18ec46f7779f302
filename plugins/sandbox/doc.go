// Package sandbox confines a connector's process: what it may do to the machine that the
// hub runs on, and to the hub.
//
// Place: between plugins/host, which decides what runs, and the process. The hub starts
// this very program again as a launcher, which takes away from itself what the connector
// must not have and then becomes the connector. Nothing of it is asked of the connector.
//
// Guarantees, where the Report says that the part is there:
//   - A third party's process reads its own files, what its runtime needs of the system
//     and what it was granted; it writes its own folder. Everything else is out of its
//     reach, the environment, memory and files of the hub and of other connectors included.
//   - It makes no connections: the hub does, and hands them over.
//   - It gains no privileges, and cannot signal, trace or slow down what is not its own.
//   - Its memory, files and processes are bounded, and it dies with the hub.
//   - What is to be applied is applied, or the process does not start.
//
// A shipped connector is code of this program that talks to strangers. It keeps its way out
// and its speed, and gets what costs it nothing: no privileges, no writing, no processes.
package sandbox
