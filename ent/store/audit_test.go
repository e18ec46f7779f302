package store_test

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"entgo.io/ent/privacy"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/auditentry"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
)

// log is an organization's audit log, the first entry first, without those of its making.
func log(t *testing.T, db *store.DB, org string) []*gen.AuditEntry {
	t.Helper()
	list, err := db.Client.AuditEntry.Query().Where(auditentry.OrganizationID(org), auditentry.NumberGT(1)).
		Order(gen.Asc(auditentry.FieldNumber)).All(viewer.SystemContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range list {
		if e.Number != int64(i)+2 {
			t.Errorf("entry %d has the number %d", i, e.Number)
		}
	}
	return list
}

// changes writes an entry's changes down: "name: "a" > "b"".
func changes(e *gen.AuditEntry) string {
	var b strings.Builder
	for i, c := range e.Changes {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(c.Field)
		switch {
		case c.Hidden:
			b.WriteString(" hidden")
		default:
			// PostgreSQL writes JSON in its own way.
			b.WriteString(strings.ReplaceAll(": "+string(c.Before)+" > "+string(c.After), ", ", ","))
		}
		if c.Cut {
			b.WriteString(" cut")
		}
	}
	return b.String()
}

func TestChangesAreAudited(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		org := newOrganization(t, db, "Acme").ID
		ctx := viewer.WithOrigin(administrator(t.Context(), org), "192.0.2.1")
		var red, blue *gen.AssetGroup
		var user *gen.User
		var end *gen.Endpoint
		var hook *gen.Webhook
		var app *gen.Application
		for _, step := range []struct {
			do   func(ctx context.Context, tx *gen.Tx) error
			want []string
		}{
			{func(ctx context.Context, tx *gen.Tx) error {
				red, blue = tx.AssetGroup.Create().SetName("red").SaveX(ctx), tx.AssetGroup.Create().SetName("blue").SaveX(ctx)
				app = tx.Application.Create().SetName("shop").SetAssetGroup(red).SaveX(ctx)
				return nil
			}, []string{`CREATE AssetGroup red @red name:  > "red"`, `CREATE AssetGroup blue @blue name:  > "blue"`,
				`CREATE Application shop @red name:  > "shop", assetGroupId:  > "<red>"`}},
			{func(ctx context.Context, tx *gen.Tx) error {
				user = tx.User.Create().SetEmail("Ann@Example.com").SetRole(viewer.Manager).SetPasswordHash("$argon2id$secret").AddGroups(red).SaveX(ctx)
				return nil
			}, []string{`CREATE User ann@example.com @ email:  > "ann@example.com", role:  > "MANAGER", passwordHash hidden, groups: [] > ["<red>"]`}},
			{func(ctx context.Context, tx *gen.Tx) error {
				return tx.User.UpdateOneID(user.ID).SetPasswordHash("$argon2id$another").ClearGroups().AddGroups(blue).SetAllGroups(true).Exec(ctx)
			}, []string{`UPDATE User ann@example.com @ allGroups: false > true, passwordHash hidden, groups: ["<red>"] > ["<blue>"]`}},
			{func(ctx context.Context, tx *gen.Tx) error {
				return tx.User.UpdateOneID(user.ID).RemoveGroups(blue).AddGroups(red).Exec(ctx)
			}, []string{`UPDATE User ann@example.com @ groups: ["<blue>"] > ["<red>"]`}},
			{func(ctx context.Context, tx *gen.Tx) error { // nothing has changed
				return tx.User.UpdateOneID(user.ID).SetRole(viewer.Manager).SetAllGroups(true).Exec(ctx)
			}, nil},
			{func(ctx context.Context, tx *gen.Tx) error {
				end = tx.Endpoint.Create().SetName("e").SetConnector("webhook").SetURL("https://" + strings.Repeat("x", 2000)).SetSecrets([]byte("sealed")).AddSharedGroups(red).SaveX(ctx)
				hook = tx.Webhook.Create().SetName("w").SetFormat("hookyard").SetEndpoint(end).SetAssetGroup(red).AddApplications(app).SetSigningSecrets([]byte("sealed")).SaveX(ctx)
				return nil
			}, []string{`CREATE Endpoint e @ name:  > "e", connector:  > "webhook", url:  > "https://` + strings.Repeat("x", 992) + `" cut, enabled:  > true, secrets hidden, burst:  > 1, sharedGroups: [] > ["<red>"]`,
				`CREATE Webhook w @red name:  > "w", assetGroupId:  > "<red>", endpointId:  > "<end>", format:  > "hookyard", unknownCounts:  > "SKIP", state:  > "ACTIVE", handshake:  > true, signingSecrets hidden, retryOffsetsSeconds:  > [60,300,1800,7200], timeoutSeconds:  > 10, applications: [] > ["<app>"]`}},
			{func(ctx context.Context, tx *gen.Tx) error {
				return tx.Webhook.UpdateOne(hook).ClearApplications().ClearAssetGroup().Exec(ctx)
			}, []string{`UPDATE Webhook w @ assetGroupId: "<red>" > , applications: ["<app>"] > []`}},
			{func(ctx context.Context, tx *gen.Tx) error {
				return tx.Webhook.DeleteOneID(hook.ID).Exec(ctx)
			}, []string{`DELETE Webhook w @ name: "w" > , endpointId: "<end>" > , format: "hookyard" > , unknownCounts: "SKIP" > , state: "ACTIVE" > , handshake: true > , signingSecrets hidden, retryOffsetsSeconds: [60,300,1800,7200] > , timeoutSeconds: 10 > `}},
			{func(ctx context.Context, tx *gen.Tx) error {
				return tx.APIKey.Create().SetName("ci").SetRole(viewer.Tester).SetPrefix("hy_").SetHash("h").SetOwner(user).Exec(ctx)
			}, []string{`CREATE APIKey ci @ name:  > "ci", role:  > "TESTER", prefix:  > "hy_", hash hidden, ownerId:  > "<user>"`}},
			{func(ctx context.Context, tx *gen.Tx) error { // the key goes with its owner
				return tx.User.DeleteOneID(user.ID).Exec(ctx)
			}, []string{`DELETE User ann@example.com @ email: "ann@example.com" > , role: "MANAGER" > , allGroups: true > , passwordHash hidden, groups: ["<red>"] > []`,
				`DELETE APIKey ci @ name: "ci" > , role: "TESTER" > , prefix: "hy_" > , hash hidden, ownerId: "<user>" > `}},
			{func(ctx context.Context, tx *gen.Tx) error {
				return db.Audit(ctx, store.Action{Action: store.Redeliver, Noun: "Delivery", ID: "dlv_1", Group: red.ID, Details: map[string]any{"b": 1, "a": "x"}})
			}, []string{`REDELIVER Delivery  @red a:  > "x", b:  > 1`}},
		} {
			before := len(log(t, db, org))
			if err := db.WithTx(ctx, step.do); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range log(t, db, org)[before:] {
				if e.ActorKind != auditentry.ActorKindUSER || e.ActorID != "usr_1" || e.Origin != "192.0.2.1" || e.At.IsZero() {
					t.Errorf("entry %+v", e)
				}
				group := ""
				if e.AssetGroupID != nil {
					group = *e.AssetGroupID
				}
				line := e.Action + " " + e.Noun + " " + e.ObjectName + " @" + strings.NewReplacer(red.ID, "red", blue.ID, "blue").Replace(group) + " " + changes(e)
				r := []string{red.ID, "<red>", blue.ID, "<blue>", app.ID, "<app>"}
				if user != nil {
					r = append(r, user.ID, "<user>")
				}
				if end != nil {
					r = append(r, end.ID, "<end>")
				}
				got = append(got, strings.NewReplacer(r...).Replace(line))
			}
			if strings.Join(got, "\n") != strings.Join(step.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(step.want, "\n"))
			}
		}
		// What is given up leaves nothing, and what cannot be audited does not happen.
		n := len(log(t, db, org))
		_ = db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
			tx.AssetGroup.Create().SetName("green").SaveX(ctx)
			return errors.New("changed my mind")
		})
		if err := db.WithTx(ctx, func(_ context.Context, tx *gen.Tx) error {
			return tx.AssetGroup.Create().SetName("green").Exec(ctx) // not the transaction's context
		}); err == nil {
			t.Error("a change without an audit")
		}
		if err := db.Audit(viewer.SystemContext(t.Context()), store.Action{Action: store.Redeliver, Noun: "Delivery"}); err == nil {
			t.Error("an action of no organization")
		}
		if got := len(log(t, db, org)); got != n {
			t.Errorf("%d entries more", got-n)
		}
	})
}

