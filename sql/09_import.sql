-- Leaving pgmq: its queues become queues here, with all that is in them.

-- Enters messages with the ids that they have, which rise, into a queue made in this transaction.
CREATE FUNCTION mq_internal.import_messages(
    queue text, ids bigint[], attempts int[], enqueued_at timestamptz[], read_at timestamptz[],
    visible_at timestamptz[], bodies jsonb[], headers jsonb[]
) RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mq_import_messages';

-- The tables of a queue of pgmq, its partitions included, leave schema pgmq.
CREATE FUNCTION mq_internal.set_aside(source regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part regclass;
BEGIN
    FOR part IN
        SELECT t.relid FROM pg_partition_tree(source) t WHERE t.relid <> source
        UNION ALL SELECT source
    LOOP
        EXECUTE format('ALTER TABLE %s SET SCHEMA pgmq_before', part);
    END LOOP;
END
$$;

-- Moves one queue. Columns that came with later versions of pgmq may be missing.
CREATE FUNCTION mq_internal.import_queue(
    given text, unlogged boolean, OUT queue text, OUT messages bigint, OUT archived bigint
) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    source regclass := to_regclass(format('pgmq.%I', 'q_' || lower(given)));
    kept regclass := to_regclass(format('pgmq.%I', 'a_' || lower(given)));
    owner name;
    headers text := 'NULL::jsonb';
    read_at text := 'NULL::timestamptz';
    batch refcursor;
    chunk record;
    n int;
    last bigint := 0;
BEGIN
    queue := lower(given);
    messages := 0;
    archived := 0;
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', source);
    IF to_regclass(format('mq.%I', queue)) IS NOT NULL
        AND NOT EXISTS (SELECT FROM mq.queues q WHERE q.queue = import_queue.queue) THEN
        queue := '$' || queue;
    END IF;
    BEGIN
        PERFORM mq.create_queue(queue, durable => NOT unlogged, max_bytes => 2147483647);
    EXCEPTION WHEN invalid_name THEN
        queue := '$' || queue;
        PERFORM mq.create_queue(queue, durable => NOT unlogged, max_bytes => 2147483647);
    END;
    SELECT k.n INTO STRICT n FROM mq_internal.queue k WHERE k.view = format('mq.%I', queue)::regclass;
    IF EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = source AND a.attname = 'headers') THEN
        headers := 'headers';
    END IF;
    IF EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = source AND a.attname = 'last_read_at') THEN
        read_at := 'last_read_at';
    END IF;
    OPEN batch NO SCROLL FOR EXECUTE format(
        'SELECT array_agg(msg_id ORDER BY msg_id) AS ids, array_agg(read_ct ORDER BY msg_id) AS attempts, '
        'array_agg(enqueued_at ORDER BY msg_id) AS enqueued_at, '
        'array_agg(%s ORDER BY msg_id) AS read_at, array_agg(vt ORDER BY msg_id) AS visible_at, '
        'array_agg(message ORDER BY msg_id) AS bodies, array_agg(%s ORDER BY msg_id) AS headers '
        'FROM (SELECT *, row_number() OVER (ORDER BY msg_id) AS n FROM %s) m '
        'GROUP BY (n - 1) / 1000 ORDER BY min(msg_id)', read_at, headers, source);
    LOOP
        FETCH batch INTO chunk;
        EXIT WHEN NOT FOUND;
        messages := messages + mq_internal.import_messages(
            queue, chunk.ids, chunk.attempts, chunk.enqueued_at, chunk.read_at, chunk.visible_at,
            chunk.bodies, chunk.headers);
        last := chunk.ids[cardinality(chunk.ids)];
    END LOOP;
    CLOSE batch;
    IF kept IS NOT NULL THEN
        EXECUTE format(
            'INSERT INTO mq_internal.q_%s_archive (id, enqueued_at, due, read_at, attempts, failures, '
            'rank, headers, body, archived_at) SELECT msg_id, enqueued_at, vt, %s, read_ct, 0, 5, %s, '
            'message, archived_at FROM %s', n, read_at, headers, kept);
        GET DIAGNOSTICS archived = ROW_COUNT;
        EXECUTE format('SELECT greatest($1, max(msg_id)) FROM %s', kept) INTO last USING last;
    END IF;
    -- No id is given twice, not even one that is in neither of them any more.
    EXECUTE format('SELECT greatest($1, pg_sequence_last_value(pg_get_serial_sequence(%L, ''msg_id'')))',
                   source) INTO last USING last;
    PERFORM setval(format('mq_internal.q_%s_id', n)::regclass, last + 1, false);
    SELECT pg_get_userbyid(c.relowner) INTO owner FROM pg_class c WHERE c.oid = source;
    EXECUTE format('ALTER VIEW mq.%I OWNER TO %I', queue, owner);
    PERFORM mq_internal.set_aside(source);
    IF kept IS NOT NULL THEN
        PERFORM mq_internal.set_aside(kept);
    END IF;
END
$$;

CREATE FUNCTION mq.import_pgmq(queues text[] DEFAULT NULL)
    RETURNS TABLE (queue text, messages bigint, archived bigint)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one record;
    beside text;
BEGIN
    IF to_regclass('pgmq.meta') IS NULL THEN
        RAISE EXCEPTION 'there is no pgmq in this database'
            USING ERRCODE = 'undefined_table', HINT = 'It is looked for in schema pgmq.';
    END IF;
    CREATE SCHEMA IF NOT EXISTS pgmq_before;
    IF to_regclass('pgmq_before.meta') IS NULL THEN
        CREATE TABLE pgmq_before.meta AS SELECT * FROM pgmq.meta;
        FOREACH beside IN ARRAY '{topic_bindings,notify_insert_throttle}'::text[] LOOP
            IF to_regclass('pgmq.' || beside) IS NOT NULL THEN
                EXECUTE format('CREATE TABLE pgmq_before.%I AS SELECT * FROM pgmq.%1$I', beside);
            END IF;
        END LOOP;
    END IF;
    FOR one IN
        EXECUTE 'SELECT DISTINCT ON (c.oid) m.queue_name::text AS name, c.relpersistence = ''u'' AS unlogged '
            'FROM pgmq.meta m JOIN pg_class c ON c.relname = ''q_'' || lower(m.queue_name) '
            'AND c.relnamespace = ''pgmq''::regnamespace AND c.relkind IN (''r'', ''p'') '
            'WHERE $1 IS NULL OR m.queue_name = ANY ($1) ORDER BY c.oid' USING queues
    LOOP
        SELECT i.* INTO queue, messages, archived
        FROM mq_internal.import_queue(one.name, one.unlogged) i;
        RETURN NEXT;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION mq_internal.import_messages, mq_internal.set_aside, mq_internal.import_queue,
    mq.import_pgmq FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mq.import_pgmq TO @extowner@;
