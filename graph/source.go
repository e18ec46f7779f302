package graph

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"time"

	"entgo.io/ent"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/settings"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/application"
	"github.com/hookyard/hookyard/ent/gen/source"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/parts"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/viewer"
	graphgen "github.com/hookyard/hookyard/graph/gen"
	"github.com/hookyard/hookyard/server/flow"
)

// sourceKinds are the kinds of senders that the hub can read for the organization.
// polled says whether those are wanted that it can ask, or cannot; nil: both.
func (r *Resolver) sourceKinds(ctx context.Context, c *gen.Client, polled *bool) ([]string, error) {
	var kinds []string
	add := func(set *connectors.Set) {
		for _, x := range set.Receivers() {
			if of, ok := set.Reader(x.Kind()); ok && (polled == nil || *polled == flow.Polls(of.Spec())) {
				kinds = append(kinds, x.Kind())
			}
		}
	}
	add(r.Connectors)
	packages, err := r.providers(ctx, c, false)
	for _, p := range packages {
		add(p.Provides)
	}
	return kinds, err
}

// reader is the connector that reads sources of a kind; ok is false when the organization
// has none. A new source needs one that is enabled.
func (r *Resolver) reader(ctx context.Context, c *gen.Client, kind string, exists bool) (spec connectors.Spec, ok bool, err error) {
	set := r.Connectors
	if name := flow.Provider(kind); name != "" {
		p, err := r.provider(ctx, c, name, exists)
		if p == nil {
			return spec, false, err
		}
		set = p.Provides
	}
	of, ok := set.Reader(kind)
	if ok {
		spec = of.Spec()
	}
	return spec, ok, nil
}

func (r *Resolver) createSource(ctx context.Context, in graphgen.CreateSourceInput) (*gen.Source, string, error) {
	if _, ok, err := r.reader(ctx, r.DB.Client, in.Kind, false); err != nil {
		return nil, "", err
	} else if !ok {
		kinds, err := r.sourceKinds(ctx, r.DB.Client, nil)
		if err != nil {
			return nil, "", err
		}
		return nil, "", badInput("input.kind", "%q is no kind of sender; there are %v.", in.Kind, kinds)
	}
	id := r.IDs.New(ids.Source)
	address, hash := r.Credentials.NewAddress()
	s, err := change(ctx, r, r.DB.Client.Source.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		c := tx.Source.Create().SetID(id).SetName(in.Name).SetKind(in.Kind).SetNillableAssetGroupID(in.AssetGroupID).SetTokenHash(hash)
		return id, r.fillSource(ctx, tx, c.Mutation(), sourceFields{in.Kind, in.TimeZone, in.Mapping, in.Secrets, in.Authorization, in.Settings, in.SettingSecrets, in.PollEverySeconds, nil, nil}, func() error { return c.Exec(ctx) }, id)
	})
	return s, address, err
}

func (r *Resolver) updateSource(ctx context.Context, in graphgen.UpdateSourceInput) (*gen.Source, error) {
	return change(ctx, r, r.DB.Client.Source.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		s, err := tx.Source.Get(ctx, in.ID)
		if err != nil {
			return "", err
		}
		u := tx.Source.UpdateOneID(in.ID).SetNillableName(in.Name)
		return in.ID, r.fillSource(ctx, tx, u.Mutation(), sourceFields{s.Kind, in.TimeZone, in.Mapping, in.Secrets, in.Authorization, in.Settings, in.SettingSecrets,
			in.PollEverySeconds, s.Settings, s.SettingSecrets}, func() error { return u.Exec(ctx) }, in.ID)
	})
}

// sourceFields are what creating and changing a source have in common.
type sourceFields struct {
	kind           string
	timeZone       *string
	mapping        *parts.Mapping
	secrets        []string
	authorization  *string
	settings       map[string]any
	settingSecrets []*graphgen.SecretInput
	pollEvery      *int
	had            map[string]any // settings, until now
	hadSecrets     []byte         // sealed
}

