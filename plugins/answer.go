package plugins

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/hookyard/hookyard/connectors"
	wirev1 "github.com/hookyard/hookyard/plugins/wire/v1"
)

// The plugin's end of calls: everything but deliveries.

// pure is a connector's pure abilities by name.
type pure struct {
	formats   map[string]connectors.Format
	receivers map[string]connectors.Receiver
	triggers  map[string]connectors.Trigger
}

func newPure(c connectors.Connector) pure {
	p := pure{map[string]connectors.Format{}, map[string]connectors.Receiver{}, map[string]connectors.Trigger{}}
	if has, ok := c.(connectors.FormatProvider); ok {
		for _, f := range has.Formats() {
			p.formats[f.Name()] = f
		}
	}
	if has, ok := c.(connectors.ReceiverProvider); ok {
		for _, r := range has.Receivers() {
			p.receivers[r.Kind()] = r
		}
	}
	if has, ok := c.(connectors.TriggerProvider); ok {
		for _, t := range has.Triggers() {
			p.triggers[t.Kind()] = t
		}
	}
	return p
}

// errUnknown is a call for something that this connector has not.
var errUnknown = errors.New("this connector has no such ability, or nothing of that name")

// call answers m in a goroutine of its own.
func (w *worker) call(m *wirev1.Call) {
	c := &call{worker: w, tokens: []uint64{m.GetToken()}}
	switch of := m.GetOf().(type) {
	case *wirev1.Call_Poll:
		c.ref = of.Poll.GetSource()
	case *wirev1.Call_Enrich:
		c.ref = of.Enrich.GetSource()
	case *wirev1.Call_Scan:
		c.ref, c.told = of.Scan.GetScanner(), true
	}
	w.start(c)
	go func() {
		defer c.stop()
		defer w.host.release(c.ref)
		if t := time.Duration(m.GetTimeout()); t > 0 {
			var cancel context.CancelFunc
			c.ctx, cancel = context.WithTimeout(c.ctx, t)
			defer cancel()
		}
		a := &wirev1.Answer{}
		if err := c.guard(func() error { return w.of(c.ctx, m, a) }); err != nil {
			decide(a, err)
		}
		if n := proto.Size(a); n > MaxItem {
			decide(a, fmt.Errorf("the answer has %d bytes; %d is the most", n, MaxItem))
		}
		c.answer(m.GetToken(), a)
	}()
}

// decide makes an answer of an error.
func decide(a *wirev1.Answer, err error) {
	var (
		refuse *connectors.RefuseError
		skip   *connectors.SkipError
		fail   *connectors.Failure
	)
	switch {
	case errors.As(err, &refuse):
		a.Of = &wirev1.Answer_Refusal{Refusal: refusalToWire(refuse)}
	case errors.As(err, &skip):
		a.Of = &wirev1.Answer_Skip{Skip: clip(skip.Reason)}
	case errors.As(err, &fail):
		a.Of = &wirev1.Answer_Failure{Failure: failureToWire(fail)}
	default:
		a.Of = &wirev1.Answer_Broken{Broken: clip(err.Error())}
	}
}

// of makes the call.
func (w *worker) of(ctx context.Context, m *wirev1.Call, a *wirev1.Answer) error {
	switch of := m.GetOf().(type) {
	case *wirev1.Call_Render, *wirev1.Call_Numbers, *wirev1.Call_Challenge, *wirev1.Call_Granted:
		return w.pure.format(m, a)
	case *wirev1.Call_Receive:
		return w.pure.receive(of.Receive, a)
	case *wirev1.Call_Handshake:
		r, _ := w.pure.receivers[of.Handshake.GetKind()].(connectors.Handshaker)
		if r == nil {
			return errUnknown
		}
		a.Of = &wirev1.Answer_Reply{Reply: replyToWire(r.Handshake(inboundFromWire(of.Handshake)))}
		return nil
	case *wirev1.Call_ReadTrigger, *wirev1.Call_AnswerTrigger, *wirev1.Call_Snippets:
		return w.pure.trigger(m, a)
	case *wirev1.Call_Poll:
		return w.poll(ctx, of.Poll, a)
	case *wirev1.Call_Enrich:
		return w.enrich(ctx, of.Enrich, a)
	case *wirev1.Call_Scan:
		return w.scan(ctx, m.GetToken(), of.Scan, a)
	}
	return errUnknown
}

