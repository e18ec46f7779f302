package veracode_test

import (
	"testing"

	"github.com/hookyard/hookyard/connectors/connectortest"
	"github.com/hookyard/hookyard/connectors/veracode"
)

func TestConformance(t *testing.T) { connectortest.Run(t, veracode.Connector{}) }
