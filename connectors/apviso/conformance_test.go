package apviso_test

import (
	"testing"

	"github.com/hookyard/hookyard/connectors/apviso"
	"github.com/hookyard/hookyard/connectors/connectortest"
)

func TestConformance(t *testing.T) { connectortest.Run(t, apviso.Connector{}) }
