package graph

import (
	"strings"
	"testing"

	"github.com/hookyard/hookyard/ent/gen"
	graphgen "github.com/hookyard/hookyard/graph/gen"
	"github.com/hookyard/hookyard/server/flow"
)

// Whatever version an endpoint is pinned to, it is told when nobody delivers by it.
func TestProblemsOfPinnedVersions(t *testing.T) {
	one, two, three := version("1.0.0", "a", "one"), version("2.0.0", "b"), version("3.0.0", "c", "one")
	c := &graphgen.CatalogueConnector{Name: "radar", Versions: []*flow.Package{&three, &two, &one}, Enabled: &gen.EnabledConnector{Version: "3.0.0", Digest: "c", Enabled: true},
		Processes: []*flow.ConnectorProcess{{Digest: "a", State: "QUARANTINED"}, {Digest: "c", State: "RUNNING"}}}
	pin := func(name, connector, version, digest string) *gen.Endpoint {
		return &gen.Endpoint{Name: name, Connector: connector, ConnectorVersion: version, ConnectorDigest: digest}
	}
	for what, x := range map[string]struct {
		pinned []*gen.Endpoint
		said   []string
	}{
		"nobody is pinned":               {nil, nil},
		"to what the organization uses":  {[]*gen.Endpoint{pin("x", "radar", "3.0.0", "c")}, nil},
		"another connector's":            {[]*gen.Endpoint{pin("x", "sonar", "2.0.0", "b")}, nil},
		"to what no node has":            {[]*gen.Endpoint{pin("x", "radar", "2.0.0", "b"), pin("y", "radar", "2.0.0", "b")}, []string{"No running node of the hub has version 2.0.0", "x, y."}},
		"to what is in quarantine":       {[]*gen.Endpoint{pin("x", "radar", "1.0.0", "a")}, []string{"Version 1.0.0 keeps crashing", ": x."}},
		"to what nobody has told of":     {[]*gen.Endpoint{pin("x", "radar", "0.9.0", "z")}, []string{"version 0.9.0", ": x."}},
		"to several that do not deliver": {[]*gen.Endpoint{pin("x", "radar", "1.0.0", "a"), pin("y", "radar", "2.0.0", "b")}, []string{": x.", ": y."}},
	} {
		said := problem(c, x.pinned)
		if (said == "") != (x.said == nil) {
			t.Errorf("%s: %q", what, said)
		}
		for _, part := range x.said {
			if !strings.Contains(said, part) {
				t.Errorf("%s: %q, want %q", what, said, part)
			}
		}
	}
	c.Enabled.Enabled = false
	if said := problem(c, []*gen.Endpoint{pin("x", "radar", "2.0.0", "b")}); !strings.Contains(said, "disabled") || strings.Contains(said, "2.0.0") {
		t.Errorf("disabled: %q", said)
	}
}
