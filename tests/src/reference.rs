//! What a queue does, as plain SQL that anybody would write: `FOR UPDATE SKIP LOCKED` on a table.

/// Makes the reference in schema `ref`.
pub const SQL: &str = "
CREATE SCHEMA ref;
CREATE SEQUENCE ref.receipts;
CREATE TABLE ref.m (
    id bigint PRIMARY KEY, priority int NOT NULL, visible_at timestamptz NOT NULL, expires_at timestamptz,
    receipt bigint, attempts int NOT NULL DEFAULT 0, failures int NOT NULL DEFAULT 0, n int);

CREATE FUNCTION ref.send(id bigint, priority int, delay interval, ttl interval, n int DEFAULT NULL)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO ref.m (id, priority, visible_at, expires_at, n)
    VALUES (id, coalesce(priority, 4), clock_timestamp() + coalesce(delay, '0'), clock_timestamp() + ttl, n);
$$;

-- Failures of hand-outs that this session has rolled back. True: somebody holds the message now, and
-- they are counted later.
CREATE FUNCTION ref.blame(who bigint, often int) RETURNS boolean LANGUAGE sql AS $$
    WITH h AS MATERIALIZED (
        SELECT EXISTS (SELECT FROM ref.m WHERE id = who AND receipt IS NOT NULL
                       AND visible_at > clock_timestamp()) AS held),
    l AS MATERIALIZED (SELECT m.id FROM ref.m, h WHERE m.id = who AND NOT h.held FOR UPDATE OF m SKIP LOCKED),
    u AS (UPDATE ref.m SET failures = failures + often FROM l WHERE m.id = l.id)
    SELECT held FROM h;
$$;

-- Where a filter is told, only those with the number `n` of that remainder by 3.
CREATE FUNCTION ref.read(qty int, lease interval, filter int DEFAULT NULL)
RETURNS TABLE (id bigint, receipt bigint, attempts int, failures int) LANGUAGE sql AS $$
    WITH l AS MATERIALIZED (
        SELECT m.id FROM ref.m
        WHERE m.visible_at <= clock_timestamp() AND (m.expires_at > clock_timestamp()) IS NOT FALSE
          AND (m.n % 3 = filter) IS NOT FALSE
        ORDER BY m.priority DESC, m.id LIMIT qty FOR UPDATE SKIP LOCKED),
    u AS (
        UPDATE ref.m SET attempts = m.attempts + 1, failures = m.failures + (m.receipt IS NOT NULL)::int,
            visible_at = clock_timestamp() + lease, receipt = nextval('ref.receipts')
        FROM l WHERE m.id = l.id RETURNING m.*)
    SELECT u.id, u.receipt, u.attempts, u.failures FROM u ORDER BY u.priority DESC, u.id;
$$;

CREATE FUNCTION ref.pop(qty int, filter int DEFAULT NULL)
RETURNS TABLE (id bigint, receipt bigint, attempts int, failures int) LANGUAGE sql AS $$
    WITH l AS MATERIALIZED (
        SELECT m.id FROM ref.m
        WHERE m.visible_at <= clock_timestamp() AND (m.expires_at > clock_timestamp()) IS NOT FALSE
          AND (m.n % 3 = filter) IS NOT FALSE
        ORDER BY m.priority DESC, m.id LIMIT qty FOR UPDATE SKIP LOCKED),
    d AS (DELETE FROM ref.m USING l WHERE m.id = l.id RETURNING m.*)
    SELECT d.id, 0::bigint, d.attempts + 1, d.failures + (d.receipt IS NOT NULL)::int
    FROM d ORDER BY d.priority DESC, d.id;
$$;

-- Every verb for one hand-out: the current one, if the receipt is null.
CREATE FUNCTION ref.settle(verb text, which bigint, given bigint, delay interval) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM ref.m WHERE id = which AND receipt IS NOT NULL AND (receipt = given) IS NOT FALSE
    FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    CASE verb
    WHEN 'ack', 'archive', 'reject' THEN
        DELETE FROM ref.m WHERE id = which;
    WHEN 'nack' THEN
        UPDATE ref.m SET receipt = NULL, failures = failures + 1,
            visible_at = clock_timestamp() + coalesce(delay, '0') WHERE id = which;
    WHEN 'release' THEN
        UPDATE ref.m SET receipt = NULL, visible_at = clock_timestamp() + coalesce(delay, '0') WHERE id = which;
    WHEN 'extend' THEN
        UPDATE ref.m SET visible_at = clock_timestamp() + coalesce(delay, '30 s') WHERE id = which;
    END CASE;
    RETURN true;
END $$;

CREATE FUNCTION ref.purge() RETURNS bigint LANGUAGE sql AS $$
    WITH l AS MATERIALIZED (SELECT id FROM ref.m FOR UPDATE SKIP LOCKED),
    d AS (DELETE FROM ref.m USING l WHERE m.id = l.id RETURNING 1)
    SELECT count(*) FROM d;
$$;

CREATE VIEW ref.q AS
SELECT id, priority, attempts,
    failures + (receipt IS NOT NULL AND visible_at <= clock_timestamp())::int AS failures,
    CASE WHEN visible_at <= clock_timestamp() THEN 'ready' WHEN receipt IS NULL THEN 'delayed' ELSE 'leased' END AS state
FROM ref.m WHERE (expires_at > clock_timestamp()) IS NOT FALSE;
";
