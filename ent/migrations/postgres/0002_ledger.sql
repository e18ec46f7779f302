-- The ledger: receipts, events, deliveries, attempts. All times are unix microseconds, 0 is none.
-- +goose Up

-- What sources sent, raw.
CREATE TABLE receipts (
  id           text COLLATE "C" NOT NULL,
  org          text COLLATE "C" NOT NULL,
  source       text COLLATE "C" NOT NULL,
  grp          text COLLATE "C" NOT NULL,
  at           bigint NOT NULL,
  method       text COLLATE "C" NOT NULL,
  header       bytea,
  query        text COLLATE "C" NOT NULL,
  content_type text COLLATE "C" NOT NULL,
  body         bytea,
  remote       text COLLATE "C" NOT NULL,
  state        text COLLATE "C" NOT NULL,
  note         text COLLATE "C" NOT NULL,
  PRIMARY KEY (org, id)
) PARTITION BY RANGE (id);
CREATE TABLE receipts_default PARTITION OF receipts DEFAULT;

-- The facts. document is the event as JSON, NULL once its payload has expired.
CREATE TABLE events (
  id       text COLLATE "C" NOT NULL,
  org      text COLLATE "C" NOT NULL,
  source   text COLLATE "C" NOT NULL,
  receipt  text COLLATE "C" NOT NULL,
  type     text COLLATE "C" NOT NULL,
  time     bigint NOT NULL,
  received bigint NOT NULL,
  subject  text COLLATE "C" NOT NULL,
  grp      text COLLATE "C" NOT NULL,
  app      text COLLATE "C" NOT NULL,
  severity text COLLATE "C" NOT NULL,
  document bytea,
  PRIMARY KEY (org, id)
) PARTITION BY RANGE (id);
CREATE TABLE events_default PARTITION OF events DEFAULT;
CREATE INDEX events_receipt ON events (receipt);

-- Events written down in formats that cannot be had from the document or the receipt.
CREATE TABLE renderings (
  org    text COLLATE "C" NOT NULL,
  event  text COLLATE "C" NOT NULL,
  key    text COLLATE "C" NOT NULL,
  method text COLLATE "C" NOT NULL,
  suffix text COLLATE "C" NOT NULL,
  header text COLLATE "C" NOT NULL,
  body   bytea,
  PRIMARY KEY (org, event, key)
) PARTITION BY RANGE (event);
CREATE TABLE renderings_default PARTITION OF renderings DEFAULT;

-- Idempotency keys, kept for a window of their own.
CREATE TABLE keys (
  org      text COLLATE "C" NOT NULL,
  source   text COLLATE "C" NOT NULL,
  key      bytea NOT NULL,
  state    text COLLATE "C" NOT NULL,
  digest   bytea,
  event    text COLLATE "C" NOT NULL,
  unmapped bigint NOT NULL,
  at       bigint NOT NULL,
  PRIMARY KEY (org, source, key)
);

