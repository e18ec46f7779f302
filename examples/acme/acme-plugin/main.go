// Command acme-plugin runs package acme as a connector's process.
package main

import (
	"github.com/hookyard/hookyard/examples/acme"
	"github.com/hookyard/hookyard/plugins"
)

func main() { plugins.Serve(acme.Connector{}) }
