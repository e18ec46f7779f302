package graph

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"

	graphgen "github.com/hookyard/hookyard/graph/gen"
	"github.com/hookyard/hookyard/graph/scalar"
	"github.com/hookyard/hookyard/server/flow"
)

func schema() *ast.Schema { return graphgen.NewExecutableSchema(graphgen.Config{}).Schema() }

// internal are the types that the library has from the start.
func internal(d *ast.Definition) bool { return d.BuiltIn || strings.HasPrefix(d.Name, "__") }

func TestEverythingIsDescribed(t *testing.T) {
	for _, d := range schema().Types {
		if internal(d) {
			continue
		}
		check := func(what, description string) {
			if strings.TrimSpace(description) == "" {
				t.Errorf("%s has no description", what)
			}
		}
		if root := d.Name == "Query" || d.Name == "Mutation" || d.Name == "Subscription"; !root {
			check(d.Name, d.Description)
		}
		for _, f := range d.Fields {
			if strings.HasPrefix(f.Name, "__") {
				continue
			}
			check(d.Name+"."+f.Name, f.Description)
			for _, a := range f.Arguments {
				check(d.Name+"."+f.Name+"("+a.Name+")", a.Description)
			}
		}
		for _, v := range d.EnumValues {
			check(d.Name+"."+v.Name, v.Description)
		}
	}
}

func TestEveryMutationNeedsAPermission(t *testing.T) {
	for _, f := range schema().Mutation.Fields {
		if f.Directives.ForName("requires") == nil && f.Directives.ForName("oneself") == nil && f.Directives.ForName("agent") == nil {
			t.Errorf("%s needs no permission", f.Name)
		}
		if n := len(f.Arguments); n > 1 || n == 1 && f.Arguments[0].Name != "input" {
			t.Errorf("%s takes something else than one input", f.Name)
		}
		if !strings.HasSuffix(f.Type.Name(), "Payload") {
			t.Errorf("%s gives a %s, not a payload", f.Name, f.Type.Name())
		}
	}
}

func TestEveryConnectionHasPages(t *testing.T) {
	for _, d := range schema().Types {
		for _, f := range d.Fields {
			if strings.HasSuffix(f.Type.Name(), "Connection") && !internal(d) {
				for _, a := range []string{"after", "first", "before", "last"} {
					if f.Arguments.ForName(a) == nil {
						t.Errorf("%s.%s cannot be asked for %s", d.Name, f.Name, a)
					}
				}
				if !isConnection(f) {
					t.Errorf("%s.%s is not known as a connection", d.Name, f.Name)
				}
			}
		}
	}
}

// Batches of the delivery log and their entries are written by hand; see scalar.EntryFields.
func TestEveryFieldOfAnEntryIsWritten(t *testing.T) {
	written, d := scalar.EntryFields(), schema().Types["DeliveryLogEntry"]
	for _, f := range d.Fields {
		if written[f.Name] == nil && !strings.HasPrefix(f.Name, "__") {
			t.Errorf("%s is not written", f.Name)
		}
	}
	at := time.Date(2026, 1, 31, 12, 0, 0, 120_000_000, time.UTC)
	e := flow.Entry{ID: "att_1", Org: "org_1", Delivery: "dlv_1", Event: "evt_1", Webhook: "whk_1", Endpoint: "end_1", Level: "grp_1", App: "app_1",
		Type: "scan.completed", Number: 2, State: flow.Failed, Outcome: "PERMANENT", Fault: "TARGET", At: at, Duration: 1500 * time.Microsecond, Status: 410, Error: "\"no\"\n\u00e9"}
	want := map[string]string{"__typename": `"DeliveryLogEntry"`, "id": `"att_1"`, "deliveryId": `"dlv_1"`, "eventId": `"evt_1"`, "webhookId": `"whk_1"`, "endpointId": `"end_1"`,
		"assetGroupId": `"grp_1"`, "applicationId": `"app_1"`, "eventType": `"scan.completed"`, "number": "2", "state": `"FAILED"`, "outcome": `"PERMANENT"`, "fault": `"TARGET"`,
		"startedAt": `"2026-01-31T12:00:00.12Z"`, "duration": "1.5", "httpStatus": "410", "error": `"\"no\"\n\u00e9"`, "nextAttemptAt": "null"}
	for name, write := range written {
		var got, expected any
		if err := json.Unmarshal(write(nil, &e), &got); err != nil {
			t.Errorf("%s: %s is not JSON", name, write(nil, &e))
		}
		if err := json.Unmarshal([]byte(want[name]), &expected); err != nil || got != expected {
			t.Errorf("%s is written as %v, want %v (%v)", name, got, expected, err)
		}
	}
}

