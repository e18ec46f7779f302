package plugins

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hookyard/hookyard/connectors"
	wirev1 "github.com/hookyard/hookyard/plugins/wire/v1"
)

// Caller has calls answered by a connector's process; a Session is one, and so is
// whatever finds the process that is up.
type Caller interface {
	Call(ctx context.Context, c *wirev1.Call) (*wirev1.Answer, error)
}

// Away is a Caller that answers nothing, and says why.
func Away(why error) Caller { return away{why} }

type away struct{ why error }

// Call implements Caller.
func (a away) Call(context.Context, *wirev1.Call) (*wirev1.Answer, error) { return nil, a.why }

// What a pure call may take, process boundary and all. A hub's callers wait for it: CI for a
// while, senders for some seconds at most.
const (
	pureTime      = 5 * time.Second
	installedTime = 2 * time.Second
)

// Remote is a connector whose pure abilities are answered by its process. The others are
// not here: the host has them. What a process could not answer is an error that is no
// decision of the connector's: whoever asked keeps the question.
func Remote(d Description, to Caller) connectors.Connector {
	return remote{d: d, to: to, limit: pureTime}
}

// Installed is Remote as an organization has it. Its formats, receivers and triggers are
// called "connector/name", which nothing that is shipped is, nor another connector's.
func Installed(d Description, to Caller) connectors.Connector {
	return remote{d, to, d.Name + "/", installedTime}
}

type remote struct {
	d      Description
	to     Caller
	prefix string // of its nouns' names, where people see them
	limit  time.Duration
}

// Spec implements connectors.Connector.
func (r remote) Spec() connectors.Spec { return r.d.Spec }

// Formats implements connectors.FormatProvider.
func (r remote) Formats() []connectors.Format {
	var out []connectors.Format
	for _, i := range r.d.Formats {
		f := &remoteFormat{r, i}
		// The kinds of formats that the hub tells apart by their methods.
		switch ruled := i.Signature != nil; {
		case ruled && i.Challenges:
			out = append(out, struct {
				*remoteFormat
				remoteRule
				remoteChallenger
			}{f, remoteRule{i.Signature}, remoteChallenger{f}})
		case ruled:
			out = append(out, struct {
				*remoteFormat
				remoteRule
			}{f, remoteRule{i.Signature}})
		case i.Challenges:
			out = append(out, struct {
				*remoteFormat
				remoteChallenger
			}{f, remoteChallenger{f}})
		default:
			out = append(out, f)
		}
	}
	return out
}

// Receivers implements connectors.ReceiverProvider.
func (r remote) Receivers() []connectors.Receiver {
	var out []connectors.Receiver
	for _, i := range r.d.Receivers {
		x := &remoteReceiver{r, i}
		if i.Signature != nil {
			out = append(out, struct {
				*remoteReceiver
				remoteRule
			}{x, remoteRule{i.Signature}})
		} else {
			out = append(out, x)
		}
	}
	return out
}

// Triggers implements connectors.TriggerProvider.
func (r remote) Triggers() []connectors.Trigger {
	var out []connectors.Trigger
	r.limit = pureTime
	for _, kind := range r.d.Triggers {
		out = append(out, &remoteTrigger{r, kind})
	}
	return out
}

func (r remote) call(c *wirev1.Call) (*wirev1.Answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), r.limit)
	defer cancel()
	a, err := r.to.Call(ctx, c)
	var (
		refused *connectors.RefuseError
		skip    *connectors.SkipError
		failed  *connectors.Failure
		broken  brokenError
	)
	switch {
	case err == nil && a.GetOf() == nil:
		return nil, errNoAnswer
	case err == nil, errors.As(err, &refused), errors.As(err, &skip), errors.As(err, &failed), errors.As(err, &broken):
		return a, err
	}
	return nil, unanswered{err}
}

// unanswered says that a process was asked and did not answer, which another time it may.
type unanswered struct{ error }

func (u unanswered) Unwrap() error { return u.error }

// Unanswered tells it from what a connector has said.
func (unanswered) Unanswered() {}

// remoteRule has the hub sign or verify.
type remoteRule struct{ rule *connectors.SignatureRule }

