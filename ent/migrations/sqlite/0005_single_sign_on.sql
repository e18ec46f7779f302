-- +goose Up
PRAGMA foreign_keys = off;
CREATE TABLE `identities` (`id` text NOT NULL, `created_at` datetime NOT NULL, `updated_at` datetime NOT NULL, `organization_id` text NOT NULL, `subject` text NOT NULL, `provider_id` text NOT NULL, `user_id` text NOT NULL, PRIMARY KEY (`id`), CONSTRAINT `identities_identity_providers_provider` FOREIGN KEY (`provider_id`) REFERENCES `identity_providers` (`id`) ON DELETE CASCADE, CONSTRAINT `identities_users_user` FOREIGN KEY (`user_id`) REFERENCES `users` (`id`) ON DELETE CASCADE);
CREATE UNIQUE INDEX `identity_provider_id_subject` ON `identities` (`provider_id`, `subject`);
CREATE UNIQUE INDEX `identity_provider_id_user_id` ON `identities` (`provider_id`, `user_id`);
CREATE INDEX `identity_user_id` ON `identities` (`user_id`);
CREATE TABLE `identity_providers` (`id` text NOT NULL, `created_at` datetime NOT NULL, `updated_at` datetime NOT NULL, `organization_id` text NOT NULL, `name` text NOT NULL, `issuer` text NOT NULL, `client_id` text NOT NULL, `client_secret` blob NULL, `scopes` json NOT NULL, `groups_claim` text NOT NULL DEFAULT ('groups'), `mapping` json NOT NULL, `create_users` bool NOT NULL DEFAULT (true), `enabled` bool NOT NULL DEFAULT (true), PRIMARY KEY (`id`));
CREATE UNIQUE INDEX `identityprovider_organization_id_name` ON `identity_providers` (`organization_id`, `name`);
CREATE TABLE `trusted_issuers` (`id` text NOT NULL, `created_at` datetime NOT NULL, `updated_at` datetime NOT NULL, `organization_id` text NOT NULL, `name` text NOT NULL, `issuer` text NOT NULL, `audience` text NOT NULL, `keys_url` text NOT NULL DEFAULT (''), `algorithms` json NOT NULL, `acts_as` text NOT NULL, `groups_claim` text NOT NULL DEFAULT ('groups'), `mapping` json NOT NULL, `enabled` bool NOT NULL DEFAULT (true), PRIMARY KEY (`id`));
CREATE UNIQUE INDEX `trustedissuer_organization_id_name` ON `trusted_issuers` (`organization_id`, `name`);
CREATE UNIQUE INDEX `trustedissuer_issuer_audience` ON `trusted_issuers` (`issuer`, `audience`);
PRAGMA foreign_keys = on;
