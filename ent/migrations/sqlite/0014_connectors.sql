-- +goose Up
PRAGMA foreign_keys = off;
ALTER TABLE `endpoints` ADD COLUMN `connector_version` text NOT NULL DEFAULT ('');
ALTER TABLE `endpoints` ADD COLUMN `connector_digest` text NOT NULL DEFAULT ('');
CREATE TABLE `enabled_connectors` (`id` text NOT NULL, `created_at` datetime NOT NULL, `updated_at` datetime NOT NULL, `organization_id` text NOT NULL, `name` text NOT NULL, `version` text NOT NULL, `digest` text NOT NULL, `enabled` bool NOT NULL DEFAULT (true), `released_at` datetime NULL, PRIMARY KEY (`id`));
CREATE UNIQUE INDEX `enabledconnector_organization_id_name` ON `enabled_connectors` (`organization_id`, `name`);
PRAGMA foreign_keys = on;

-- What nodes tell each other of connectors; no nouns.
CREATE TABLE connector_packages (
  digest    TEXT NOT NULL,
  name      TEXT NOT NULL,
  version   TEXT NOT NULL,
  publisher TEXT NOT NULL,
  manifest  BLOB NOT NULL,
  PRIMARY KEY (digest)
) WITHOUT ROWID;

CREATE TABLE connector_nodes (
  node   TEXT NOT NULL,
  digest TEXT NOT NULL,
  PRIMARY KEY (node, digest)
) WITHOUT ROWID;

CREATE TABLE connector_reports (
  node      TEXT NOT NULL,
  org       TEXT NOT NULL,
  digest    TEXT NOT NULL,
  connector TEXT NOT NULL,
  at        INTEGER NOT NULL,
  report    BLOB NOT NULL,
  PRIMARY KEY (node, org, digest)
) WITHOUT ROWID;
