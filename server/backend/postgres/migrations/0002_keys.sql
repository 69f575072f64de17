-- Changes of the signing key, and what each partition holds.

-- keys has a line for each change of the key, in the form of keys.jsonl: the key
-- counts from from_size entries on.
CREATE TABLE {{schema}}.keys (
  from_size bigint PRIMARY KEY,
  previous  text NOT NULL UNIQUE,
  vkey      text NOT NULL UNIQUE,
  change    text COLLATE "C" NOT NULL
);

-- cosigned has checkpoints with the signatures of witnesses.
CREATE TABLE {{schema}}.cosigned (
  size bigint NOT NULL,
  note text NOT NULL,
  at   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (size, note)
);

-- totals says what a partition holds: bytes of lines with their newlines, and
-- the earliest and latest time of an entry. It follows from the entries, and
-- Verify compares it with them.
CREATE TABLE {{schema}}.totals (
  base   bigint PRIMARY KEY, -- of the partition
  bytes  bigint NOT NULL,
  oldest bigint NOT NULL,
  newest bigint NOT NULL
) WITH (fillfactor = 10);    -- one row that is replaced all the time

-- Whoever appends at this moment, and knows nothing of totals, comes before.
LOCK TABLE {{schema}}.head IN EXCLUSIVE MODE;
INSERT INTO {{schema}}.totals (base, bytes, oldest, newest)
SELECT p.base, sum(octet_length(e.line) + 1), min(e.time), max(e.time)
FROM {{schema}}.entries AS e
JOIN (SELECT base, lead(base) OVER (ORDER BY base) AS next FROM {{schema}}.partitions) AS p
  ON e.idx >= p.base AND (p.next IS NULL OR e.idx < p.next)
GROUP BY p.base;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {{schema}}.keys
  FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.refuse();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {{schema}}.cosigned
  FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.refuse();
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON {{schema}}.totals
  FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.refuse();

-- The key of head changes only as keys says.
CREATE OR REPLACE FUNCTION {{schema}}.grow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.size <= OLD.size OR NEW.at < OLD.at OR NEW.origin <> OLD.origin OR NEW.vkey <> OLD.vkey AND NOT EXISTS (
    SELECT FROM {{schema}}.keys AS k WHERE k.from_size = NEW.size AND k.previous = OLD.vkey AND k.vkey = NEW.vkey
  ) THEN
    RAISE EXCEPTION 'the audit ledger only grows: size % after % is refused', NEW.size, OLD.size
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NEW;
END $$;

-- Whoever may append may do all that belongs to it; whoever may read may read
-- the new tables.
DO $$
DECLARE r record;
BEGIN
  FOR r IN SELECT DISTINCT grantee, privilege_type FROM information_schema.role_table_grants
    WHERE table_schema || '.' || table_name = '{{schema}}.entries' AND privilege_type IN ('INSERT', 'SELECT') AND grantee <> 'PUBLIC'
  LOOP
    IF r.privilege_type = 'SELECT' THEN
      EXECUTE format('GRANT SELECT ON {{schema}}.keys, {{schema}}.cosigned, {{schema}}.totals TO %I', r.grantee);
    ELSE
      EXECUTE format('GRANT INSERT ON {{schema}}.keys, {{schema}}.cosigned, {{schema}}.totals TO %I', r.grantee);
      EXECUTE format('GRANT UPDATE (vkey) ON {{schema}}.head TO %I', r.grantee);
      EXECUTE format('GRANT UPDATE (bytes, oldest, newest) ON {{schema}}.totals TO %I', r.grantee);
    END IF;
  END LOOP;
END $$;
