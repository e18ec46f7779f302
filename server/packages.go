package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/hookyard/hookyard/connectors/builtin"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/plugins/host"
	"github.com/hookyard/hookyard/plugins/sandbox"
)

// Packages is the operator's hand on the connectors that are installed on this machine. A
// running hub sees what changes within seconds.
type Packages struct {
	cfg   Config
	store *host.Store
}

// NewPackages names the packages of a hub, which need not have been started yet.
func NewPackages(cfg Config) *Packages {
	return &Packages{cfg, host.NewStore(cfg.DataDir)}
}

// started says whether there is a database to write into.
func (p *Packages) started() bool {
	if p.cfg.DatabaseURL != "" {
		return true
	}
	_, err := os.Stat(filepath.Join(p.cfg.DataDir, store.File))
	return err == nil
}

// Install checks a package and puts it into the store.
func (p *Packages) Install(ctx context.Context, from string, unsigned bool) (*host.Package, error) {
	var shipped []string
	for _, c := range builtin.Connectors() {
		shipped = append(shipped, c.Spec().Name)
	}
	made, err := p.store.Install(from, unsigned, shipped)
	if err != nil {
		return nil, err
	}
	if err := p.audit(ctx, store.InstallConnector, made); err != nil {
		return nil, errors.Join(err, p.store.Remove(made)) // what cannot be audited does not happen
	}
	return made, nil
}

// audit tells every organization what the operator did to a package.
func (p *Packages) audit(ctx context.Context, action string, of *host.Package) error {
	if !p.started() {
		return nil // there is nobody yet
	}
	return Operate(ctx, p.cfg, func(o *Operator) error {
		return o.db.Audit(o.by(ctx), store.Action{Organization: store.Everywhere, Action: action, Noun: "Connector", Name: of.Name,
			Details: map[string]any{"version": of.Version, "digest": of.Digest, "publisher": of.Publisher}})
	})
}

// Remove takes one version of a connector away. One that endpoints use stays, unless
// force is set.
func (p *Packages) Remove(ctx context.Context, name, version string, force bool) error {
	list, err := p.store.Find(name, version)
	if err != nil {
		return err
	}
	if len(list) > 1 {
		return fmt.Errorf("%s is installed in %d versions: name the one to remove, as in %s@%s", name, len(list), name, list[0].Version)
	}
	of := list[0]
	if p.started() && !force {
		err := Operate(ctx, p.cfg, func(o *Operator) error {
			used, err := o.db.Usage(ctx)
			if n := used[of.Digest]; err == nil && n > 0 {
				err = fmt.Errorf("%d endpoints, sources, webhooks, triggers and projects use %s %s; what they deliver and send would wait, and scans would not start, until another node takes them. Switch them to another version first, or say --force", n, of.Name, of.Version)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := p.audit(ctx, store.RemoveConnector, of); err != nil {
		return err
	}
	return p.store.Remove(of)
}

// List writes a table of what is installed, and what this machine keeps it in.
func (p *Packages) List(out io.Writer) error {
	list, strays, err := p.store.List()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "NAME\tVERSION\tPUBLISHER\tDIGEST")
	for _, of := range list {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", of.Name, of.Version, signer(of), of.Digest)
	}
	for _, s := range strays {
		_, _ = fmt.Fprintf(w, "%s\t\t\tno package: %s\n", s.Path, s.Err)
	}
	for _, s := range p.store.BadKeys() {
		_, _ = fmt.Fprintf(w, "%s\t\t\tno key of a publisher: %s\n", s.Path, s.Err)
	}
	if err := w.Flush(); err != nil || len(list) == 0 {
		return err
	}
	_, _ = fmt.Fprint(out, "\nWhat keeps them apart on this machine (a hub may have control groups besides; connectorCatalogue has what it found):\n")
	for _, p := range sandbox.Look().Parts {
		state := "yes"
		if !p.Active {
			state = "NO"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", p.Name, state, p.How)
	}
	return w.Flush()
}

func signer(of *host.Package) string {
	if of.Publisher == "" {
		return "(unsigned)"
	}
	return of.Publisher
}

// Verify holds what is installed against what was installed: all of it, one connector's,
// or one version; and with all of it the publishers' keys. It is an error when anything differs.
func (p *Packages) Verify(name, version string, out io.Writer) error {
	list, strays, err := p.store.List()
	keys := p.store.BadKeys()
	if name != "" && err == nil {
		list, err = p.store.Find(name, version)
		strays, keys = nil, nil
	}
	if err != nil {
		return err
	}
	bad := 0
	for _, of := range list {
		said := "ok"
		if err := of.Verify(); err != nil {
			said = err.Error()
			bad++
		}
		_, _ = fmt.Fprintf(out, "%s %s: %s\n", of.Name, of.Version, said)
	}
	for _, s := range strays {
		bad++
		_, _ = fmt.Fprintf(out, "%s: %s\n", s.Path, s.Err)
	}
	for _, k := range keys {
		_, _ = fmt.Fprintf(out, "%s: %s\n", k.Path, k.Err)
		err = fmt.Errorf("%d publishers' keys cannot be read, and what they have signed counts as unsigned: remove the files and trust their keys again", len(keys))
	}
	if bad > 0 {
		err = errors.Join(err, fmt.Errorf("%d of %d are not what was installed: remove them and install them again", bad, len(list)+len(strays)))
	}
	return err
}

// Trust lets in what the key has signed; file holds a minisign public key.
func (p *Packages) Trust(name, file string) (id string, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the key: %w", err)
	}
	return p.store.Trust(name, b)
}

// Pack makes a package of a folder, signed if there is a key, and writes it to the file
// out; "" is NAME-VERSION.tar.gz. It returns what it is and where.
func Pack(ctx context.Context, dir, out, key, password, version string) (made *host.Package, file string, err error) {
	tmp, err := os.CreateTemp(filepath.Dir(out), ".pack-")
	if err != nil {
		return nil, "", fmt.Errorf("write the package: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	made, err = host.Pack(ctx, dir, key, password, version, tmp)
	if err = errors.Join(err, tmp.Close()); err != nil {
		return nil, "", err
	}
	if out == "" {
		out = made.Name + "-" + made.Version + ".tar.gz"
	}
	if err := os.Chmod(tmp.Name(), 0o644); err != nil { //nolint:gosec // a package is for others
		return nil, "", fmt.Errorf("write the package: %w", err)
	}
	if err := os.Rename(tmp.Name(), out); err != nil {
		return nil, "", fmt.Errorf("write the package: %w", err)
	}
	return made, out, nil
}
