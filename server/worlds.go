package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/application"
	"github.com/hookyard/hookyard/ent/gen/assetgroup"
	"github.com/hookyard/hookyard/ent/gen/enabledconnector"
	"github.com/hookyard/hookyard/ent/gen/endpoint"
	"github.com/hookyard/hookyard/ent/gen/project"
	"github.com/hookyard/hookyard/ent/gen/source"
	"github.com/hookyard/hookyard/ent/gen/trigger"
	"github.com/hookyard/hookyard/ent/gen/webhook"
	"github.com/hookyard/hookyard/ent/parts"
	"github.com/hookyard/hookyard/ent/secret"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/flow"
)

// worlds reads configuration through ent, as the hub itself, and opens its secrets.
type worlds struct {
	db        *store.DB
	secrets   *secret.Box
	installed func(ctx context.Context, w *flow.World) (*connectors.Set, error) // of its connectors
}

// Revisions returns the revision of every organization.
func (r worlds) Revisions(ctx context.Context) (map[string]int64, error) { return r.db.Revisions(ctx) }

// World reads one organization as it is at one moment.
func (r worlds) World(ctx context.Context, org string) (w *flow.World, err error) {
	err = r.db.Snapshot(viewer.SystemContext(ctx), func(ctx context.Context, tx *gen.Tx) error {
		w, err = r.read(ctx, tx.Client(), org)
		return err
	})
	if err == nil && len(w.Connectors) > 0 {
		w.Installed, err = r.installed(ctx, w)
	}
	return w, err
}

func (r worlds) read(ctx context.Context, c *gen.Client, org string) (*flow.World, error) {
	o, err := c.Organization.Get(ctx, org)
	if err != nil {
		return nil, err
	}
	day := 24 * time.Hour
	w := &flow.World{
		Organization: flow.Organization{ID: o.ID, Name: o.Name, Suspended: o.SuspendedAt != nil, Allow: named(o.AllowTargets, "targets of the organization"),
			Retention: flow.Retention{
				Events:   time.Duration(o.RetentionEventsDays) * day,
				Attempts: time.Duration(o.RetentionAttemptsDays) * day,
				Payloads: time.Duration(o.RetentionPayloadsDays) * day,
				Audit:    time.Duration(o.RetentionAuditDays) * day,
			}},
		Groups: map[string]flow.Group{}, Applications: map[string]flow.Application{},
		Sources: map[string]*flow.Source{}, Endpoints: map[string]*flow.Endpoint{}, Webhooks: map[string]*flow.Webhook{}, Connectors: map[string]*flow.Connector{},
	}
	if w.Erased, err = lastErased(ctx, c, org); err != nil {
		return nil, err
	}
	groups, err := c.AssetGroup.Query().Where(assetgroup.OrganizationID(org)).All(ctx)
	if err != nil {
		return nil, fmt.Errorf("asset groups: %w", err)
	}
	for _, g := range groups {
		w.Groups[g.ID] = flow.Group{ID: g.ID, Name: g.Name, Allow: named(g.AllowTargets, "targets of asset group "+g.Name)}
	}
	apps, err := c.Application.Query().Where(application.OrganizationID(org)).All(ctx)
	if err != nil {
		return nil, fmt.Errorf("applications: %w", err)
	}
	for _, a := range apps {
		w.Applications[a.ID] = flow.Application{ID: a.ID, Name: a.Name, Group: a.AssetGroupID, Key: a.Key}
	}
	sources, err := c.Source.Query().Where(source.OrganizationID(org)).All(ctx)
	if err != nil {
		return nil, fmt.Errorf("sources: %w", err)
	}
	for _, s := range sources {
		if w.Sources[s.ID], err = r.source(s); err != nil {
			return nil, fmt.Errorf("source %s: %w", s.ID, err)
		}
	}
	endpoints, err := c.Endpoint.Query().Where(endpoint.OrganizationID(org)).All(ctx)
	if err != nil {
		return nil, fmt.Errorf("endpoints: %w", err)
	}
	for _, e := range endpoints {
		if w.Endpoints[e.ID], err = r.endpoint(e); err != nil {
			return nil, fmt.Errorf("endpoint %s: %w", e.ID, err)
		}
	}
	webhooks, err := c.Webhook.Query().Where(webhook.OrganizationID(org)).
		WithApplications(func(q *gen.ApplicationQuery) { q.Select(application.FieldID) }).
		WithScopeGroups(func(q *gen.AssetGroupQuery) { q.Select(assetgroup.FieldID) }).
		WithSources(func(q *gen.SourceQuery) { q.Select(source.FieldID) }).All(ctx)
	if err != nil {
		return nil, fmt.Errorf("webhooks: %w", err)
	}
	for _, h := range webhooks {
		if w.Webhooks[h.ID], err = r.webhook(h); err != nil {
			return nil, fmt.Errorf("webhook %s: %w", h.ID, err)
		}
	}
	enabled, err := c.EnabledConnector.Query().Where(enabledconnector.OrganizationID(org)).All(ctx)
	if err != nil {
		return nil, fmt.Errorf("connectors: %w", err)
	}
	for _, e := range enabled {
		w.Connectors[e.Name] = &flow.Connector{Name: e.Name, Version: e.Version, Digest: e.Digest, Enabled: e.Enabled, Released: until(e.ReleasedAt)}
	}
	if len(enabled) > 0 {
		err = r.scanned(ctx, c, w)
	}
	return w, err
}

