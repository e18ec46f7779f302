package graph

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/settings"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/enabledconnector"
	"github.com/hookyard/hookyard/ent/gen/endpoint"
	"github.com/hookyard/hookyard/ent/gen/project"
	"github.com/hookyard/hookyard/ent/gen/source"
	"github.com/hookyard/hookyard/ent/gen/trigger"
	"github.com/hookyard/hookyard/ent/gen/webhook"
	"github.com/hookyard/hookyard/ent/viewer"
	graphgen "github.com/hookyard/hookyard/graph/gen"
	"github.com/hookyard/hookyard/server/flow"
)

// deliverers are the connectors that endpoints can use.
func (r *Resolver) deliverers(ctx context.Context) ([]*connectors.Spec, error) {
	var out []*connectors.Spec
	add := func(s connectors.Spec) {
		if delivers(s) {
			out = append(out, &s)
		}
	}
	for _, c := range r.Connectors.Connectors() {
		add(c.Spec())
	}
	packages, err := r.providers(ctx, r.DB.Client, false)
	for _, p := range packages {
		add(p.Spec)
	}
	return out, err
}

func delivers(s connectors.Spec) bool {
	return slices.Contains(s.Abilities, connectors.AbilityDeliver)
}

func withDigest(list []flow.Package, digest string) *flow.Package {
	i := slices.IndexFunc(list, func(p flow.Package) bool { return p.Digest == digest })
	if i < 0 {
		return nil
	}
	return &list[i]
}

// providers are the packages that the organization has enabled; with disabled, those that it
// has disabled, too.
func (r *Resolver) providers(ctx context.Context, c *gen.Client, disabled bool) ([]*flow.Package, error) {
	query := c.EnabledConnector.Query().Order(gen.Asc(enabledconnector.FieldName))
	if !disabled {
		query.Where(enabledconnector.Enabled(true))
	}
	enabled, err := query.All(ctx)
	if err != nil || len(enabled) == 0 {
		return nil, err
	}
	packages, err := r.Catalogue.Packages(ctx)
	if err != nil {
		return nil, err
	}
	var out []*flow.Package
	for _, e := range enabled {
		if p := withDigest(packages, e.Digest); p != nil {
			out = append(out, p)
		}
	}
	return out, nil
}

// provider is the one of a connector's name, nil: the organization has none.
func (r *Resolver) provider(ctx context.Context, c *gen.Client, name string, disabled bool) (*flow.Package, error) {
	packages, err := r.providers(ctx, c, disabled)
	if i := slices.IndexFunc(packages, func(p *flow.Package) bool { return p.Name == name }); i >= 0 {
		return packages[i], nil
	}
	return nil, err
}

// used is the connector that delivers to an endpoint: a shipped one, or the package that
// the endpoint is pinned to, or the one that the organization uses. digest is "" for a
// shipped one. For a new endpoint it has to be enabled.
func (r *Resolver) used(ctx context.Context, c *gen.Client, name, pinned string, exists bool) (spec connectors.Spec, digest string, err error) {
	none := badInput("input.connector", "There is no connector %q that delivers; see connectors.", name)
	if shipped, ok := r.Connectors.Connector(name); ok {
		if spec = shipped.Spec(); !delivers(spec) {
			return spec, "", none
		}
		return spec, "", nil
	}
	e, err := c.EnabledConnector.Query().Where(enabledconnector.Name(name)).Only(ctx)
	if gen.IsNotFound(err) || err == nil && !e.Enabled && !exists {
		return spec, "", none
	}
	if err != nil {
		return spec, "", err
	}
	if digest = e.Digest; pinned != "" {
		digest = pinned
	}
	packages, err := r.Catalogue.Packages(ctx)
	if err != nil {
		return spec, "", err
	}
	p := withDigest(packages, digest)
	if p == nil || !delivers(p.Spec) {
		return spec, "", none
	}
	return p.Spec, digest, nil
}

