package dispatch

import (
	"fmt"
	"hash/fnv"
	"maps"
	"strings"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/server/flow"
)

// verdict is what happens to the deliveries of a webhook as things stand today.
type verdict int

const (
	hold    verdict = iota // they wait in the ledger
	send                   //
	skip                   // recorded as skipped
	cancel                 // recorded as cancelled
	missing                // not in this World: deleted, or the World lags
)

const defaultTimeout = 10 * time.Second

// plan is how a webhook's deliveries are sent under one World. It is immutable.
type plan struct {
	world    *flow.World
	renewed  int // the dispatcher's, when it was made
	verdict  verdict
	reason   string // of skip and cancel, for people
	webhook  *flow.Webhook
	endpoint *flow.Endpoint
	target   connectors.Endpoint
	process  string               // through which it is sent
	request  bool                 // the connector takes a Request
	header   []connectors.Header  // on every request: the User-Agent and the endpoint's own
	placer   connectors.Addresser // nil: a rendering's suffix follows the address
	secrets  connectors.Endpoint  // only what must not come back: the target's secrets and those of the header
	signer   connectors.Signer    // nil: nothing is signed
	keys     [][]byte             // the current one first
	old      time.Time            // until when the other keys sign; zero: for good
	once     bool                 // the signer has room for one signature
	retries  []time.Duration
	timeout  time.Duration
}

// planFor reads the World. Secrets leave their wrapping here and nowhere else.
func (d *Dispatcher) planFor(w *flow.World, webhook string) *plan {
	p := &plan{world: w, retries: defaultRetries()}
	if w == nil {
		return p
	}
	h := w.Webhooks[webhook]
	if h != nil {
		d.outline(p, h, w.Endpoints[h.Endpoint]) // what is late is judged although nothing is sent
	}
	if w.Organization.Suspended {
		return p
	}
	if h == nil {
		p.verdict, p.reason = missing, "The webhook was deleted."
		return p
	}
	e := w.Endpoints[h.Endpoint]
	p.webhook, p.endpoint = h, e
	switch {
	case e == nil:
		p.verdict, p.reason = cancel, "The webhook's endpoint was deleted."
		return p
	case h.State == flow.WebhookDisabled:
		p.verdict, p.reason = skip, "The webhook is disabled."
		return p
	case h.State == flow.WebhookUnverified:
		p.verdict, p.reason = skip, "The webhook is not verified."
		return p
	case h.State != flow.WebhookActive || !e.Enabled:
		return p
	}
	if wrong := d.plain(w, h, e); wrong != "" {
		p.verdict, p.reason = skip, wrong
		return p
	}
	via, ok := d.via(w, e)
	if !ok {
		return p
	}
	if by := flow.Provider(h.Format); by != "" && via.TakesRequest && !d.cfg.Answers(w, by) {
		return p
	}
	p.verdict = send
	d.complete(p)
	return p
}

// via is Config.Via; what a Presence sends needs nothing of this node.
func (d *Dispatcher) via(w *flow.World, e *flow.Endpoint) (Via, bool) {
	v, ok := d.cfg.Via(w, e)
	if e.Presence != "" {
		return Via{e.Connector, v.TakesRequest}, true
	}
	return v, ok
}

// outline adds the timetable, and what is known of the endpoint, unless that is nil: what
// came of an attempt is judged and recorded by it, whatever the verdict is now.
func (d *Dispatcher) outline(p *plan, h *flow.Webhook, e *flow.Endpoint) {
	p.timeout, p.retries = h.Timeout, h.Retries
	if p.timeout <= 0 {
		p.timeout = defaultTimeout
	}
	if p.retries == nil {
		p.retries = defaultRetries()
	}
	if e == nil {
		return
	}
	p.target = d.target(p.world, e)
	p.header = d.header(e, p.target.Secrets)
	p.secrets.Secrets = maps.Clone(p.target.Secrets)
	for _, h := range p.header {
		if h.Secret != "" {
			p.secrets.Secrets[h.Secret] = h.Value
		}
	}
}

// complete adds how requests are written and sent.
func (d *Dispatcher) complete(p *plan) {
	w, h := p.world, p.webhook
	via, _ := d.via(w, p.endpoint)
	p.process, p.request = via.Process, via.TakesRequest
	f := d.cfg.Formats(w, h.Format)
	p.placer, _ = f.(connectors.Addresser)
	if f != nil && len(h.Keys) > 0 {
		if p.signer = connectors.SignerOf(f); p.signer != nil {
			_, p.once = p.signer.(connectors.SingleSigner)
			p.old = h.OldKeys
			for _, k := range h.Keys {
				p.keys = append(p.keys, k.Reveal())
			}
		}
	}
}

// signing are the keys that sign at a time. The old one goes by itself, whatever becomes
// of the row that it is in.
func (p *plan) signing(at time.Time) [][]byte {
	switch overlap := p.old.IsZero() || at.Before(p.old); {
	case len(p.keys) < 2:
		return p.keys
	case overlap && p.once && !p.old.IsZero():
		return p.keys[1:2]
	case overlap && !p.once:
		return p.keys
	}
	return p.keys[:1]
}

