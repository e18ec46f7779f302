-- +goose Up
CREATE TABLE "custom_roles" ("id" character varying NOT NULL COLLATE "C", "created_at" timestamptz NOT NULL, "updated_at" timestamptz NOT NULL, "organization_id" character varying NOT NULL COLLATE "C", "name" character varying NOT NULL COLLATE "C", "description" character varying NOT NULL DEFAULT '' COLLATE "C", "permissions" jsonb NOT NULL, PRIMARY KEY ("id"));
CREATE UNIQUE INDEX "customrole_organization_id_name" ON "custom_roles" ("organization_id", "name");
ALTER TABLE "api_keys" ADD COLUMN "custom_role_id" character varying NULL COLLATE "C", ADD CONSTRAINT "api_keys_custom_roles_custom_role" FOREIGN KEY ("custom_role_id") REFERENCES "custom_roles" ("id") ON DELETE RESTRICT;
CREATE TABLE "endpoint_shared_groups" ("endpoint_id" character varying NOT NULL COLLATE "C", "asset_group_id" character varying NOT NULL COLLATE "C", PRIMARY KEY ("endpoint_id", "asset_group_id"), CONSTRAINT "endpoint_shared_groups_endpoint_id" FOREIGN KEY ("endpoint_id") REFERENCES "endpoints" ("id") ON DELETE CASCADE, CONSTRAINT "endpoint_shared_groups_asset_group_id" FOREIGN KEY ("asset_group_id") REFERENCES "asset_groups" ("id") ON DELETE CASCADE);
ALTER TABLE "users" ADD COLUMN "custom_role_id" character varying NULL COLLATE "C", ADD CONSTRAINT "users_custom_roles_custom_role" FOREIGN KEY ("custom_role_id") REFERENCES "custom_roles" ("id") ON DELETE RESTRICT;
ALTER TABLE "webhooks" ADD COLUMN "owner_id" character varying NULL COLLATE "C", ADD CONSTRAINT "webhooks_users_owner" FOREIGN KEY ("owner_id") REFERENCES "users" ("id") ON DELETE SET NULL;
CREATE INDEX "webhook_owner_id" ON "webhooks" ("owner_id");
-- Until now a webhook of an asset group could use any endpoint of the organization.
INSERT INTO "endpoint_shared_groups" ("endpoint_id", "asset_group_id") SELECT DISTINCT w."endpoint_id", w."asset_group_id" FROM "webhooks" w JOIN "endpoints" e ON e."id" = w."endpoint_id" WHERE w."asset_group_id" IS NOT NULL AND e."asset_group_id" IS NULL;
