// Command hookyard is the whole hub in one file: the server, its connector processes
// and the operator's tools.
//
// Place: on top. It reads flags, environment and the configuration file, and calls
// package server; it has no behaviour of its own.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
	_ "time/tzdata" // sources name zones that the machine may not have

	"github.com/alecthomas/kong"

	"github.com/hookyard/hookyard/connectors/builtin"
	"github.com/hookyard/hookyard/plugins"
	"github.com/hookyard/hookyard/plugins/sandbox"
	"github.com/hookyard/hookyard/server"
)

// version is set by the build.
var version = ""

type cli struct {
	Config kong.ConfigFlag `help:"Configuration file (YAML; the names of the flags without dashes in front)." env:"HOOKYARD_CONFIG" placeholder:"FILE"`

	LogLevel  string `help:"debug, info, warn or error." enum:"debug,info,warn,error" default:"info" env:"HOOKYARD_LOG_LEVEL"`
	LogFormat string `help:"text or json." enum:"text,json" default:"text" env:"HOOKYARD_LOG_FORMAT"`

	Serve    serveCmd    `cmd:"" help:"Run the hub."`
	Presence presenceCmd `cmd:"" help:"Run an agent of a Presence inside a private network: it makes the calls that the hub cannot."`
	Backup   backupCmd   `cmd:"" help:"Write a consistent copy of everything to a file while the hub runs."`
	Restore  restoreCmd  `cmd:"" help:"Fill an empty data folder or database from a backup. The hub then starts with deliveries held."`
	Release  releaseCmd  `cmd:"" help:"Let a restored hub deliver again."`
	Org      orgCmd      `cmd:"" help:"Create, suspend or delete organizations."`
	User     userCmd     `cmd:"" help:"Reset a user's access."`
	Keys     keysCmd     `cmd:"" help:"Rotate the keys that tokens are signed with."`
	Secrets  secretsCmd  `cmd:"" help:"Exchange the key that seals secrets."`
	Send     sendCmd     `cmd:"" help:"Send what a vendor sends, exactly as the vendor does, to try a source out."`
	Version  versionCmd  `cmd:"" help:"Print the version."`
	Plugin   pluginCmd   `cmd:"" hidden:"" help:"Run a connector; the hub does this."`

	Connector connectorCmd `cmd:"" help:"Install, list, verify and remove connectors that others have made."`
}

// data says where the hub's data is; every command that touches it takes the same flags.
type data struct {
	DataDir     string `help:"Folder for the hub's files." required:"" placeholder:"DIR" env:"HOOKYARD_DATA_DIR"`
	DatabaseURL string `help:"PostgreSQL to use instead of the embedded database." placeholder:"postgres://…" env:"HOOKYARD_DATABASE_URL"`
	KeyURI      string `help:"Key management service that wraps the hub's keys, instead of a key file in the data folder." placeholder:"URI" env:"HOOKYARD_KEY_URI"`
}

func (d data) config() server.Config {
	return server.Config{DataDir: d.DataDir, DatabaseURL: d.DatabaseURL, KeyURI: d.KeyURI, Version: buildVersion()}
}

type serveCmd struct {
	data
	Listen              string         `help:"Address to listen on." default:"127.0.0.1:8080" placeholder:"HOST:PORT" env:"HOOKYARD_LISTEN"`
	PublicURL           string         `help:"How people and sources reach the hub, when not by the address above." placeholder:"URL" env:"HOOKYARD_PUBLIC_URL"`
	TLSCert             string         `help:"Certificate file (PEM); read again when it changes." placeholder:"FILE" env:"HOOKYARD_TLS_CERT"`
	TLSKey              string         `help:"Key file (PEM) of the certificate." placeholder:"FILE" env:"HOOKYARD_TLS_KEY"`
	TrustedProxies      []netip.Prefix `help:"Networks of proxies whose X-Forwarded-For is believed." placeholder:"CIDR" env:"HOOKYARD_TRUSTED_PROXIES"`
	AllowPrivateTargets bool           `help:"Let deliveries reach loopback, private and other special addresses." env:"HOOKYARD_ALLOW_PRIVATE_TARGETS"`
	AllowPlainHTTP      bool           `name:"allow-plain-http" help:"Let webhooks whose format demands https deliver over plain HTTP." env:"HOOKYARD_ALLOW_PLAIN_HTTP"`
	OpenTargets         []netip.Prefix `help:"Let deliveries reach these networks although they are not public." placeholder:"CIDR" env:"HOOKYARD_OPEN_TARGETS"`
	MaxBody             int64          `help:"Largest inbound request, in bytes." default:"1048576" env:"HOOKYARD_MAX_BODY"`
	APIRate             float64        `help:"Operations per second that one user or key may ask of the API, with five seconds' worth at once; 0 is no limit." default:"500" env:"HOOKYARD_API_RATE"`
	StrangerRate        float64        `help:"The same for requests without a valid credential, by where they come from." default:"20" env:"HOOKYARD_STRANGER_RATE"`
	CORSOrigins         []string       `name:"cors-origins" help:"Other sites whose pages may ask the API, such as https://app.example.com; none by default." placeholder:"ORIGIN" env:"HOOKYARD_CORS_ORIGINS"`
	Introspection       bool           `help:"Let clients read the GraphQL schema." default:"true" negatable:"" env:"HOOKYARD_INTROSPECTION"`
	MetricsToken        string         `help:"Bearer token that /metrics asks for; open without one." placeholder:"TOKEN" env:"HOOKYARD_METRICS_TOKEN"`
	DebugListen         string         `help:"Address for profiles (pprof); keep it on loopback." placeholder:"HOST:PORT" env:"HOOKYARD_DEBUG_LISTEN"`
	Sandbox             sandbox.Mode   `help:"What to do with third parties' connectors where this system cannot keep them apart: not run them (demand), or run them nevertheless (prefer)." enum:"demand,prefer" default:"demand" env:"HOOKYARD_SANDBOX"`
	NodeName            string         `help:"Name of this node among others on one database; the machine's name by default." placeholder:"NAME" env:"HOOKYARD_NODE_NAME"`
	ShutdownTimeout     time.Duration  `help:"How long a clean shutdown waits for deliveries in flight." default:"15s" env:"HOOKYARD_SHUTDOWN_TIMEOUT"`
	Organization        string         `help:"Name of the organization made at the first start." default:"Default" env:"HOOKYARD_ORGANIZATION"`
	PrintCredentials    bool           `help:"Print the first Administrator's credentials, for trying things out; they are in DIR/admin.json in any case." env:"HOOKYARD_PRINT_CREDENTIALS"`
	Administrator       string         `help:"E-mail address of the Administrator made at the first start." default:"admin@localhost" env:"HOOKYARD_ADMINISTRATOR"`
}

