// Command acme-plugin runs package acme as a connector's process.
package main

import (
	acme "example.com/acme/hookyard-radar"

	"github.com/hookyard/hookyard/plugins"
)

func main() { plugins.Serve(acme.Connector{}) }
