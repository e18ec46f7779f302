package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	osuser "os/user"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/apikey"
	"github.com/hookyard/hookyard/ent/gen/organization"
	"github.com/hookyard/hookyard/ent/gen/user"
	"github.com/hookyard/hookyard/ent/gen/webhook"
	"github.com/hookyard/hookyard/ent/secret"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/auth"
)

// Operator does what only the person with access to the machine may do. A running hub
// sees its changes within a second.
type Operator struct {
	db        *store.DB
	secrets   secret.Config
	now       func() time.Time
	publicURL string
	by        func(context.Context) context.Context // says who asks: viewer.OperatorContext, or the hub itself
}

// byOperator says that whoever is at the command line asks.
func byOperator(ctx context.Context) context.Context {
	return viewer.OperatorContext(ctx, operatorName())
}

// operatorName is the account of the person at the command line, "" not known.
func operatorName() string {
	u, err := osuser.Current()
	if err != nil {
		return ""
	}
	if as := os.Getenv("SUDO_USER"); as != "" && as != u.Username {
		return u.Username + " (" + as + ")"
	}
	return u.Username
}

// Operate opens the data, lets do work on it and closes it again.
func Operate(ctx context.Context, cfg Config, do func(*Operator) error) (err error) {
	db, err := store.Open(ctx, cfg.existing())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	o := &Operator{db: db, secrets: cfg.secrets(), now: time.Now, by: byOperator}
	if o.publicURL, err = db.PublicURL(ctx); err != nil {
		return err
	}
	return do(o)
}

// Access is what a person is given to get in; it is shown once.
type Access struct {
	APIKey string
	Link   string // where the person chooses a password
}

// CreateOrganization makes an organization and its Administrator, and returns the
// Administrator's access.
func (o *Operator) CreateOrganization(ctx context.Context, name, email string) (a Access, err error) {
	err = o.db.WithTx(o.by(ctx), func(ctx context.Context, tx *gen.Tx) error {
		org, err := tx.Organization.Create().SetName(name).Save(ctx)
		if gen.IsConstraintError(err) {
			return fmt.Errorf("there is an organization %q already", name)
		}
		if err != nil {
			return fmt.Errorf("create the organization: %w", err)
		}
		u, err := tx.User.Create().SetOrganizationID(org.ID).SetEmail(email).SetName("Administrator").
			SetRole(viewer.Administrator).SetAllGroups(true).Save(ctx)
		if err != nil {
			return fmt.Errorf("create the Administrator: %w", err)
		}
		a, err = o.admit(ctx, tx, u)
		return err
	})
	return a, err
}

// admit gives a user an API key and a one-time link.
func (o *Operator) admit(ctx context.Context, tx *gen.Tx, u *gen.User) (a Access, err error) {
	if a.APIKey, err = newKey(ctx, tx, u); err != nil {
		return a, err
	}
	a.Link, _, err = newLink(ctx, tx, u, o.publicURL, o.now())
	return a, err
}

// newKey gives a user an API key with the user's own rights.
func newKey(ctx context.Context, tx *gen.Tx, u *gen.User) (string, error) {
	key, hint, hash := auth.NewKey()
	groups, err := u.QueryGroups().IDs(ctx)
	if err != nil {
		return "", fmt.Errorf("look the user's groups up: %w", err)
	}
	err = tx.APIKey.Create().SetOrganizationID(u.OrganizationID).SetName("first key of " + u.Email).SetRole(u.Role).SetAllGroups(u.AllGroups).
		AddGroupIDs(groups...).SetPrefix(hint).SetHash(hash).SetOwnerID(u.ID).Exec(ctx)
	if err != nil {
		return "", fmt.Errorf("create an API key: %w", err)
	}
	return key, nil
}

func (o *Operator) organization(ctx context.Context, name string) (*gen.Organization, error) {
	org, err := o.db.Client.Organization.Query().Where(organization.Name(name)).Only(ctx)
	if gen.IsNotFound(err) {
		return nil, fmt.Errorf("there is no organization %q; hookyard org list shows those that exist", name)
	}
	return org, err
}

// Suspend stops an organization or lifts that again.
func (o *Operator) Suspend(ctx context.Context, name string, on bool) error {
	ctx = o.by(ctx)
	org, err := o.organization(ctx, name)
	if err != nil {
		return err
	}
	return o.db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
		change := tx.Organization.UpdateOneID(org.ID)
		if on {
			change.SetSuspendedAt(o.now().UTC())
		} else {
			change.ClearSuspendedAt()
		}
		return change.Exec(ctx)
	})
}

// DeleteOrganization removes an organization with everything that belongs to it. It
// suspends it first and lets running hubs finish what they have in flight for it, or
// they would write more rows after it is gone.
func (o *Operator) DeleteOrganization(ctx context.Context, name string) error {
	ctx = o.by(ctx)
	org, err := o.organization(ctx, name)
	if err != nil {
		return err
	}
	if err := o.Suspend(ctx, name, true); err != nil {
		return fmt.Errorf("suspend the organization: %w", err)
	}
	if err := o.quiet(ctx, org.ID); err != nil {
		return fmt.Errorf("wait for what is in flight: %w", err)
	}
	return purge(ctx, o.db, org.ID)
}

