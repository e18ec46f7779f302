package host

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/plugins"
	wirev1 "github.com/hookyard/hookyard/plugins/wire/v1"
)

// session is that of a connector's process, once the first start has succeeded or failed.
func (s *Supervisor) session(ctx context.Context, key string) (*plugins.Session, error) {
	c := s.table.Load().byKey[key]
	if c == nil && strings.Contains(key, "@") {
		return nil, errors.New("the connector does not run on this node of the hub")
	}
	if c == nil {
		return nil, unknown(key)
	}
	c.mu.Lock()
	c.wake()
	c.mu.Unlock()
	select {
	case <-c.tried:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the connector to start: %w", ctx.Err())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return nil, fmt.Errorf("the connector %q is not running: %s", c.entry.Name, c.lastError)
	}
	return c.process.session, nil
}

// Await waits until the first start of a connector has succeeded or failed, and says why no
// process of it answers then.
func (s *Supervisor) Await(ctx context.Context, key string) error {
	_, err := s.session(ctx, key)
	return err
}

// Check asks a connector whether the endpoint would work. The error's text is for
// the person who set the endpoint up.
func (s *Supervisor) Check(ctx context.Context, key string, ep connectors.Endpoint) error {
	x, err := s.session(ctx, key)
	if err != nil {
		return err
	}
	return x.Check(ctx, ep)
}

// Poll asks a source for what is new. An error is a decision if it is a *connectors.Failure.
func (s *Supervisor) Poll(ctx context.Context, key string, p connectors.Poll) (connectors.Polled, error) {
	x, err := s.session(ctx, key)
	if err != nil {
		return connectors.Polled{}, err
	}
	return x.Poll(ctx, p)
}

// Enrich has a receipt enriched. Errors are as for Poll.
func (s *Supervisor) Enrich(ctx context.Context, key string, e connectors.Enrichment) (connectors.Document, error) {
	x, err := s.session(ctx, key)
	if err != nil {
		return connectors.Document{}, err
	}
	return x.Enrich(ctx, e)
}

// Scan runs a scan; see connectors.Scanner. When the process ends, so does the scan, with
// plugins.ErrEnded.
func (s *Supervisor) Scan(ctx context.Context, key string, job connectors.ScanJob, tell func(connectors.ScanNews) error) error {
	x, err := s.session(ctx, key)
	if err != nil {
		return err
	}
	return x.Scan(ctx, job, tell)
}

// Remote is the connector with its pure abilities, answered by whichever process is up.
func (s *Supervisor) Remote(key string, d plugins.Description) connectors.Connector {
	return plugins.Remote(d, caller{s, key})
}

// Installed is a third party's connector as an organization has it, answered by the
// organization's process.
func (s *Supervisor) Installed(key string, d plugins.Description) connectors.Connector {
	return plugins.Installed(d, caller{s, key})
}

// Up says whether a connector's process answers now.
func (s *Supervisor) Up(key string) bool {
	c := s.table.Load().byKey[key]
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process != nil && c.state == Running
}

// Description is what the process that is up, or was up last, said of itself.
func (s *Supervisor) Description(key string) (d plugins.Description, ok bool) {
	c := s.table.Load().byKey[key]
	if c == nil {
		return d, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.about == nil {
		return d, false
	}
	return *c.about, true
}

type caller struct {
	s   *Supervisor
	key string
}

// Call implements plugins.Caller.
func (c caller) Call(ctx context.Context, m *wirev1.Call) (*wirev1.Answer, error) {
	x, err := c.s.session(ctx, c.key)
	if err != nil {
		return nil, err
	}
	return x.Call(ctx, m)
}
