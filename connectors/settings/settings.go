// Package settings holds what people set for a connector to the JSON Schema that its Spec
// states.
//
// Place: beside the path of events. The API asks it when settings are saved, and the catalogue
// before another version of a connector takes over.
//
// Guarantees: nothing is loaded from elsewhere, whatever a schema refers to; no word of it
// quotes a value, because it might be a secret; a schema that it takes can be made into a form.
package settings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// Schema is a compiled JSON Schema. It is immutable and safe for concurrent use.
type Schema struct {
	compiled   *jsonschema.Schema // nil: there is nothing to set
	properties map[string]property
}

// property is what a form needs to know of one.
type property struct {
	Title, Description string
	Type               any
	Format             string
	WriteOnly          bool
	Default            any
	Properties         map[string]json.RawMessage
	Items              json.RawMessage
}

func (p *property) secret() bool { return p.WriteOnly || p.Format == "password" }

// Problem is one thing that is wrong with settings.
type Problem struct {
	Path    []string // to the setting: its name, and the way within it
	Secret  bool     // it is one of the secrets
	Message string   // a sentence for the person who set it; quotes no value
}

func (p Problem) String() string { return strings.Join(p.Path, ".") + ": " + p.Message }

// Compile reads a schema. An empty one takes no settings. The error's text is for the
// connector's author.
func Compile(schema json.RawMessage) (*Schema, error) {
	if len(schema) == 0 {
		return &Schema{}, nil
	}
	var form struct {
		Type       any
		Properties map[string]property
	}
	if err := json.Unmarshal(schema, &form); err != nil {
		return nil, fmt.Errorf("the schema of the settings is not JSON: %w", err)
	}
	if form.Type != "object" {
		return nil, errors.New(`the schema of the settings must have the type "object"`)
	}
	for name, p := range form.Properties {
		if err := p.check(); err != nil {
			return nil, fmt.Errorf("the setting %q %w", name, err)
		}
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, fmt.Errorf("the schema of the settings is not JSON: %w", err)
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(nowhere{})
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	const here = "settings:schema"
	if err := c.AddResource(here, doc); err != nil {
		return nil, fmt.Errorf("the schema of the settings: %w", err)
	}
	compiled, err := c.Compile(here)
	if err != nil {
		return nil, fmt.Errorf("the schema of the settings is no JSON Schema: %w", err)
	}
	return &Schema{compiled, form.Properties}, nil
}

// check says why a form cannot be made of a property.
func (p *property) check() error {
	switch {
	case p.Title == "" || p.Description == "":
		return errors.New("needs a title and a description: forms are made of them")
	case p.secret() && p.Type != "string":
		return errors.New(`is a secret and must have the type "string"`)
	}
	nested := slices.Collect(func(yield func(json.RawMessage) bool) {
		for _, n := range p.Properties {
			if !yield(n) {
				return
			}
		}
		if len(p.Items) > 0 {
			yield(p.Items)
		}
	})
	for _, raw := range nested {
		var n property
		if json.Unmarshal(raw, &n) != nil {
			continue // true and false are schemas, too
		}
		if n.secret() {
			return errors.New("holds a secret; only settings themselves can be secrets, not parts of them")
		}
		n.Title, n.Description = "-", "-"
		if err := n.check(); err != nil {
			return err
		}
	}
	return nil
}

// nowhere loads nothing: a schema stands for itself.
type nowhere struct{}

func (nowhere) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s is elsewhere; the schema has to hold all that it refers to", url)
}

// IsSecret says whether a setting is kept as a secret.
func (s *Schema) IsSecret(name string) bool {
	p := s.properties[name]
	return p.secret()
}