// SignatureRule implements connectors.RuledFormat and connectors.RuledReceiver.
func (r remoteRule) SignatureRule() connectors.SignatureRule { return *r.rule }

type remoteFormat struct {
	of   remote
	info FormatInfo
}

// Name implements connectors.Format.
func (f *remoteFormat) Name() string { return f.of.prefix + f.info.Name }

// EventTypes implements connectors.Format.
func (f *remoteFormat) EventTypes() []connectors.EventType { return f.info.EventTypes }

// Render implements connectors.Format.
func (f *remoteFormat) Render(e *connectors.Event, o connectors.RenderOptions) (connectors.Rendered, error) {
	doc, err := connectors.AppendEvent(nil, e)
	if err != nil {
		return connectors.Rendered{}, err
	}
	a, err := f.of.call(&wirev1.Call{Of: &wirev1.Call_Render{Render: renderToWire(f.info.Name, doc, o)}})
	return rendered(a, err, f.info.Name)
}

// rendered reads an answer. One that breaks the contract is a reason to skip, which people
// can make good.
func rendered(a *wirev1.Answer, err error, format string) (connectors.Rendered, error) {
	var skip *connectors.SkipError
	var away unanswered
	if err == nil && a.GetRendered() == nil {
		err = errNoAnswer
	}
	switch {
	case errors.As(err, &skip):
		return connectors.Rendered{}, skip
	case errors.As(err, &away):
		return connectors.Rendered{}, err
	case err != nil:
		return connectors.Rendered{}, &connectors.SkipError{Reason: clip(fmt.Sprintf("the connector of the format %s could not write it: %s", format, err))}
	}
	return renderedFromWire(a.GetRendered()), nil
}

// maxNumbers is how many numbers one event may need.
const maxNumbers = 64

// Numbers implements connectors.Numberer.
func (f *remoteFormat) Numbers(e *connectors.Event) []connectors.NumberKey {
	keys, _ := f.NumbersOf(e) // Render will say so
	return keys
}

// NumbersOf is Numbers for those who can ask again when there is no answer.
func (f *remoteFormat) NumbersOf(e *connectors.Event) (keys []connectors.NumberKey, err error) {
	if !f.info.Numbers {
		return nil, nil
	}
	doc, err := connectors.AppendEvent(nil, e)
	if err != nil {
		return nil, err
	}
	a, err := f.of.call(&wirev1.Call{Of: &wirev1.Call_Numbers{Numbers: &wirev1.Numbers{Format: f.info.Name, Event: doc}}})
	if err != nil {
		return nil, err
	}
	for _, k := range a.GetNumbers().GetKeys() {
		if len(keys) == maxNumbers || len(k.GetKind()) > connectors.MaxKey || len(k.GetId()) > connectors.MaxKey {
			break
		}
		keys = append(keys, connectors.NumberKey{Kind: storable(k.GetKind()), ID: storable(k.GetId())})
	}
	return keys, nil
}

type remoteChallenger struct{ f *remoteFormat }

// Required implements connectors.Challenger.
func (c remoteChallenger) Required() bool { return c.f.info.ChallengeRequired }

// Challenge implements connectors.Challenger.
func (c remoteChallenger) Challenge(ch connectors.Challenge) (connectors.Rendered, error) {
	a, err := c.f.of.call(&wirev1.Call{Of: &wirev1.Call_Challenge{Challenge: challengeToWire(c.f.info.Name, ch)}})
	return rendered(a, err, c.f.info.Name)
}

// Granted implements connectors.Challenger.
func (c remoteChallenger) Granted(ch connectors.Challenge, answer *connectors.Response) (connectors.Grant, error) {
	a, err := c.f.of.call(&wirev1.Call{Of: &wirev1.Call_Granted{Granted: &wirev1.Granted{Challenge: challengeToWire(c.f.info.Name, ch), Answer: responseToWire(answer)}}})
	if err != nil {
		return connectors.Grant{}, err
	}
	if a.GetGrant() == nil {
		return connectors.Grant{}, errNoAnswer
	}
	return connectors.Grant{PerMinute: max(0, int(a.GetGrant().GetPerMinute()))}, nil
}

type remoteReceiver struct {
	of   remote
	info ReceiverInfo
}

