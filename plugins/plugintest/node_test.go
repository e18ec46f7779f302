package plugintest

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/connectortest"
)

const nodeExample = "../../examples/radar-node"

// node is the example in Node, with its packages installed.
func node(t *testing.T) Command {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("there is no node on this machine, which runs the example in Node")
	}
	if _, err := os.Stat(filepath.Join(nodeExample, "node_modules")); err != nil {
		t.Skip("the packages of the example in Node are not installed: make test-connectors does it")
	}
	return Command{Name: "radar-node", Path: filepath.Join(nodeExample, "plugin.js")}
}

// Another language keeps the contract, over mutual TLS like everybody else.
func TestTheExampleInNodeConforms(t *testing.T) { Run(t, node(t)) }

func TestTheExampleInNodeKeepsLinks(t *testing.T) {
	c := Start(t, node(t))
	var mu sync.Mutex
	var calls []string
	url := connectortest.NewServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		calls = append(calls, r.Method+" "+r.URL.Path+" "+string(body))
		mu.Unlock()
		if r.Header.Get("Authorization") != "Bearer t0ken" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, `{"id": "C-1"}`)
	})
	e := connectors.Endpoint{Ref: "end_1@1", ID: "end_1", URL: url, Secrets: map[string]string{"token": "t0ken"}}
	h := connectortest.NewHost(t, e)
	event := connectortest.Event(connectors.FindingDiscovered)
	doc, err := connectors.AppendEvent(nil, event)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []connectors.Outcome{connectors.Done, connectors.Done} {
		var got connectors.Result
		if err := c.Deliver(t.Context(), h, []connectors.Delivery{{ID: "dlv_1", Attempt: i + 1, Endpoint: e.Ref, Timeout: time.Minute, Event: doc}},
			func(r connectors.Result) { got = r }); err != nil || got.Outcome != want {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if want := []string{`POST /cases {"key":"` + event.Data.Finding.ID + `","title":"SQL Injection in /api/users","board":"inbox"}`}; !slices.Equal(calls, want) {
		t.Errorf("RADAR was asked %q, want %q", calls, want)
	}
	if l, err := c.Memory.Link(t.Context(), e, "case", event.Data.Finding.ID); err != nil || l.Theirs != "C-1" {
		t.Errorf("the link is %+v, %v", l, err)
	}
	if err := c.Check(t.Context(), h, e); err != nil {
		t.Error(err)
	}
	e.Ref, e.Secrets = "end_1@2", map[string]string{"token": "old"}
	if err := c.Check(t.Context(), h, e); err == nil || err.Error() != "RADAR does not know the token; make a new one" {
		t.Errorf("the check says %v", err)
	}
}

// Its copy of the protocol is the protocol.
func TestTheExampleInNodeHasTheWire(t *testing.T) {
	want, err := os.ReadFile("../wire/v1/wire.proto")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(nodeExample, "wire.proto"))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Error("examples/radar-node/wire.proto is not plugins/wire/v1/wire.proto: copy it")
	}
}
