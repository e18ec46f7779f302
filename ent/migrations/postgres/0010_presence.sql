-- +goose Up
CREATE TABLE "presences" ("id" character varying NOT NULL COLLATE "C", "created_at" timestamptz NOT NULL, "updated_at" timestamptz NOT NULL, "organization_id" character varying NOT NULL COLLATE "C", "name" character varying NOT NULL COLLATE "C", "description" character varying NOT NULL DEFAULT '' COLLATE "C", "enabled" boolean NOT NULL DEFAULT true, "key_prefix" character varying NOT NULL COLLATE "C", "key_hash" character varying NOT NULL COLLATE "C", "previous_key_hash" character varying NULL COLLATE "C", "previous_key_until" timestamptz NULL, "asset_group_id" character varying NULL COLLATE "C", PRIMARY KEY ("id"), CONSTRAINT "presences_asset_groups_asset_group" FOREIGN KEY ("asset_group_id") REFERENCES "asset_groups" ("id") ON DELETE RESTRICT);
CREATE UNIQUE INDEX "presences_key_hash_key" ON "presences" ("key_hash");
CREATE UNIQUE INDEX "presences_previous_key_hash_key" ON "presences" ("previous_key_hash");
CREATE UNIQUE INDEX "presence_organization_id_name" ON "presences" ("organization_id", "name");
CREATE INDEX "presence_asset_group_id" ON "presences" ("asset_group_id");
CREATE TABLE "presence_shared_groups" ("presence_id" character varying NOT NULL COLLATE "C", "asset_group_id" character varying NOT NULL COLLATE "C", PRIMARY KEY ("presence_id", "asset_group_id"), CONSTRAINT "presence_shared_groups_presence_id" FOREIGN KEY ("presence_id") REFERENCES "presences" ("id") ON DELETE CASCADE, CONSTRAINT "presence_shared_groups_asset_group_id" FOREIGN KEY ("asset_group_id") REFERENCES "asset_groups" ("id") ON DELETE CASCADE);
ALTER TABLE "endpoints" ADD COLUMN "presence_id" character varying NULL COLLATE "C", ADD CONSTRAINT "endpoints_presences_presence" FOREIGN KEY ("presence_id") REFERENCES "presences" ("id") ON DELETE RESTRICT;
CREATE INDEX "endpoint_presence_id" ON "endpoints" ("presence_id");

-- The agents of each Presence, as they last said of themselves, and the node that an
-- agent is linked to. The hub writes it when a link begins, lives and ends.
CREATE TABLE presence_agents (
  presence_id      TEXT COLLATE "C" NOT NULL REFERENCES presences (id) ON DELETE CASCADE,
  id               TEXT COLLATE "C" NOT NULL, -- of the agent's key
  organization_id  TEXT COLLATE "C" NOT NULL,
  name             TEXT NOT NULL,
  version          TEXT NOT NULL,
  node             TEXT NOT NULL, -- '' is not linked
  linked_at        BIGINT NOT NULL, -- microseconds
  seen_at          BIGINT NOT NULL,
  PRIMARY KEY (presence_id, id)
);
