-- +goose Up
ALTER TABLE "organizations" ADD COLUMN "require_second_factor" boolean NOT NULL DEFAULT false;
