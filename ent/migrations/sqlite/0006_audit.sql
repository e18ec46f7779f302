-- +goose Up
ALTER TABLE `organizations` ADD COLUMN `retention_audit_days` integer NOT NULL DEFAULT 400;
CREATE TABLE `audit_entries` (`id` text NOT NULL, `organization_id` text NOT NULL, `number` integer NOT NULL, `at` datetime NOT NULL, `actor_kind` text NOT NULL, `actor_id` text NOT NULL DEFAULT (''), `actor_name` text NOT NULL DEFAULT (''), `origin` text NOT NULL DEFAULT (''), `action` text NOT NULL DEFAULT (''), `noun` text NOT NULL DEFAULT (''), `object_id` text NOT NULL DEFAULT (''), `object_name` text NOT NULL DEFAULT (''), `asset_group_id` text NULL, `changes` json NULL, `erased_at` datetime NULL, PRIMARY KEY (`id`));
CREATE UNIQUE INDEX `auditentry_organization_id_number` ON `audit_entries` (`organization_id`, `number`);
CREATE INDEX `auditentry_organization_id_object_id_number` ON `audit_entries` (`organization_id`, `object_id`, `number`);
CREATE INDEX `auditentry_organization_id_actor_id_number` ON `audit_entries` (`organization_id`, `actor_id`, `number`);
CREATE INDEX `auditentry_organization_id_at` ON `audit_entries` (`organization_id`, `at`);

-- The last number given in each organization, and the highest that retention has removed.
CREATE TABLE `audit_tails` (`organization_id` text NOT NULL, `number` integer NOT NULL, `removed` integer NOT NULL, PRIMARY KEY (`organization_id`));

-- The log is append-only. A row in here lets the transaction that puts it in, and takes it
-- out again, remove entries (retention, an organization's end) or persons from them.
CREATE TABLE `audit_permits` (`one` integer NOT NULL, PRIMARY KEY (`one`));
-- +goose StatementBegin
CREATE TRIGGER `audit_entries_update` BEFORE UPDATE ON `audit_entries` WHEN NOT EXISTS (SELECT 1 FROM `audit_permits`)
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER `audit_entries_delete` BEFORE DELETE ON `audit_entries` WHEN NOT EXISTS (SELECT 1 FROM `audit_permits`)
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
-- +goose StatementEnd