// fillSource checks and sets what was given, and saves.
func (r *Resolver) fillSource(ctx context.Context, tx *gen.Tx, m *gen.SourceMutation, f sourceFields, save func() error, id string) error {
	if f.timeZone != nil {
		if _, err := time.LoadLocation(*f.timeZone); err != nil || *f.timeZone == "" || *f.timeZone == "Local" {
			return badInput("input.timeZone", "%q is no time zone; use an IANA name like Europe/Stockholm.", *f.timeZone)
		}
		m.SetTimeZone(*f.timeZone)
	}
	if f.mapping != nil {
		if err := checkMapping(ctx, tx, f.mapping); err != nil {
			return err
		}
		m.SetMapping(*f.mapping)
	}
	if f.secrets != nil {
		keys := make([][]byte, len(f.secrets))
		for i, s := range f.secrets {
			if s == "" {
				return badInput(fmt.Sprintf("input.secrets[%d]", i), "A secret cannot be empty.")
			}
			keys[i] = []byte(s)
		}
		sealed, err := r.Secrets.SealJSON(id, source.FieldSecrets, keys)
		if err != nil {
			return err
		}
		m.SetSecrets(sealed)
		m.ClearOldSecretsUntil()
	}
	switch {
	case f.authorization == nil:
	case *f.authorization == "":
		m.ClearAuthorization()
	default:
		sealed, err := r.Secrets.SealJSON(id, source.FieldAuthorization, *f.authorization)
		if err != nil {
			return err
		}
		m.SetAuthorization(sealed)
	}
	spec, _, err := r.reader(ctx, tx.Client(), f.kind, true)
	if err != nil {
		return err
	}
	if err := f.fillPoll(m, spec); err != nil {
		return err
	}
	if err := r.fillSettings(ctx, tx.Client(), m, f, spec, id); err != nil {
		return err
	}
	return save()
}

// sourceSchema is what there is to set for a kind of source; nil: nothing.
func (r *Resolver) sourceSchema(ctx context.Context, c *gen.Client, kind string) (json.RawMessage, error) {
	spec, _, err := r.reader(ctx, c, kind, true)
	return spec.SettingsFor(connectors.RoleSource), err
}

// How often a source is asked, in seconds.
const (
	pollEvery = 300
	pollLeast = 30
	pollMost  = 7 * 24 * 3600
)

// fillPoll checks and sets how often the source is asked.
func (f *sourceFields) fillPoll(m *gen.SourceMutation, spec connectors.Spec) error {
	can := flow.Polls(spec)
	switch {
	case f.pollEvery == nil && can && m.Op().Is(ent.OpCreate):
		m.SetPollEverySeconds(pollEvery)
	case f.pollEvery == nil:
	case *f.pollEvery == 0:
		m.SetPollEverySeconds(0)
	case !can:
		return badInput("input.pollEverySeconds", "Senders of kind %q cannot be asked; see sourceKinds(polled: true).", f.kind)
	case *f.pollEvery < pollLeast || *f.pollEvery > pollMost:
		return badInput("input.pollEverySeconds", "A sender is asked every %d to %d seconds; 0 is never.", pollLeast, pollMost)
	default:
		m.SetPollEverySeconds(*f.pollEvery)
	}
	return nil
}

// fillSettings holds settings and secrets together against the connector's schema. A kind
// that has some is not created without them.
func (r *Resolver) fillSettings(ctx context.Context, c *gen.Client, m *gen.SourceMutation, f sourceFields, spec connectors.Spec, id string) error {
	raw := spec.SettingsFor(connectors.RoleSource)
	if f.settings == nil && f.settingSecrets == nil && (raw == nil || !m.Op().Is(ent.OpCreate)) {
		return nil
	}
	schema, err := settings.Compile(raw)
	if err != nil {
		return fmt.Errorf("sources of kind %s: %w", f.kind, err)
	}
	d := draftEndpoint{settings: f.had, secrets: map[string]string{}}
	if len(f.hadSecrets) > 0 {
		if err := r.Secrets.UnsealJSON(id, source.FieldSettingSecrets, f.hadSecrets, &d.secrets); err != nil {
			return err
		}
	}
	if !m.Op().Is(ent.OpCreate) {
		d.keep()
	}
	if f.settings != nil {
		d.settings = f.settings
	}
	d.setSecrets(f.settingSecrets)
	if err := wrongSettings(schema.Check(d.settings, d.secrets)); err != nil {
		return err
	}
	if err := d.follow(schema, "input.settingSecrets"); err != nil {
		return err
	}
	if d.moved {
		if err := store.ForgetStates(ctx, c, viewer.FromContext(ctx).Organization, id); err != nil {
			return err
		}
	}
	m.SetSettings(d.settings)
	if f.settingSecrets == nil {
		return nil
	}
	sealed, err := r.Secrets.SealJSON(id, source.FieldSettingSecrets, d.secrets)
	if err != nil {
		return err
	}
	m.SetSettingSecrets(sealed)
	return nil
}

