package server_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hookyard/hookyard/server"
	"github.com/hookyard/hookyard/server/servertest/program"
)

// TestConfigNamesTheFlag sees every mistake answered with the flag that has to change.
func TestConfigNamesTheFlag(t *testing.T) {
	for flag, spoil := range map[string]func(*server.Config){
		"--data-dir":     func(c *server.Config) { c.DataDir = "" },
		"--listen":       func(c *server.Config) { c.Listen = "8080" },
		"--tls-cert":     func(c *server.Config) { c.TLSKey = "key.pem" },
		"--tls-key":      func(c *server.Config) { c.TLSCert = "cert.pem" },
		"--database-url": func(c *server.Config) { c.DatabaseURL = "mysql://localhost/x" },
		"--public-url":   func(c *server.Config) { c.PublicURL = "hooks.example.com" },
		"--api-rate":     func(c *server.Config) { c.APIRate = -1 },
		"--cors-origins": func(c *server.Config) { c.CORSOrigins = []string{"*"} },
		"--max-body":     func(c *server.Config) { c.MaxBody = -1 },
	} {
		c := server.Config{DataDir: t.TempDir(), Listen: "127.0.0.1:0"}
		spoil(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
	for listen, want := range map[string]string{":8080": "http://localhost:8080", "0.0.0.0:80": "http://localhost:80", "[::1]:1": "http://[::1]:1", "hub.example.com:8": "http://hub.example.com:8"} {
		c := server.Config{DataDir: t.TempDir(), Listen: listen}
		if err := c.Check(); err != nil || c.PublicURL != want {
			t.Errorf("%s is reached by %s, %v", listen, c.PublicURL, err)
		}
	}
}

// TestConfigSources starts the program with a setting from each place: a flag beats the
// environment, which beats the file.
func TestConfigSources(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "hookyard.yaml")
	if err := os.WriteFile(file, []byte("organization: Of the file\nadministrator: file@example.com\npublic-url: https://file.example.com\nmax-body: 2000\nintrospection: false\nopen-targets:\n  - 192.0.2.0/24\n  - 198.51.100.0/24\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOOKYARD_ADMINISTRATOR", "environment@example.com")
	t.Setenv("HOOKYARD_PUBLIC_URL", "https://environment.example.com")
	t.Setenv("HOOKYARD_TRUSTED_PROXIES", "10.0.0.0/8,192.168.0.0/16")
	h := startIn(t, filepath.Join(dir, "data"), "", "--config", file, "--public-url", "https://flag.example.com")
	var got struct {
		Organization struct{ Name string }
		Users        struct {
			Edges []struct{ Node struct{ Email string } }
		}
	}
	if err := h.Do(t.Context(), `{ organization { name } users { edges { node { email } } } }`, nil, &got); err != nil {
		t.Fatal(err)
	}
	if got.Organization.Name != "Of the file" {
		t.Errorf("the file said another organization than %q", got.Organization.Name)
	}
	if n := got.Users.Edges; len(n) != 1 || n[0].Node.Email != "environment@example.com" {
		t.Errorf("the environment said another Administrator than %v", n)
	}
	_, address, err := h.CreateSource(t.Context(), program.Input{"name": "s", "kind": "cloudevents"})
	if err != nil || !strings.HasPrefix(address, "https://flag.example.com/") {
		t.Errorf("the flag said another address than %s, %v", address, err)
	}
	resp, err := h.HTTP.Post(h.URL+address[len("https://flag.example.com"):], "application/cloudevents+json", strings.NewReader(strings.Repeat(" ", 3000)))
	if err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a body larger than the file allows: %v, %v", resp, err)
	}
}

// TestMistakesOnTheCommandLine sees the program say what is wrong and stop.
func TestMistakesOnTheCommandLine(t *testing.T) {
	dir := t.TempDir()
	misspelt := filepath.Join(dir, "misspelt.yaml")
	if err := os.WriteFile(misspelt, []byte("listn: 127.0.0.1:0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct {
		args []string
		says string
	}{
		"no folder":         {[]string{"serve"}, "--data-dir"},
		"a network":         {at(dir, "", "serve", "--open-targets", "127.0.0.1/33"), "--open-targets"},
		"no certificate":    {at(dir, "", "serve", "--listen", "127.0.0.1:0", "--tls-cert", "/nowhere", "--tls-key", "/nowhere"), "/nowhere"},
		"a taken address":   {at(dir, "", "serve", "--listen", "192.0.2.1:1"), "192.0.2.1:1"},
		"a wrong name":      {at(dir, "", "serve", "--config", misspelt), `"listn"`},
		"a missing file":    {at(dir, "", "serve", "--config", "/nowhere.yaml"), "/nowhere.yaml"},
		"a dead PostgreSQL": {at(dir, "postgres://127.0.0.1:1/x?connect_timeout=2", "serve", "--listen", "127.0.0.1:0"), "127.0.0.1"},
	} {
		_, err := tool(t, test.args...)
		refused(t, what, err, test.says)
		if err != nil && strings.Contains(err.Error(), "panic") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
