package crashtest_test

import (
	"testing"

	"github.com/hookyard/hookyard/connectors/connectortest"
	"github.com/hookyard/hookyard/connectors/crashtest"
)

func TestConformance(t *testing.T) { connectortest.Run(t, crashtest.Connector{}) }
