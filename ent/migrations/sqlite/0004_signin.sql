-- +goose Up
ALTER TABLE `users` ADD COLUMN `last_sign_in_at` datetime NULL;
ALTER TABLE `users` ADD COLUMN `second_factor_at` datetime NULL;
ALTER TABLE `users` ADD COLUMN `totp_secret` blob NULL;
ALTER TABLE `users` ADD COLUMN `totp_step` integer NOT NULL DEFAULT (0);
ALTER TABLE `users` ADD COLUMN `recovery_hashes` text NULL;
CREATE TABLE `one_time_links` (`id` text NOT NULL, `created_at` datetime NOT NULL, `updated_at` datetime NOT NULL, `organization_id` text NOT NULL, `hash` text NOT NULL, `expires_at` datetime NOT NULL, `user_id` text NOT NULL, PRIMARY KEY (`id`), CONSTRAINT `one_time_links_users_user` FOREIGN KEY (`user_id`) REFERENCES `users` (`id`) ON DELETE CASCADE);
CREATE UNIQUE INDEX `one_time_links_hash_key` ON `one_time_links` (`hash`);
CREATE INDEX `onetimelink_organization_id` ON `one_time_links` (`organization_id`);
CREATE INDEX `onetimelink_user_id` ON `one_time_links` (`user_id`);
CREATE INDEX `onetimelink_expires_at` ON `one_time_links` (`expires_at`);
CREATE TABLE `sessions` (`id` text NOT NULL, `created_at` datetime NOT NULL, `updated_at` datetime NOT NULL, `organization_id` text NOT NULL, `method` text NOT NULL, `origin` text NOT NULL DEFAULT (''), `user_agent` text NOT NULL DEFAULT (''), `last_used_at` datetime NOT NULL, `expires_at` datetime NOT NULL, `ends_at` datetime NOT NULL, `family_hash` text NOT NULL, `refresh_hash` text NOT NULL, `previous_hash` text NOT NULL DEFAULT (''), `chain` blob NULL, `user_id` text NOT NULL, PRIMARY KEY (`id`), CONSTRAINT `sessions_users_user` FOREIGN KEY (`user_id`) REFERENCES `users` (`id`) ON DELETE CASCADE);
CREATE UNIQUE INDEX `sessions_family_hash_key` ON `sessions` (`family_hash`);
CREATE INDEX `session_organization_id` ON `sessions` (`organization_id`);
CREATE INDEX `session_user_id` ON `sessions` (`user_id`);
CREATE INDEX `session_expires_at` ON `sessions` (`expires_at`);
