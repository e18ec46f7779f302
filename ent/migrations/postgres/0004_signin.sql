-- +goose Up
ALTER TABLE "users" ADD COLUMN "last_sign_in_at" timestamptz NULL, ADD COLUMN "second_factor_at" timestamptz NULL, ADD COLUMN "totp_secret" bytea NULL, ADD COLUMN "totp_step" bigint NOT NULL DEFAULT 0, ADD COLUMN "recovery_hashes" character varying NULL COLLATE "C";
CREATE TABLE "one_time_links" ("id" character varying NOT NULL COLLATE "C", "created_at" timestamptz NOT NULL, "updated_at" timestamptz NOT NULL, "organization_id" character varying NOT NULL COLLATE "C", "hash" character varying NOT NULL COLLATE "C", "expires_at" timestamptz NOT NULL, "user_id" character varying NOT NULL COLLATE "C", PRIMARY KEY ("id"), CONSTRAINT "one_time_links_users_user" FOREIGN KEY ("user_id") REFERENCES "users" ("id") ON DELETE CASCADE);
CREATE UNIQUE INDEX "one_time_links_hash_key" ON "one_time_links" ("hash");
CREATE INDEX "onetimelink_organization_id" ON "one_time_links" ("organization_id");
CREATE INDEX "onetimelink_user_id" ON "one_time_links" ("user_id");
CREATE INDEX "onetimelink_expires_at" ON "one_time_links" ("expires_at");
CREATE TABLE "sessions" ("id" character varying NOT NULL COLLATE "C", "created_at" timestamptz NOT NULL, "updated_at" timestamptz NOT NULL, "organization_id" character varying NOT NULL COLLATE "C", "method" character varying NOT NULL COLLATE "C", "origin" character varying NOT NULL DEFAULT '' COLLATE "C", "user_agent" character varying NOT NULL DEFAULT '' COLLATE "C", "last_used_at" timestamptz NOT NULL, "expires_at" timestamptz NOT NULL, "ends_at" timestamptz NOT NULL, "family_hash" character varying NOT NULL COLLATE "C", "refresh_hash" character varying NOT NULL COLLATE "C", "previous_hash" character varying NOT NULL DEFAULT '' COLLATE "C", "chain" bytea NULL, "user_id" character varying NOT NULL COLLATE "C", PRIMARY KEY ("id"), CONSTRAINT "sessions_users_user" FOREIGN KEY ("user_id") REFERENCES "users" ("id") ON DELETE CASCADE);
CREATE UNIQUE INDEX "sessions_family_hash_key" ON "sessions" ("family_hash");
CREATE INDEX "session_organization_id" ON "sessions" ("organization_id");
CREATE INDEX "session_user_id" ON "sessions" ("user_id");
CREATE INDEX "session_expires_at" ON "sessions" ("expires_at");
