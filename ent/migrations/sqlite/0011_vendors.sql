-- +goose Up
ALTER TABLE `applications` ADD COLUMN `key` text NOT NULL DEFAULT '';
CREATE INDEX `application_organization_id_key` ON `applications` (`organization_id`, `key`);
ALTER TABLE `sources` ADD COLUMN `settings` json NULL;
ALTER TABLE `sources` ADD COLUMN `setting_secrets` blob NULL;
ALTER TABLE `sources` ADD COLUMN `revision` integer NOT NULL DEFAULT 1;
-- What delivers today goes on without a handshake.
ALTER TABLE `webhooks` ADD COLUMN `handshake` bool NOT NULL DEFAULT true;
ALTER TABLE `webhooks` ADD COLUMN `verified_at` datetime NULL;
UPDATE `webhooks` SET `handshake` = false;

-- What followed the source's address.
ALTER TABLE receipts ADD COLUMN path TEXT NOT NULL DEFAULT '';

-- Receipts that wait for enrichment.
CREATE TABLE enrichments (
  org      TEXT NOT NULL,
  receipt  TEXT NOT NULL,
  due      INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  PRIMARY KEY (org, receipt)
) WITHOUT ROWID;
CREATE INDEX enrichments_due ON enrichments (due);
