package flow

import (
	"strings"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// Package is one version of a third party's connector, as nodes have it.
type Package struct {
	connectors.Spec
	Digest    string // SHA-256 of its manifest, which names every file by its own
	Publisher string // who signed it, by the operator's name for the key; "" nobody who is trusted
	Grants    Grants
	Nodes     []string // names of the running nodes that have it
	// Provides is what it reads and writes without I/O, by the names that organizations
	// know: to be looked at, nobody answers.
	Provides *connectors.Set
}

// Provider is the name of the third party's connector that a source's kind or a format
// belongs to; "": the hub's own.
func Provider(name string) string {
	connector, _, ok := strings.Cut(name, "/")
	if !ok {
		return ""
	}
	return connector
}

// Grants is what a package may have beside its own files.
type Grants struct {
	Executables, Paths, Egress []string
}

// ConnectorProcess is how one of an organization's processes is, or was at At.
type ConnectorProcess struct {
	Node                       string // its name
	Connector, Version, Digest string
	State                      string
	Restarts                   int // starts after the first
	Expired                    int // deliveries that it did not answer in time
	InFlight, Held             int // deliveries handed to it, and waiting for it to start
	LastError                  string
	NextStart                  *time.Time
	At                         time.Time
	Log                        []ConnectorLine // the last ones, the oldest first
	Sandbox                    []SandboxPart   // what its node keeps it in
}

// SandboxPart is one thing that keeps a process from what is not its own.
type SandboxPart struct {
	Name   string `json:"name"`
	Active bool   `json:"active"`
	How    string `json:"how"` // by what; or why it is not there
}

// ConnectorLine is one line of a connector's log, without secrets.
type ConnectorLine struct {
	At    time.Time
	Level string
	Text  string
}