// checkMapping checks that each rule says one thing and that its applications exist.
func checkMapping(ctx context.Context, tx *gen.Tx, m *parts.Mapping) error {
	field := map[string]string{} // by application
	if m.Default != "" {
		field[m.Default] = "input.mapping.default"
	}
	for i, rule := range m.Rules {
		at := fmt.Sprintf("input.mapping.rules[%d]", i)
		if rule.Field == "" {
			return badInput(at+".field", "A rule needs a field.")
		}
		if (rule.Equals == "") == (rule.Matches == "") {
			return badInput(at, "A rule has either equals or matches.")
		}
		if _, err := path.Match(rule.Matches, ""); err != nil {
			return badInput(at+".matches", "%q is not a pattern.", rule.Matches)
		}
		field[rule.Application] = at + ".application"
	}
	for id, at := range field {
		if ok, err := tx.Application.Query().Where(application.ID(id)).Exist(ctx); err != nil {
			return err
		} else if !ok {
			return badInput(at, "There is no application %q here.", id)
		}
	}
	return nil
}

func (r *Resolver) setSourceEnabled(ctx context.Context, id string, on bool) (*gen.Source, error) {
	return change(ctx, r, r.DB.Client.Source.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		return id, tx.Source.UpdateOneID(id).SetEnabled(on).Exec(ctx)
	})
}

func (r *Resolver) rotateSourceToken(ctx context.Context, id string) (*gen.Source, string, error) {
	address, hash := r.Credentials.NewAddress()
	s, err := change(ctx, r, r.DB.Client.Source.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		return id, tx.Source.UpdateOneID(id).SetTokenHash(hash).Exec(ctx)
	})
	return s, address, err
}

// pollOf is how asking a source goes, nil: it is not asked.
func (r *Resolver) pollOf(ctx context.Context, s *gen.Source) (*flow.PollView, error) {
	if s.PollEverySeconds == 0 {
		return nil, nil
	}
	found, err := loadersOf(ctx).polls.get(ctx, s.ID)
	if err != nil || found == nil {
		return &flow.PollView{}, err
	}
	v := *found
	if !s.Enabled {
		v.Next = time.Time{}
	}
	return &v, nil
}

// hintPolls says that how asking these sources goes will probably be asked for.
func hintPolls(ctx context.Context, c *gen.SourceConnection) *gen.SourceConnection {
	if c != nil {
		for _, e := range c.Edges {
			if e != nil && e.Node != nil && e.Node.PollEverySeconds > 0 {
				loadersOf(ctx).polls.hint(e.Node.ID)
			}
		}
	}
	return c
}

// moment is a time as the API shows it: null where there is none.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// pollSource has a source asked at once, or from a time on anew.
func (r *Resolver) pollSource(ctx context.Context, in graphgen.PollSourceInput) (*gen.Source, error) {
	s, err := r.DB.Client.Source.Get(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	switch {
	case s.PollEverySeconds == 0:
		return nil, conflict("The source is not asked: its pollEverySeconds is 0.")
	case !s.Enabled:
		return nil, conflict("The source is disabled; enable it first.")
	}
	a := store.Action{Action: store.PollSource, Noun: "Source", ID: s.ID, Name: s.Name, Group: or(s.AssetGroupID)}
	if in.From != nil {
		a.Details = map[string]any{"from": *in.From}
	}
	if err := r.DB.Audit(ctx, a); err != nil {
		return nil, err
	}
	return s, r.Polls.PollNow(ctx, s.OrganizationID, s.ID, or(in.From))
}
