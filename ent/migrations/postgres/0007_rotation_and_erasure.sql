-- +goose Up
ALTER TABLE "sources" ADD COLUMN "old_secrets_until" timestamptz NULL;
ALTER TABLE "webhooks" ADD COLUMN "old_secret_until" timestamptz NULL;

-- What is left of events whose payload was erased.
CREATE TABLE erasures (
  org      text COLLATE "C" NOT NULL,
  event    text COLLATE "C" NOT NULL,
  at       bigint NOT NULL,
  by_id    text COLLATE "C" NOT NULL,
  by_name  text COLLATE "C" NOT NULL,
  reason   text COLLATE "C" NOT NULL,
  PRIMARY KEY (org, event)
);
