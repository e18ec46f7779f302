-- +goose Up
ALTER TABLE `organizations` ADD COLUMN `require_second_factor` bool NOT NULL DEFAULT false;
