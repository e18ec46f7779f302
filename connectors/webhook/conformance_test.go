package webhook_test

import (
	"testing"

	"github.com/hookyard/hookyard/connectors/connectortest"
	"github.com/hookyard/hookyard/connectors/webhook"
)

func TestConformance(t *testing.T) { connectortest.Run(t, webhook.Connector{}) }
