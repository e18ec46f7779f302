package server

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hookyard/hookyard/ent/secret"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/plugins/sandbox"
)

// Config is everything that an operator may decide about a hub.
type Config struct {
	DataDir     string // where the hub keeps its files; made when missing
	Listen      string // "host:port"
	DatabaseURL string // "postgres://…"; "" is the embedded database in DataDir
	PublicURL   string // how people and sources reach the hub; "" is derived from Listen
	KeyURI      string // of a key management service; "" is a key file in DataDir
	NodeName    string // "" is the machine's name

	TLSCert, TLSKey string         // files, read again when they change
	TrustedProxies  []netip.Prefix // whose X-Forwarded-… headers are believed

	AllowPrivateTargets bool           // deliveries may go anywhere
	AllowPlainHTTP      bool           // formats that demand https take http, too
	OpenTargets         []netip.Prefix // or also to these

	Sandbox sandbox.Mode // of third parties' connectors; "" is sandbox.Demand

	MaxBody         int64    // bytes of one inbound request; 0 is 1 MiB
	APIRate         float64  // operations per second of one viewer; 0 is no limit
	StrangerRate    float64  // requests per second without a valid credential, from one address; 0 is no limit
	CORSOrigins     []string // "https://app.example.com" of pages that may ask the API
	Introspection   bool     // of the GraphQL schema
	ShutdownTimeout time.Duration
	DebugListen     string // "host:port" of profiles; "" is none
	MetricsToken    string // "" leaves /metrics open
	Version         string
	Organization    string // name of the first organization
	Administrator   string // e-mail address of the first Administrator
}

// Check completes the configuration and says what is wrong with it, in words that name
// the flag.
func (c *Config) Check() error {
	if c.DataDir == "" {
		return errors.New("--data-dir is missing: name a folder for the hub's files")
	}
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return fmt.Errorf("--data-dir %q: %w", c.DataDir, err)
	}
	c.DataDir = dir
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("--listen %q is not HOST:PORT, for example 127.0.0.1:8080", c.Listen)
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return errors.New("--tls-cert and --tls-key belong together: give both or none")
	}
	if c.DatabaseURL != "" && !strings.HasPrefix(c.DatabaseURL, "postgres://") && !strings.HasPrefix(c.DatabaseURL, "postgresql://") {
		return errors.New("--database-url must begin with postgres://; leave it out for the embedded database")
	}
	if c.MaxBody < 0 {
		return fmt.Errorf("--max-body %d leaves no room for an event: give a number of bytes such as 1048576", c.MaxBody)
	}
	if c.APIRate < 0 || c.StrangerRate < 0 {
		return errors.New("--api-rate and --stranger-rate are numbers per second; 0 is no limit")
	}
	for _, o := range c.CORSOrigins {
		if u, err := url.Parse(o); err != nil || u.Host == "" || o != origin(o) || strings.Contains(o, "*") {
			return fmt.Errorf("--cors-origins %q is not a page's origin such as https://app.example.com; a wildcard is none", o)
		}
	}
	if c.PublicURL == "" {
		if host == "" || net.ParseIP(host).IsUnspecified() {
			host = "localhost"
		}
		scheme := "http"
		if c.TLSCert != "" {
			scheme = "https"
		}
		c.PublicURL = scheme + "://" + net.JoinHostPort(host, port)
	}
	u, err := url.Parse(c.PublicURL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.RawQuery != "" {
		return fmt.Errorf("--public-url %q is not an http or https address such as https://hub.example.com", c.PublicURL)
	}
	c.PublicURL = strings.TrimRight(c.PublicURL, "/")
	if c.NodeName == "" {
		if c.NodeName, err = os.Hostname(); err != nil {
			return fmt.Errorf("the machine has no name; give the node one with --node-name: %w", err)
		}
	}
	if c.ShutdownTimeout <= 0 {
		c.ShutdownTimeout = 15 * time.Second
	}
	return nil
}

// open is the list of networks that deliveries may reach beside public ones.
func (c *Config) open() []string {
	if c.AllowPrivateTargets {
		return []string{"0.0.0.0/0", "::/0"}
	}
	out := make([]string, len(c.OpenTargets))
	for i, p := range c.OpenTargets {
		out[i] = p.String()
	}
	return out
}

// store is the database that the configuration names.
func (c *Config) store() store.Config {
	return store.Config{DataDir: c.DataDir, DatabaseURL: c.DatabaseURL}
}

// secrets is the key that the configuration names.
func (c *Config) secrets() secret.Config {
	return secret.Config{KeyFile: filepath.Join(c.DataDir, KeyFile), KMS: c.KeyURI}
}

// existing is the same for tools that must not make or upgrade anything.
func (c *Config) existing() store.Config {
	cfg := c.store()
	cfg.Existing = true
	return cfg
}
