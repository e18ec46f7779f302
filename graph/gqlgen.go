//go:build ignore

// This program makes graph/gen, the heads of graph/*.resolvers.go and docs/schema.graphql
// from graph/schema.
package main

import (
	"bytes"
	"log"
	"os"
	"slices"

	"github.com/99designs/gqlgen/api"
	"github.com/99designs/gqlgen/codegen/config"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/formatter"
)

func main() {
	if err := generate(); err != nil {
		log.Fatal("generate graph: ", err)
	}
}

func generate() error {
	if err := os.Chdir(".."); err != nil { // the paths of gqlgen.yml begin there
		return err
	}
	cfg, err := config.LoadConfig("gqlgen.yml")
	if err != nil {
		return err
	}
	if err := api.Generate(cfg); err != nil {
		return err
	}
	return publish(cfg.Schema)
}

// publish writes the whole schema for clients, without what only the generator reads.
func publish(schema *ast.Schema) error {
	internal := func(d *ast.Directive) bool { return d.Name == "goModel" || d.Name == "goField" }
	delete(schema.Directives, "goModel")
	delete(schema.Directives, "goField")
	for _, t := range schema.Types {
		t.Directives = slices.DeleteFunc(t.Directives, internal)
		for _, f := range t.Fields {
			f.Directives = slices.DeleteFunc(f.Directives, internal)
		}
	}
	var b bytes.Buffer
	b.WriteString("# The API of Hookyard. Made from graph/schema by go generate; do not edit.\n\n")
	formatter.NewFormatter(&b, formatter.WithIndent("  ")).FormatSchema(schema)
	return os.WriteFile("docs/schema.graphql", b.Bytes(), 0o644)
}
