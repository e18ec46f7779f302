package dispatch

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/server/flow"
)

// Challenge makes the handshake of a webhook's format with its address: one request,
// signed like a delivery, with no retries. The error's text is for people; flow.ErrNotFound:
// there is no such webhook, or its format knows no handshake; flow.ErrUnavailable: it is not
// known what the address says.
func (d *Dispatcher) Challenge(ctx context.Context, org, webhook, publicURL string) (connectors.Grant, error) {
	w := d.cfg.Worlds(org)
	if w == nil || w.Webhooks[webhook] == nil {
		return connectors.Grant{}, flow.ErrNotFound
	}
	h := w.Webhooks[webhook]
	format := d.cfg.Formats(w, h.Format)
	challenger, ok := format.(connectors.Challenger)
	e := w.Endpoints[h.Endpoint]
	if !ok || e == nil {
		return connectors.Grant{}, flow.ErrNotFound
	}
	p := &plan{world: w, webhook: h, endpoint: e}
	d.outline(p, h, e)
	d.complete(p)
	if wrong := d.plain(w, h, e); wrong != "" {
		return connectors.Grant{}, fmt.Errorf("%s", wrong) //nolint:err113 // a sentence for people
	}
	if !p.request {
		return connectors.Grant{}, fmt.Errorf("the connector %s sends no requests that a format has written, so the handshake of %s cannot be made", e.Connector, h.Format)
	}
	now := d.cfg.Clock.Now()
	c := connectors.Challenge{ID: d.cfg.IDs.New(ids.Delivery), Webhook: h.ID, Time: now, PublicURL: publicURL}
	if u, err := url.Parse(publicURL); err == nil {
		c.Origin = u.Hostname()
	}
	rendered, err := challenger.Challenge(c)
	if err != nil {
		return connectors.Grant{}, said(err)
	}
	request, err := p.write(rendered, c.ID, now)
	if err != nil {
		return connectors.Grant{}, err
	}
	result, err := d.ask(ctx, p, c.ID, &request, now)
	if err != nil {
		return connectors.Grant{}, err
	}
	grant, err := challenger.Granted(c, result)
	return grant, said(err)
}

// said tells what a format has decided from what its process, a third party's, did not answer.
func said(err error) error {
	var silent interface{ Unanswered() }
	if errors.As(err, &silent) {
		return unasked("the connector of the format does not answer: " + err.Error())
	}
	return err
}

// plain is why a webhook's address is not good enough for its format, for people; "" it is.
func (d *Dispatcher) plain(w *flow.World, h *flow.Webhook, e *flow.Endpoint) string {
	if d.cfg.PlainHTTP || strings.HasPrefix(strings.ToLower(e.URL), "https://") {
		return ""
	}
	if _, only := d.cfg.Formats(w, h.Format).(connectors.HTTPSOnly); !only {
		return ""
	}
	return fmt.Sprintf("The format %s demands an address that begins with https:// (setting: --allow-plain-http).", h.Format)
}

// ask sends one request and waits for its answer.
func (d *Dispatcher) ask(ctx context.Context, p *plan, id string, request *connectors.Request, started time.Time) (*connectors.Response, error) {
	answered := make(chan connectors.Result, 1)
	e, out := p.endpoint, connectors.Delivery{ID: id, Attempt: 1, Endpoint: p.target.Ref, Timeout: p.timeout, Request: request}
	switch {
	case !d.reaches(e):
		return nil, unasked("no agent of the endpoint's Presence is linked to this node of the hub")
	case e.Presence != "":
		d.cfg.Presences.Deliver(e.Presence, e.Connector, p.target, out, d.cfg.IDs.New(ids.Attempt), func(r connectors.Result, recorded func()) {
			if recorded != nil {
				recorded() // there is nothing to record: the agent may forget it
			}
			answered <- r
		})
	default:
		d.cfg.Sender.Deliver(p.process, p.target, out, func(r connectors.Result) { answered <- r })
	}
	select {
	case r := <-answered:
		switch {
		case r.Outcome == "":
			return nil, unasked("the link of the Presence's agent was cut before there was an answer")
		case r.Response == nil && r.Fault == connectors.FaultConnector:
			return nil, unasked(r.Error)
		case r.Response == nil:
			return nil, fmt.Errorf("%s", r.Error) //nolint:err113 // a sentence for people
		}
		return r.Response, nil
	case <-ctx.Done():
		return nil, unasked(fmt.Sprintf("there was no answer within %v", d.cfg.Clock.Since(started).Round(time.Second)))
	}
}

// unasked is why nobody knows what an address says, for people.
type unasked string

func (u unasked) Error() string { return string(u) }

// Unwrap is flow.ErrUnavailable, of whose text the sentence has no need.
func (unasked) Unwrap() error { return flow.ErrUnavailable }
