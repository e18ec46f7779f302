package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
)

// settings is a configuration file: values by the names of the flags. Flags and the
// environment beat it. One file may serve several commands, so that a name has to be a
// flag of any of them.
type settings map[string]any

func readSettings(r io.Reader) (kong.Resolver, error) {
	s := settings{}
	if err := yaml.NewDecoder(r).Decode(&s); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the configuration file: %w", err)
	}
	return s, nil
}

// Validate is part of kong.Resolver.
func (s settings) Validate(app *kong.Application) error {
	known := map[string]bool{}
	note(app.Node, known)
	for name := range s {
		if !known[name] {
			return fmt.Errorf("the configuration file sets %q, which is no flag of hookyard", name)
		}
	}
	return nil
}

func note(n *kong.Node, known map[string]bool) {
	for _, f := range n.Flags {
		known[f.Name] = true
	}
	for _, child := range n.Children {
		note(child, known)
	}
}

// Resolve is part of kong.Resolver.
func (s settings) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set {
			return nil, nil
		}
	}
	switch v := s[flag.Name].(type) {
	case nil, bool:
		return v, nil
	case []any:
		list := make([]string, len(v))
		for i, item := range v {
			list[i] = fmt.Sprint(item)
		}
		return strings.Join(list, ","), nil
	default:
		return fmt.Sprint(v), nil
	}
}
