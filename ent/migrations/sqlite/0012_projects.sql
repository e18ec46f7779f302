-- +goose Up
CREATE TABLE `projects` (`id` text NOT NULL, `created_at` datetime NOT NULL, `updated_at` datetime NOT NULL, `organization_id` text NOT NULL, `name` text NOT NULL, `description` text NOT NULL DEFAULT (''), `target_kind` text NOT NULL, `target_url` text NOT NULL, `origins` json NOT NULL, `scanner` text NOT NULL, `settings` json NULL, `secrets` blob NULL, `setup` blob NULL, `setup_at` datetime NULL, `time_limit_minutes` integer NOT NULL DEFAULT (480), `revision` integer NOT NULL DEFAULT (1), `application_id` text NOT NULL, `asset_group_id` text NOT NULL, PRIMARY KEY (`id`), CONSTRAINT `projects_applications_application` FOREIGN KEY (`application_id`) REFERENCES `applications` (`id`) ON DELETE RESTRICT, CONSTRAINT `projects_asset_groups_asset_group` FOREIGN KEY (`asset_group_id`) REFERENCES `asset_groups` (`id`) ON DELETE RESTRICT);
CREATE UNIQUE INDEX `project_organization_id_name` ON `projects` (`organization_id`, `name`);
CREATE INDEX `project_application_id` ON `projects` (`application_id`);
CREATE INDEX `project_asset_group_id` ON `projects` (`asset_group_id`);
CREATE TABLE `runs` (`id` text NOT NULL, `created_at` datetime NOT NULL, `updated_at` datetime NOT NULL, `organization_id` text NOT NULL, `trigger_id` text NULL, `started_by` text NOT NULL DEFAULT (''), `number` integer NOT NULL, `scan_id` text NOT NULL, `state` text NOT NULL DEFAULT ('QUEUED'), `reason` text NOT NULL DEFAULT (''), `progress` integer NOT NULL DEFAULT (0), `started_at` datetime NULL, `finished_at` datetime NULL, `deadline` datetime NOT NULL, `checks` json NULL, `untold` bool NOT NULL DEFAULT (false), `lease_node` text NOT NULL DEFAULT (''), `lease_epoch` integer NOT NULL DEFAULT (0), `project_id` text NOT NULL, `asset_group_id` text NOT NULL, PRIMARY KEY (`id`), CONSTRAINT `runs_projects_project` FOREIGN KEY (`project_id`) REFERENCES `projects` (`id`) ON DELETE CASCADE, CONSTRAINT `runs_asset_groups_asset_group` FOREIGN KEY (`asset_group_id`) REFERENCES `asset_groups` (`id`) ON DELETE RESTRICT);
CREATE INDEX `run_organization_id_created_at` ON `runs` (`organization_id`, `created_at`);
CREATE UNIQUE INDEX `run_organization_id_number` ON `runs` (`organization_id`, `number`);
CREATE INDEX `run_project_id_created_at` ON `runs` (`project_id`, `created_at`);
CREATE INDEX `run_asset_group_id` ON `runs` (`asset_group_id`);
CREATE UNIQUE INDEX `run_running` ON `runs` (`project_id`) WHERE finished_at IS NULL;
CREATE INDEX `run_untold` ON `runs` (`untold`) WHERE untold;
CREATE TABLE `triggers` (`id` text NOT NULL, `created_at` datetime NOT NULL, `updated_at` datetime NOT NULL, `organization_id` text NOT NULL, `name` text NOT NULL, `kind` text NOT NULL, `token_hash` text NOT NULL, `enabled` bool NOT NULL DEFAULT (true), `project_id` text NOT NULL, `asset_group_id` text NOT NULL, `owner_id` text NULL, PRIMARY KEY (`id`), CONSTRAINT `triggers_projects_project` FOREIGN KEY (`project_id`) REFERENCES `projects` (`id`) ON DELETE CASCADE, CONSTRAINT `triggers_asset_groups_asset_group` FOREIGN KEY (`asset_group_id`) REFERENCES `asset_groups` (`id`) ON DELETE RESTRICT, CONSTRAINT `triggers_users_owner` FOREIGN KEY (`owner_id`) REFERENCES `users` (`id`) ON DELETE SET NULL);
CREATE UNIQUE INDEX `triggers_token_hash_key` ON `triggers` (`token_hash`);
CREATE INDEX `trigger_organization_id_name` ON `triggers` (`organization_id`, `name`);
CREATE INDEX `trigger_project_id` ON `triggers` (`project_id`);
CREATE INDEX `trigger_asset_group_id` ON `triggers` (`asset_group_id`);
CREATE INDEX `trigger_owner_id` ON `triggers` (`owner_id`);
