package host

import (
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// State is how a connector's process is.
type State string

// The states.
const (
	Idle        State = "IDLE" // it is started as soon as there is something for it
	Starting    State = "STARTING"
	Running     State = "RUNNING"
	Restarting  State = "RESTARTING"  // it ended; the next start is due soon
	Quarantined State = "QUARANTINED" // it ended again and again; it is started rarely
	Draining    State = "DRAINING"    // it finishes what is in flight and takes nothing new
	Stopped     State = "STOPPED"
)

// Stats is one connector at one moment.
type Stats struct {
	Name, Version string
	Organization  string // "": it is shipped, and shared by all
	Digest        string // of a third party's package
	State         State
	PID           int    // 0: no process
	Restarts      int    // starts after the first
	Expired       int    // items that the connector did not answer in time
	InFlight      int    // handed over and not answered
	Held          int    // waiting for the process to start, or for their turn after a crash
	LastError     string // why the last process ended or did not start
	NextStart     time.Time
}

// Stats returns all connectors: the catalog's in its order, then those of third parties,
// also those that are on their way out.
func (s *Supervisor) Stats() []Stats {
	list := s.table.Load().list
	all := make([]Stats, len(list))
	for i, c := range list {
		all[i] = c.stats()
	}
	return all
}

func (c *connector) stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := Stats{Name: c.entry.Name, Version: c.entry.Version, State: c.state, Restarts: max(c.starts-1, 0), Expired: c.expired,
		Held: len(c.held) + len(c.suspects.waiting), LastError: c.lastError, NextStart: c.nextStart}
	if p := c.entry.Package; p != nil {
		st.Organization, st.Digest = c.entry.Organization, p.Digest
	}
	if c.spec != nil {
		st.Version = c.spec.Version
	}
	if c.process != nil {
		st.PID, st.InFlight = c.process.runner.cmd.Process.Pid, c.process.session.InFlight()
	}
	return st
}

// Specs returns what the connectors said of themselves, in the catalog's order;
// those that never came up are missing.
func (s *Supervisor) Specs() []connectors.Spec {
	var specs []connectors.Spec
	for _, c := range s.table.Load().list {
		c.mu.Lock()
		if c.spec != nil {
			specs = append(specs, *c.spec)
		}
		c.mu.Unlock()
	}
	return specs
}

// Log returns the last lines of a third party's connector, the oldest first, without the
// organization's secrets.
func (s *Supervisor) Log(key string) []Line {
	c := s.table.Load().byKey[key]
	if c == nil || c.diary == nil {
		return nil
	}
	return c.diary.last()
}
