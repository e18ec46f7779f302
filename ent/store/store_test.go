package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/ent/viewer"
)

func newOrganization(t *testing.T, db *store.DB, name string) *gen.Organization {
	t.Helper()
	var org *gen.Organization
	err := db.WithTx(viewer.SystemContext(t.Context()), func(ctx context.Context, tx *gen.Tx) (err error) {
		org, err = tx.Organization.Create().SetName(name).SetAllowTargets([]connectors.AllowRule{{Host: "*.example.com", Port: 443}}).Save(ctx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return org
}

func TestTimesKeepTheirMicroseconds(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		ctx := viewer.SystemContext(t.Context())
		org := newOrganization(t, db, "Acme")
		at := time.Date(2026, 11, 22, 1, 2, 3, 456789000, time.UTC)
		if err := db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
			return tx.Organization.UpdateOneID(org.ID).SetSuspendedAt(at).Exec(ctx)
		}); err != nil {
			t.Fatal(err)
		}
		got, err := db.Client.Organization.Get(ctx, org.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got.SuspendedAt == nil || *got.SuspendedAt != at {
			t.Errorf("read back %v, wrote %v", got.SuspendedAt, at)
		}
		if got.CreatedAt != org.CreatedAt || got.CreatedAt.Location() != time.UTC {
			t.Errorf("created at %v, read back %v", org.CreatedAt, got.CreatedAt)
		}
		if len(got.AllowTargets) != 1 || got.AllowTargets[0].Host != "*.example.com" {
			t.Errorf("allow targets: %v", got.AllowTargets)
		}
		if db.Dialect == store.SQLite {
			var micros int64
			if err := db.Read.QueryRowContext(ctx, "SELECT CAST(suspended_at AS INTEGER) FROM organizations").Scan(&micros); err != nil || micros != at.UnixMicro() {
				t.Errorf("stored %d, %v; want %d", micros, err, at.UnixMicro())
			}
		}
	})
}

func TestNestedWriteIsRefused(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		err := db.WithTx(viewer.SystemContext(t.Context()), func(ctx context.Context, _ *gen.Tx) error {
			return db.WithTx(ctx, func(context.Context, *gen.Tx) error { return errors.New("ran") })
		})
		if err == nil || err.Error() == "ran" {
			t.Errorf("a transaction in a transaction: %v", err)
		}
	})
}
