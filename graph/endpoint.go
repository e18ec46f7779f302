package graph

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/settings"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/assetgroup"
	"github.com/hookyard/hookyard/ent/gen/endpoint"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/parts"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/viewer"
	graphgen "github.com/hookyard/hookyard/graph/gen"
)

// headerSecret is where the value of a secret header is among an endpoint's secrets.
const headerSecret = "header:"

func (r *Resolver) createEndpoint(ctx context.Context, in graphgen.CreateEndpointInput) (*gen.Endpoint, error) {
	id := r.IDs.New(ids.Endpoint)
	d := draftEndpoint{connector: in.Connector, presence: or(in.PresenceID), url: or(in.URL), settings: in.Settings, secrets: map[string]string{}}
	if err := d.setHeaders(in.Headers); err != nil {
		return nil, err
	}
	d.setSecrets(in.Secrets)
	if err := d.check(ctx, r, r.DB.Client); err != nil {
		return nil, err
	}
	sealed, err := r.Secrets.SealJSON(id, endpoint.FieldSecrets, d.secrets)
	if err != nil {
		return nil, err
	}
	return change(ctx, r, r.DB.Client.Endpoint.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		err := tx.Endpoint.Create().SetID(id).SetName(in.Name).SetNillableAssetGroupID(in.AssetGroupID).SetConnector(in.Connector).SetNillablePresenceID(in.PresenceID).
			SetURL(d.url).SetHeaders(d.headers).SetSettings(d.settings).SetSecrets(sealed).
			SetNillableRatePerSecond(in.RatePerSecond).SetNillableBurst(in.Burst).SetNillableMaxInFlight(in.MaxInFlight).
			AddSharedGroupIDs(in.SharedGroupIds...).Exec(ctx)
		if err != nil {
			return "", err
		}
		return id, d.still(ctx, r, tx)
	})
}

// updateEndpoint changes an endpoint. At another address, those webhooks are asked anew
// whose formats know a handshake.
func (r *Resolver) updateEndpoint(ctx context.Context, in graphgen.UpdateEndpointInput) (*gen.Endpoint, error) {
	moved := false
	e, err := change(ctx, r, r.DB.Client.Endpoint.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		e, err := tx.Endpoint.Get(ctx, in.ID)
		if err != nil {
			return "", err
		}
		moved = in.URL != nil && *in.URL != e.URL
		d := draftEndpoint{connector: e.Connector, pinned: e.ConnectorDigest, exists: true, presence: or(e.PresenceID), url: e.URL, headers: e.Headers, settings: e.Settings, secrets: map[string]string{}}
		if err := r.Secrets.UnsealJSON(e.ID, endpoint.FieldSecrets, e.Secrets, &d.secrets); err != nil {
			return "", err
		}
		d.keep()
		if in.URL != nil {
			d.url = *in.URL
		}
		if in.Settings != nil {
			d.settings = in.Settings
		}
		if in.Headers != nil {
			if err := d.setHeaders(in.Headers); err != nil {
				return "", err
			}
		}
		d.setSecrets(in.Secrets)
		presence, moves := in.PresenceID.ValueOK()
		if moves {
			d.presence = or(presence)
		}
		if err := d.check(ctx, r, tx.Client()); err != nil {
			return "", err
		}
		u := tx.Endpoint.UpdateOneID(e.ID).SetNillableName(in.Name).SetURL(d.url).SetNillableEnabled(in.Enabled).
			SetHeaders(d.headers).SetSettings(d.settings).
			SetNillableRatePerSecond(in.RatePerSecond).SetNillableBurst(in.Burst).SetNillableMaxInFlight(in.MaxInFlight)
		if !maps.Equal(d.was.secrets, d.secrets) { // sealed anew they would look changed in the audit log
			sealed, err := r.Secrets.SealJSON(e.ID, endpoint.FieldSecrets, d.secrets)
			if err != nil {
				return "", err
			}
			u.SetSecrets(sealed)
		}
		if group, given := in.AssetGroupID.ValueOK(); given && group == nil {
			u.ClearAssetGroup()
		} else if given {
			u.SetAssetGroupID(*group)
		}
		if moves && presence == nil {
			u.ClearPresence()
		} else if moves {
			u.SetPresenceID(*presence)
		}
		if in.SharedGroupIds != nil {
			seen, err := e.QuerySharedGroups().IDs(ctx) // the others stay
			if err != nil {
				return "", err
			}
			u.RemoveSharedGroupIDs(without(seen, in.SharedGroupIds)...).AddSharedGroupIDs(without(in.SharedGroupIds, seen)...)
		}
		if err := u.Exec(ctx); err != nil {
			return "", err
		}
		if d.moved {
			if err := store.ForgetStates(ctx, tx.Client(), e.OrganizationID, e.ID); err != nil {
				return "", err
			}
		}
		return e.ID, d.still(ctx, r, tx)
	})
	if err != nil || !moved {
		return e, err
	}
	return e, r.Handshakes.VerifyAll(ctx, viewer.FromContext(ctx).Organization, e.ID)
}

