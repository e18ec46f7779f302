package connectortest

import (
	"encoding/json"
	"testing"

	"github.com/hookyard/hookyard/connectors"
)

// secretMark is in every secret that the suite makes up, so that it can be recognised.
const secretMark = "S3CR3T-of-the-suite-"

// form is as much of a schema as the suite reads. The hub reads all of it.
type form struct {
	Type       string
	Required   []string
	Properties map[string]struct {
		Type, Title, Description, Format string
		WriteOnly                        bool
		Default                          json.RawMessage
	}
}

func (s *suite) form(role connectors.Role) (form, error) {
	var f form
	schema := s.spec.SettingsFor(role)
	if len(schema) == 0 {
		return f, nil
	}
	return f, json.Unmarshal(schema, &f)
}

func (s *suite) testSettings(t *testing.T, role connectors.Role) {
	if len(s.spec.SettingsFor(role)) == 0 {
		return
	}
	f, err := s.form(role)
	if err != nil {
		t.Errorf("the schema of the settings (%q) is not JSON, or not a simple one: %v", role, err)
		return
	}
	if f.Type != "object" {
		t.Errorf("the schema of the settings (%q) has the type %q, want object", role, f.Type)
	}
	for name, p := range f.Properties {
		if p.Title == "" || p.Description == "" {
			t.Errorf("setting %s: the form needs a title and a description", name)
		}
		if secret := p.WriteOnly || p.Format == "password"; secret && p.Type != "string" {
			t.Errorf("setting %s: a secret is a string, not %q", name, p.Type)
		} else if secret && p.Default != nil {
			t.Errorf("setting %s: a secret cannot have a default", name)
		}
	}
}

// endpoint is one of the role, with every secret that there is, made up.
func (s *suite) endpoint(id string, role connectors.Role, url string) connectors.Endpoint {
	e := connectors.Endpoint{Ref: id + "@1", ID: id, Organization: "org_1", Role: role, URL: url, Settings: s.settings[role], Secrets: map[string]string{}}
	f, _ := s.form(role)
	if e.Settings == nil {
		e.Settings = json.RawMessage(`{}`)
	}
	values := map[string]json.RawMessage{}
	_ = json.Unmarshal(e.Settings, &values)
	for name, p := range f.Properties {
		if _, set := values[name]; p.Default != nil && !set {
			values[name] = p.Default
		}
		if p.WriteOnly || p.Format == "password" {
			e.Secrets[name] = secretMark + name
		}
	}
	e.Settings, _ = json.Marshal(values) //nolint:errchkjson // it was JSON before
	return e
}
