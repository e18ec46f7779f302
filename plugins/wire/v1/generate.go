// Package wirev1 is version 1 of the messages between the hub and a connector's
// process, generated from wire.proto, where they are explained.
//
// Place: between plugins' client and server and nowhere else. Additive only: a
// change that an older peer would misread is a new version beside this one.
package wirev1

// The generators are pinned in .ci/tools; buf is pinned here, because the tests of
// what it depends on cannot all be had, which go mod tidy would ask for.
//go:generate sh -c "cd .. && go run github.com/bufbuild/buf/cmd/buf@v1.75.0 generate"