// without are those of list that are not in the other.
func without(list, other []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(id string) bool { return slices.Contains(other, id) })
}

// endpointChoices are the endpoints that a webhook of the level can use, of which the
// viewer need not see more than this.
func (r *Resolver) endpointChoices(ctx context.Context, group, name *string) ([]*gen.Endpoint, error) {
	q := r.DB.Client.Endpoint.Query()
	switch v := viewer.FromContext(ctx); {
	case group == nil && !v.All():
		return nil, forbidden("The organization's level needs access to all asset groups.")
	case group == nil:
		q.Where(endpoint.AssetGroupIDIsNil())
	case !v.InGroup(*group):
		return nil, forbidden("You have no access to the asset group %s.", *group)
	default:
		q.Where(endpoint.Or(endpoint.AssetGroupID(*group), endpoint.HasSharedGroupsWith(assetgroup.ID(*group))))
	}
	if name != nil {
		q.Where(endpoint.NameContainsFold(*name))
	}
	return q.Order(endpoint.ByName(), endpoint.ByID()).Limit(maxPage).Select(endpoint.FieldID, endpoint.FieldName, endpoint.FieldConnector).All(rule.Choosing(ctx))
}

// deliversTo is the endpoint of a webhook that the viewer sees, as much of it as everyone
// sees who may choose it: the webhook's group has it, or it is shared with that.
func (r *Resolver) deliversTo(ctx context.Context, w *gen.Webhook) (*gen.Endpoint, error) {
	e, err := loadersOf(ctx).choices.get(ctx, w.EndpointID)
	if err == nil && e == nil {
		err = &Error{Code: Unavailable, Message: "The webhook is just being changed; ask again."}
	}
	return e, err
}

// draftEndpoint is an endpoint as it will be.
type draftEndpoint struct {
	exists    bool
	pinned    string // digest of the package that it is pinned to
	digest    string // of the package that it was checked against
	connector string
	presence  string
	url       string
	headers   []parts.EndpointHeader
	settings  map[string]any
	secrets   map[string]string

	was   *draftEndpoint  // before the change; nil: it is new
	given map[string]bool // names of the secrets that were given since
	moved bool            // it leads elsewhere than before
}

// keep remembers the endpoint as it was before a change.
func (d *draftEndpoint) keep() {
	was := *d
	was.secrets = maps.Clone(d.secrets)
	d.was, d.given = &was, map[string]bool{}
}

// setSecrets changes the secret settings that are named.
func (d *draftEndpoint) setSecrets(in []*graphgen.SecretInput) {
	for _, s := range in {
		if s.Value == nil {
			delete(d.secrets, s.Name)
		} else {
			d.secrets[s.Name] = *s.Value
			d.gave(s.Name)
		}
	}
}

func (d *draftEndpoint) gave(secret string) {
	if d.was != nil {
		d.given[secret] = true
	}
}

// setHeaders replaces the headers. A secret one without a value keeps the one it has.
func (d *draftEndpoint) setHeaders(in []*graphgen.EndpointHeaderInput) error {
	had := maps.Clone(d.secrets)
	maps.DeleteFunc(d.secrets, func(name, _ string) bool { return strings.HasPrefix(name, headerSecret) })
	d.headers = make([]parts.EndpointHeader, 0, len(in))
	seen := map[string]bool{}
	for i, h := range in {
		at := fmt.Sprintf("input.headers[%d]", i)
		name := strings.ToLower(h.Name)
		switch {
		case !httpguts.ValidHeaderFieldName(h.Name):
			return badInput(at+".name", "%q is not a header's name.", h.Name)
		case slices.Contains([]string{"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"}, name):
			return badInput(at+".name", "The connection sets %s by itself.", h.Name)
		case seen[name]:
			return badInput(at+".name", "%s is there twice.", h.Name)
		}
		seen[name] = true
		value := or(h.Value)
		if old, ok := had[headerSecret+h.Name]; ok && h.Secret && h.Value == nil {
			value = old
		} else if h.Value == nil {
			return badInput(at+".value", "The header %s needs a value.", h.Name)
		}
		if !httpguts.ValidHeaderFieldValue(value) {
			return badInput(at+".value", "The value of %s has characters that no header may have.", h.Name)
		}
		if h.Secret {
			d.secrets[headerSecret+h.Name] = value
			if h.Value != nil {
				d.gave(headerSecret + h.Name)
			}
			value = ""
		}
		d.headers = append(d.headers, parts.EndpointHeader{Name: h.Name, Value: value, Secret: h.Secret})
	}
	return nil
}

// check holds the endpoint against its connector.
func (d *draftEndpoint) check(ctx context.Context, r *Resolver, c *gen.Client) error {
	spec, digest, err := r.used(ctx, c, d.connector, d.pinned, d.exists)
	if err != nil {
		return err
	}
	d.digest = digest
	if d.presence != "" && digest != "" {
		return badInput("input.presenceId", "A Presence has the connectors that are shipped, and %s is installed at the hub: it delivers from there only.", d.connector)
	}
	return d.fit(spec)
}

