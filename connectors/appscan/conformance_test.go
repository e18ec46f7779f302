package appscan_test

import (
	"testing"

	"github.com/hookyard/hookyard/connectors/appscan"
	"github.com/hookyard/hookyard/connectors/connectortest"
)

func TestConformance(t *testing.T) { connectortest.Run(t, appscan.Connector{}) }
