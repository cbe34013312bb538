-- How queues are called.

CREATE FUNCTION pgmq.format_table_name(queue_name text, prefix text) RETURNS text
    LANGUAGE plpgsql AS $$
BEGIN
    IF queue_name ~ '[$;'']|--' THEN
        RAISE EXCEPTION 'queue name contains invalid characters: $, ;, --, or \''';
    END IF;
    RETURN lower(prefix || '_' || queue_name);
END
$$;

CREATE FUNCTION pgmq.validate_queue_name(queue_name text) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    IF length(queue_name) > 47 THEN
        RAISE EXCEPTION 'queue name is too long, maximum length is 47 characters';
    END IF;
END
$$;

-- One at a time makes or drops the queue of that name.
CREATE FUNCTION pgmq.acquire_queue_lock(queue_name text) RETURNS void
    LANGUAGE sql
    AS $$ SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('pgmq.queue_' || queue_name)) $$;

-- What pg_broker calls the queue of that name; null where there is none.
CREATE FUNCTION pgmq._queue(queue_name text) RETURNS text
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'pgmq_queue';

-- Makes it, unless it is there. Who may is checked: CREATE on schema pgmq.
CREATE FUNCTION pgmq._make(queue_name text, durable boolean, partitioned boolean) RETURNS text
    LANGUAGE c AS 'MODULE_PATHNAME', 'pgmq_make';

-- The last id given to a message of the queue, as far as anybody knows.
CREATE FUNCTION pgmq._last_id(queue_name text) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'pgmq_last_id';

-- Whether the queue that pg_broker calls `queue` is the one that pgmq's callers call `name`.
CREATE FUNCTION pgmq._is(queue text, name text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN queue IN (name, lower(name), '$' || lower(name));