// quiet waits until running hubs have learned that an organization is suspended and no
// attempt of its deliveries can be under way any more.
func (o *Operator) quiet(ctx context.Context, org string) error {
	webhooks, err := o.db.Client.Webhook.Query().Where(webhook.OrganizationID(org)).All(ctx)
	if err != nil {
		return err
	}
	longest := 0
	for _, w := range webhooks {
		longest = max(longest, w.TimeoutSeconds)
	}
	learned := time.After(2 * time.Second)
	ended := time.After(time.Duration(longest+4) * time.Second)
	look := time.NewTicker(250 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ended:
			return nil
		case <-learned:
			learned = nil
		case <-look.C:
		}
		if learned != nil {
			continue
		}
		if leased, err := o.db.Leased(ctx, org); err != nil || leased == 0 {
			return err
		}
	}
}

// List writes a table of the organizations.
func (o *Operator) List(ctx context.Context, out io.Writer) error {
	list, err := o.db.Client.Organization.Query().Order(gen.Asc(organization.FieldName)).All(o.by(ctx))
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "NAME\tID\tSTATE\tSINCE")
	for _, org := range list {
		state, since := "active", org.CreatedAt
		if org.SuspendedAt != nil {
			state, since = "suspended", *org.SuspendedAt
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", org.Name, org.ID, state, since.Format(time.RFC3339))
	}
	return w.Flush()
}

// ResetUser withdraws a user's API keys, password and second factor, ends the user's
// sessions, enables the user and returns new access. The organization may be "" when only
// one has such a user.
func (o *Operator) ResetUser(ctx context.Context, org, email string) (a Access, err error) {
	ctx = o.by(ctx)
	q := o.db.Client.User.Query().Where(user.Email(strings.ToLower(email)))
	if org != "" {
		found, err := o.organization(ctx, org)
		if err != nil {
			return a, err
		}
		q.Where(user.OrganizationID(found.ID))
	}
	u, err := q.Only(ctx)
	switch {
	case gen.IsNotFound(err):
		return a, fmt.Errorf("there is no user %s", email)
	case gen.IsNotSingular(err):
		return a, fmt.Errorf("several organizations have a user %s: name one with --organization", email)
	case err != nil:
		return a, err
	}
	err = o.db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
		if _, err := tx.APIKey.Delete().Where(apikey.OwnerID(u.ID)).Exec(ctx); err != nil {
			return fmt.Errorf("withdraw the old keys: %w", err)
		}
		fresh, err := tx.User.UpdateOneID(u.ID).ClearDisabledAt().ClearPasswordHash().ClearTotpSecret().ClearSecondFactorAt().ClearRecoveryHashes().SetTotpStep(0).Save(ctx)
		if err != nil {
			return fmt.Errorf("enable the user: %w", err)
		}
		if err := signOut(ctx, tx, u.ID, ""); err != nil {
			return err
		}
		a, err = o.admit(ctx, tx, fresh)
		return err
	})
	return a, err
}

// RotateKeys makes a new key that tokens are signed with. The older ones are believed
// until the last token that they signed has expired, unless that shall be at once.
func (o *Operator) RotateKeys(ctx context.Context, atOnce bool) (id string, err error) {
	if _, err := os.Stat(o.secrets.KeyFile); err != nil {
		return "", fmt.Errorf("rotate the signing keys: they are encrypted by the hub's own key: %w", err)
	}
	box, err := secret.Open(ctx, o.secrets)
	if err != nil {
		return "", err
	}
	if err := o.db.CheckKey(ctx, box); err != nil {
		return "", err
	}
	if err := o.db.Audit(o.by(ctx), store.Action{Organization: store.Everywhere, Action: store.RotateSecrets, Noun: "SigningKey", Details: map[string]any{"atOnce": atOnce}}); err != nil {
		return "", err
	}
	return signingKeys{o.db, box, o.now}.rotate(ctx, atOnce)
}

// Release lets a restored hub deliver again.
func (o *Operator) Release(ctx context.Context) error {
	if err := o.db.Audit(o.by(ctx), store.Action{Organization: store.Everywhere, Action: store.ReleaseHold, Noun: "Hub"}); err != nil {
		return err
	}
	return o.db.SetHeld(ctx, false)
}

// AdminFile is where the first start leaves the Administrator's credentials.
const AdminFile = "admin.json"

// admin is the content of AdminFile.
type admin struct {
	URL    string `json:"url"`
	User   string `json:"user"`
	APIKey string `json:"apiKey"`
	Link   string `json:"link"` // where the Administrator chooses a password, once
}

// firstStart makes the organization and its Administrator when there is none at all, and
// writes AdminFile for the person who started the hub. With several nodes on one new
// database the first to commit does it.
func firstStart(ctx context.Context, o *Operator, cfg *Config) (file string, err error) {
	exists, err := o.db.Client.Organization.Query().Exist(o.by(ctx))
	if err != nil || exists {
		return "", err
	}
	access, err := o.CreateOrganization(ctx, cfg.Organization, cfg.Administrator)
	if err != nil {
		if exists, again := o.db.Client.Organization.Query().Exist(o.by(ctx)); again == nil && exists {
			return "", nil
		}
		return "", err
	}
	b, err := json.MarshalIndent(admin{cfg.PublicURL, cfg.Administrator, access.APIKey, access.Link}, "", "  ")
	if err != nil {
		return "", err
	}
	file = filepath.Join(cfg.DataDir, AdminFile)
	if err := os.WriteFile(file, append(b, '\n'), 0o600); err != nil {
		return "", fmt.Errorf("write the Administrator's key down (hookyard user reset gives a new one): %w", err)
	}
	return file, nil
}
