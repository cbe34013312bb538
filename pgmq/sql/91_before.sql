-- What mq.import_pgmq has set aside: the names that queues were given, their topics, notifications and
-- privileges.

DO $$
DECLARE
    told record;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = to_regclass('pgmq_before.meta')
                   AND c.relkind = 'r') THEN
        RETURN;
    END IF;
    UPDATE pgmq.meta m SET queue_name = b.queue_name, is_partitioned = b.is_partitioned,
        created_at = b.created_at
    FROM pgmq_before.meta b
    WHERE pgmq._is(m.queue_name, b.queue_name)
        AND to_regclass(format('pgmq_before.%I', 'q_' || lower(b.queue_name))) IS NOT NULL;
    FOR told IN
        SELECT c.oid::regclass AS relation, b.queue_name, substr(c.relname, 1, 2) AS prefix
        FROM pgmq_before.meta b
        JOIN pg_catalog.pg_class c ON c.relnamespace = 'pgmq'::regnamespace AND c.relkind = 'v'
            AND c.relname IN ('q_$' || lower(b.queue_name), 'a_$' || lower(b.queue_name))
        WHERE to_regclass(format('pgmq_before.%I', 'q_' || lower(b.queue_name))) IS NOT NULL
    LOOP
        EXECUTE format('ALTER VIEW %s RENAME TO %I', told.relation, told.prefix || lower(told.queue_name));
    END LOOP;
    IF EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = to_regclass('pgmq_before.topic_bindings')
               AND c.relkind = 'r') THEN
        INSERT INTO pgmq.topic_bindings (pattern, queue_name, bound_at)
        SELECT b.pattern, b.queue_name, b.bound_at FROM pgmq_before.topic_bindings b
        JOIN pgmq.meta m ON m.queue_name = b.queue_name
        ON CONFLICT DO NOTHING;
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_class c
               WHERE c.oid = to_regclass('pgmq_before.notify_insert_throttle') AND c.relkind = 'r') THEN
        FOR told IN
            SELECT t.queue_name, t.throttle_interval_ms FROM pgmq_before.notify_insert_throttle t
            JOIN pgmq.meta m ON m.queue_name = t.queue_name
        LOOP
            PERFORM pgmq.enable_notify_insert(told.queue_name, told.throttle_interval_ms);
        END LOOP;
    END IF;
    FOR told IN
        SELECT c.relname, a.privilege_type,
               CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   AS grantee
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_class v ON v.relname = c.relname AND v.relkind = 'v'
            AND v.relnamespace = 'pgmq'::regnamespace
        CROSS JOIN LATERAL aclexplode(c.relacl) a
        WHERE c.relnamespace = 'pgmq_before'::regnamespace AND a.grantee <> c.relowner
            AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE format('GRANT %s ON pgmq.%I TO %s', told.privilege_type, told.relname, told.grantee);
    END LOOP;
END
$$;
