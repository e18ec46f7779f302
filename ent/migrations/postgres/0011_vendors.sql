-- +goose Up
ALTER TABLE "applications" ADD COLUMN "key" character varying NOT NULL DEFAULT '' COLLATE "C";
CREATE INDEX "application_organization_id_key" ON "applications" ("organization_id", "key");
ALTER TABLE "sources" ADD COLUMN "settings" jsonb NULL;
ALTER TABLE "sources" ADD COLUMN "setting_secrets" bytea NULL;
ALTER TABLE "sources" ADD COLUMN "revision" bigint NOT NULL DEFAULT 1;
-- What delivers today goes on without a handshake.
ALTER TABLE "webhooks" ADD COLUMN "handshake" boolean NOT NULL DEFAULT true;
ALTER TABLE "webhooks" ADD COLUMN "verified_at" timestamptz NULL;
UPDATE "webhooks" SET "handshake" = false;

-- What followed the source's address.
ALTER TABLE receipts ADD COLUMN path text COLLATE "C" NOT NULL DEFAULT '';

-- Receipts that wait for enrichment.
CREATE TABLE enrichments (
  org      text COLLATE "C" NOT NULL,
  receipt  text COLLATE "C" NOT NULL,
  due      bigint NOT NULL,
  attempts bigint NOT NULL,
  PRIMARY KEY (org, receipt)
);
CREATE INDEX enrichments_due ON enrichments (due);
