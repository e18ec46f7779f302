package acme_test

import (
	"os"
	"testing"

	"github.com/hookyard/hookyard/connectors/connectortest"
	"github.com/hookyard/hookyard/plugins"
	"github.com/hookyard/hookyard/plugins/plugintest"

	acme "example.com/acme/hookyard-radar"
)

// The test binary is the connector's process, too.
func TestMain(m *testing.M) {
	if plugintest.IsPlugin() {
		plugins.Serve(acme.Connector{})
		return
	}
	os.Exit(m.Run())
}

func TestConformance(t *testing.T) { connectortest.Run(t, acme.Connector{}) }

func TestConformanceOfTheProcess(t *testing.T) { plugintest.Run(t, plugintest.Self("acme-radar")) }
