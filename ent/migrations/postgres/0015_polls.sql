-- +goose Up
ALTER TABLE "sources" ADD COLUMN "poll_every_seconds" bigint NOT NULL DEFAULT 0;
CREATE INDEX "source_polled" ON "sources" ("organization_id", "id") WHERE poll_every_seconds > 0;

-- How asking a source goes, from its first turn on. Times are microseconds; lease_until is
-- by the database's clock. revision and package are what the source and its connector
-- were at the last turn.
CREATE TABLE polls (
  org         text COLLATE "C" NOT NULL,
  source      text COLLATE "C" NOT NULL,
  due         bigint NOT NULL,
  since       bigint NOT NULL,
  cursor      bytea,
  polled      bigint NOT NULL DEFAULT 0,
  failures    bigint NOT NULL DEFAULT 0,
  error       text NOT NULL DEFAULT '',
  permanent   bigint NOT NULL DEFAULT 0,
  revision    bigint NOT NULL DEFAULT 0,
  package     text COLLATE "C" NOT NULL DEFAULT '',
  lease       text COLLATE "C" NOT NULL DEFAULT '',
  lease_until bigint NOT NULL DEFAULT 0,
  lease_node  text COLLATE "C" NOT NULL DEFAULT '',
  lease_epoch bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (org, source)
);

-- +goose StatementBegin
CREATE FUNCTION forget_poll() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM polls WHERE org = OLD.organization_id AND source = OLD.id;
  RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER sources_polls AFTER DELETE ON sources FOR EACH ROW EXECUTE FUNCTION forget_poll();

-- Whose receipt it is that waits: polls make many at once, and those of one source stand
-- aside while it has its share.
ALTER TABLE enrichments ADD COLUMN source text COLLATE "C" NOT NULL DEFAULT '';
UPDATE enrichments SET source = COALESCE((SELECT r.source FROM receipts r WHERE r.org = enrichments.org AND r.id = enrichments.receipt), '');
