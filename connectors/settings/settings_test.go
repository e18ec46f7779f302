package settings

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

const schema = `{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "additionalProperties": false,
	"required": ["project", "token"],
	"properties": {
		"project": {"type": "string", "title": "Project", "description": "Its key.", "pattern": "^[A-Z]+$", "maxLength": 5},
		"token": {"type": "string", "title": "Token", "description": "An API token.", "writeOnly": true, "minLength": 8},
		"password": {"type": "string", "title": "Password", "description": "Instead of a token.", "format": "password"},
		"mode": {"type": "string", "title": "Mode", "description": "How.", "enum": ["fast", "slow"]},
		"tries": {"type": "integer", "title": "Tries", "description": "How often.", "minimum": 1, "maximum": 9, "default": 3},
		"labels": {"type": "array", "title": "Labels", "description": "Set on all.", "items": {"type": "string", "minLength": 1}, "maxItems": 2},
		"site": {"type": "string", "title": "Site", "description": "Where.", "format": "uri"},
		"map": {"type": "object", "title": "Map", "description": "By severity.", "additionalProperties": {"type": "string"}}
	}}`

func TestCheck(t *testing.T) {
	s, err := Compile(json.RawMessage(schema))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(s.Secrets()); got != "[password token]" {
		t.Errorf("the secrets are %s", got)
	}
	good := map[string]string{"token": "12345678"}
	for _, c := range []struct {
		plain   map[string]any
		secrets map[string]string
		want    string
	}{
		{map[string]any{"project": "SEC", "tries": 4, "labels": []string{"a"}, "map": map[string]any{"high": "P1"}, "site": "https://x.example"}, good, ""},
		{map[string]any{}, nil, "project: Project is needed.\ntoken: Token is needed."},
		{map[string]any{"project": "sec"}, good, "project: Project must match the pattern ^[A-Z]+$."},
		{map[string]any{"project": "SECRET"}, good, "project: Project must have at most 5 characters."},
		{map[string]any{"project": 7}, good, "project: Project must be of the type string."},
		{map[string]any{"project": "SEC", "mode": "never"}, good, `mode: Mode must be one of "fast", "slow".`},
		{map[string]any{"project": "SEC", "tries": 10}, good, "tries: Tries must be at most 9."},
		{map[string]any{"project": "SEC", "tries": 1.5}, good, "tries: Tries must be of the type integer."},
		{map[string]any{"project": "SEC", "labels": []string{"a", ""}}, good, "labels.1: Labels › 1 must not be empty."},
		{map[string]any{"project": "SEC", "labels": []string{"a", "b", "c"}}, good, "labels: Labels must have at most 2 entries."},
		{map[string]any{"project": "SEC", "site": "nowhere at all"}, good, "site: Site must be written as uri."},
		{map[string]any{"project": "SEC", "map": map[string]any{"high": 1}}, good, "map.high: Map › high must be of the type string."},
		{map[string]any{"project": "SEC", "color": "red"}, good, `color: "color" is no setting of this connector.`},
		{map[string]any{"project": "SEC", "token": "12345678"}, nil, "token: Token is a secret: put it among the secrets.\ntoken: Token is needed."},
		{map[string]any{"project": "SEC"}, map[string]string{"token": "1234567"}, "token: Token must have at least 8 characters."},
		{map[string]any{"project": "SEC"}, map[string]string{"token": "12345678", "mode": "fast"}, `mode: There is no secret setting "mode".`},
	} {
		var got []string
		for _, p := range s.Check(c.plain, c.secrets) {
			got = append(got, p.String())
			for _, v := range c.secrets {
				if strings.Contains(p.Message, v) {
					t.Errorf("%q quotes a secret", p.Message)
				}
			}
		}
		if all := strings.Join(got, "\n"); all != c.want {
			t.Errorf("%v %v:\n%s\nwant:\n%s", c.plain, c.secrets, all, c.want)
		}
	}
}

func TestNothingToSet(t *testing.T) {
	s, err := Compile(nil)
	if err != nil {
		t.Fatal(err)
	}
	if p := s.Check(nil, nil); len(p) > 0 {
		t.Error(p)
	}
	if p := s.Check(map[string]any{"a": 1}, map[string]string{"b": "x"}); len(p) != 2 {
		t.Error(p)
	}
}

func TestSchemasThatMakeNoForm(t *testing.T) {
	for _, c := range []struct{ schema, want string }{
		{`{`, "not JSON"},
		{`{"type": "array"}`, `the type "object"`},
		{`{"type": "object", "properties": {"a": {"type": "string"}}}`, "needs a title"},
		{`{"type": "object", "properties": {"a": {"type": "integer", "title": "A", "description": "A.", "writeOnly": true}}}`, "is a secret and must have the type"},
		{`{"type": "object", "properties": {"a": {"type": "object", "title": "A", "description": "A.", "properties": {"b": {"type": "string", "writeOnly": true}}}}}`, "holds a secret"},
		{`{"type": "object", "properties": {"a": {"type": "array", "title": "A", "description": "A.", "items": {"type": "string", "format": "password"}}}}`, "holds a secret"},
		{`{"type": "object", "minProperties": "x"}`, "no JSON Schema"},
		{`{"type": "object", "$ref": "file:///etc/passwd"}`, "is elsewhere"},
		{`{"type": "object", "properties": {"a": {"title": "A", "description": "A.", "$ref": "http://127.0.0.1/x"}}}`, "is elsewhere"},
		{`{"type": "object", "properties": {"a": {"title": "A", "description": "A.", "type": "string", "pattern": "("}}}`, "no JSON Schema"},
	} {
		if _, err := Compile(json.RawMessage(c.schema)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.schema, err, c.want)
		}
	}
}
