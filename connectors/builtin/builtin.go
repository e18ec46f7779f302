// Package builtin lists every connector that Hookyard ships. It is the only package
// that imports the rooms, and the list is the only registry there is.
package builtin

import (
	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/appscan"
	"github.com/hookyard/hookyard/connectors/apviso"
	"github.com/hookyard/hookyard/connectors/crashtest"
	"github.com/hookyard/hookyard/connectors/holm"
	"github.com/hookyard/hookyard/connectors/simulated"
	"github.com/hookyard/hookyard/connectors/veracode"
	"github.com/hookyard/hookyard/connectors/webhook"
)

// Connectors returns the shipped connectors, in the order in which people see them.
func Connectors() []connectors.Connector {
	return []connectors.Connector{
		webhook.Connector{},
		appscan.Connector{},
		holm.Connector{},
		apviso.Connector{},
		crashtest.Connector{},
		veracode.Connector{},
		simulated.Connector{},
	}
}