// still says no when the connector's version was changed since check: its settings are
// another's now. It is called when the endpoint was written, which no such change passes.
func (d *draftEndpoint) still(ctx context.Context, r *Resolver, tx *gen.Tx) error {
	if d.digest == "" {
		return nil
	}
	if _, digest, err := r.used(ctx, tx.Client(), d.connector, d.pinned, d.exists); err != nil || digest == d.digest {
		return err
	}
	return conflict("The version of the connector was changed in between; look at the settings again.")
}

// fit holds the endpoint against what its connector says of itself.
func (d *draftEndpoint) fit(spec connectors.Spec) error {
	if d.url != "" || spec.TakesRequest {
		if err := checkURL(d.url); err != nil {
			return err
		}
	}
	if d.settings == nil {
		d.settings = map[string]any{}
	}
	return d.checkSettings(spec)
}

// checkURL checks an address to deliver to. Placeholders may stand in its path and
// query only.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return badInput("input.url", "An address is needed.")
	case err != nil:
		return badInput("input.url", "This is not an address: %s.", strings.ReplaceAll(cause(err).Error(), s, "it"))
	case u.Scheme != "http" && u.Scheme != "https":
		return badInput("input.url", "The address must begin with http:// or https://.")
	case u.User != nil:
		return badInput("input.url", "Put user and password into the settings rather than into the address, where everybody reads them.")
	case u.Hostname() == "" || strings.ContainsAny(u.Host, "{}"):
		return badInput("input.url", "The address needs a host, and a placeholder cannot stand there.")
	case u.Fragment != "":
		return badInput("input.url", "A fragment (#...) is never sent; leave it out.")
	}
	return nil
}

// checkSettings holds settings and secrets against the connector's schema.
func (d *draftEndpoint) checkSettings(spec connectors.Spec) error {
	schema, err := settings.Compile(spec.Settings)
	if err != nil {
		return fmt.Errorf("connector %s: %w", spec.Name, err)
	}
	if err := wrongSettings(schema.Check(d.settings, d.values())); err != nil {
		return err
	}
	return d.follow(schema, "input.secrets")
}

// values are the secret settings.
func (d *draftEndpoint) values() map[string]string {
	secrets := maps.Clone(d.secrets)
	maps.DeleteFunc(secrets, func(name, _ string) bool { return strings.HasPrefix(name, headerSecret) })
	return secrets
}

// follow says no when secrets would be sent elsewhere than where they were given for: who
// may change an address cannot read them, and could by that. at is the field of the secrets.
func (d *draftEndpoint) follow(schema *settings.Schema, at string) error {
	if d.was == nil {
		return nil
	}
	var turned, missing []string
	if settings.Place(d.was.url) != settings.Place(d.url) {
		turned = append(turned, "the address")
	}
	if d.was.connector != d.connector {
		turned = append(turned, "the scanner")
	}
	if d.was.presence != d.presence {
		turned = append(turned, "the Presence")
	}
	was, is := schema.Ways(d.was.settings, d.was.values()), schema.Ways(d.settings, d.values())
	either := maps.Clone(was)
	maps.Copy(either, is)
	for _, name := range slices.Sorted(maps.Keys(either)) {
		if was[name] != is[name] {
			turned = append(turned, schema.Title(name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.secrets)) {
		if header, ok := strings.CutPrefix(name, headerSecret); d.given[name] {
			continue
		} else if ok {
			missing = append(missing, "the header "+header)
		} else {
			missing = append(missing, schema.Title(name))
		}
	}
	d.moved = len(turned) > 0
	if !d.moved || len(missing) == 0 {
		return nil
	}
	return badInput(at, "With another value for %s others could read the secrets, so they do not go along. Enter them again together with the change, or take them away: %s.",
		strings.Join(turned, ", "), strings.Join(missing, ", "))
}

// wrongSettings is the problems as one refusal, with the path of the first.
func wrongSettings(list []settings.Problem) error {
	if len(list) == 0 {
		return nil
	}
	at := "input.settings"
	if list[0].Secret {
		at = "input.secrets"
	}
	said := make([]string, len(list))
	for i, p := range list {
		said[i] = p.Message
	}
	return badInput(strings.Join(append([]string{at}, list[0].Path...), "."), "%s", strings.Join(said, " "))
}

// test tries an endpoint for a row that the viewer sees, itself or a webhook that uses
// it, and returns what is wrong, "" nothing.
func (r *Resolver) test(ctx context.Context, noun, id, name string, group *string, endpoint string) (message string, err error) {
	if err := r.audit(ctx, store.TestEndpoint, noun, id, name, or(group)); err != nil {
		return "", err
	}
	if err := r.Checker.Check(ctx, viewer.FromContext(ctx).Organization, endpoint); err != nil {
		return sentence(err.Error()), nil
	}
	return "", nil
}