// catalogue lists all connectors, or those of a name, with what the organization has made
// of them.
func (r *Resolver) catalogue(ctx context.Context, name *string) ([]*graphgen.CatalogueConnector, error) {
	var out []*graphgen.CatalogueConnector
	for _, c := range r.Connectors.Connectors() {
		s := c.Spec()
		out = append(out, &graphgen.CatalogueConnector{Name: s.Name, Title: s.Title, Description: s.Description, Shipped: true,
			Versions: []*flow.Package{{Spec: s, Nodes: []string{}}}, Processes: []*flow.ConnectorProcess{}})
	}
	packages, err := r.Catalogue.Packages(ctx)
	if err != nil {
		return nil, err
	}
	processes, err := r.Catalogue.Processes(ctx, viewer.FromContext(ctx).Organization)
	if err != nil {
		return nil, err
	}
	enabled, err := r.DB.Client.EnabledConnector.Query().All(ctx)
	if err != nil {
		return nil, err
	}
	pinned, err := r.DB.Client.Endpoint.Query().Where(endpoint.ConnectorDigestNEQ("")).Order(gen.Asc(endpoint.FieldName)).All(ctx)
	if err != nil {
		return nil, err
	}
	for i := range packages {
		p := &packages[i]
		e := enabledNamed(enabled, p.Name)
		if len(p.Nodes) == 0 && (e == nil || e.Digest != p.Digest) && len(pinnedTo(pinned, p.Digest)) == 0 {
			continue // it is installed nowhere, and nobody asks for it
		}
		last := out[len(out)-1]
		if last.Shipped || last.Name != p.Name {
			last = &graphgen.CatalogueConnector{Name: p.Name, Title: p.Title, Description: p.Description, Enabled: e, Processes: []*flow.ConnectorProcess{}}
			for j := range processes {
				if processes[j].Connector == p.Name {
					last.Processes = append(last.Processes, &processes[j])
				}
			}
			out = append(out, last)
		}
		last.Versions = append(last.Versions, p)
	}
	if name != nil {
		out = slices.DeleteFunc(out, func(c *graphgen.CatalogueConnector) bool { return c.Name != *name })
	}
	for _, c := range out {
		c.Problem = problem(c, pinned)
	}
	return out, nil
}

func enabledNamed(list []*gen.EnabledConnector, name string) *gen.EnabledConnector {
	if i := slices.IndexFunc(list, func(e *gen.EnabledConnector) bool { return e.Name == name }); i >= 0 {
		return list[i]
	}
	return nil
}

func pinnedTo(list []*gen.Endpoint, digest string) []*gen.Endpoint {
	return slices.DeleteFunc(slices.Clone(list), func(e *gen.Endpoint) bool { return e.ConnectorDigest != digest })
}

// problem says why deliveries through a connector wait: those of the organization's version,
// and of versions that endpoints are pinned to.
func problem(c *graphgen.CatalogueConnector, pinned []*gen.Endpoint) string {
	e := c.Enabled
	switch {
	case e == nil:
		return ""
	case !e.Enabled:
		return "It is disabled: deliveries through it are held."
	}
	var said []string
	switch missing, quarantined := trouble(c, e.Digest); {
	case missing:
		said = append(said, fmt.Sprintf("No running node of the hub has version %s; deliveries wait until the operator installs it, or another version is chosen.", e.Version))
	case quarantined:
		said = append(said, "It keeps crashing and is in quarantine: deliveries wait. See its log, choose another version, or let it out with releaseConnector.")
	}
	told := map[string]bool{e.Digest: true}
	for _, end := range pinned {
		if end.Connector != c.Name || told[end.ConnectorDigest] {
			continue
		}
		told[end.ConnectorDigest] = true
		who := names(pinnedTo(pinned, end.ConnectorDigest))
		switch missing, quarantined := trouble(c, end.ConnectorDigest); {
		case missing:
			said = append(said, fmt.Sprintf("No running node of the hub has version %s, to which these endpoints are pinned: %s. Their deliveries wait until the operator installs it, or they are pinned to another.", end.ConnectorVersion, who))
		case quarantined:
			said = append(said, fmt.Sprintf("Version %s keeps crashing and is in quarantine, and these endpoints are pinned to it: %s. Their deliveries wait. See its log, pin them to another, or let it out with releaseConnector.", end.ConnectorVersion, who))
		}
	}
	return strings.Join(said, " ")
}

