-- +goose Up
CREATE TABLE `custom_roles` (`id` text NOT NULL, `created_at` datetime NOT NULL, `updated_at` datetime NOT NULL, `organization_id` text NOT NULL, `name` text NOT NULL, `description` text NOT NULL DEFAULT (''), `permissions` json NOT NULL, PRIMARY KEY (`id`));
CREATE UNIQUE INDEX `customrole_organization_id_name` ON `custom_roles` (`organization_id`, `name`);
ALTER TABLE `api_keys` ADD COLUMN `custom_role_id` text NULL CONSTRAINT `api_keys_custom_roles_custom_role` REFERENCES `custom_roles` (`id`) ON DELETE RESTRICT;
ALTER TABLE `users` ADD COLUMN `custom_role_id` text NULL CONSTRAINT `users_custom_roles_custom_role` REFERENCES `custom_roles` (`id`) ON DELETE RESTRICT;
ALTER TABLE `webhooks` ADD COLUMN `owner_id` text NULL CONSTRAINT `webhooks_users_owner` REFERENCES `users` (`id`) ON DELETE SET NULL;
CREATE INDEX `webhook_owner_id` ON `webhooks` (`owner_id`);
CREATE TABLE `endpoint_shared_groups` (`endpoint_id` text NOT NULL, `asset_group_id` text NOT NULL, PRIMARY KEY (`endpoint_id`, `asset_group_id`), CONSTRAINT `endpoint_shared_groups_endpoint_id` FOREIGN KEY (`endpoint_id`) REFERENCES `endpoints` (`id`) ON DELETE CASCADE, CONSTRAINT `endpoint_shared_groups_asset_group_id` FOREIGN KEY (`asset_group_id`) REFERENCES `asset_groups` (`id`) ON DELETE CASCADE);
-- Until now a webhook of an asset group could use any endpoint of the organization.
INSERT INTO `endpoint_shared_groups` (`endpoint_id`, `asset_group_id`) SELECT DISTINCT w.`endpoint_id`, w.`asset_group_id` FROM `webhooks` w JOIN `endpoints` e ON e.`id` = w.`endpoint_id` WHERE w.`asset_group_id` IS NOT NULL AND e.`asset_group_id` IS NULL;