// The hub's heap may grow to four times what is live, and by heapRoom at most, before it
// is collected: the collector took 8 % of the hub's CPU at Go's default.
const (
	heapGrowth = 300
	heapRoom   = 32 << 20
)

func (c *serveCmd) Run(ctx context.Context, log *slog.Logger) error {
	plugins.PaceHeap(heapGrowth, heapRoom)
	cfg := c.config()
	cfg.Listen, cfg.PublicURL, cfg.TLSCert, cfg.TLSKey = c.Listen, c.PublicURL, c.TLSCert, c.TLSKey
	cfg.TrustedProxies, cfg.AllowPrivateTargets, cfg.OpenTargets = c.TrustedProxies, c.AllowPrivateTargets, c.OpenTargets
	cfg.MaxBody, cfg.Introspection, cfg.MetricsToken, cfg.NodeName = c.MaxBody, c.Introspection, c.MetricsToken, c.NodeName
	cfg.DebugListen, cfg.AllowPlainHTTP, cfg.Sandbox = c.DebugListen, c.AllowPlainHTTP, c.Sandbox
	cfg.APIRate, cfg.StrangerRate, cfg.CORSOrigins = c.APIRate, c.StrangerRate, c.CORSOrigins
	cfg.ShutdownTimeout, cfg.Organization, cfg.Administrator = c.ShutdownTimeout, c.Organization, c.Administrator
	clock, err := clock(ctx)
	if err != nil {
		return err
	}
	hub, err := server.Open(ctx, cfg, server.Options{Log: log, Clock: clock})
	if err != nil {
		return err
	}
	if c.PrintCredentials {
		go func() {
			<-hub.Listening()
			printCredentials(filepath.Join(c.DataDir, server.AdminFile))
		}()
	}
	return hub.Run(ctx)
}

// printCredentials is for the newcomer at a terminal. Whoever has read and removed the
// file is no newcomer.
func printCredentials(file string) {
	b, err := os.ReadFile(file)
	var admin struct{ URL, User, APIKey, Link string }
	if err != nil || json.Unmarshal(b, &admin) != nil {
		return
	}
	fmt.Printf("\n  Hookyard   %s\n  GraphQL    %s/graphql\n  user       %s\n  password   choose one at %s\n  API key    %s\n  (from %s)\n\n", admin.URL, admin.URL, admin.User, admin.Link, admin.APIKey, file)
}

type backupCmd struct {
	data
	Out string `arg:"" help:"File to write (tar.gz); - is standard output."`
}

