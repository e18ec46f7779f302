-- +goose Up
ALTER TABLE "endpoints" ADD COLUMN "connector_version" character varying NOT NULL DEFAULT '' COLLATE "C", ADD COLUMN "connector_digest" character varying NOT NULL DEFAULT '' COLLATE "C";
CREATE TABLE "enabled_connectors" ("id" character varying NOT NULL COLLATE "C", "created_at" timestamptz NOT NULL, "updated_at" timestamptz NOT NULL, "organization_id" character varying NOT NULL COLLATE "C", "name" character varying NOT NULL COLLATE "C", "version" character varying NOT NULL COLLATE "C", "digest" character varying NOT NULL COLLATE "C", "enabled" boolean NOT NULL DEFAULT true, "released_at" timestamptz NULL, PRIMARY KEY ("id"));
CREATE UNIQUE INDEX "enabledconnector_organization_id_name" ON "enabled_connectors" ("organization_id", "name");

-- What nodes tell each other of connectors; no nouns.
CREATE TABLE connector_packages (
  digest    text COLLATE "C" NOT NULL,
  name      text COLLATE "C" NOT NULL,
  version   text COLLATE "C" NOT NULL,
  publisher text COLLATE "C" NOT NULL,
  manifest  bytea NOT NULL,
  PRIMARY KEY (digest)
);

CREATE TABLE connector_nodes (
  node   text COLLATE "C" NOT NULL,
  digest text COLLATE "C" NOT NULL,
  PRIMARY KEY (node, digest)
);

CREATE TABLE connector_reports (
  node      text COLLATE "C" NOT NULL,
  org       text COLLATE "C" NOT NULL,
  digest    text COLLATE "C" NOT NULL,
  connector text COLLATE "C" NOT NULL,
  at        bigint NOT NULL,
  report    bytea NOT NULL,
  PRIMARY KEY (node, org, digest)
);
