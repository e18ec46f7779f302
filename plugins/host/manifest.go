package host

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/settings"
	"github.com/hookyard/hookyard/plugins"
)

// ManifestFile is the name of a package's manifest in it, and SignatureFile that of its
// publisher's signature over the manifest's bytes.
const (
	ManifestFile  = "manifest.json"
	SignatureFile = "manifest.json.minisig"
)

// The bounds of a package.
const (
	maxManifest  = 4 << 20
	maxFiles     = 20000
	maxFile      = 512 << 20
	maxPackage   = 1 << 30 // all files, unpacked
	maxPath      = 255
	maxSignature = 4 << 10
)

// Manifest is what a package says of itself. Its bytes name everything else by digest,
// so that their own digest is the package's.
type Manifest struct {
	Name         string               `json:"name"`
	Title        string               `json:"title"`
	Description  string               `json:"description"`
	Version      string               `json:"version"`  // semantic; never used twice
	Protocol     int                  `json:"protocol"` // of the wire; see plugins.Versions
	System       string               `json:"system,omitempty"`
	Abilities    []connectors.Ability `json:"abilities"`
	TakesRequest bool                 `json:"takesRequest,omitempty"`
	// Settings are those of endpoints, sources and scanners, each a JSON Schema.
	Settings       json.RawMessage `json:"settings,omitempty"`
	SourceSettings json.RawMessage `json:"sourceSettings,omitempty"`
	ScanSettings   json.RawMessage `json:"scanSettings,omitempty"`
	// Formats, Receivers and Triggers are what the hub knows of them while no process runs.
	Formats   []plugins.FormatInfo   `json:"formats,omitempty"`
	Receivers []plugins.ReceiverInfo `json:"receivers,omitempty"`
	Triggers  []string               `json:"triggers,omitempty"`
	// Run is the program and its arguments. The program is a file of the package, or an
	// interpreter of the machine, by name or absolute path; arguments that name a file
	// of the package become that file's path.
	Run    []string               `json:"run"`
	Grants Grants                 `json:"grants"`
	Files  map[string]PackageFile `json:"files"` // all but the manifest and its signature
}

// PackageFile is one file of a package.
type PackageFile struct {
	SHA256     string `json:"sha256"`
	Size       int64  `json:"size"`
	Executable bool   `json:"executable,omitempty"`
}

// Spec is what the manifest says that the connector would say of itself.
func (m *Manifest) Spec() connectors.Spec {
	return connectors.Spec{Name: m.Name, Title: m.Title, Description: m.Description, Version: m.Version,
		Abilities: m.Abilities, Settings: m.Settings, SourceSettings: m.SourceSettings, ScanSettings: m.ScanSettings, TakesRequest: m.TakesRequest}
}

// About is the Spec with the pure abilities.
func (m *Manifest) About() plugins.Description {
	return plugins.Description{Spec: m.Spec(), Formats: m.Formats, Receivers: m.Receivers, Triggers: m.Triggers}
}

// digestOf is the digest of a package with these bytes as its manifest.
func digestOf(manifest []byte) string {
	sum := sha256.Sum256(manifest)
	return hex.EncodeToString(sum[:])
}

// ReadManifest reads a manifest and says what is wrong with it.
func ReadManifest(b []byte) (*Manifest, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	m := &Manifest{}
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("read %s: %w", ManifestFile, err)
	}
	if d.More() {
		return nil, fmt.Errorf("read %s: there is something after its end", ManifestFile)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", ManifestFile, err)
	}
	return m, nil
}

