-- The ledger: receipts, events, deliveries, attempts. All times are unix microseconds, 0 is none.
-- +goose Up

-- What sources sent, raw.
CREATE TABLE receipts (
  id           TEXT NOT NULL,
  org          TEXT NOT NULL,
  source       TEXT NOT NULL,
  grp          TEXT NOT NULL,
  at           INTEGER NOT NULL,
  method       TEXT NOT NULL,
  header       BLOB,
  query        TEXT NOT NULL,
  content_type TEXT NOT NULL,
  body         BLOB,
  remote       TEXT NOT NULL,
  state        TEXT NOT NULL,
  note         TEXT NOT NULL,
  PRIMARY KEY (org, id)
);

-- The facts. document is the event as JSON, NULL once its payload has expired.
CREATE TABLE events (
  id       TEXT NOT NULL,
  org      TEXT NOT NULL,
  source   TEXT NOT NULL,
  receipt  TEXT NOT NULL,
  type     TEXT NOT NULL,
  time     INTEGER NOT NULL,
  received INTEGER NOT NULL,
  subject  TEXT NOT NULL,
  grp      TEXT NOT NULL,
  app      TEXT NOT NULL,
  severity TEXT NOT NULL,
  document BLOB,
  PRIMARY KEY (org, id)
);
CREATE INDEX events_receipt ON events (receipt);

-- Events written down in formats that cannot be had from the document or the receipt.
CREATE TABLE renderings (
  org    TEXT NOT NULL,
  event  TEXT NOT NULL,
  key    TEXT NOT NULL,
  method TEXT NOT NULL,
  suffix TEXT NOT NULL,
  header TEXT NOT NULL,
  body   BLOB,
  PRIMARY KEY (org, event, key)
);

-- Idempotency keys, kept for a window of their own.
CREATE TABLE keys (
  org      TEXT NOT NULL,
  source   TEXT NOT NULL,
  key      BLOB NOT NULL,
  state    TEXT NOT NULL,
  digest   BLOB,
  event    TEXT NOT NULL,
  unmapped INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  PRIMARY KEY (org, source, key)
) WITHOUT ROWID;

-- Deliveries that are not ended. A delivery is born leased to the node that accepted
-- it and touches no secondary index: the index holds only those that nobody has.
CREATE TABLE open_deliveries (
  id           TEXT NOT NULL,
  org          TEXT NOT NULL,
  event        TEXT NOT NULL,
  webhook      TEXT NOT NULL,
  endpoint     TEXT NOT NULL,
  level        TEXT NOT NULL,
  app          TEXT NOT NULL,
  type         TEXT NOT NULL,
  rendering    TEXT NOT NULL,
  state        TEXT NOT NULL,
  attempts     INTEGER NOT NULL,
  first_failed INTEGER NOT NULL,
  next_at      INTEGER NOT NULL,
  created      INTEGER NOT NULL,
  reason       TEXT NOT NULL,
  redelivers   TEXT NOT NULL,
  lease_node   TEXT NOT NULL,
  lease_epoch  INTEGER NOT NULL,
  PRIMARY KEY (id)
) WITHOUT ROWID;
CREATE INDEX open_deliveries_free ON open_deliveries (webhook, next_at, id) WHERE lease_node = '';

-- Ended deliveries, append-only.
CREATE TABLE deliveries (
  id           TEXT NOT NULL,
  org          TEXT NOT NULL,
  event        TEXT NOT NULL,
  webhook      TEXT NOT NULL,
  endpoint     TEXT NOT NULL,
  level        TEXT NOT NULL,
  app          TEXT NOT NULL,
  type         TEXT NOT NULL,
  rendering    TEXT NOT NULL,
  state        TEXT NOT NULL,
  attempts     INTEGER NOT NULL,
  first_failed INTEGER NOT NULL,
  created      INTEGER NOT NULL,
  reason       TEXT NOT NULL,
  redelivers   TEXT NOT NULL,
  ended        INTEGER NOT NULL,
  PRIMARY KEY (org, id)
);
CREATE INDEX deliveries_event ON deliveries (event);

-- The delivery log. seq is given under the lock of the row in tail, inside the
-- transaction, so that who has seen n has seen everything below it.
CREATE TABLE entries (
  seq             INTEGER PRIMARY KEY,
  id              TEXT NOT NULL,
  org             TEXT NOT NULL,
  delivery        TEXT NOT NULL,
  event           TEXT NOT NULL,
  webhook         TEXT NOT NULL,
  endpoint        TEXT NOT NULL,
  level           TEXT NOT NULL,
  app             TEXT NOT NULL,
  type            TEXT NOT NULL,
  rendering       TEXT NOT NULL,
  number          INTEGER NOT NULL,
  state           TEXT NOT NULL,
  outcome         TEXT NOT NULL,
  fault           TEXT NOT NULL,
  at              INTEGER NOT NULL,
  duration        INTEGER NOT NULL,
  status          INTEGER NOT NULL,
  error           TEXT NOT NULL,
  next_at         INTEGER NOT NULL,
  method          TEXT NOT NULL,
  url             TEXT NOT NULL,
  request_header  TEXT NOT NULL,
  response_header TEXT NOT NULL,
  response_body   BLOB,
  truncated       INTEGER NOT NULL,
  dns             INTEGER NOT NULL,
  connect         INTEGER NOT NULL,
  tls             INTEGER NOT NULL,
  first_byte      INTEGER NOT NULL
);
CREATE INDEX entries_org ON entries (org, seq);
CREATE INDEX entries_delivery ON entries (delivery);
CREATE INDEX entries_id ON entries (id);

-- The last seq given.
CREATE TABLE tail (
  one INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  PRIMARY KEY (one)
) WITHOUT ROWID;

-- How far the removal of old history has come, for each organization and kind.
CREATE TABLE marks (
  org  TEXT NOT NULL,
  kind TEXT NOT NULL,
  pos  TEXT NOT NULL,
  n    INTEGER NOT NULL,
  PRIMARY KEY (org, kind)
) WITHOUT ROWID;

-- Who holds leases: one row per hub node, its heart beating by the clock of the database.
CREATE TABLE nodes (
  id        TEXT NOT NULL,
  name      TEXT NOT NULL,
  epoch     INTEGER NOT NULL,
  heartbeat INTEGER NOT NULL,
  version   TEXT NOT NULL,
  dead      INTEGER NOT NULL,
  PRIMARY KEY (id)
) WITHOUT ROWID;
CREATE UNIQUE INDEX nodes_name ON nodes (name);

-- Stable small numbers of objects; the row with an empty object holds the last one given.
CREATE TABLE numbers (
  org    TEXT NOT NULL,
  kind   TEXT NOT NULL,
  object TEXT NOT NULL,
  n      INTEGER NOT NULL,
  PRIMARY KEY (org, kind, object)
) WITHOUT ROWID;

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
