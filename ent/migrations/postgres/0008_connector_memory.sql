-- +goose Up

-- What connectors keep: links between our objects and theirs, and small values. owner is
-- an endpoint, a source or a scanner. version goes up by one with each change.
CREATE TABLE connector_links (
  org     text COLLATE "C" NOT NULL,
  owner   text COLLATE "C" NOT NULL,
  kind    text COLLATE "C" NOT NULL,
  ours    text COLLATE "C" NOT NULL,
  theirs  text COLLATE "C" NOT NULL,
  url     text NOT NULL,
  note    bytea,
  version bigint NOT NULL,
  PRIMARY KEY (org, owner, kind, ours)
);
CREATE UNIQUE INDEX connector_links_theirs ON connector_links (org, owner, kind, theirs);

-- value is sealed for id, which is made of the other three.
CREATE TABLE connector_states (
  org     text COLLATE "C" NOT NULL,
  owner   text COLLATE "C" NOT NULL,
  key     text COLLATE "C" NOT NULL,
  id      text COLLATE "C" NOT NULL,
  value   bytea NOT NULL,
  version bigint NOT NULL,
  PRIMARY KEY (org, owner, key)
);
CREATE UNIQUE INDEX connector_states_id ON connector_states (id);

-- +goose StatementBegin
CREATE FUNCTION forget_connector_memory() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM connector_links WHERE org = OLD.organization_id AND owner = OLD.id;
  DELETE FROM connector_states WHERE org = OLD.organization_id AND owner = OLD.id;
  RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER endpoints_memory AFTER DELETE ON endpoints FOR EACH ROW EXECUTE FUNCTION forget_connector_memory();
CREATE TRIGGER sources_memory AFTER DELETE ON sources FOR EACH ROW EXECUTE FUNCTION forget_connector_memory();
