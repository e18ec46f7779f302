package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/builtin"
	"github.com/hookyard/hookyard/plugins/host"
	"github.com/hookyard/hookyard/server/presence/agent"
)

type presenceCmd struct {
	Hub             string        `help:"Address of the hub." required:"" placeholder:"URL" env:"HOOKYARD_HUB"`
	Key             string        `help:"Key of the Presence." placeholder:"KEY" env:"HOOKYARD_KEY" xor:"key"`
	KeyFile         string        `help:"File with the key of the Presence; it is read again before each link." placeholder:"FILE" env:"HOOKYARD_KEY_FILE" xor:"key"`
	DataDir         string        `help:"Folder for this agent's own key and for what it has yet to tell the hub." required:"" placeholder:"DIR" env:"HOOKYARD_DATA_DIR"`
	Allow           []string      `help:"Targets that may be called: a host, *.example.com, an address or a CIDR, with :port or without. None: nothing is called." placeholder:"TARGET" env:"HOOKYARD_ALLOW"`
	Name            string        `help:"Name of this agent, for people; the machine's name by default." placeholder:"NAME" env:"HOOKYARD_NAME"`
	Proxy           string        `help:"HTTP proxy to the hub; else HTTPS_PROXY, HTTP_PROXY and NO_PROXY count." placeholder:"URL" env:"HOOKYARD_PROXY"`
	CAFile          string        `name:"ca-file" help:"Certificates (PEM) that the hub's is held against, instead of the system's." placeholder:"FILE" env:"HOOKYARD_CA_FILE"`
	ShutdownTimeout time.Duration `help:"How long a clean shutdown waits for deliveries in flight." default:"15s" env:"HOOKYARD_SHUTDOWN_TIMEOUT"`
}

func (c *presenceCmd) Run(ctx context.Context, log *slog.Logger) (err error) {
	cfg, err := c.config(log)
	if err != nil {
		return err
	}
	plugins, self, err := startConnectors(ctx, log)
	if err != nil {
		return err
	}
	defer func() {
		ended, end := context.WithCancel(context.WithoutCancel(ctx))
		end() // what could be finished is
		if closing := plugins.Close(ended); !errors.Is(closing, context.Canceled) {
			err = errors.Join(err, closing)
		}
		err = errors.Join(err, self.Close())
	}()
	cfg.Connectors = plugins
	a, err := agent.Open(cfg)
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

func (c *presenceCmd) config(log *slog.Logger) (agent.Config, error) {
	cfg := agent.Config{Hub: c.Hub, Name: c.Name, Version: buildVersion(), DataDir: c.DataDir, Log: log, StopWithin: c.ShutdownTimeout}
	hub, err := url.Parse(c.Hub)
	if err != nil || hub.Host == "" || hub.Scheme != "http" && hub.Scheme != "https" {
		return cfg, fmt.Errorf("--hub %q is not an http or https address such as https://hub.example.com", c.Hub)
	}
	if ip := net.ParseIP(hub.Hostname()); hub.Scheme == "http" && hub.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		log.Warn("the link to the hub is not encrypted: everybody on the way can read the key and what is delivered; use https", "hub", c.Hub)
	}
	if cfg.Name == "" {
		if cfg.Name, err = os.Hostname(); err != nil {
			return cfg, fmt.Errorf("the machine has no name; give the agent one with --name: %w", err)
		}
	}
	for _, s := range c.Allow {
		rule, err := agent.ParseAllow(s)
		if err != nil {
			return cfg, fmt.Errorf("--allow: %w", err)
		}
		cfg.Allow = append(cfg.Allow, rule)
	}
	if c.Key == "" && c.KeyFile == "" {
		return cfg, errors.New("give the key of the Presence with --key or --key-file; createPresence shows it once")
	}
	cfg.Key = func() (string, error) {
		if c.KeyFile == "" {
			return c.Key, nil
		}
		b, err := os.ReadFile(c.KeyFile)
		if err != nil {
			return "", fmt.Errorf("read the key of the Presence: %w", err)
		}
		return strings.TrimSpace(string(b)), nil
	}
	cfg.Client, err = c.client()
	return cfg, err
}

// client is the way to the hub. It is not the connectors': those have their own.
func (c *presenceCmd) client() (*http.Client, error) {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		DialContext: (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext}
	if c.Proxy != "" {
		u, err := url.Parse(c.Proxy)
		if err != nil || u.Host == "" {
			return nil, errors.New("--proxy is not an address such as http://proxy.example.com:3128") // not shown: it may hold a password
		}
		t.Proxy = http.ProxyURL(u)
	}
	if c.CAFile != "" {
		b, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read --ca-file: %w", err)
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("--ca-file %s holds no certificate in PEM form", c.CAFile)
		}
	}
	return &http.Client{Transport: t}, nil
}

// startConnectors runs the shipped connectors that deliver, each from its first work on.
func startConnectors(ctx context.Context, log *slog.Logger) (*host.Supervisor, *os.File, error) {
	var names []string
	for _, c := range builtin.Connectors() {
		if _, ok := c.(connectors.Deliverer); ok {
			names = append(names, c.Spec().Name)
		}
	}
	entries, self, err := host.Shipped(names...)
	if err != nil {
		return nil, nil, err
	}
	for i := range entries {
		entries[i].OnDemand = true
	}
	s, err := host.New(host.Config{Catalog: entries, Logger: log, Clock: clockwork.NewRealClock(), HostVersion: buildVersion()})
	if err == nil {
		err = s.Start(context.WithoutCancel(ctx))
	}
	if err != nil {
		return nil, nil, errors.Join(err, self.Close())
	}
	return s, self, nil
}
