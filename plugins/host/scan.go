package host

import (
	"context"
	"fmt"

	"github.com/hookyard/hookyard/connectors"
)

// Scan has a connector run a scan to its end; see connectors.Scanner. A process that dies
// ends the scan with an error: scans are not started again.
func (s *Supervisor) Scan(ctx context.Context, name string, job connectors.ScanJob, tell func(connectors.ScanNews) error) error {
	c := s.byName[name]
	if c == nil {
		return unknown(name)
	}
	c.mu.Lock()
	p, why := c.process, c.lastError
	c.mu.Unlock()
	if p == nil {
		return fmt.Errorf("the connector %q is not running: %s", name, why)
	}
	return p.session.Scan(ctx, job, tell)
}