// Secrets are the names of the settings that are kept as secrets, in order.
func (s *Schema) Secrets() (names []string) {
	for name, p := range s.properties {
		if p.secret() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Check holds settings and secrets together against the schema, and each against being
// given as the other. It returns what is wrong, nothing when all is well.
func (s *Schema) Check(plain map[string]any, secrets map[string]string) []Problem {
	var wrong []Problem
	all := make(map[string]any, len(plain)+len(secrets))
	for name, v := range plain {
		if s.IsSecret(name) {
			wrong = append(wrong, Problem{Path: []string{name}, Message: s.Title(name) + " is a secret: put it among the secrets."})
			continue
		}
		all[name] = v
	}
	for name, v := range secrets {
		if !s.IsSecret(name) {
			wrong = append(wrong, Problem{Path: []string{name}, Secret: true, Message: fmt.Sprintf("There is no secret setting %q.", name)})
			continue
		}
		all[name] = v
	}
	if s.compiled == nil {
		for name := range plain {
			wrong = append(wrong, Problem{Path: []string{name}, Message: fmt.Sprintf("There is no setting %q.", name)})
		}
		return ordered(wrong)
	}
	// The numbers of JSON, as the validator wants them.
	b, err := json.Marshal(all)
	if err != nil {
		return []Problem{{Message: "The settings are not JSON."}}
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return []Problem{{Message: "The settings are not JSON."}}
	}
	var invalid *jsonschema.ValidationError
	if errors.As(s.compiled.Validate(instance), &invalid) {
		wrong = append(wrong, s.problems(invalid)...)
	}
	return ordered(wrong)
}

func ordered(list []Problem) []Problem {
	slices.SortFunc(list, func(a, b Problem) int { return strings.Compare(a.String(), b.String()) })
	return list
}

// problems are the leaves of the validator's tree, in words.
func (s *Schema) problems(e *jsonschema.ValidationError) (out []Problem) {
	switch k := e.ErrorKind.(type) {
	case *kind.AnyOf, *kind.OneOf:
		return []Problem{s.problem(e.InstanceLocation, "fits none of the ways in which it can be set, or more than one; see the connector's schema")}
	case *kind.Required:
		for _, name := range k.Missing {
			out = append(out, s.problem(append(slices.Clone(e.InstanceLocation), name), "is needed"))
		}
		return out
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			out = append(out, s.problem(append(slices.Clone(e.InstanceLocation), name), "is no setting of this connector"))
		}
		return out
	}
	if len(e.Causes) == 0 {
		return []Problem{s.problem(e.InstanceLocation, words(e.ErrorKind))}
	}
	for _, c := range e.Causes {
		out = append(out, s.problems(c)...)
	}
	return out
}

func (s *Schema) problem(path []string, what string) Problem {
	p := Problem{Path: slices.Clone(path)}
	subject := "The whole of the settings"
	if len(path) > 0 {
		p.Secret = s.IsSecret(path[0])
		subject = strings.Join(append([]string{s.Title(path[0])}, path[1:]...), " › ")
	}
	p.Message = subject + " " + what + "."
	return p
}

// Title is what the form calls a setting.
func (s *Schema) Title(name string) string {
	if p, ok := s.properties[name]; ok && p.Title != "" {
		return p.Title
	}
	return fmt.Sprintf("%q", name)
}

// words says what a rule wants.
func words(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		return "must be of the type " + strings.Join(k.Want, " or ")
	case *kind.Enum:
		return "must be one of " + list(k.Want)
	case *kind.Const:
		return "must be " + list([]any{k.Want})
	case *kind.Format:
		return "must be written as " + k.Want
	case *kind.Pattern:
		return "must match the pattern " + k.Want
	case *kind.MinLength:
		if k.Want == 1 {
			return "must not be empty"
		}
		return fmt.Sprintf("must have at least %d characters", k.Want)
	case *kind.MaxLength:
		return fmt.Sprintf("must have at most %d characters", k.Want)
	case *kind.MinItems:
		return fmt.Sprintf("must have at least %d entries", k.Want)
	case *kind.MaxItems:
		return fmt.Sprintf("must have at most %d entries", k.Want)
	case *kind.Minimum:
		f, _ := k.Want.Float64()
		return fmt.Sprintf("must be at least %v", f)
	case *kind.Maximum:
		f, _ := k.Want.Float64()
		return fmt.Sprintf("must be at most %v", f)
	case *kind.ExclusiveMinimum:
		f, _ := k.Want.Float64()
		return fmt.Sprintf("must be more than %v", f)
	case *kind.ExclusiveMaximum:
		f, _ := k.Want.Float64()
		return fmt.Sprintf("must be less than %v", f)
	case *kind.UniqueItems:
		return "must not have an entry twice"
	}
	return "does not fit the connector's schema (" + strings.Join(k.KeywordPath(), "/") + ")"
}

func list(values []any) string {
	var out []string
	for _, v := range values {
		b, err := json.Marshal(v)
		if err == nil {
			out = append(out, string(b))
		}
	}
	return strings.Join(out, ", ")
}