// Target is an endpoint as its connector sees it today, for a check, and the process that
// it is reached through, "" when this node has none; ok is false when the organization
// has no such endpoint. presence is the one that makes its calls, "" none.
func (d *Dispatcher) Target(org, endpoint string) (process, presence string, t connectors.Endpoint, ok bool) {
	w := d.cfg.Worlds(org)
	if w == nil || w.Endpoints[endpoint] == nil {
		return "", "", t, false
	}
	e := w.Endpoints[endpoint]
	if via, ok := d.via(w, e); ok {
		process = via.Process
	}
	return process, e.Presence, d.target(w, e), true
}

// target is the endpoint as its connector sees it. Its Ref changes with the endpoint's
// revision and with the allow lists, which are not part of it.
func (d *Dispatcher) target(w *flow.World, e *flow.Endpoint) connectors.Endpoint {
	t := connectors.Endpoint{
		Ref: fmt.Sprintf("%s@%d", e.ID, e.Revision), ID: e.ID, Organization: w.Organization.ID, URL: e.URL, Settings: e.Settings,
		Secrets: make(map[string]string, len(e.Secrets)),
		Dial:    connectors.DialPolicy{Open: d.cfg.Open},
	}
	for name, s := range e.Secrets {
		t.Secrets[name] = string(s.Reveal())
	}
	t.Dial.Allow = append(t.Dial.Allow, w.Organization.Allow...)
	if e.Group != "" {
		t.Dial.Allow = append(t.Dial.Allow, w.Groups[e.Group].Allow...)
	}
	if len(t.Dial.Allow) > 0 {
		sum := fnv.New64a()
		fmt.Fprint(sum, t.Dial.Allow)
		t.Ref = fmt.Sprintf("%s-%x", t.Ref, sum.Sum64())
	}
	return t
}

func (d *Dispatcher) header(e *flow.Endpoint, secrets map[string]string) []connectors.Header {
	var all []connectors.Header
	for _, h := range e.Headers {
		if h.Secret != "" && h.Value == "" {
			h.Value = secrets[h.Secret]
		}
		all = append(all, h)
	}
	if !has(all, "User-Agent") {
		all = append(all, connectors.Header{Name: "User-Agent", Value: "Hookyard/" + d.cfg.Version})
	}
	return all
}

func has(all []connectors.Header, name string) bool {
	for i := range all {
		if strings.EqualFold(all[i].Name, name) {
			return true
		}
	}
	return false
}

// flight is one attempt, from the lane to its result.
type flight struct {
	lane    *lane
	due     *flow.Due
	plan    *plan
	started time.Time
	attempt string // its ID, where it was needed before the end; "" it gets one then
	request connectors.Request
	ended   bool
}

// write makes the delivery to hand over. The endpoint's own headers go before the
// rendering's of the same name, and nothing goes before the signature.
func (f *flight) write() (connectors.Delivery, error) {
	p, due := f.plan, f.due
	out := connectors.Delivery{ID: due.ID, Attempt: due.Attempts + 1, Endpoint: p.target.Ref, Timeout: p.timeout}
	if !p.request {
		out.Event = due.Document
		return out, nil
	}
	var rendered connectors.Rendered
	if due.Rendering != nil {
		rendered = due.Rendering.Rendered
	} else {
		rendered = connectors.Rendered{Header: []connectors.Header{{Name: "Content-Type", Value: "application/json"}}, Body: due.Document}
	}
	request, err := p.write(rendered, due.ID, f.started)
	f.request, out.Request = request, &f.request
	return out, err
}

// write is a rendering as a request, signed for a time.
func (p *plan) write(rendered connectors.Rendered, id string, at time.Time) (out connectors.Request, err error) {
	var signature []connectors.Header
	if p.signer != nil {
		if signature, err = p.signer.Sign(p.signing(at), id, at, rendered.Body); err != nil {
			return out, fmt.Errorf("sign the delivery: %w", err)
		}
	}
	header := make([]connectors.Header, 0, len(rendered.Header)+len(p.header)+len(signature))
	for _, h := range rendered.Header {
		if !has(p.header, h.Name) {
			header = append(header, h)
		}
	}
	for _, h := range p.header {
		if !has(signature, h.Name) {
			header = append(header, h)
		}
	}
	out = connectors.Request{Method: rendered.Method, URL: p.target.URL + rendered.TargetSuffix, Header: append(header, signature...), Body: rendered.Body}
	if out.Method == "" {
		out.Method = "POST"
	}
	if p.placer != nil {
		if out.URL, err = p.placer.Address(p.target.URL, rendered.TargetSuffix); err != nil {
			return out, fmt.Errorf("write the address: %w", err)
		}
	}
	return out, nil
}

// record completes the result with what was sent, for the log: no body, no secrets, also
// none that the other side has repeated.
// When it began is by the clock of whoever made it, which is not the hub's: a time that
// cannot be is taken for that of handing over.
func (f *flight) record(r *connectors.Result, now time.Time) {
	r.DeliveryID = f.due.ID
	f.plan.secrets.ConcealIn(r)
	if r.Started.Before(f.started) || r.Started.After(now) {
		r.Started = f.started
	}
	if r.Request == nil && f.request.Method != "" {
		r.Request = &connectors.Request{Method: f.request.Method, URL: f.request.URL, Header: f.request.Header}
	}
	if r.Request == nil {
		return
	}
	for i, h := range r.Request.Header {
		if h.Secret != "" {
			header := append([]connectors.Header(nil), r.Request.Header...)
			for j := i; j < len(header); j++ {
				if s := header[j].Secret; s != "" {
					header[j].Value = "[secret:" + s + "]"
				}
			}
			r.Request.Header = header
			return
		}
	}
}
