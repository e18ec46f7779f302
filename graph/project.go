package graph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/project"
	"github.com/hookyard/hookyard/ent/gen/run"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/parts"
	graphgen "github.com/hookyard/hookyard/graph/gen"
	"github.com/hookyard/hookyard/server/flow"
)

// scanners are the connectors that the organization's projects can use, with the settings of
// a project; with disabled, also those that it has disabled.
func (r *Resolver) scanners(ctx context.Context, c *gen.Client, disabled bool) ([]*connectors.Spec, error) {
	out := []*connectors.Spec{}
	add := func(s connectors.Spec) {
		if scans(s) {
			s.Settings = s.ScanSettings
			out = append(out, &s)
		}
	}
	for _, c := range r.Connectors.Connectors() {
		add(c.Spec())
	}
	packages, err := r.providers(ctx, c, disabled)
	for _, p := range packages {
		add(p.Spec)
	}
	return out, err
}

func scans(s connectors.Spec) bool { return slices.Contains(s.Abilities, connectors.AbilityScan) }

func (r *Resolver) createProject(ctx context.Context, in graphgen.CreateProjectInput) (*gen.Project, error) {
	id := r.IDs.New(ids.Project)
	d := draftProject{target: in.TargetURL, origins: in.Origins, scanner: in.Scanner, draftEndpoint: draftEndpoint{settings: in.Settings, secrets: map[string]string{}}}
	d.setSecrets(in.Secrets)
	if err := d.check(ctx, r, r.DB.Client, false); err != nil {
		return nil, err
	}
	sealed, err := r.Secrets.SealJSON(id, project.FieldSecrets, d.secrets)
	if err != nil {
		return nil, err
	}
	return change(ctx, r, r.DB.Client.Project.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		a, err := tx.Application.Get(ctx, in.ApplicationID)
		if gen.IsNotFound(err) {
			return "", badInput("input.applicationId", "There is no application %q here.", in.ApplicationID)
		} else if err != nil {
			return "", err
		}
		err = tx.Project.Create().SetID(id).SetName(in.Name).SetNillableDescription(in.Description).SetApplicationID(a.ID).SetAssetGroupID(a.AssetGroupID).
			SetTargetKind(in.TargetKind).SetTargetURL(d.target).SetOrigins(d.origins).SetScanner(d.scanner).SetSettings(d.settings).SetSecrets(sealed).
			SetNillableTimeLimitMinutes(in.TimeLimitMinutes).Exec(ctx)
		if err != nil {
			return "", err
		}
		return id, d.still(ctx, r, tx, false)
	})
}

func (r *Resolver) updateProject(ctx context.Context, in graphgen.UpdateProjectInput) (*gen.Project, error) {
	return change(ctx, r, r.DB.Client.Project.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		p, err := tx.Project.Get(ctx, in.ID)
		if err != nil {
			return "", err
		}
		d := draftProject{target: p.TargetURL, origins: p.Origins, scanner: p.Scanner, draftEndpoint: draftEndpoint{connector: p.Scanner, settings: p.Settings, secrets: map[string]string{}}}
		if err := r.Secrets.UnsealJSON(p.ID, project.FieldSecrets, p.Secrets, &d.secrets); err != nil {
			return "", err
		}
		d.keep()
		before, err := d.way()
		if err != nil {
			return "", err
		}
		kept := maps.Clone(d.secrets)
		if in.TargetURL != nil {
			d.target = *in.TargetURL
		}
		if in.Origins != nil {
			d.origins = in.Origins
		}
		if in.Scanner != nil {
			d.scanner, d.connector = *in.Scanner, *in.Scanner
		}
		if in.Settings != nil {
			d.settings = in.Settings
		}
		d.setSecrets(in.Secrets)
		same := d.scanner == p.Scanner
		if err := d.check(ctx, r, tx.Client(), same); err != nil {
			return "", err
		}
		after, err := d.way()
		if err != nil {
			return "", err
		}
		u := tx.Project.UpdateOneID(p.ID).SetNillableName(in.Name).SetNillableDescription(in.Description).SetTargetURL(d.target).SetOrigins(d.origins).
			SetScanner(d.scanner).SetSettings(d.settings).SetNillableTimeLimitMinutes(in.TimeLimitMinutes)
		if !maps.Equal(kept, d.secrets) { // sealed anew they would look changed in the audit log
			sealed, err := r.Secrets.SealJSON(p.ID, project.FieldSecrets, d.secrets)
			if err != nil {
				return "", err
			}
			u.SetSecrets(sealed)
		}
		if before != after {
			u.ClearSetup().ClearSetupAt()
		}
		if err := u.Exec(ctx); err != nil {
			return "", err
		}
		return p.ID, d.still(ctx, r, tx, same)
	})
}

