package acme_test

import (
	"testing"

	"github.com/hookyard/hookyard/connectors/connectortest"
	"github.com/hookyard/hookyard/examples/acme"
)

func TestConformance(t *testing.T) { connectortest.Run(t, acme.Connector{}) }