// scanned adds what needs third parties' connectors to be called by CI, and to scan.
func (r worlds) scanned(ctx context.Context, c *gen.Client, w *flow.World) error {
	org := w.Organization.ID
	err := c.Trigger.Query().Where(trigger.OrganizationID(org), trigger.KindContains("/")).GroupBy(trigger.FieldKind).Scan(ctx, &w.Triggers)
	if err != nil {
		return fmt.Errorf("triggers: %w", err)
	}
	projects, err := c.Project.Query().Where(project.OrganizationID(org), project.ScannerIn(slices.Collect(maps.Keys(w.Connectors))...)).All(ctx)
	if err != nil {
		return fmt.Errorf("projects: %w", err)
	}
	w.Projects = make(map[string]*flow.Project, len(projects))
	for _, p := range projects {
		if w.Projects[p.ID], err = r.project(p); err != nil {
			return fmt.Errorf("project %s: %w", p.ID, err)
		}
	}
	return nil
}

func (r worlds) project(p *gen.Project) (*flow.Project, error) {
	out := &flow.Project{Scanner: p.Scanner, Secrets: map[string]flow.Secret{}}
	values := map[string]string{}
	if err := r.open(p.ID, project.FieldSecrets, p.Secrets, &values); err != nil {
		return nil, err
	}
	var setup connectors.ScanSetup
	if err := r.open(p.ID, project.FieldSetup, p.Setup, &setup); err != nil {
		return nil, err
	}
	if setup.Basic != nil {
		values["\x00basic"] = setup.Basic.Password
	}
	for i, l := range setup.Logins {
		values[fmt.Sprintf("\x00login %d", i)] = l.Password
	}
	for i, x := range setup.Parameters {
		values[fmt.Sprintf("\x00parameter %d", i)] = x.Value
	}
	for name, v := range values {
		out.Secrets[name] = flow.NewSecret([]byte(v))
	}
	return out, nil
}