// Kind implements connectors.Receiver.
func (r *remoteReceiver) Kind() string { return r.of.prefix + r.info.Kind }

// Methods implements connectors.MethodReceiver.
func (r *remoteReceiver) Methods() []string {
	if len(r.info.Methods) == 0 {
		return []string{http.MethodPost}
	}
	return r.info.Methods
}

// Receive implements connectors.Receiver.
func (r *remoteReceiver) Receive(in connectors.Inbound) (connectors.Received, error) {
	a, err := r.of.call(&wirev1.Call{Of: &wirev1.Call_Receive{Receive: inboundToWire(r.info.Kind, &in)}})
	var failed *connectors.Failure
	switch {
	case errors.As(err, &failed) && failed.Outcome == connectors.Permanent: // it is too large for the wire, for one
		return connectors.Received{}, connectors.Refuse(http.StatusUnprocessableEntity, "", "%s", failed.Message)
	case err != nil:
		return connectors.Received{}, err
	case a.GetReceived() == nil:
		return connectors.Received{}, errNoAnswer
	}
	return receivedFromWire(a.GetReceived())
}

// Handshake implements connectors.Handshaker.
func (r *remoteReceiver) Handshake(in connectors.Inbound) *connectors.Reply {
	if !r.info.Handshakes {
		return nil
	}
	a, err := r.of.call(&wirev1.Call{Of: &wirev1.Call_Handshake{Handshake: inboundToWire(r.info.Kind, &in)}})
	if err != nil {
		return nil
	}
	return replyFromWire(a.GetReply(), maxReply)
}

type remoteTrigger struct {
	of   remote
	kind string
}

// Kind implements connectors.Trigger.
func (t *remoteTrigger) Kind() string { return t.of.prefix + t.kind }

// Call implements connectors.Trigger.
func (t *remoteTrigger) Call(in connectors.Inbound, target connectors.TargetKind) (connectors.TriggerCall, error) {
	a, err := t.of.call(&wirev1.Call{Of: &wirev1.Call_ReadTrigger{ReadTrigger: &wirev1.ReadTrigger{Inbound: inboundToWire(t.kind, &in), Target: string(target)}}})
	switch {
	case err != nil:
		return connectors.TriggerCall{}, err
	case a.GetTriggerCall() == nil:
		return connectors.TriggerCall{}, errNoAnswer
	}
	return triggerCallFromWire(a.GetTriggerCall())
}

// Answer implements connectors.Trigger.
func (t *remoteTrigger) Answer(c connectors.TriggerCall, r connectors.TriggerResult) connectors.Reply {
	reply, err := t.AnswerOf(c, r)
	if err != nil {
		return connectors.Reply{Status: http.StatusServiceUnavailable, Header: http.Header{"Content-Type": {"application/json"}},
			Body: []byte(`{"message":"the connector that answers this cannot do so now; try again later"}` + "\n")}
	}
	return reply
}

// AnswerOf is Answer for those who have words of their own when there is none.
func (t *remoteTrigger) AnswerOf(c connectors.TriggerCall, r connectors.TriggerResult) (connectors.Reply, error) {
	a, err := t.of.call(&wirev1.Call{Of: &wirev1.Call_AnswerTrigger{AnswerTrigger: answerTriggerToWire(t.kind, c, r)}})
	if err != nil {
		return connectors.Reply{}, err
	}
	reply := replyFromWire(a.GetReply(), maxReport)
	if reply == nil {
		return connectors.Reply{}, errNoAnswer
	}
	return *reply, nil
}

// Snippets implements connectors.Trigger.
func (t *remoteTrigger) Snippets(url string) []connectors.Snippet {
	a, err := t.of.call(&wirev1.Call{Of: &wirev1.Call_Snippets{Snippets: &wirev1.Snippets{Kind: t.kind, Url: url}}})
	if err != nil {
		return nil
	}
	var out []connectors.Snippet
	for _, s := range a.GetSnippets().GetSnippets() {
		if len(s.GetText()) <= maxSnippet {
			out = append(out, connectors.Snippet{Name: clip(s.GetName()), Text: storable(s.GetText())})
		}
	}
	return out
}