func (r *Resolver) deleteProject(ctx context.Context, id string) (*graphgen.DeletePayload, error) {
	return r.delete(ctx, id, func(ctx context.Context, tx *gen.Tx) error {
		running, err := tx.Run.Query().Where(run.ProjectID(id), run.FinishedAtIsNil()).Exist(ctx)
		if err != nil {
			return err
		}
		if running {
			return conflict("The project is being scanned; stop that first.")
		}
		return tx.Project.DeleteOneID(id).Exec(ctx)
	})
}

func (r *Resolver) forgetProjectSetup(ctx context.Context, id string) (*gen.Project, error) {
	return change(ctx, r, r.DB.Client.Project.Get, func(ctx context.Context, tx *gen.Tx) (string, error) {
		return id, tx.Project.UpdateOneID(id).ClearSetup().ClearSetupAt().Exec(ctx)
	})
}

// approvedOrigins are where a project's scans may go.
func approvedOrigins(p *gen.Project) []string {
	own, _ := parts.Origin(p.TargetURL)
	return append([]string{own}, without(p.Origins, []string{own})...)
}

// projectSetup is what is kept for a project, without what is secret of it.
func (r *Resolver) projectSetup(p *gen.Project) (*graphgen.ProjectSetup, error) {
	if len(p.Setup) == 0 {
		return nil, nil
	}
	var s connectors.ScanSetup
	if err := r.Secrets.UnsealJSON(p.ID, project.FieldSetup, p.Setup, &s); err != nil {
		return nil, fmt.Errorf("open what is kept for the project: %w", err)
	}
	out := &graphgen.ProjectSetup{BasicAuth: s.Basic != nil, LoginForms: len(s.Logins), Parameters: []string{}, APISpec: len(s.APISpec) > 0}
	for _, x := range s.Parameters {
		out.Parameters = append(out.Parameters, x.In+" "+x.Name)
	}
	return out, nil
}

// draftProject is a project as it will be; of the endpoint in it only the settings count.
type draftProject struct {
	draftEndpoint
	target  string
	origins []string
	scanner string
}

// way is equal for drafts whose credentials go the same way.
func (d *draftProject) way() (string, error) {
	own, _ := parts.Origin(d.target)
	b, err := json.Marshal([]any{own, d.origins, d.scanner, d.settings, d.secrets})
	return string(b), err
}

// check holds the project against its scanner, and writes its origins as everybody does. One
// that exists may have a scanner that is disabled.
func (d *draftProject) check(ctx context.Context, r *Resolver, c *gen.Client, exists bool) error {
	if _, ok := parts.Origin(d.target); !ok {
		return badInput("input.targetUrl", "Give an address such as https://app.example.com, without user and fragment.")
	}
	origins := []string{}
	for i, s := range d.origins {
		o, ok := parts.Origin(s)
		if u, err := url.Parse(s); !ok || err != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return badInput(fmt.Sprintf("input.origins[%d]", i), "%q is not an origin such as https://api.example.com.", s)
		}
		if !slices.Contains(origins, o) {
			origins = append(origins, o)
		}
	}
	d.origins = origins
	if d.settings == nil {
		d.settings = map[string]any{}
	}
	return d.fits(ctx, r, c, exists)
}

// fits holds the settings against the scanner.
func (d *draftProject) fits(ctx context.Context, r *Resolver, c *gen.Client, exists bool) error {
	scanners, err := r.scanners(ctx, c, exists)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(scanners, func(s *connectors.Spec) bool { return s.Name == d.scanner })
	if i < 0 {
		return badInput("input.scanner", "There is no connector %q that scans; see scanners.", d.scanner)
	}
	return d.checkSettings(*scanners[i])
}

// still is fits once the project is written, of a third party's scanner: no other change of the
// organization, such as another version, can come between now.
func (d *draftProject) still(ctx context.Context, r *Resolver, tx *gen.Tx, exists bool) error {
	if _, shipped := r.Connectors.Connector(d.scanner); shipped {
		return nil
	}
	return d.fits(ctx, r, tx.Client(), exists)
}

// misscan says why a version of its scanner would not fit to a project, "" if it does.
func (r *Resolver) misscan(p *gen.Project, of *flow.Package) (string, error) {
	if !scans(of.Spec) {
		return "It does not scan.", nil
	}
	d := draftEndpoint{settings: p.Settings, secrets: map[string]string{}}
	if err := r.Secrets.UnsealJSON(p.ID, project.FieldSecrets, p.Secrets, &d.secrets); err != nil {
		return "", err
	}
	s := of.Spec
	s.Settings = s.ScanSettings
	err := d.checkSettings(s)
	if bad := (*Error)(nil); errors.As(err, &bad) && bad.Code == BadUserInput {
		return bad.Field + ": " + bad.Message, nil
	}
	return "", err
}
