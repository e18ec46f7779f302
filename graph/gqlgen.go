//go:build ignore

// This program makes graph/gen and the heads of graph/*.resolvers.go from graph/schema.
package main

import (
	"log"
	"os"

	"github.com/99designs/gqlgen/api"
	"github.com/99designs/gqlgen/codegen/config"
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
	return api.Generate(cfg)
}