// trouble says whether no node has a package, or all that run it have it in quarantine.
func trouble(c *graphgen.CatalogueConnector, digest string) (missing, quarantined bool) {
	i := slices.IndexFunc(c.Versions, func(p *flow.Package) bool { return p.Digest == digest })
	if i < 0 || len(c.Versions[i].Nodes) == 0 {
		return true, false
	}
	for _, p := range c.Processes {
		if p.Digest != digest {
			continue
		}
		if p.State != "QUARANTINED" {
			return false, false
		}
		quarantined = true
	}
	return false, quarantined
}

// names lists a few of the endpoints.
func names(list []*gen.Endpoint) string {
	const most = 10
	var out []string
	for _, e := range list[:min(len(list), most)] {
		out = append(out, e.Name)
	}
	text := strings.Join(out, ", ")
	if more := len(list) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// choose finds the package of a version; "" is the newest release that a node has, or the
// newest pre-release if there is no release.
func choose(packages []flow.Package, connector, version, digest string) (*flow.Package, error) {
	var found []*flow.Package
	known := false
	for i := range packages {
		p := &packages[i]
		if p.Name != connector {
			continue
		}
		known = true
		if (version == "" || p.Version == version) && (digest == "" || p.Digest == digest) && len(p.Nodes) > 0 {
			found = append(found, p)
		}
	}
	if version == "" && digest == "" && slices.ContainsFunc(found, released) {
		found = slices.DeleteFunc(found, func(p *flow.Package) bool { return !released(p) })
	}
	switch {
	case !known:
		return nil, badInput("input.connector", "No connector %q is installed; the hub's operator can add it.", connector)
	case len(found) == 0:
		return nil, badInput("input.version", "No running node has version %s of %s; see connectorCatalogue.", version, connector)
	case len(found) > 1 && found[0].Version == found[1].Version:
		return nil, badInput("input.digest", "Nodes have version %s of %s with different content; name the digest of one.", found[0].Version, connector)
	}
	return found[0], nil
}

// released tells a release from a pre-release, by semantic versioning.
func released(p *flow.Package) bool {
	version, _, _ := strings.Cut(p.Version, "+")
	return !strings.Contains(version, "-")
}

func (r *Resolver) enableConnector(ctx context.Context, in graphgen.EnableConnectorInput) (*gen.EnabledConnector, error) {
	if _, shipped := r.Connectors.Connector(in.Connector); shipped {
		return nil, badInput("input.connector", "%s comes with the hub and is always enabled.", in.Connector)
	}
	packages, err := r.Catalogue.Packages(ctx)
	if err != nil {
		return nil, err
	}
	return change(ctx, r, r.DB.Client.EnabledConnector.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		e, err := tx.EnabledConnector.Query().Where(enabledconnector.Name(in.Connector)).Only(ctx)
		if err != nil && !gen.IsNotFound(err) {
			return "", err
		}
		if e != nil && in.Version == nil && in.Digest == nil { // as it was
			return e.ID, tx.EnabledConnector.UpdateOneID(e.ID).SetEnabled(true).Exec(ctx)
		}
		p, err := choose(packages, in.Connector, or(in.Version), or(in.Digest))
		if err != nil {
			return "", err
		}
		if !slices.ContainsFunc(p.Abilities, usable) {
			return "", badInput("input.connector", "%s %s neither delivers, receives nor scans, and has no format and no trigger, and that is all that installed connectors are used for.", p.Name, p.Version)
		}
		if e != nil {
			return e.ID, r.switchTo(ctx, tx, e, p, true)
		}
		made, err := tx.EnabledConnector.Create().SetName(p.Name).SetVersion(p.Version).SetDigest(p.Digest).Save(ctx)
		if err != nil {
			return "", err
		}
		return made.ID, nil
	})
}