func (m *Manifest) check() error {
	name := regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$`)
	version := regexp.MustCompile(`^(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(-[0-9A-Za-z.-]{1,64})?(\+[0-9A-Za-z.-]{1,64})?$`)
	known := func() (list []int) {
		for v := range plugins.Versions() {
			list = append(list, v)
		}
		slices.Sort(list)
		return list
	}()
	switch {
	case !name.MatchString(m.Name):
		return fmt.Errorf("name %q: lower case letters, digits and hyphens, 64 at most", m.Name)
	case !version.MatchString(m.Version):
		return fmt.Errorf("version %q is no semantic version such as 1.2.0", m.Version)
	case !slices.Contains(known, m.Protocol):
		return fmt.Errorf("protocol %d: this hub speaks %v; a newer or older package fits it", m.Protocol, known)
	case m.Title == "" || len(m.Title) > 200 || len(m.Description) > 4000:
		return fmt.Errorf("title and description: a title of 200 bytes, and a description of 4000, at most")
	case len(m.Run) == 0 || m.Run[0] == "" || len(m.Run) > 64:
		return fmt.Errorf("run: the program and at most 63 arguments")
	case len(m.Files) == 0 || len(m.Files) > maxFiles:
		return fmt.Errorf("files: between 1 and %d", maxFiles)
	}
	if err := m.checkFiles(); err != nil {
		return err
	}
	if f, own := m.Files[m.Run[0]]; own && !f.Executable {
		return fmt.Errorf("run: %s is not executable", m.Run[0])
	} else if !own && strings.Contains(m.Run[0], "/") && !filepath.IsAbs(m.Run[0]) {
		return fmt.Errorf("run: there is no file %s in the package", m.Run[0])
	}
	for _, schema := range []json.RawMessage{m.Settings, m.SourceSettings, m.ScanSettings} {
		if len(schema) > 0 {
			if _, err := settings.Compile(schema); err != nil {
				return fmt.Errorf("settings: %w", err)
			}
		}
	}
	d := m.About()
	if err := d.Check(); err != nil {
		return err
	}
	return m.Grants.check()
}

func (m *Manifest) checkFiles() error {
	total := int64(0)
	for p, f := range m.Files {
		if err := checkPath(p); err != nil {
			return err
		}
		if sum, err := hex.DecodeString(f.SHA256); err != nil || len(sum) != sha256.Size || f.SHA256 != strings.ToLower(f.SHA256) {
			return fmt.Errorf("files: %s: no SHA-256 in lower case hex", p)
		}
		if f.Size < 0 || f.Size > maxFile {
			return fmt.Errorf("files: %s: a file has %d bytes at most", p, maxFile)
		}
		total += f.Size
		for d := path.Dir(p); d != "."; d = path.Dir(d) {
			if _, file := m.Files[d]; file {
				return fmt.Errorf("files: %s is a file and a folder", d)
			}
		}
	}
	if total > maxPackage {
		return fmt.Errorf("files: %d bytes; a package has %d at most", total, maxPackage)
	}
	return nil
}

// checkPath refuses every path that could lead out of the folder that it is put into,
// or that is written in more than one way.
func checkPath(p string) error {
	if p == "" || len(p) > maxPath || path.Clean(p) != p || !filepath.IsLocal(p) || strings.ContainsAny(p, "\\:") ||
		strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) ||
		p == ManifestFile || p == SignatureFile || p == "." {
		return fmt.Errorf("files: %.80q is no path that a package may have", p)
	}
	return nil
}

// check refuses what nobody can judge: grants are absolute and clean.
func (g *Grants) check() error {
	for _, p := range slices.Concat(g.Executables, g.Paths) {
		if !filepath.IsAbs(p) || filepath.Clean(p) != p || p == "/" {
			return fmt.Errorf("grants: %q is no absolute path", p)
		}
	}
	for _, e := range g.Egress {
		host, port, err := net.SplitHostPort(e)
		if n, bad := strconv.Atoi(port); err != nil || host == "" || bad != nil || n < 1 || n > 65535 {
			return fmt.Errorf("grants: %q is no HOST:PORT", e)
		}
	}
	return nil
}

// System is the machine's operating system and processor, as in a manifest.
func System() string { return runtime.GOOS + "/" + runtime.GOARCH }
