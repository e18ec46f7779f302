package plugins

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"github.com/hookyard/hookyard/connectors"
	wirev1 "github.com/hookyard/hookyard/plugins/wire/v1"
)

// Description is all that a connector says of itself: its Spec and, of its pure abilities,
// what the hub must know before it calls them. It is the same for one version of a
// connector, so it can be kept beside it and read while no process runs.
type Description struct {
	connectors.Spec
	Formats   []FormatInfo
	Receivers []ReceiverInfo
	Triggers  []string // their kinds
}

// FormatInfo is what is known of a format.
type FormatInfo struct {
	Name              string                    `json:"name"`
	EventTypes        []connectors.EventType    `json:"eventTypes,omitempty"`
	Signature         *connectors.SignatureRule `json:"signature,omitempty"`
	Numbers           bool                      `json:"numbers,omitempty"`
	Challenges        bool                      `json:"challenges,omitempty"`
	ChallengeRequired bool                      `json:"challengeRequired,omitempty"`
}

// ReceiverInfo is what is known of a receiver.
type ReceiverInfo struct {
	Kind       string                    `json:"kind"`
	Signature  *connectors.SignatureRule `json:"signature,omitempty"`
	Handshakes bool                      `json:"handshakes,omitempty"`
	Methods    []string                  `json:"methods,omitempty"` // none: POST
}

// DescriptionOf is what c says of itself.
func DescriptionOf(c connectors.Connector) Description {
	d := Description{Spec: c.Spec()}
	if p, ok := c.(connectors.FormatProvider); ok {
		for _, f := range p.Formats() {
			i := FormatInfo{Name: f.Name(), EventTypes: f.EventTypes()}
			if r, ok := f.(connectors.RuledFormat); ok {
				rule := r.SignatureRule()
				i.Signature = &rule
			}
			_, i.Numbers = f.(connectors.Numberer)
			if h, ok := f.(connectors.Challenger); ok {
				i.Challenges, i.ChallengeRequired = true, h.Required()
			}
			d.Formats = append(d.Formats, i)
		}
	}
	if p, ok := c.(connectors.ReceiverProvider); ok {
		for _, r := range p.Receivers() {
			i := ReceiverInfo{Kind: r.Kind()}
			if s, ok := r.(connectors.RuledReceiver); ok {
				rule := s.SignatureRule()
				i.Signature = &rule
			}
			_, i.Handshakes = r.(connectors.Handshaker)
			if m, ok := r.(connectors.MethodReceiver); ok {
				i.Methods = m.Methods()
			}
			d.Receivers = append(d.Receivers, i)
		}
	}
	if p, ok := c.(connectors.TriggerProvider); ok {
		for _, t := range p.Triggers() {
			d.Triggers = append(d.Triggers, t.Kind())
		}
	}
	return d
}

// Describe asks a plugin for its Description.
func Describe(ctx context.Context, c wirev1.PluginClient) (Description, error) {
	m, err := c.Describe(ctx, &wirev1.DescribeRequest{})
	if err != nil {
		return Description{}, fmt.Errorf("ask the connector for its description: %w", err)
	}
	d, err := descriptionFromWire(m)
	if err != nil {
		return Description{}, fmt.Errorf("read the connector's description: %w", err)
	}
	return d, nil
}

func descriptionToWire(d Description) *wirev1.DescribeResponse {
	s := d.Spec
	w := &wirev1.DescribeResponse{Name: s.Name, Title: s.Title, Description: s.Description, Version: s.Version,
		Settings: s.Settings, SourceSettings: s.SourceSettings, ScanSettings: s.ScanSettings, TakesRequest: s.TakesRequest, Triggers: d.Triggers}
	for _, a := range s.Abilities {
		w.Abilities = append(w.Abilities, string(a))
	}
	for _, f := range d.Formats {
		i := &wirev1.FormatInfo{Name: f.Name, Signature: ruleToWire(f.Signature), Numbers: f.Numbers, Challenges: f.Challenges, ChallengeRequired: f.ChallengeRequired}
		for _, t := range f.EventTypes {
			i.EventTypes = append(i.EventTypes, string(t))
		}
		w.Formats = append(w.Formats, i)
	}
	for _, r := range d.Receivers {
		w.Receivers = append(w.Receivers, &wirev1.ReceiverInfo{Kind: r.Kind, Signature: ruleToWire(r.Signature), Handshakes: r.Handshakes, Methods: r.Methods})
	}
	return w
}

// What a Description may hold.
const (
	maxNouns  = 64        // formats, receivers or triggers
	maxName   = 64        // bytes of the name of one
	maxSchema = 256 << 10 // bytes of a schema
)

