package history

import (
	"context"
	"testing"
	"time"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/flow"
	"github.com/hookyard/hookyard/server/ledger"
)

// TestPast writes a past and has retention remove the part of it that is too old.
func TestPast(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { testPast(t, "") })
	t.Run("postgres", func(t *testing.T) { testPast(t, storetest.Postgres(t)) })
}

func testPast(t *testing.T, url string) {
	dir := t.TempDir()
	db, err := store.Open(t.Context(), store.Config{DataDir: dir, DatabaseURL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	org := ""
	if err := db.WithTx(viewer.SystemContext(t.Context()), func(ctx context.Context, tx *gen.Tx) error {
		o, err := tx.Organization.Create().SetName("o").Save(ctx)
		if err != nil {
			return err
		}
		org = o.ID
		e, err := tx.Endpoint.Create().SetOrganizationID(org).SetName("e").SetConnector("webhook").SetURL("https://example.com").Save(ctx)
		if err != nil {
			return err
		}
		if err := tx.Webhook.Create().SetOrganizationID(org).SetName("w").SetEndpointID(e.ID).SetFormat("hookyard").Exec(ctx); err != nil {
			return err
		}
		return tx.Source.Create().SetOrganizationID(org).SetName("s").SetKind("cloudevents").SetTokenHash("h").Exec(ctx)
	}); err != nil {
		t.Fatal(err)
	}
	const n, day = 1500, 24 * time.Hour
	past := Past{DataDir: dir, DatabaseURL: url, Events: n, Age: func(i int) time.Duration {
		if i < 500 {
			return 3*day - time.Duration(i)*time.Minute
		}
		return time.Hour
	}}
	if err := Write(t.Context(), past); err != nil {
		t.Fatal(err)
	}
	if r, err := Count(t.Context(), dir, url); err != nil || r != (Rows{n, n, n}) {
		t.Fatalf("wrote %+v, %v", r, err)
	}
	c := ledger.Config{IDs: ids.NewMaker(time.Now), NodeName: "hub", Postgres: db.Pool}
	if db.Dialect == store.SQLite {
		c.SQLite = &ledger.SQLite{Write: db.Write, Read: db.Read}
	}
	l, err := ledger.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close(context.Background()) }()
	for more := true; more; {
		done, err := l.Retain(t.Context(), map[string]flow.Retention{org: {Events: day, Attempts: day, Payloads: day}})
		if err != nil {
			t.Fatal(err)
		}
		more = done.More
	}
	left, err := Count(t.Context(), dir, url)
	if err != nil {
		t.Fatal(err)
	}
	for _, is := range []int{left.Events, left.Deliveries, left.Attempts} {
		if is < n-500-writers || is > n-500+writers { // those that are written at the same time may change places
			t.Errorf("retention left %+v of %d, of which 500 were due", left, n)
			break
		}
	}
}