// Whoever reads by cursor misses nothing, however many write at the same time: what has
// a number is committed only after everything with a lower one.
func TestAuditReaderMissesNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		const writers, each = 8, 25
		acme, bolt := newOrganization(t, db, "Acme").ID, newOrganization(t, db, "Bolt").ID
		done := make(chan struct{})
		var running sync.WaitGroup
		for w := range writers {
			running.Go(func() {
				for i := range each {
					org := acme
					if w%4 == 3 {
						org = bolt
					}
					if err := db.WithTx(administrator(t.Context(), org), func(ctx context.Context, tx *gen.Tx) error {
						for range 1 + i%3 {
							if err := db.Audit(ctx, store.Action{Action: store.Redeliver, Noun: "Delivery", ID: "dlv"}); err != nil {
								return err
							}
						}
						if i%5 == 4 {
							return errRollback // takes no numbers with it
						}
						return nil
					}); err != nil && !errors.Is(err, errRollback) {
						t.Error(err)
						return
					}
				}
			})
		}
		go func() { running.Wait(); close(done) }()
		tail := store.AuditTail{DB: db}
		for org, want := range map[string]int64{acme: 1 + 6*40, bolt: 1 + 2*40} { // of 25 transactions 5 are given up
			var pos int64
			for more := true; more; {
				select {
				case <-done:
					more = false // one more look
				default:
				}
				for {
					rows, err := tail.Tail(t.Context(), org, pos, 7)
					if err != nil {
						t.Fatal(err)
					}
					for _, e := range rows {
						if pos++; e.Number != pos {
							t.Fatalf("read %d after %d", e.Number, pos-1)
						}
					}
					if len(rows) == 0 {
						break
					}
				}
			}
			if last, err := tail.LastSeq(t.Context(), org); err != nil || pos != want || last != want {
				t.Errorf("read up to %d of %d, want %d (%v)", pos, last, want, err)
			}
		}
	})
}

