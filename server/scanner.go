package server

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// What projects and triggers ask of connectors: shipped ones run for everybody, and a third
// party's in the organization's process of the version that it uses.

// startPatience is how long a scan may wait for its scanner's process to start.
const startPatience = 5 * time.Second

// Ready is part of trigger.Scanner.
func (c *catalogue) Ready(ctx context.Context, org, connector string) error {
	if _, shipped := c.shipped.Connector(connector); shipped {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	return c.plugins.Await(ctx, c.process(org, connector))
}

// Scan is part of trigger.Scanner.
func (c *catalogue) Scan(ctx context.Context, connector string, job connectors.ScanJob, tell func(connectors.ScanNews) error) error {
	return c.plugins.Scan(ctx, c.process(job.Scanner.Organization, connector), job, tell)
}

// Snippets is part of graph.Catalogue. The address is a credential that its connector never
// gets to see: it writes about another one.
func (c *catalogue) Snippets(org, kind, address string) []connectors.Snippet {
	w := c.world(org)
	if w == nil || w.Installed == nil {
		return nil
	}
	speaks, ok := w.Installed.Trigger(kind)
	if !ok {
		return nil
	}
	at := strings.LastIndexByte(address, '/') + 1
	standIn := rand.Text()
	list := speaks.Snippets(address[:at] + standIn)
	for i := range list {
		list[i].Text = strings.ReplaceAll(list[i].Text, standIn, address[at:])
	}
	return list
}
