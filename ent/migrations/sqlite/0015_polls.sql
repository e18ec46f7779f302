-- +goose Up
ALTER TABLE `sources` ADD COLUMN `poll_every_seconds` integer NOT NULL DEFAULT (0);
CREATE INDEX `source_polled` ON `sources` (`organization_id`, `id`) WHERE poll_every_seconds > 0;

-- How asking a source goes, from its first turn on. Times are microseconds; lease_until is
-- by the database's clock. revision and package are what the source and its connector
-- were at the last turn.
CREATE TABLE polls (
  org         TEXT NOT NULL,
  source      TEXT NOT NULL,
  due         INTEGER NOT NULL,
  since       INTEGER NOT NULL,
  cursor      BLOB,
  polled      INTEGER NOT NULL DEFAULT 0,
  failures    INTEGER NOT NULL DEFAULT 0,
  error       TEXT NOT NULL DEFAULT '',
  permanent   INTEGER NOT NULL DEFAULT 0,
  revision    INTEGER NOT NULL DEFAULT 0,
  package     TEXT NOT NULL DEFAULT '',
  lease       TEXT NOT NULL DEFAULT '',
  lease_until INTEGER NOT NULL DEFAULT 0,
  lease_node  TEXT NOT NULL DEFAULT '',
  lease_epoch INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (org, source)
);

-- +goose StatementBegin
CREATE TRIGGER sources_polls AFTER DELETE ON sources BEGIN
  DELETE FROM polls WHERE org = OLD.organization_id AND source = OLD.id;
END;
-- +goose StatementEnd

-- Whose receipt it is that waits: polls make many at once, and those of one source stand
-- aside while it has its share.
ALTER TABLE enrichments ADD COLUMN source TEXT NOT NULL DEFAULT '';
UPDATE enrichments SET source = COALESCE((SELECT r.source FROM receipts r WHERE r.org = enrichments.org AND r.id = enrichments.receipt), '');
