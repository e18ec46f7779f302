-- +goose Up
ALTER TABLE `sources` ADD COLUMN `old_secrets_until` datetime NULL;
ALTER TABLE `webhooks` ADD COLUMN `old_secret_until` datetime NULL;

-- What is left of events whose payload was erased.
CREATE TABLE erasures (
  org      TEXT NOT NULL,
  event    TEXT NOT NULL,
  at       INTEGER NOT NULL,
  by_id    TEXT NOT NULL,
  by_name  TEXT NOT NULL,
  reason   TEXT NOT NULL,
  PRIMARY KEY (org, event)
) WITHOUT ROWID;