func (c *backupCmd) Run(ctx context.Context) (err error) {
	out := os.Stdout
	if c.Out != "-" {
		if out, err = os.OpenFile(c.Out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err != nil {
			return err
		}
		defer func() {
			if closing := out.Close(); err == nil {
				err = closing
			}
			if err != nil {
				_ = os.Remove(c.Out)
			}
		}()
	}
	return server.Backup(ctx, c.config(), out)
}

type restoreCmd struct {
	data
	In string `arg:"" help:"File that backup wrote; - is standard input."`
}

func (c *restoreCmd) Run(ctx context.Context) error {
	in := io.ReadCloser(os.Stdin)
	if c.In != "-" {
		f, err := os.Open(c.In)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	return server.Restore(ctx, c.config(), in)
}

type releaseCmd struct{ data }

func (c *releaseCmd) Run(ctx context.Context) error {
	return server.Operate(ctx, c.config(), func(o *server.Operator) error { return o.Release(ctx) })
}

type orgCmd struct {
	Create struct {
		data
		Name          string `arg:"" help:"Name of the organization."`
		Administrator string `help:"E-mail address of its first Administrator." required:"" placeholder:"EMAIL"`
	} `cmd:"" help:"Create an organization with an Administrator; prints the Administrator's one-time link and API key once."`
	Suspend struct {
		data
		Name string `arg:"" help:"Name of the organization."`
		Lift bool   `help:"Lift the suspension instead."`
	} `cmd:"" help:"Stop an organization: no sign-in, no events, no deliveries; nothing is lost."`
	Delete struct {
		data
		Name    string `arg:"" help:"Name of the organization."`
		Confirm string `help:"The name once more: all of its data is removed for good." required:"" placeholder:"NAME"`
	} `cmd:"" help:"Remove an organization and all of its data."`
	List struct{ data } `cmd:"" help:"List the organizations."`
}

type userCmd struct {
	Reset struct {
		data
		Email        string `arg:"" help:"E-mail address of the user."`
		Organization string `help:"Name of the organization, when the user is in several." placeholder:"NAME"`
	} `cmd:"" help:"Withdraw a user's password, second factor, sessions and API keys, enable the user and print a one-time link and a new API key."`
}

type keysCmd struct {
	Rotate struct {
		data
		Now bool `help:"Stop believing tokens of the older keys at once: programs fetch new ones by their sessions or API keys."`
	} `cmd:"" help:"Make a new key that tokens are signed with; nobody is signed out."`
}

type secretsCmd struct {
	Rotate rotateCmd `cmd:"" help:"Make a new key, seal every secret with it and throw the old key away, while hubs run. Run it again if it was interrupted."`
}

type rotateCmd struct {
	data
	Wait time.Duration `help:"How long to wait until all nodes know the changed key file." default:"30s"`
}

func (c *rotateCmd) Run(ctx context.Context) error {
	return server.RotateSecrets(ctx, c.config(), os.Stdout, c.Wait)
}

type versionCmd struct{}

func (versionCmd) Run() error {
	_, err := fmt.Println("hookyard", buildVersion())
	return err
}

type pluginCmd struct {
	Name string `arg:""`
}

func (c *pluginCmd) Run() error {
	return plugins.Main(c.Name, builtin.Connectors())
}

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return strings.TrimPrefix(info.Main.Version, "v")
	}
	return "0.0.0-dev"
}

func main() {
	sandbox.Main()
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "hookyard:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	var c cli
	parser, err := kong.New(&c, kong.Name("hookyard"),
		kong.Description("Hookyard is a self-hosted integration hub for security scan events."),
		kong.Configuration(readSettings), kong.UsageOnError())
	if err != nil {
		return err
	}
	k, err := parser.Parse(args)
	if err != nil {
		parser.FatalIfErrorf(err)
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	k.BindTo(ctx, (*context.Context)(nil))
	k.Bind(logger(c.LogLevel, c.LogFormat))
	switch k.Command() {
	case "org create <name>":
		o := c.Org.Create
		return server.Operate(ctx, o.config(), func(op *server.Operator) error {
			a, err := op.CreateOrganization(ctx, o.Name, o.Administrator)
			return printed(err, "created organization %q with Administrator %s; link to choose a password, and API key, shown once:\n%s\n%s\n", o.Name, o.Administrator, a.Link, a.APIKey)
		})
	case "org suspend <name>":
		o := c.Org.Suspend
		return server.Operate(ctx, o.config(), func(op *server.Operator) error {
			return op.Suspend(ctx, o.Name, !o.Lift)
		})
	case "org delete <name>":
		o := c.Org.Delete
		if o.Confirm != o.Name {
			return fmt.Errorf("--confirm must repeat the name %q: all data of the organization is removed for good", o.Name)
		}
		return server.Operate(ctx, o.config(), func(op *server.Operator) error {
			return printed(op.DeleteOrganization(ctx, o.Name), "removed organization %q with all of its data, its audit log included\n", o.Name)
		})
	case "org list":
		return server.Operate(ctx, c.Org.List.config(), func(op *server.Operator) error { return op.List(ctx, os.Stdout) })
	case "user reset <email>":
		u := c.User.Reset
		return server.Operate(ctx, u.config(), func(op *server.Operator) error {
			a, err := op.ResetUser(ctx, u.Organization, u.Email)
			return printed(err, "password, second factor, sessions and API keys of %s are withdrawn; link to choose a password, and new API key, shown once:\n%s\n%s\n", u.Email, a.Link, a.APIKey)
		})
	case "keys rotate":
		r := c.Keys.Rotate
		return server.Operate(ctx, r.config(), func(op *server.Operator) error {
			id, err := op.RotateKeys(ctx, r.Now)
			return printed(err, "tokens are signed with the new key %s in a few seconds\n", id)
		})
	}
	return k.Run()
}

func printed(err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	_, err = fmt.Printf(format, args...)
	return err
}

func logger(level, format string) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(level)) // kong has checked the word
	o := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}
