// Package wirev1 is version 1 of the messages between the hub and a connector's
// process, generated from wire.proto, where they are explained.
//
// Place: between plugins' client and server and nowhere else. Additive only: a
// change that an older peer would misread is a new version beside this one.
package wirev1

//go:generate sh -c "cd .. && go tool -modfile=../../.ci/tools/go.mod buf generate"
