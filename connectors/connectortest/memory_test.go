package connectortest

import (
	"testing"

	"github.com/hookyard/hookyard/connectors"
)

func TestMemory(t *testing.T) {
	RunMemory(t, NewMemory(), connectors.Endpoint{ID: "end_1"}, connectors.Endpoint{ID: "end_2"})
	m := NewMemory()
	m.MaxLinks, m.MaxLinkBytes = 20, 16<<10
	RunLinkBounds(t, m, connectors.Endpoint{ID: "end_1"}, connectors.Endpoint{ID: "end_2"}, m.MaxLinks, m.MaxLinkBytes)
}
