-- The queues that are there already. What an extension's script makes belongs to the extension; their
-- relations do not, so that they are dumped, and go with their queues.

DO $$
DECLARE
    queue text;
    relation regclass;
BEGIN
    FOR queue IN
        SELECT c.relname FROM mq_internal.queue k JOIN pg_catalog.pg_class c ON c.oid = k.view
        WHERE NOT EXISTS (SELECT FROM mq_internal.reply_queue r WHERE r.view = k.view)
        ORDER BY k.n
    LOOP
        PERFORM pgmq._queue_made(queue);
    END LOOP;
    FOR relation IN
        SELECT d.objid::regclass
        FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'pgmq'
        JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind = 'v'
        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype = 'e'
            AND d.refclassid = 'pg_catalog.pg_extension'::regclass
    LOOP
        EXECUTE format('ALTER EXTENSION pgmq DROP VIEW %s', relation);
    END LOOP;
END
$$;