var errRollback = errors.New("roll back")

func TestAuditIsAppendOnly(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		org := newOrganization(t, db, "Acme").ID
		for name, ctx := range map[string]context.Context{"an Administrator": administrator(t.Context(), org), "the hub": viewer.SystemContext(t.Context())} {
			e := db.Client.AuditEntry.Query().OnlyX(ctx)
			for what, do := range map[string]func(context.Context, *gen.Tx) error{
				"changes": func(ctx context.Context, tx *gen.Tx) error {
					return tx.AuditEntry.UpdateOne(e).SetErasedAt(time.Now()).Exec(ctx)
				},
				"deletes": func(ctx context.Context, tx *gen.Tx) error { return tx.AuditEntry.DeleteOne(e).Exec(ctx) },
				"makes": func(ctx context.Context, tx *gen.Tx) error {
					return tx.AuditEntry.Create().SetOrganizationID(org).SetNumber(9).SetAt(time.Now()).SetActorKind(auditentry.ActorKindHUB).Exec(ctx)
				},
				"deletes all": func(ctx context.Context, tx *gen.Tx) error { _, err := tx.AuditEntry.Delete().Exec(ctx); return err },
			} {
				if err := db.WithTx(ctx, do); !errors.Is(err, privacy.Deny) {
					t.Errorf("%s %s entries: %v", name, what, err)
				}
			}
		}
		for _, statement := range []string{"UPDATE audit_entries SET actor_name = 'x'", "DELETE FROM audit_entries"} {
			if _, err := db.Client.ExecContext(t.Context(), statement); err == nil || !strings.Contains(err.Error(), "append-only") {
				t.Errorf("%s: %v", statement, err)
			}
		}
	})
}

