package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/webhook"
	"github.com/hookyard/hookyard/ent/migrations"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
)

// An organization as the first schema keeps it: with a group that uses an endpoint of the
// organization, for both databases.
const oldRows = `
INSERT INTO organizations (id, created_at, updated_at, name, allow_targets) VALUES ('org_1', $AT, $AT, 'Acme', '[{"host":"*.example.com","port":443}]');
INSERT INTO asset_groups (id, created_at, updated_at, organization_id, name) VALUES ('grp_1', $AT, $AT, 'org_1', 'red');
INSERT INTO applications (id, created_at, updated_at, organization_id, name, asset_group_id) VALUES ('app_1', $AT, $AT, 'org_1', 'shop', 'grp_1');
INSERT INTO users (id, created_at, updated_at, organization_id, email, role, all_groups) VALUES ('usr_1', $AT, $AT, 'org_1', 'ann@example.com', 'ADMINISTRATOR', true);
INSERT INTO user_groups (user_id, asset_group_id) VALUES ('usr_1', 'grp_1');
INSERT INTO api_keys (id, created_at, updated_at, organization_id, name, role, prefix, hash, owner_id) VALUES ('key_1', $AT, $AT, 'org_1', 'ci', 'TESTER', 'hy_', 'h', 'usr_1');
INSERT INTO endpoints (id, created_at, updated_at, organization_id, name, connector, url, settings, rate_per_second, revision) VALUES ('end_1', $AT, $AT, 'org_1', 'siem', 'webhook', 'https://siem.example.com', '{"a":1}', 2.5, 7);
INSERT INTO sources (id, created_at, updated_at, organization_id, name, kind, token_hash, mapping, asset_group_id) VALUES ('src_1', $AT, $AT, 'org_1', 'holm', 'holm', 'th', '{"create":true}', 'grp_1');
INSERT INTO webhooks (id, created_at, updated_at, organization_id, name, event_types, format, retry_offsets_seconds, asset_group_id, endpoint_id) VALUES ('whk_1', $AT, $AT, 'org_1', 'new ones', '["finding.discovered"]', 'hookyard', '[60,300]', 'grp_1', 'end_1');
INSERT INTO webhook_applications (webhook_id, application_id) VALUES ('whk_1', 'app_1');
INSERT INTO webhook_sources (webhook_id, source_id) VALUES ('whk_1', 'src_1')`

// TestUpgrade brings databases of every older version to today's, with what people had
// made there.
func TestUpgrade(t *testing.T) {
	for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
		files, err := migrations.Files(string(d))
		if err != nil {
			t.Fatal(err)
		}
		list, err := fs.Glob(files, "*.sql")
		if err != nil || len(list) < 2 {
			t.Fatal(list, err)
		}
		for i := range list[:len(list)-1] {
			var version int64
			if _, err := fmt.Sscanf(list[i], "%d_", &version); err != nil {
				t.Fatal(err)
			}
			t.Run(fmt.Sprint(d, " ", version), func(t *testing.T) {
				cfg := store.Config{DataDir: t.TempDir()}
				if d == store.Postgres {
					cfg = store.Config{DatabaseURL: storetest.Postgres(t)}
				}
				oldDatabase(t, cfg, files, version)
				db := storetest.Open(t, cfg)
				checkUpgraded(t, db, version)
				if version >= 2 {
					checkHistory(t, db)
				}
			})
		}
	}
}

// oldDatabase makes a database as a version of the schema has it, with rows that the first
// and the second had room for.
func oldDatabase(t *testing.T, cfg store.Config, files fs.FS, version int64) {
	t.Helper()
	driver, dsn, kind, at := "sqlite", "file:"+filepath.Join(cfg.DataDir, store.File), goose.DialectSQLite3, "1767323045000006" // microseconds
	if cfg.DatabaseURL != "" {
		driver, dsn, kind, at = "pgx", cfg.DatabaseURL, goose.DialectPostgres, "'2026-01-02T03:04:05.000006Z'"
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	p, err := goose.NewProvider(kind, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	rows := func() {
		t.Helper()
		for _, s := range strings.Split(strings.ReplaceAll(oldRows, "$AT", at), ";\n") {
			if _, err := db.ExecContext(t.Context(), s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
	}
	up := func(to int64) {
		t.Helper()
		if _, err := p.UpTo(t.Context(), to); err != nil {
			t.Fatal(err)
		}
	}
	up(1)
	rows()
	if version >= 2 {
		up(2)
		insertHistory(t, db, cfg.DatabaseURL != "")
	}
	up(version)
}

// checkUpgraded reads what was there through the store, and changes it.
func checkUpgraded(t *testing.T, db *store.DB, version int64) {
	t.Helper()
	ctx := viewer.SystemContext(t.Context())
	org := db.Client.Organization.GetX(ctx, "org_1")
	if org.Name != "Acme" || len(org.AllowTargets) != 1 || org.AllowTargets[0].Host != "*.example.com" || org.RetentionAuditDays != 400 || org.CreatedAt.UnixMicro() != 1767323045000006 {
		t.Errorf("the organization is %+v", org)
	}
	e := db.Client.Endpoint.GetX(ctx, "end_1")
	if e.URL != "https://siem.example.com" || !e.Enabled || e.RatePerSecond != 2.5 || e.Revision != 7 || e.Settings["a"] == nil || e.PresenceID != nil {
		t.Errorf("the endpoint is %+v", e)
	}
	if shared := e.QuerySharedGroups().IDsX(ctx); len(shared) != 1 || shared[0] != "grp_1" {
		t.Errorf("the endpoint that a group used is shared with %v", shared)
	}
	s := db.Client.Source.GetX(ctx, "src_1")
	if s.Kind != "holm" || !s.Mapping.Create || s.TokenHash != "th" || !s.Enabled || s.PollEverySeconds != 0 || s.AssetGroupID == nil || *s.AssetGroupID != "grp_1" {
		t.Errorf("the source is %+v", s)
	}
	w := db.Client.Webhook.Query().Where(webhook.ID("whk_1")).WithApplications().WithSources().OnlyX(ctx)
	if w.State != webhook.StateACTIVE || len(w.EventTypes) != 1 || len(w.RetryOffsetsSeconds) != 2 || w.EndpointID != "end_1" || w.Handshake || w.VerifiedAt != nil ||
		len(w.Edges.Applications) != 1 || w.Edges.Applications[0].Name != "shop" || len(w.Edges.Sources) != 1 {
		t.Errorf("the webhook is %+v", w)
	}
	u := db.Client.User.Query().WithGroups().OnlyX(ctx)
	if u.Email != "ann@example.com" || u.Role != viewer.Administrator || !u.AllGroups || len(u.Edges.Groups) != 1 || db.Client.APIKey.GetX(ctx, "key_1").OwnerID == nil {
		t.Errorf("the user is %+v", u)
	}
	if err := db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
		tx.Endpoint.UpdateOneID(e.ID).SetName("siem too").ExecX(ctx)
		tx.Webhook.UpdateOneID(w.ID).SetState(webhook.StatePAUSED).ExecX(ctx)
		tx.Source.UpdateOneID(s.ID).SetEnabled(false).ExecX(ctx)
		return tx.User.UpdateOneID(u.ID).SetName("Ann").Exec(ctx)
	}); err != nil {
		t.Errorf("changed after the upgrade: %v", err)
	}
	if n := count(t, db, "SELECT count(*) FROM goose_db_version WHERE version_id <= "+fmt.Sprint(version)); n == 0 {
		t.Error("it was not an old database")
	}
}
