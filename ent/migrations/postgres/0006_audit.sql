-- +goose Up
ALTER TABLE "organizations" ADD COLUMN "retention_audit_days" bigint NOT NULL DEFAULT 400;
CREATE TABLE "audit_entries" ("id" character varying NOT NULL COLLATE "C", "organization_id" character varying NOT NULL COLLATE "C", "number" bigint NOT NULL, "at" timestamptz NOT NULL, "actor_kind" character varying NOT NULL COLLATE "C", "actor_id" character varying NOT NULL DEFAULT '' COLLATE "C", "actor_name" character varying NOT NULL DEFAULT '' COLLATE "C", "origin" character varying NOT NULL DEFAULT '' COLLATE "C", "action" character varying NOT NULL DEFAULT '' COLLATE "C", "noun" character varying NOT NULL DEFAULT '' COLLATE "C", "object_id" character varying NOT NULL DEFAULT '' COLLATE "C", "object_name" character varying NOT NULL DEFAULT '' COLLATE "C", "asset_group_id" character varying NULL COLLATE "C", "changes" jsonb NULL, "erased_at" timestamptz NULL, PRIMARY KEY ("id"));
CREATE UNIQUE INDEX "auditentry_organization_id_number" ON "audit_entries" ("organization_id", "number");
CREATE INDEX "auditentry_organization_id_object_id_number" ON "audit_entries" ("organization_id", "object_id", "number");
CREATE INDEX "auditentry_organization_id_actor_id_number" ON "audit_entries" ("organization_id", "actor_id", "number");
CREATE INDEX "auditentry_organization_id_at" ON "audit_entries" ("organization_id", "at");

-- The last number given in each organization, and the highest that retention has removed.
-- Whoever appends holds the row's lock until the commit, so that the numbers are in the
-- order of the commits.
CREATE TABLE "audit_tails" ("organization_id" character varying NOT NULL COLLATE "C", "number" bigint NOT NULL, "removed" bigint NOT NULL, PRIMARY KEY ("organization_id"));

-- The log is append-only. A row in here lets the transaction that puts it in, and takes it
-- out again, remove entries (retention, an organization's end) or persons from them.
CREATE TABLE "audit_permits" ("one" bigint NOT NULL, PRIMARY KEY ("one"));
-- +goose StatementBegin
CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM audit_permits) THEN
    RAISE EXCEPTION 'the audit log is append-only';
  END IF;
  IF TG_OP = 'DELETE' THEN
    RETURN OLD;
  END IF;
  RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER audit_entries_append_only BEFORE UPDATE OR DELETE ON "audit_entries" FOR EACH ROW EXECUTE FUNCTION audit_append_only();