// nameForm is that of formats, receivers and triggers.
var nameForm = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

func descriptionFromWire(w *wirev1.DescribeResponse) (Description, error) {
	d := Description{Spec: connectors.Spec{Name: w.GetName(), Title: clip(w.GetTitle()), Description: clip(w.GetDescription()), Version: clip(w.GetVersion()),
		TakesRequest: w.GetTakesRequest()}}
	for _, a := range w.GetAbilities() {
		d.Abilities = append(d.Abilities, connectors.Ability(a))
	}
	for _, x := range []struct {
		from []byte
		to   *json.RawMessage
	}{{w.GetSettings(), &d.Settings}, {w.GetSourceSettings(), &d.SourceSettings}, {w.GetScanSettings(), &d.ScanSettings}} {
		if len(x.from) == 0 {
			continue
		}
		if len(x.from) > maxSchema || !json.Valid(x.from) {
			return d, fmt.Errorf("a schema of its settings is not JSON, or larger than %d bytes", maxSchema)
		}
		*x.to = x.from
	}
	for _, f := range w.GetFormats() {
		i := FormatInfo{Name: f.GetName(), Numbers: f.GetNumbers(), Challenges: f.GetChallenges(), ChallengeRequired: f.GetChallengeRequired()}
		for _, t := range f.GetEventTypes() {
			i.EventTypes = append(i.EventTypes, connectors.EventType(t))
		}
		i.Signature = ruleFromWire(f.GetSignature())
		d.Formats = append(d.Formats, i)
	}
	for _, r := range w.GetReceivers() {
		d.Receivers = append(d.Receivers, ReceiverInfo{Kind: r.GetKind(), Signature: ruleFromWire(r.GetSignature()), Handshakes: r.GetHandshakes(), Methods: r.GetMethods()})
	}
	d.Triggers = w.GetTriggers()
	return d, d.Check()
}

// Check says what is wrong with the nouns of a Description, wherever it comes from.
func (d *Description) Check() error {
	if len(d.Formats) > maxNouns || len(d.Receivers) > maxNouns || len(d.Triggers) > maxNouns {
		return fmt.Errorf("it has more than %d formats, receivers or triggers", maxNouns)
	}
	seen := map[string]bool{}
	check := func(noun, name string, rule *connectors.SignatureRule) error {
		if !nameForm.MatchString(name) || len(name) > maxName {
			return fmt.Errorf("the name of the %s %q: lower-case letters, digits and hyphens, %d at most", noun, clip(name), maxName)
		}
		if seen[noun+" "+name] {
			return fmt.Errorf("there are two of the %s %q", noun, name)
		}
		seen[noun+" "+name] = true
		if rule != nil {
			if err := rule.Check(); err != nil {
				return fmt.Errorf("the %s %q: %s", noun, name, clip(err.Error()))
			}
		}
		return nil
	}
	for _, f := range d.Formats {
		for _, t := range f.EventTypes {
			if !t.Valid() {
				return fmt.Errorf("the format %q: %q is no kind of events", clip(f.Name), clip(string(t)))
			}
		}
		if err := check("format", f.Name, f.Signature); err != nil {
			return err
		}
	}
	for _, r := range d.Receivers {
		if err := check("receiver", r.Kind, r.Signature); err != nil {
			return err
		}
	}
	for _, t := range d.Triggers {
		if err := check("trigger", t, nil); err != nil {
			return err
		}
	}
	return nil
}

func ruleToWire(r *connectors.SignatureRule) *wirev1.SignatureRule {
	if r == nil {
		return nil
	}
	return &wirev1.SignatureRule{Header: r.Header, Hash: string(r.Hash), Encoding: string(r.Encoding), Prefix: r.Prefix, Separator: r.Separator,
		Message: r.Message, IdHeader: r.IDHeader, TimestampHeader: r.TimestampHeader, Tolerance: int64(r.Tolerance)}
}

func ruleFromWire(w *wirev1.SignatureRule) *connectors.SignatureRule {
	if w == nil {
		return nil
	}
	return &connectors.SignatureRule{Header: w.GetHeader(), Hash: connectors.SignatureHash(w.GetHash()), Encoding: connectors.SignatureEncoding(w.GetEncoding()),
		Prefix: w.GetPrefix(), Separator: w.GetSeparator(), Message: w.GetMessage(), IDHeader: w.GetIdHeader(), TimestampHeader: w.GetTimestampHeader(),
		Tolerance: time.Duration(w.GetTolerance())}
}