func (p *pure) format(m *wirev1.Call, a *wirev1.Answer) error {
	switch of := m.GetOf().(type) {
	case *wirev1.Call_Render:
		f := p.formats[of.Render.GetFormat()]
		if f == nil {
			return errUnknown
		}
		e, o, err := renderFromWire(of.Render)
		if err != nil {
			return err
		}
		r, err := f.Render(e, o)
		a.Of = &wirev1.Answer_Rendered{Rendered: renderedToWire(r)}
		return err
	case *wirev1.Call_Numbers:
		f, _ := p.formats[of.Numbers.GetFormat()].(connectors.Numberer)
		if f == nil {
			return errUnknown
		}
		e, _, err := renderFromWire(&wirev1.Render{Event: of.Numbers.GetEvent()})
		if err != nil {
			return err
		}
		keys := &wirev1.NumberKeys{}
		for _, k := range f.Numbers(e) {
			keys.Keys = append(keys.Keys, &wirev1.Number{Kind: valid(k.Kind), Id: valid(k.ID)})
		}
		a.Of = &wirev1.Answer_Numbers{Numbers: keys}
		return nil
	case *wirev1.Call_Challenge:
		f, _ := p.formats[of.Challenge.GetFormat()].(connectors.Challenger)
		if f == nil {
			return errUnknown
		}
		r, err := f.Challenge(challengeFromWire(of.Challenge))
		a.Of = &wirev1.Answer_Rendered{Rendered: renderedToWire(r)}
		return err
	case *wirev1.Call_Granted:
		f, _ := p.formats[of.Granted.GetChallenge().GetFormat()].(connectors.Challenger)
		if f == nil {
			return errUnknown
		}
		g, err := f.Granted(challengeFromWire(of.Granted.GetChallenge()), responseFromWire(of.Granted.GetAnswer()))
		a.Of = &wirev1.Answer_Grant{Grant: &wirev1.Grant{PerMinute: int32(g.PerMinute)}}
		return err
	}
	return errUnknown
}

func (p *pure) receive(in *wirev1.Inbound, a *wirev1.Answer) error {
	r := p.receivers[in.GetKind()]
	if r == nil {
		return errUnknown
	}
	got, err := r.Receive(inboundFromWire(in))
	if err != nil {
		return err
	}
	w, err := receivedToWire(&got)
	a.Of = &wirev1.Answer_Received{Received: w}
	return err
}

func (p *pure) trigger(m *wirev1.Call, a *wirev1.Answer) error {
	switch of := m.GetOf().(type) {
	case *wirev1.Call_ReadTrigger:
		t := p.triggers[of.ReadTrigger.GetInbound().GetKind()]
		if t == nil {
			return errUnknown
		}
		c, err := t.Call(inboundFromWire(of.ReadTrigger.GetInbound()), connectors.TargetKind(of.ReadTrigger.GetTarget()))
		a.Of = &wirev1.Answer_TriggerCall{TriggerCall: triggerCallToWire(c)}
		return err
	case *wirev1.Call_AnswerTrigger:
		t := p.triggers[of.AnswerTrigger.GetKind()]
		if t == nil {
			return errUnknown
		}
		c, r, err := answerTriggerFromWire(of.AnswerTrigger)
		if err != nil {
			return err
		}
		reply := t.Answer(c, r)
		a.Of = &wirev1.Answer_Reply{Reply: replyToWire(&reply)}
		return nil
	case *wirev1.Call_Snippets:
		t := p.triggers[of.Snippets.GetKind()]
		if t == nil {
			return errUnknown
		}
		list := &wirev1.SnippetList{}
		for _, s := range t.Snippets(of.Snippets.GetUrl()) {
			list.Snippets = append(list.Snippets, &wirev1.Snippet{Name: valid(s.Name), Text: valid(s.Text)})
		}
		a.Of = &wirev1.Answer_Snippets{Snippets: list}
		return nil
	}
	return errUnknown
}

func (w *worker) poll(ctx context.Context, m *wirev1.Poll, a *wirev1.Answer) error {
	p, can := w.connector.(connectors.Poller)
	e, known := w.host.Endpoint(m.GetSource())
	if !can {
		return errUnknown
	}
	if !known {
		return unknownRef(m.GetSource())
	}
	got, err := p.Poll(ctx, w.host, connectors.Poll{Source: e, Kind: m.GetKind(), Cursor: m.GetCursor(), Since: moment(m.GetSince()), Limit: int(m.GetLimit())})
	a.Of = &wirev1.Answer_Polled{Polled: polledToWire(got)}
	return err
}

func (w *worker) enrich(ctx context.Context, m *wirev1.Enrich, a *wirev1.Answer) error {
	n, can := w.connector.(connectors.Enricher)
	e, known := w.host.Endpoint(m.GetSource())
	if !can {
		return errUnknown
	}
	if !known {
		return unknownRef(m.GetSource())
	}
	got, err := n.Enrich(ctx, w.host, connectors.Enrichment{Source: e, Kind: m.GetKind(), Receipt: m.GetReceipt(), Attempt: int(m.GetAttempt()), Request: inboundFromWire(m.GetRequest())})
	a.Of = &wirev1.Answer_Document{Document: documentToWire(got)}
	return err
}

func (w *worker) scan(ctx context.Context, token uint64, m *wirev1.Scan, a *wirev1.Answer) error {
	s, can := w.connector.(connectors.Scanner)
	e, known := w.host.Endpoint(m.GetScanner())
	if !can {
		return errUnknown
	}
	if !known {
		return unknownRef(m.GetScanner())
	}
	job, err := scanFromWire(m, e)
	if err != nil {
		return err
	}
	a.Of = &wirev1.Answer_Scanned{Scanned: &wirev1.Scanned{}}
	return s.Scan(ctx, w.host, job, func(n connectors.ScanNews) error {
		taken := w.taken.wait(token)
		w.out.put(&wirev1.SessionResponse{Message: &wirev1.SessionResponse_News{News: newsToWire(token, n)}})
		select {
		case t := <-taken:
			if t.GetError() != "" {
				return errors.New(t.GetError())
			}
			return nil
		case <-w.ctx.Done():
			return w.ctx.Err()
		}
	})
}
