package graph

import (
	"context"
	"encoding/json"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/server/flow"
)

// shelf has three versions of a connector called radar, of which the third wants a team
// and the second is on no node any more; and one that does not deliver.
type shelf struct{}

func (shelf) Packages(context.Context) ([]flow.Package, error) {
	radar := func(version, settings string, nodes ...string) flow.Package {
		return flow.Package{Digest: "digest-" + version, Publisher: "acme", Nodes: append([]string{}, nodes...), Grants: flow.Grants{Egress: []string{"api.example.com:443"}},
			Spec: connectors.Spec{Name: "radar", Title: "Radar", Version: version, Abilities: []connectors.Ability{connectors.AbilityDeliver}, Settings: json.RawMessage(settings)}}
	}
	const properties = `{"type": "object", "additionalProperties": false, "properties": {"team": {"type": "string", "title": "Team", "description": "Whose."},
		"token": {"type": "string", "title": "Token", "description": "A secret.", "writeOnly": true}}`
	return []flow.Package{radar("3.0.0", properties+`, "required": ["team"]}`, "one"), radar("2.0.0", properties+"}"), radar("1.0.0", properties+"}", "one", "two"),
		{Digest: "digest-reader", Nodes: []string{"one"}, Spec: connectors.Spec{Name: "reader", Title: "Reader", Version: "1.0.0", Abilities: []connectors.Ability{connectors.AbilityReceive}}}}, nil
}

func (shelf) Processes(_ context.Context, org string) ([]flow.ConnectorProcess, error) {
	return []flow.ConnectorProcess{{Node: "one", Connector: "radar", Version: "1.0.0", Digest: "digest-1.0.0", State: "QUARANTINED", LastError: "it crashed",
		At: time.Unix(0, 0).UTC(), Log: []flow.ConnectorLine{{At: time.Unix(0, 0).UTC(), Level: "ERROR", Text: org}},
		Sandbox: []flow.SandboxPart{{Name: "files", How: "no Landlock"}}}}, nil
}
