package holm_test

import (
	"testing"

	"github.com/hookyard/hookyard/connectors/connectortest"
	"github.com/hookyard/hookyard/connectors/holm"
)

func TestConformance(t *testing.T) { connectortest.Run(t, holm.Connector{}) }
