// Package flow holds the plain structs that the parts of the server hand to each
// other: what is accepted, what is due, what came of it, and the world (the compiled
// configuration) in which all of that happens.
//
// Place: a leaf. It imports the connector contract and nothing else of Hookyard; it
// has no behaviour beyond small helpers on its own structs.
package flow
