-- Looking at queues, and their upkeep.

CREATE FUNCTION mq.version() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mq_version';

CREATE FUNCTION mq.status(
    OUT version text,
    OUT preloaded boolean,
    OUT worker_pid int,
    OUT last_maintenance timestamptz,
    OUT warnings text[]
) LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mq_status';

CREATE FUNCTION mq.maintain(queue text DEFAULT NULL) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mq_maintain';

-- Whether the calling role sees a queue in mq.queues and mq.metrics.
CREATE FUNCTION mq_internal.visible(view oid) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN pg_catalog.pg_has_role('pg_monitor', 'USAGE')
        OR pg_catalog.has_table_privilege(view, 'SELECT, INSERT, UPDATE, DELETE')
        OR pg_catalog.has_any_column_privilege(view, 'SELECT, INSERT, UPDATE');

-- The same of a private reply queue: that everybody may send there is no reason to see it.
CREATE FUNCTION mq_internal.visible_reply_queue(owner oid) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN pg_catalog.pg_has_role('pg_monitor', 'USAGE')
        OR pg_catalog.pg_has_role(owner, 'USAGE');

CREATE FUNCTION mq_internal.measure(
    view oid,
    OUT ready bigint,
    OUT delayed bigint,
    OUT leased bigint,
    OUT oldest_ready_age interval,
    OUT estimated boolean,
    OUT sent bigint,
    OUT delivered bigint,
    OUT acked bigint,
    OUT failed bigint,
    OUT dead bigint,
    OUT expired bigint,
    OUT since timestamptz,
    OUT waiters bigint
) LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mq_measure';

CREATE VIEW mq.queues WITH (security_barrier) AS
SELECT c.relname::text AS queue,
       pg_get_userbyid(c.relowner) AS owner,
       s.relpersistence = 'p' AS durable,
       q.visibility, q.max_failures,
       CASE WHEN q.dead_letter IS NOT NULL THEN coalesce(d.relname, '(dropped)')::text END
           AS dead_letter,
       q.backoff, q.ttl, q.dedup_window, q.max_length, q.overflow, q.max_bytes,
       q.archive_retention, q.notify,
       q.paused AND (q.paused_until IS NULL OR q.paused_until > clock_timestamp()) AS paused,
       CASE WHEN q.paused AND q.paused_until > clock_timestamp() THEN q.paused_until END
           AS paused_until,
       q.created_at, q.segment_size, q.ordering, q.single_active,
       CASE WHEN q.single_active THEN (
           SELECT l.pid FROM pg_locks l
           WHERE l.locktype = 'advisory' AND l.classid = q.view AND l.objid = 0
             AND l.objsubid = 28017 AND l.granted
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
       END AS active_pid,
       q.rate_limit,
       CASE WHEN q.rate_limit IS NOT NULL THEN coalesce(q.rate_interval, '1s') END AS rate_interval,
       CASE WHEN q.rate_limit IS NOT NULL THEN coalesce(q.rate_burst, q.rate_limit) END AS rate_burst,
       CASE WHEN q.rate_limit IS NOT NULL THEN q.rate_key END AS rate_key,
       q.max_in_flight, q.group_max_in_flight, q.fair_by
FROM mq_internal.queue q
JOIN pg_class c ON c.oid = q.view
LEFT JOIN mq_internal.reply_queue r ON r.view = q.view
LEFT JOIN pg_class s ON s.relname = 'q_' || q.n
    AND s.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'mq_internal')
LEFT JOIN pg_class d ON d.oid = q.dead_letter
WHERE CASE WHEN r.view IS NULL THEN mq_internal.visible(q.view)
           ELSE mq_internal.visible_reply_queue(c.relowner) END
ORDER BY 1;

CREATE VIEW mq.metrics WITH (security_barrier) AS
SELECT c.relname::text AS queue, m.*
FROM mq_internal.queue q
JOIN pg_class c ON c.oid = q.view
LEFT JOIN mq_internal.reply_queue r ON r.view = q.view
CROSS JOIN LATERAL mq_internal.measure(q.view) m
WHERE CASE WHEN r.view IS NULL THEN mq_internal.visible(q.view)
           ELSE mq_internal.visible_reply_queue(c.relowner) END
ORDER BY 1;

-- Why a table of a queue whose ids are used up is still there; null where nothing keeps it.
CREATE FUNCTION mq_internal.kept_by(view oid, k int) RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mq_kept_by';

CREATE VIEW mq.segments WITH (security_barrier) AS
SELECT c.relname::text AS queue, p.relname::text AS storage,
       (ARRAY['open', 'closed', 'free', 'parked', 'leaving', 'dormant', 'drained'])[s.state + 1]
           AS state,
       CASE WHEN s.k > 0 THEN s.first_id END AS first_id,
       CASE WHEN s.k > 0 THEN s.past_id - 1 END AS last_id, pg_total_relation_size(p.oid) AS bytes, s.since,
       mq_internal.kept_by(q.view, s.k) AS kept_by
FROM mq_internal.queue q
JOIN pg_class c ON c.oid = q.view
LEFT JOIN mq_internal.reply_queue r ON r.view = q.view
CROSS JOIN LATERAL (
    SELECT g.k, g.state, g.first_id, g.past_id, g.since FROM mq_internal.segment g WHERE g.n = q.n
    UNION ALL
    SELECT 0, 3, NULL, NULL, q.created_at
    WHERE NOT EXISTS (SELECT FROM mq_internal.segment g WHERE g.n = q.n AND g.k = 0)) s
JOIN pg_class p ON p.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'mq_internal')
    AND p.relname = 'q_' || q.n || CASE WHEN s.k > 0 THEN '_s' || s.k
                                        WHEN s.k < 0 THEN '_p' ELSE '' END
WHERE CASE WHEN r.view IS NULL THEN mq_internal.visible(q.view)
           ELSE mq_internal.visible_reply_queue(c.relowner) END
ORDER BY 1, 4 NULLS LAST, 2;

GRANT SELECT ON mq.queues, mq.metrics, mq.segments TO PUBLIC;
