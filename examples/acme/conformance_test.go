package acme_test

import (
	"testing"

	"github.com/hookyard/hookyard/connectors/connectortest"

	acme "example.com/acme/hookyard-radar"
)

func TestConformance(t *testing.T) { connectortest.Run(t, acme.Connector{}) }