// usable says whether organizations can use an installed connector for that alone.
func usable(a connectors.Ability) bool {
	switch a {
	case connectors.AbilityDeliver, connectors.AbilityReceive, connectors.AbilityFormat, connectors.AbilityTrigger, connectors.AbilityScan:
		return true
	}
	return false
}

func (r *Resolver) disableConnector(ctx context.Context, id string) (*gen.EnabledConnector, error) {
	return change(ctx, r, r.DB.Client.EnabledConnector.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		return id, tx.EnabledConnector.UpdateOneID(id).SetEnabled(false).Exec(ctx)
	})
}

func (r *Resolver) releaseConnector(ctx context.Context, id string) (*gen.EnabledConnector, error) {
	return change(ctx, r, r.DB.Client.EnabledConnector.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		return id, tx.EnabledConnector.UpdateOneID(id).SetReleasedAt(time.Now().UTC().Truncate(time.Microsecond)).Exec(ctx)
	})
}

func (r *Resolver) switchConnector(ctx context.Context, in graphgen.SwitchConnectorInput) (*gen.EnabledConnector, error) {
	packages, err := r.Catalogue.Packages(ctx)
	if err != nil {
		return nil, err
	}
	return change(ctx, r, r.DB.Client.EnabledConnector.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		e, err := tx.EnabledConnector.Get(ctx, in.ID)
		if err != nil {
			return "", err
		}
		p, err := choose(packages, e.Name, in.Version, or(in.Digest))
		if err != nil {
			return "", err
		}
		return e.ID, r.switchTo(ctx, tx, e, p, e.Enabled)
	})
}

// switchTo changes the version that the organization uses, once it has the kinds and formats of
// sources, webhooks and triggers, and the settings of all endpoints that are not pinned, sources and
// projects fit to it. The change comes first: it makes other changes of the organization wait,
// so that nothing is changed in between.
func (r *Resolver) switchTo(ctx context.Context, tx *gen.Tx, e *gen.EnabledConnector, p *flow.Package, enabled bool) error {
	if err := tx.EnabledConnector.UpdateOneID(e.ID).SetVersion(p.Version).SetDigest(p.Digest).SetEnabled(enabled).Exec(ctx); err != nil {
		return err
	}
	endpoints, err := tx.Endpoint.Query().Where(endpoint.Connector(e.Name), endpoint.ConnectorDigest("")).Order(gen.Asc(endpoint.FieldName)).All(ctx)
	if err != nil {
		return err
	}
	var wrong []string
	for _, end := range endpoints {
		said, err := r.misfit(end, p.Spec)
		if err != nil {
			return err
		}
		if said != "" {
			wrong = append(wrong, end.Name+": "+said)
		}
	}
	sources, err := tx.Source.Query().Where(source.KindHasPrefix(e.Name + "/")).Order(gen.Asc(source.FieldName)).All(ctx)
	if err != nil {
		return err
	}
	for _, s := range sources {
		said, err := r.misread(s, p)
		if err != nil {
			return err
		}
		if said != "" {
			wrong = append(wrong, s.Name+": "+said)
		}
	}
	webhooks, err := tx.Webhook.Query().Where(webhook.FormatHasPrefix(e.Name + "/")).Order(gen.Asc(webhook.FieldName)).All(ctx)
	if err != nil {
		return err
	}
	for _, w := range webhooks {
		if _, ok := p.Provides.Format(w.Format); !ok {
			wrong = append(wrong, fmt.Sprintf("%s: It has no format %s.", w.Name, w.Format))
		}
	}
	triggers, err := tx.Trigger.Query().Where(trigger.KindHasPrefix(e.Name + "/")).Order(gen.Asc(trigger.FieldName)).All(ctx)
	if err != nil {
		return err
	}
	for _, t := range triggers {
		if _, ok := p.Provides.Trigger(t.Kind); !ok {
			wrong = append(wrong, fmt.Sprintf("%s: It has no trigger %s.", t.Name, t.Kind))
		}
	}
	projects, err := tx.Project.Query().Where(project.Scanner(e.Name)).Order(gen.Asc(project.FieldName)).All(ctx)
	if err != nil {
		return err
	}
	for _, x := range projects {
		said, err := r.misscan(x, p)
		if err != nil {
			return err
		}
		if said != "" {
			wrong = append(wrong, x.Name+": "+said)
		}
	}
	if len(wrong) > 0 {
		const most = 20
		text := strings.Join(wrong[:min(len(wrong), most)], " ")
		if more := len(wrong) - most; more > 0 {
			text += fmt.Sprintf(" And %d more.", more)
		}
		return conflict("%d endpoints, sources, webhooks, triggers or projects do not fit to version %s; nothing was changed. Mend them, or pin endpoints to their version first. %s", len(wrong), p.Version, text)
	}
	return nil
}

