package graph

import (
	"context"
	"encoding/json"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/server/flow"
)

// shelf has three versions of a connector called radar, of which the third wants a team
// and the second is on no node any more; and one that organizations have no use for.
type shelf struct{}

func (shelf) Packages(context.Context) ([]flow.Package, error) {
	provides, err := connectors.NewSet([]connectors.Connector{alerts{}})
	if err != nil {
		return nil, err
	}
	radar := func(version, settings string, nodes ...string) flow.Package {
		return flow.Package{Provides: provides, Digest: "digest-" + version, Publisher: "acme", Nodes: append([]string{}, nodes...), Grants: flow.Grants{Egress: []string{"api.example.com:443"}},
			Spec: connectors.Spec{Name: "radar", Title: "Radar", Version: version, Abilities: []connectors.Ability{connectors.AbilityDeliver, connectors.AbilityTrigger, connectors.AbilityScan}, Settings: json.RawMessage(settings), ScanSettings: json.RawMessage(settings)}}
	}
	const properties = `{"type": "object", "additionalProperties": false, "properties": {"team": {"type": "string", "title": "Team", "description": "Whose."},
		"token": {"type": "string", "title": "Token", "description": "A secret.", "writeOnly": true}}`
	return []flow.Package{radar("3.0.0", properties+`, "required": ["team"]}`, "one"), radar("2.0.0", properties+"}"), radar("1.0.0", properties+"}", "one", "two"),
		{Digest: "digest-reader", Nodes: []string{"one"}, Spec: connectors.Spec{Name: "reader", Title: "Reader", Version: "1.0.0", Abilities: []connectors.Ability{connectors.AbilityCheck}}}}, nil
}

func (shelf) Snippets(_, kind, address string) []connectors.Snippet {
	return []connectors.Snippet{{Name: kind, Text: "call " + address}}
}

// alerts are what radar reads and writes.
type alerts struct{}

func (alerts) Spec() connectors.Spec              { return connectors.Spec{Name: "radar"} }
func (a alerts) Formats() []connectors.Format     { return []connectors.Format{a} }
func (a alerts) Receivers() []connectors.Receiver { return []connectors.Receiver{a} }
func (alerts) Name() string                       { return "radar/alerts" }
func (alerts) Kind() string                       { return "radar/alerts" }
func (alerts) Triggers() []connectors.Trigger     { return []connectors.Trigger{calls{}} }

// calls is its trigger.
type calls struct{ connectors.Trigger }

func (calls) Kind() string { return "radar/calls" }

func (alerts) EventTypes() []connectors.EventType {
	return []connectors.EventType{connectors.FindingDiscovered}
}

func (alerts) Render(*connectors.Event, connectors.RenderOptions) (connectors.Rendered, error) {
	return connectors.Rendered{}, nil
}

func (alerts) Receive(connectors.Inbound) (connectors.Received, error) {
	return connectors.Received{}, nil
}

func (shelf) Processes(_ context.Context, org string) ([]flow.ConnectorProcess, error) {
	return []flow.ConnectorProcess{{Node: "one", Connector: "radar", Version: "1.0.0", Digest: "digest-1.0.0", State: "QUARANTINED", LastError: "it crashed",
		At: time.Unix(0, 0).UTC(), Log: []flow.ConnectorLine{{At: time.Unix(0, 0).UTC(), Level: "ERROR", Text: org}},
		Sandbox: []flow.SandboxPart{{Name: "files", How: "no Landlock"}}}}, nil
}
