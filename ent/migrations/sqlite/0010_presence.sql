-- +goose Up
CREATE TABLE `presences` (`id` text NOT NULL, `created_at` datetime NOT NULL, `updated_at` datetime NOT NULL, `organization_id` text NOT NULL, `name` text NOT NULL, `description` text NOT NULL DEFAULT (''), `enabled` bool NOT NULL DEFAULT (true), `key_prefix` text NOT NULL, `key_hash` text NOT NULL, `previous_key_hash` text NULL, `previous_key_until` datetime NULL, `asset_group_id` text NULL, PRIMARY KEY (`id`), CONSTRAINT `presences_asset_groups_asset_group` FOREIGN KEY (`asset_group_id`) REFERENCES `asset_groups` (`id`) ON DELETE RESTRICT);
CREATE UNIQUE INDEX `presences_key_hash_key` ON `presences` (`key_hash`);
CREATE UNIQUE INDEX `presences_previous_key_hash_key` ON `presences` (`previous_key_hash`);
CREATE UNIQUE INDEX `presence_organization_id_name` ON `presences` (`organization_id`, `name`);
CREATE INDEX `presence_asset_group_id` ON `presences` (`asset_group_id`);
CREATE TABLE `presence_shared_groups` (`presence_id` text NOT NULL, `asset_group_id` text NOT NULL, PRIMARY KEY (`presence_id`, `asset_group_id`), CONSTRAINT `presence_shared_groups_presence_id` FOREIGN KEY (`presence_id`) REFERENCES `presences` (`id`) ON DELETE CASCADE, CONSTRAINT `presence_shared_groups_asset_group_id` FOREIGN KEY (`asset_group_id`) REFERENCES `asset_groups` (`id`) ON DELETE CASCADE);
ALTER TABLE `endpoints` ADD COLUMN `presence_id` text NULL CONSTRAINT `endpoints_presences_presence` REFERENCES `presences` (`id`) ON DELETE RESTRICT;
CREATE INDEX `endpoint_presence_id` ON `endpoints` (`presence_id`);

-- The agents of each Presence, as they last said of themselves, and the node that an
-- agent is linked to. The hub writes it when a link begins, lives and ends.
CREATE TABLE presence_agents (
  presence_id      TEXT NOT NULL REFERENCES presences (id) ON DELETE CASCADE,
  id               TEXT NOT NULL, -- of the agent's key
  organization_id  TEXT NOT NULL,
  name             TEXT NOT NULL,
  version          TEXT NOT NULL,
  node             TEXT NOT NULL, -- '' is not linked
  linked_at        INTEGER NOT NULL, -- microseconds
  seen_at          INTEGER NOT NULL,
  PRIMARY KEY (presence_id, id)
) WITHOUT ROWID;
