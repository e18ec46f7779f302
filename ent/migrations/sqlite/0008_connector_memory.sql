-- +goose Up

-- What connectors keep: links between our objects and theirs, and small values. owner is
-- an endpoint, a source or a scanner. version goes up by one with each change.
CREATE TABLE connector_links (
  org     TEXT NOT NULL,
  owner   TEXT NOT NULL,
  kind    TEXT NOT NULL,
  ours    TEXT NOT NULL,
  theirs  TEXT NOT NULL,
  url     TEXT NOT NULL,
  note    BLOB,
  version INTEGER NOT NULL,
  PRIMARY KEY (org, owner, kind, ours)
) WITHOUT ROWID;
CREATE UNIQUE INDEX connector_links_theirs ON connector_links (org, owner, kind, theirs);

-- value is sealed for id, which is made of the other three.
CREATE TABLE connector_states (
  org     TEXT NOT NULL,
  owner   TEXT NOT NULL,
  key     TEXT NOT NULL,
  id      TEXT NOT NULL,
  value   BLOB NOT NULL,
  version INTEGER NOT NULL,
  PRIMARY KEY (org, owner, key)
);
CREATE UNIQUE INDEX connector_states_id ON connector_states (id);

-- +goose StatementBegin
CREATE TRIGGER endpoints_memory AFTER DELETE ON endpoints BEGIN
  DELETE FROM connector_links WHERE org = OLD.organization_id AND owner = OLD.id;
  DELETE FROM connector_states WHERE org = OLD.organization_id AND owner = OLD.id;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER sources_memory AFTER DELETE ON sources BEGIN
  DELETE FROM connector_links WHERE org = OLD.organization_id AND owner = OLD.id;
  DELETE FROM connector_states WHERE org = OLD.organization_id AND owner = OLD.id;
END;
-- +goose StatementEnd
