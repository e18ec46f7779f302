package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/hookyard/hookyard/plugins/host"
	"github.com/hookyard/hookyard/server"
)

type connectorCmd struct {
	Install installCmd `cmd:"" help:"Install a connector from a package, for organizations to enable; a running hub sees it at once."`
	List    listCmd    `cmd:"" help:"List the connectors that are installed on this machine."`
	Verify  verifyCmd  `cmd:"" help:"Hold every file of the installed connectors against what was installed."`
	Remove  removeCmd  `cmd:"" help:"Remove one version of a connector from this machine."`
	Trust   trustCmd   `cmd:"" help:"Trust a publisher: packages that the key has signed can be installed."`
	Pack    packCmd    `cmd:"" help:"For makers of connectors: make a package of a folder."`
	Keygen  keygenCmd  `cmd:"" help:"For makers of connectors: make a key to sign packages with."`
}

type installCmd struct {
	data
	From     string `arg:"" help:"The package: a file (tar.gz) or a folder."`
	Unsigned bool   `help:"Take the package although no trusted publisher has signed it."`
}

func (c *installCmd) Run(ctx context.Context) error {
	p, err := server.NewPackages(c.config()).Install(ctx, c.From, c.Unsigned)
	if err != nil {
		return err
	}
	signed := "unsigned"
	if p.Publisher != "" {
		signed = "signed by " + p.Publisher
	}
	lines := []string{fmt.Sprintf("installed %s %s (%s), digest %s", p.Name, p.Version, signed, p.Digest)}
	for _, g := range []struct {
		what string
		list []string
	}{{"run", p.Grants.Executables}, {"read", p.Grants.Paths}, {"reach", p.Grants.Egress}} {
		if len(g.list) > 0 {
			lines = append(lines, fmt.Sprintf("it may %s: %s", g.what, strings.Join(g.list, " ")))
		}
	}
	return printed(nil, "%s\n", strings.Join(lines, "\n"))
}

type listCmd struct{ data }

func (c *listCmd) Run() error { return server.NewPackages(c.config()).List(os.Stdout) }

type verifyCmd struct {
	data
	Which string `arg:"" optional:"" placeholder:"NAME[@VERSION]" help:"What to verify; everything by default."`
}

func (c *verifyCmd) Run() error {
	name, version, _ := strings.Cut(c.Which, "@")
	return server.NewPackages(c.config()).Verify(name, version, os.Stdout)
}

type removeCmd struct {
	data
	Which string `arg:"" placeholder:"NAME@VERSION" help:"What to remove; the version may be left out when there is one only."`
	Force bool   `help:"Remove it although endpoints use it: their deliveries wait until some node has it again."`
}

func (c *removeCmd) Run(ctx context.Context) error {
	name, version, _ := strings.Cut(c.Which, "@")
	return printed(server.NewPackages(c.config()).Remove(ctx, name, version, c.Force), "removed %s\n", c.Which)
}

type trustCmd struct {
	data
	Name string `arg:"" help:"What to call the publisher."`
	Key  string `arg:"" help:"File with the publisher's minisign public key."`
}

func (c *trustCmd) Run() error {
	id, err := server.NewPackages(c.config()).Trust(c.Name, c.Key)
	return printed(err, "packages that the key %s has signed can be installed, as those of %s\n", id, c.Name)
}

type packCmd struct {
	Dir      string `arg:"" help:"Folder with the connector's files and connector.json."`
	Out      string `help:"File to write; NAME-VERSION.tar.gz by default." placeholder:"FILE"`
	Key      string `help:"Key to sign with, as keygen or minisign makes them." placeholder:"FILE"`
	Password string `help:"Password of the key; better set in the environment." env:"HOOKYARD_SIGNING_PASSWORD"`
}

func (c *packCmd) Run(ctx context.Context) error {
	p, file, err := server.Pack(ctx, c.Dir, c.Out, c.Key, c.Password, buildVersion())
	if err != nil {
		return err
	}
	return printed(nil, "%s: %s %s, files: %d, digest %s\n", file, p.Name, p.Version, len(p.Files), p.Digest)
}

type keygenCmd struct {
	File     string `arg:"" help:"Where to write the key: FILE.key, and FILE.pub for operators."`
	Password string `help:"Password of the key; better set in the environment." env:"HOOKYARD_SIGNING_PASSWORD"`
}

func (c *keygenCmd) Run() error {
	return printed(host.NewPublisherKey(c.File, c.Password), "wrote %s.key, which is yours alone, and %s.pub for operators\n", c.File, c.File)
}
