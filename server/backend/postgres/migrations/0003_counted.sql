-- A program that does not count what partitions hold cannot append any more: one
-- that was started before the tables had totals would leave them wrong.

-- Whoever appends at this moment comes before. What such a program has appended
-- since the tables had totals is counted now.
LOCK TABLE {{schema}}.head IN EXCLUSIVE MODE;
INSERT INTO {{schema}}.totals (base, bytes, oldest, newest)
SELECT p.base, sum(octet_length(e.line) + 1), min(e.time), max(e.time)
FROM {{schema}}.entries AS e
JOIN (SELECT base, lead(base) OVER (ORDER BY base) AS next FROM {{schema}}.partitions) AS p
  ON e.idx >= p.base AND (p.next IS NULL OR e.idx < p.next)
GROUP BY p.base
ON CONFLICT (base) DO UPDATE SET bytes = excluded.bytes, oldest = excluded.oldest, newest = excluded.newest;

-- A row of totals that this transaction has written carries its number.
CREATE OR REPLACE FUNCTION {{schema}}.grow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.size <= OLD.size OR NEW.at < OLD.at OR NEW.origin <> OLD.origin OR NEW.vkey <> OLD.vkey AND NOT EXISTS (
    SELECT FROM {{schema}}.keys AS k WHERE k.from_size = NEW.size AND k.previous = OLD.vkey AND k.vkey = NEW.vkey
  ) THEN
    RAISE EXCEPTION 'the audit ledger only grows: size % after % is refused', NEW.size, OLD.size
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  IF NOT EXISTS (SELECT FROM {{schema}}.totals AS t WHERE t.xmin = pg_current_xact_id()::xid) THEN
    RAISE EXCEPTION 'the tables of the audit ledger are of a later version than this program, which does not count in totals'
      USING ERRCODE = 'feature_not_supported';
  END IF;
  RETURN NEW;
END $$;