-- Deliveries that are not ended. A delivery is born leased to the node that accepted
-- it and touches no secondary index: the index holds only those that nobody has.
CREATE TABLE open_deliveries (
  id           text COLLATE "C" NOT NULL,
  org          text COLLATE "C" NOT NULL,
  event        text COLLATE "C" NOT NULL,
  webhook      text COLLATE "C" NOT NULL,
  endpoint     text COLLATE "C" NOT NULL,
  level        text COLLATE "C" NOT NULL,
  app          text COLLATE "C" NOT NULL,
  type         text COLLATE "C" NOT NULL,
  rendering    text COLLATE "C" NOT NULL,
  state        text COLLATE "C" NOT NULL,
  attempts     bigint NOT NULL,
  first_failed bigint NOT NULL,
  next_at      bigint NOT NULL,
  created      bigint NOT NULL,
  reason       text COLLATE "C" NOT NULL,
  redelivers   text COLLATE "C" NOT NULL,
  lease_node   text COLLATE "C" NOT NULL,
  lease_epoch  bigint NOT NULL,
  PRIMARY KEY (id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX open_deliveries_free ON open_deliveries (webhook, next_at, id) WHERE lease_node = '';

-- Ended deliveries, append-only.
CREATE TABLE deliveries (
  id           text COLLATE "C" NOT NULL,
  org          text COLLATE "C" NOT NULL,
  event        text COLLATE "C" NOT NULL,
  webhook      text COLLATE "C" NOT NULL,
  endpoint     text COLLATE "C" NOT NULL,
  level        text COLLATE "C" NOT NULL,
  app          text COLLATE "C" NOT NULL,
  type         text COLLATE "C" NOT NULL,
  rendering    text COLLATE "C" NOT NULL,
  state        text COLLATE "C" NOT NULL,
  attempts     bigint NOT NULL,
  first_failed bigint NOT NULL,
  created      bigint NOT NULL,
  reason       text COLLATE "C" NOT NULL,
  redelivers   text COLLATE "C" NOT NULL,
  ended        bigint NOT NULL,
  PRIMARY KEY (org, id)
) PARTITION BY RANGE (id);
CREATE TABLE deliveries_default PARTITION OF deliveries DEFAULT;
CREATE INDEX deliveries_event ON deliveries (event);

-- The delivery log. seq is given under the lock of the row in tail, inside the
-- transaction, so that who has seen n has seen everything below it.
CREATE TABLE entries (
  seq             bigint NOT NULL,
  id              text COLLATE "C" NOT NULL,
  org             text COLLATE "C" NOT NULL,
  delivery        text COLLATE "C" NOT NULL,
  event           text COLLATE "C" NOT NULL,
  webhook         text COLLATE "C" NOT NULL,
  endpoint        text COLLATE "C" NOT NULL,
  level           text COLLATE "C" NOT NULL,
  app             text COLLATE "C" NOT NULL,
  type            text COLLATE "C" NOT NULL,
  rendering       text COLLATE "C" NOT NULL,
  number          bigint NOT NULL,
  state           text COLLATE "C" NOT NULL,
  outcome         text COLLATE "C" NOT NULL,
  fault           text COLLATE "C" NOT NULL,
  at              bigint NOT NULL,
  duration        bigint NOT NULL,
  status          bigint NOT NULL,
  error           text COLLATE "C" NOT NULL,
  next_at         bigint NOT NULL,
  method          text COLLATE "C" NOT NULL,
  url             text COLLATE "C" NOT NULL,
  request_header  text COLLATE "C" NOT NULL,
  response_header text COLLATE "C" NOT NULL,
  response_body   bytea,
  truncated       bigint NOT NULL,
  dns             bigint NOT NULL,
  connect         bigint NOT NULL,
  tls             bigint NOT NULL,
  first_byte      bigint NOT NULL,
  PRIMARY KEY (seq)
) PARTITION BY RANGE (seq);
CREATE TABLE entries_default PARTITION OF entries DEFAULT;
CREATE INDEX entries_org ON entries (org, seq);
CREATE INDEX entries_delivery ON entries (delivery);
CREATE INDEX entries_id ON entries (id);

-- The last seq given.
CREATE TABLE tail (
  one bigint NOT NULL,
  seq bigint NOT NULL,
  PRIMARY KEY (one)
);

-- How far the removal of old history has come, for each organization and kind.
CREATE TABLE marks (
  org  text COLLATE "C" NOT NULL,
  kind text COLLATE "C" NOT NULL,
  pos  text COLLATE "C" NOT NULL,
  n    bigint NOT NULL,
  PRIMARY KEY (org, kind)
);

-- Who holds leases: one row per hub node, its heart beating by the clock of the database.
CREATE TABLE nodes (
  id        text COLLATE "C" NOT NULL,
  name      text COLLATE "C" NOT NULL,
  epoch     bigint NOT NULL,
  heartbeat bigint NOT NULL,
  version   text COLLATE "C" NOT NULL,
  dead      bigint NOT NULL,
  PRIMARY KEY (id)
);
CREATE UNIQUE INDEX nodes_name ON nodes (name);

-- Stable small numbers of objects; the row with an empty object holds the last one given.
CREATE TABLE numbers (
  org    text COLLATE "C" NOT NULL,
  kind   text COLLATE "C" NOT NULL,
  object text COLLATE "C" NOT NULL,
  n      bigint NOT NULL,
  PRIMARY KEY (org, kind, object)
);

INSERT INTO tail (one, seq) VALUES (1, 0);

-- +goose Down
DROP TABLE numbers;
DROP TABLE nodes;
DROP TABLE marks;
DROP TABLE tail;
DROP TABLE entries;
DROP TABLE deliveries;
DROP TABLE open_deliveries;
DROP TABLE keys;
DROP TABLE renderings;
DROP TABLE events;
DROP TABLE receipts;