// lastErased is when a payload of the organization was last erased, zero: never.
func lastErased(ctx context.Context, c *gen.Client, org string) (at time.Time, err error) {
	rows, err := c.QueryContext(ctx, "SELECT max(at) FROM erasures WHERE org = $1", org)
	if err != nil {
		return at, fmt.Errorf("erasures: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var us *int64
	for rows.Next() {
		if err := rows.Scan(&us); err != nil {
			return at, fmt.Errorf("erasures: %w", err)
		}
	}
	if us != nil {
		at = time.UnixMicro(*us)
	}
	return at, rows.Err()
}

// named says in each rule where it stands, so that a refusal can name it.
func named(rules []connectors.AllowRule, list string) []connectors.AllowRule {
	out := make([]connectors.AllowRule, len(rules))
	for i, r := range rules {
		r.List = list
		out[i] = r
	}
	return out
}

// open reads a sealed JSON value into v; nothing sealed leaves v as it is.
func (r worlds) open(id, field string, blob []byte, v any) error {
	if len(blob) == 0 {
		return nil
	}
	if err := r.secrets.UnsealJSON(id, field, blob, v); err != nil {
		return fmt.Errorf("open the secret %s: %w", field, err)
	}
	return nil
}

func wrap(list [][]byte) []flow.Secret {
	out := make([]flow.Secret, len(list))
	for i, b := range list {
		out[i] = flow.NewSecret(b)
	}
	return out
}

func (r worlds) source(s *gen.Source) (*flow.Source, error) {
	out := &flow.Source{ID: s.ID, Name: s.Name, Kind: s.Kind, Token: s.TokenHash, Enabled: s.Enabled, Group: text(s.AssetGroupID), PollEvery: time.Duration(s.PollEverySeconds) * time.Second}
	out.Mapping = flow.Mapping{Default: s.Mapping.Default, Create: s.Mapping.Create}
	for _, rule := range s.Mapping.Rules {
		out.Mapping.Rules = append(out.Mapping.Rules, flow.MappingRule(rule))
	}
	var err error
	if out.Location, err = time.LoadLocation(s.TimeZone); err != nil {
		return nil, fmt.Errorf("time zone: %w", err)
	}
	var keys [][]byte
	if err := r.open(s.ID, source.FieldSecrets, s.Secrets, &keys); err != nil {
		return nil, err
	}
	out.Secrets, out.OldSecrets = wrap(keys), until(s.OldSecretsUntil)
	var header string
	if err := r.open(s.ID, source.FieldAuthorization, s.Authorization, &header); err != nil {
		return nil, err
	}
	out.Authorization = flow.NewSecret([]byte(header))
	if out.Settings, err = json.Marshal(s.Settings); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	values := map[string]string{}
	if err := r.open(s.ID, source.FieldSettingSecrets, s.SettingSecrets, &values); err != nil {
		return nil, err
	}
	out.Revision, out.Connection = s.Revision, make(map[string]flow.Secret, len(values))
	for name, v := range values {
		out.Connection[name] = flow.NewSecret([]byte(v))
	}
	return out, nil
}

func (r worlds) endpoint(e *gen.Endpoint) (*flow.Endpoint, error) {
	settings, err := json.Marshal(e.Settings)
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	values := map[string]string{}
	if err := r.open(e.ID, endpoint.FieldSecrets, e.Secrets, &values); err != nil {
		return nil, err
	}
	out := &flow.Endpoint{
		ID: e.ID, Name: e.Name, Group: text(e.AssetGroupID), Connector: e.Connector, Package: e.ConnectorDigest, Revision: e.Revision, URL: e.URL, Presence: text(e.PresenceID), Enabled: e.Enabled,
		Settings: settings, Secrets: map[string]flow.Secret{}, Rate: e.RatePerSecond, Burst: e.Burst, MaxInFlight: e.MaxInFlight,
		Headers: headers(e.Headers, values),
	}
	for name, v := range values {
		out.Secrets[name] = flow.NewSecret([]byte(v))
	}
	return out, nil
}

// headers takes the values of secret headers out of values: a header's secret goes into
// requests, not to the connector as a setting.
func headers(list []parts.EndpointHeader, values map[string]string) []connectors.Header {
	out := make([]connectors.Header, 0, len(list))
	for _, h := range list {
		line := connectors.Header{Name: h.Name, Value: h.Value}
		if h.Secret {
			name := "header:" + h.Name
			line.Value, line.Secret = values[name], name
			delete(values, name)
		}
		out = append(out, line)
	}
	return out
}

func (r worlds) webhook(h *gen.Webhook) (*flow.Webhook, error) {
	out := &flow.Webhook{
		ID: h.ID, Name: h.Name, Group: text(h.AssetGroupID), Global: h.Global, MinSeverity: connectors.Severity(h.MinSeverity), OnlyNew: h.OnlyNew,
		Format: h.Format, Options: connectors.RenderOptions{UnknownCounts: connectors.UnknownCounts(h.UnknownCounts)}, Endpoint: h.EndpointID,
		State: flow.WebhookState(h.State), Timeout: time.Duration(h.TimeoutSeconds) * time.Second,
	}
	for _, a := range h.Edges.Applications {
		out.Apps = append(out.Apps, a.ID)
	}
	for _, g := range h.Edges.ScopeGroups {
		out.Groups = append(out.Groups, g.ID)
	}
	for _, s := range h.Edges.Sources {
		out.Sources = append(out.Sources, s.ID)
	}
	for _, t := range h.EventTypes {
		out.Types = append(out.Types, connectors.EventType(t))
	}
	out.Retries = make([]time.Duration, len(h.RetryOffsetsSeconds)) // empty means never; nil would be the default
	for i, s := range h.RetryOffsetsSeconds {
		out.Retries[i] = time.Duration(s) * time.Second
	}
	var keys [][]byte
	if err := r.open(h.ID, webhook.FieldSigningSecrets, h.SigningSecrets, &keys); err != nil {
		return nil, err
	}
	out.Keys, out.OldKeys = wrap(keys), until(h.OldSecretUntil)
	return out, nil
}

func until(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