// No field that can be read is a secret, and no filter can guess at one.
func TestNoSecretCanBeRead(t *testing.T) {
	shown := map[string]bool{"CreateWebhookPayload.signingSecret": true, "RotateWebhookSecretPayload.signingSecret": true,
		"CreateAPIKeyPayload.key": true, "PresenceEndpoint.sealedSecrets": true, "RotateSourceSecretPayload.secret": true, "BeginSecondFactorPayload.secret": true,
		"Webhook.oldSecretUntil": true, "Source.oldSecretsUntil": true, "EndpointHeader.secret": true, "EndpointHeaderInput.secret": true}
	for _, d := range schema().Types {
		if d.Kind == ast.InputObject && !strings.HasSuffix(d.Name, "WhereInput") && !strings.HasSuffix(d.Name, "Filter") {
			continue
		}
		for _, f := range d.Fields {
			name := strings.ToLower(f.Name)
			for _, word := range []string{"secret", "password", "hash", "token", "authorization"} {
				if strings.Contains(name, word) && !shown[d.Name+"."+f.Name] && d.Name != "Mutation" {
					t.Errorf("%s.%s looks like a secret that can be read", d.Name, f.Name)
				}
			}
		}
	}
}

func TestSchemaForClientsIsUpToDate(t *testing.T) {
	b, err := os.ReadFile("../docs/schema.graphql")
	if err != nil {
		t.Fatal(err)
	}
	published, err := gqlparser.LoadSchema(&ast.Source{Name: "docs/schema.graphql", Input: string(b)})
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range schema().Types {
		p := published.Types[name]
		if p == nil {
			t.Errorf("%s is not in docs/schema.graphql: run make generate", name)
			continue
		}
		for _, f := range d.Fields {
			g := p.Fields.ForName(f.Name)
			if g == nil || g.Type.String() != f.Type.String() || len(g.Arguments) != len(f.Arguments) {
				t.Errorf("%s.%s is another one in docs/schema.graphql: run make generate", name, f.Name)
			}
		}
	}
}

// A filter over an edge would look into rows that the viewer does not see, since the
// policy of the far side is not in it; a filter or an order by a secret would let it be
// guessed at. A column that is filtered by is one that is shown, by itself or as an edge.
func TestFiltersStayWithinTheRow(t *testing.T) {
	types := schema().Types
	for _, d := range types {
		base, filter := strings.CutSuffix(d.Name, "WhereInput")
		if order, is := strings.CutSuffix(d.Name, "OrderField"); is {
			for _, v := range d.EnumValues {
				name := strings.ToLower(strings.ReplaceAll(v.Name, "_", ""))
				if !shows(types[order], name) {
					t.Errorf("%s can be sorted by %s, which it does not show", order, v.Name)
				}
			}
		}
		if !filter {
			continue
		}
		for _, f := range d.Fields {
			if f.Name == "not" || f.Name == "and" || f.Name == "or" {
				continue
			}
			if types[f.Type.Name()].Kind == ast.InputObject || !shows(types[base], strings.ToLower(f.Name)) {
				t.Errorf("%s.%s filters over an edge, or by what %s does not show: annotate it with unfiltered() or hidden()", d.Name, f.Name, base)
			}
		}
	}
}

// shows says whether a type has the field that a filter's name begins with; an edge
// shows the ID of its far side.
func shows(d *ast.Definition, filter string) bool {
	for _, f := range d.Fields {
		if strings.HasPrefix(filter, strings.ToLower(f.Name)) {
			return true
		}
	}
	return false
}
