-- The ledger's tables. {{schema}} is replaced by the quoted name of the schema.
-- Nothing here is ever updated or deleted but the one row of head, which can
-- only grow: triggers refuse the rest to everybody, also to the owner.

-- head says where the ledger ends. Whoever appends locks its row, so the order
-- of commits is the order of indexes, without gaps.
CREATE TABLE {{schema}}.head (
  one        boolean PRIMARY KEY DEFAULT true CHECK (one),
  origin     text NOT NULL,
  vkey       text NOT NULL,
  size       bigint NOT NULL,
  edge       bytea NOT NULL,        -- roots of the perfect subtrees, 32 bytes each
  note       text NOT NULL,         -- the signed checkpoint of size
  at         timestamptz NOT NULL,  -- of the last append, never goes back
  published  timestamptz NOT NULL   -- of the newest row of checkpoints
);

-- entries holds the lines, and beside each its leaf hash and the columns that
-- queries use. Partitioned by the time of the append, so a partition is a range
-- of indexes too. In text columns a backslash is \\ and a NUL \0.
CREATE TABLE {{schema}}.entries (
  idx     bigint NOT NULL,
  at      timestamptz NOT NULL,
  id      uuid NOT NULL,      -- the ULID's 16 bytes
  leaf    bytea NOT NULL,
  time    bigint NOT NULL,    -- the entry's own time, nanoseconds since 1970
  result  smallint NOT NULL,  -- 1 success, 2 failure, 3 denied
  agent   text COLLATE "C" NOT NULL,
  action  text COLLATE "C" NOT NULL,
  usr     text COLLATE "C",
  subject text COLLATE "C",
  session text COLLATE "C",
  run     text COLLATE "C",
  trace   uuid,
  span    bigint,
  line    text COLLATE "C" NOT NULL
) PARTITION BY RANGE (at);

CREATE INDEX ON {{schema}}.entries (agent, idx);
CREATE INDEX ON {{schema}}.entries (usr, idx) WHERE usr IS NOT NULL;
CREATE INDEX ON {{schema}}.entries (trace) WHERE trace IS NOT NULL;
CREATE INDEX ON {{schema}}.entries (session, idx) WHERE session IS NOT NULL;
CREATE INDEX ON {{schema}}.entries (subject, idx) WHERE subject IS NOT NULL;
CREATE INDEX ON {{schema}}.entries (action, idx) WHERE agent = 'kaizen';
CREATE INDEX ON {{schema}}.entries USING brin (time) WITH (autosummarize = on);

-- partitions names each partition with its bounds and its first index.
CREATE TABLE {{schema}}.partitions (
  name     text PRIMARY KEY,
  base     bigint NOT NULL,
  from_at  timestamptz NOT NULL,
  until_at timestamptz NOT NULL
);

-- dropped names the partitions that retention has removed, and the indexes that
-- they held: from base to next, which is not among them.
CREATE TABLE {{schema}}.dropped (
  name text PRIMARY KEY,
  base bigint NOT NULL,
  next bigint NOT NULL,
  at   timestamptz NOT NULL
);

-- nodes holds the roots of the complete subtrees of 256^level entries: the
-- hashes of the C2SP tiles from level 1 up. Those of level 0 are the leaves.
CREATE TABLE {{schema}}.nodes (
  level smallint NOT NULL,
  n     bigint NOT NULL,
  hash  bytea NOT NULL,
  PRIMARY KEY (level, n)
);

-- leaves keeps the leaf hashes of entries whose partition was dropped, in runs
-- of up to 256, so that the proofs of all others stay valid.
CREATE TABLE {{schema}}.leaves (
  base   bigint PRIMARY KEY,
  hashes bytea NOT NULL
);

-- checkpoints is the history of signed checkpoints, one a second at most.
CREATE TABLE {{schema}}.checkpoints (
  size bigint PRIMARY KEY,
  note text NOT NULL,
  at   timestamptz NOT NULL
);

CREATE FUNCTION {{schema}}.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the audit ledger is append-only: % on %.% is refused', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE FUNCTION {{schema}}.grow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.size <= OLD.size OR NEW.at < OLD.at OR NEW.origin <> OLD.origin OR NEW.vkey <> OLD.vkey THEN
    RAISE EXCEPTION 'the audit ledger only grows: size % after % is refused', NEW.size, OLD.size
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {{schema}}.entries
  FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.refuse();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {{schema}}.partitions
  FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.refuse();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {{schema}}.dropped
  FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.refuse();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {{schema}}.nodes
  FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.refuse();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {{schema}}.leaves
  FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.refuse();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {{schema}}.checkpoints
  FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.refuse();
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON {{schema}}.head
  FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.refuse();
CREATE TRIGGER only_grows BEFORE UPDATE ON {{schema}}.head
  FOR EACH ROW EXECUTE FUNCTION {{schema}}.grow();

-- add_partition makes the partition for appends from from_at on. It runs with
-- the rights of the owner, so writers need none of their own on the schema.
CREATE FUNCTION {{schema}}.add_partition(part text, base bigint, from_at timestamptz, until_at timestamptz)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF part !~ '^entries_[0-9]+$' THEN
    RAISE EXCEPTION 'bad name of a partition: %', part;
  END IF;
  EXECUTE format('CREATE TABLE {{schema}}.%I PARTITION OF {{schema}}.entries FOR VALUES FROM (%L) TO (%L)', part, from_at, until_at);
  EXECUTE format('CREATE UNIQUE INDEX ON {{schema}}.%I (idx)', part);
  EXECUTE format('CREATE UNIQUE INDEX ON {{schema}}.%I (id)', part);
  EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {{schema}}.%I FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.refuse()', part);
  INSERT INTO {{schema}}.partitions (name, base, from_at, until_at) VALUES (part, base, from_at, until_at);
END $$;
REVOKE ALL ON FUNCTION {{schema}}.add_partition(text, bigint, timestamptz, timestamptz) FROM PUBLIC;
