package simulated_test

import (
	"testing"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/connectortest"
	"github.com/hookyard/hookyard/connectors/simulated"
)

func TestConformance(t *testing.T) {
	connectortest.Run(t, simulated.Connector{}, connectortest.WithSettings(connectors.RoleScanner, `{"seconds": 0.1}`))
}