// misfit says why an endpoint would not fit to a version of its connector, "" if it does.
func (r *Resolver) misfit(e *gen.Endpoint, spec connectors.Spec) (string, error) {
	d := draftEndpoint{connector: e.Connector, url: e.URL, headers: e.Headers, settings: e.Settings, secrets: map[string]string{}}
	if err := r.Secrets.UnsealJSON(e.ID, endpoint.FieldSecrets, e.Secrets, &d.secrets); err != nil {
		return "", err
	}
	err := d.fit(spec)
	if bad := (*Error)(nil); errors.As(err, &bad) && bad.Code == BadUserInput {
		return bad.Field + ": " + bad.Message, nil
	}
	return "", err
}

// misread says why a version of its connector could not read a source, "" if it can.
func (r *Resolver) misread(s *gen.Source, p *flow.Package) (string, error) {
	if _, ok := p.Provides.Receiver(s.Kind); !ok {
		return fmt.Sprintf("It reads no sources of kind %s.", s.Kind), nil
	}
	if s.PollEverySeconds > 0 && !flow.Polls(p.Spec) {
		return "It cannot ask, and the source is polled.", nil
	}
	secrets := map[string]string{}
	if len(s.SettingSecrets) > 0 {
		if err := r.Secrets.UnsealJSON(s.ID, source.FieldSettingSecrets, s.SettingSecrets, &secrets); err != nil {
			return "", err
		}
	}
	schema, err := settings.Compile(p.SettingsFor(connectors.RoleSource))
	if err != nil {
		return "", err
	}
	err = wrongSettings(schema.Check(s.Settings, secrets))
	if bad := (*Error)(nil); errors.As(err, &bad) && bad.Code == BadUserInput {
		return bad.Field + ": " + bad.Message, nil
	}
	return "", err
}

func (r *Resolver) pinConnector(ctx context.Context, in graphgen.PinConnectorInput) (*gen.Endpoint, error) {
	packages, err := r.Catalogue.Packages(ctx)
	if err != nil {
		return nil, err
	}
	return change(ctx, r, r.DB.Client.Endpoint.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		e, err := tx.Endpoint.Get(ctx, in.EndpointID)
		if err != nil {
			return "", err
		}
		if _, shipped := r.Connectors.Connector(e.Connector); shipped {
			return "", badInput("input.endpointId", "Its connector %s comes with the hub and has one version.", e.Connector)
		}
		u := tx.Endpoint.UpdateOneID(e.ID)
		var p *flow.Package
		if in.Version == nil {
			u.SetConnectorVersion("").SetConnectorDigest("")
			own, err := tx.EnabledConnector.Query().Where(enabledconnector.Name(e.Connector)).Only(ctx)
			if err != nil {
				return "", err
			}
			p = withDigest(packages, own.Digest)
		} else {
			if p, err = choose(packages, e.Connector, *in.Version, or(in.Digest)); err != nil {
				return "", err
			}
			u.SetConnectorVersion(p.Version).SetConnectorDigest(p.Digest)
		}
		if p != nil {
			said, err := r.misfit(e, p.Spec)
			if err != nil {
				return "", err
			}
			if said != "" {
				return "", conflict("The endpoint's settings do not fit to version %s: %s", p.Version, said)
			}
		}
		return e.ID, u.Exec(ctx)
	})
}