func TestAuditRetention(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		acme, bolt := newOrganization(t, db, "Acme").ID, newOrganization(t, db, "Bolt").ID
		for range 3 {
			if err := db.Audit(administrator(t.Context(), acme), store.Action{Action: store.Cancel, Noun: "Delivery"}); err != nil {
				t.Fatal(err)
			}
		}
		tail := store.AuditTail{DB: db}
		if n, more, err := db.RetainAudit(t.Context(), acme, time.Now().Add(-time.Hour)); n != 0 || more || err != nil {
			t.Errorf("removed %d, %v, %v", n, more, err)
		}
		if n, more, err := db.RetainAudit(t.Context(), acme, time.Now().Add(time.Hour)); n != 4 || more || err != nil {
			t.Errorf("removed %d, %v, %v", n, more, err)
		}
		if err := db.Audit(administrator(t.Context(), acme), store.Action{Action: store.Cancel, Noun: "Delivery"}); err != nil {
			t.Fatal(err)
		}
		if oldest, err := tail.OldestSeq(t.Context(), acme); oldest != 5 || err != nil {
			t.Errorf("the log begins at %d, %v", oldest, err)
		}
		if rows, err := tail.Tail(t.Context(), acme, 0, 9); len(rows) != 1 || rows[0].Number != 5 || err != nil {
			t.Errorf("kept %v, %v", rows, err)
		}
		if rows, err := tail.Tail(t.Context(), bolt, 0, 9); len(rows) != 1 || err != nil {
			t.Errorf("of the other: %v, %v", rows, err)
		}
	})
}

func TestPersonIsErasedFromAudit(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		org := newOrganization(t, db, "Acme").ID
		admin := administrator(t.Context(), org)
		var ann *gen.User
		if err := db.WithTx(admin, func(ctx context.Context, tx *gen.Tx) error {
			ann = tx.User.Create().SetEmail("ann@example.com").SetName("Ann").SetRole(viewer.Manager).SaveX(ctx)
			tx.APIKey.Create().SetName("first key of Ann@example.com").SetRole(viewer.Tester).SetPrefix("hy_").SetHash("h").SetOwner(ann).ExecX(ctx)
			return tx.AssetGroup.Create().SetName("red").Exec(ctx)
		}); err != nil {
			t.Fatal(err)
		}
		asAnn := viewer.WithOrigin(viewer.NewContext(t.Context(), &viewer.Viewer{ID: ann.ID, Name: "Ann", Organization: org}), "192.0.2.7")
		if err := db.Audit(asAnn, store.Action{Action: store.Redeliver, Noun: "Delivery", ID: "dlv_1", Details: map[string]any{"n": 1}}); err != nil {
			t.Fatal(err)
		}
		// Somebody tried the address, and nobody knows who.
		if err := db.Audit(t.Context(), store.Action{Organization: org, Action: store.SignInFailed, Noun: "User", Name: "ann@example.com"}); err != nil {
			t.Fatal(err)
		}
		for _, want := range []int{4, 0} { // the second time there is nothing left
			if err := db.WithTx(admin, func(ctx context.Context, tx *gen.Tx) error {
				n, err := db.EraseFromAudit(ctx, tx, org, store.Person{Email: "Ann@example.com"}, time.Now())
				if n != want {
					t.Errorf("erased from %d entries, want %d", n, want)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		for _, e := range log(t, db, org) {
			got = append(got, fmt.Sprint(e.Action, " ", e.Noun, " ", e.ObjectName, " by ", e.ActorName, " from ", e.Origin, " ", changes(e), " ", e.ErasedAt != nil))
		}
		want := []string{
			`CREATE User [erased] by  from  email:  > "[erased]", name:  > "[erased]", role:  > "MANAGER" true`,
			`CREATE APIKey [erased] by  from  name:  > "[erased]", role:  > "TESTER", prefix:  > "hy_", hash hidden, ownerId:  > "` + ann.ID + `" true`,
			`CREATE AssetGroup red by  from  name:  > "red" false`,
			`REDELIVER Delivery  by [erased] from [erased] n:  > 1 true`,
			`SIGN_IN_FAILED User [erased] by  from   true`,
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestOperatorsAndTheHubAreAudited(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		acme, bolt := newOrganization(t, db, "Acme").ID, newOrganization(t, db, "Bolt").ID
		operator := viewer.OperatorContext(t.Context(), "root")
		if err := db.Audit(operator, store.Action{Organization: store.Everywhere, Action: store.RotateSecrets, Noun: "Hub"}); err != nil {
			t.Fatal(err)
		}
		// What the hub does for somebody is that one's doing.
		if err := db.WithTx(viewer.SystemContext(administrator(t.Context(), acme)), func(ctx context.Context, tx *gen.Tx) error {
			return tx.Organization.UpdateOneID(acme).SetSuspendedAt(time.Now()).Exec(ctx)
		}); err != nil {
			t.Fatal(err)
		}
		for org, want := range map[string]string{acme: "OPERATOR  root command line ROTATE_SECRETS, USER usr_1   UPDATE", bolt: "OPERATOR  root command line ROTATE_SECRETS"} {
			var got []string
			for _, e := range log(t, db, org) {
				got = append(got, strings.Join([]string{string(e.ActorKind), e.ActorID, e.ActorName, e.Origin, e.Action}, " "))
			}
			if strings.Join(got, ", ") != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	})
}

// statements are what the client sends while do runs.
func statements(t *testing.T, db *store.DB, do func(context.Context, *gen.Tx) error) (all []string) {
	t.Helper()
	quiet := db.Client
	db.Client = quiet.Debug()
	var out strings.Builder
	stdlog.SetOutput(&out)
	defer func() { db.Client = quiet; stdlog.SetOutput(os.Stderr) }()
	if err := db.WithTx(viewer.SystemContext(t.Context()), do); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if _, query, ok := strings.Cut(line, "query="); ok {
			all = append(all, query)
		}
	}
	return all
}

// A transaction pays one statement for the audit log (on SQLite two), however much it
// changes, and no reads beyond the one that the revision needs in any case.
func TestAuditCost(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		org := newOrganization(t, db, "Acme").ID
		var group *gen.AssetGroup
		if err := db.WithTx(administrator(t.Context(), org), func(ctx context.Context, tx *gen.Tx) (err error) {
			group, err = tx.AssetGroup.Create().SetName("red").Save(ctx)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		for what, test := range map[string]struct {
			do        func(context.Context, *gen.Tx) error
			want      int // statements without those for the audit log
			revisions int // of these; on PostgreSQL each notifies, too
			audited   bool
		}{
			"one update": {func(ctx context.Context, tx *gen.Tx) error {
				return tx.AssetGroup.UpdateOneID(group.ID).SetDescription("x").Exec(ctx)
			}, 4, 1, true}, // the row before, the update, the row after, the revision
			"three changes": {func(ctx context.Context, tx *gen.Tx) error {
				for _, name := range []string{"a", "b", "c"} {
					if err := tx.AssetGroup.Create().SetOrganizationID(org).SetName(name).Exec(ctx); err != nil {
						return err
					}
				}
				return nil
			}, 6, 3, true},
			"a key's use": {func(ctx context.Context, tx *gen.Tx) error {
				_, err := tx.APIKey.Update().SetLastUsedAt(time.Now()).Save(ctx)
				return err
			}, 1, 0, false},
		} {
			all := statements(t, db, test.do)
			audit := 0
			for _, q := range all {
				if strings.Contains(q, "audit_") {
					audit++
				}
			}
			budget, want := 0, test.want
			if test.audited {
				budget = 1
			}
			if db.Dialect == store.SQLite {
				budget *= 2
			} else {
				want += test.revisions
			}
			if audit != budget || len(all)-audit != want {
				t.Errorf("%s: %d statements and %d for the audit log, want %d and %d:\n%s", what, len(all)-audit, audit, want, budget, strings.Join(all, ""))
			}
		}
	})
}
