-- Making, dropping and looking at queues.

CREATE FUNCTION pgmq.create_non_partitioned(queue_name text) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgmq.validate_queue_name(queue_name);
    PERFORM pgmq._make(queue_name, true, false);
END
$$;

CREATE FUNCTION pgmq."create"(queue_name text) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgmq.create_non_partitioned(queue_name);
END
$$;

CREATE FUNCTION pgmq.create_unlogged(queue_name text) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgmq.validate_queue_name(queue_name);
    PERFORM pgmq._make(queue_name, false, false);
END
$$;

-- A number of messages, where an argument is one; otherwise it is for how long.
CREATE FUNCTION pgmq._number(argument text) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN argument ~ '^\s*\d{1,18}\s*$' THEN argument::bigint END;

-- pg_broker's segments stand in for partitions: one takes as many messages as a partition was to take.
-- What is kept for so long is removed after that time; how many messages are kept has no meaning here,
-- where space comes back without it, and no message that was not read is dropped.
CREATE FUNCTION pgmq.create_partitioned(
    queue_name text, partition_interval text DEFAULT '10000',
    retention_interval text DEFAULT '100000', premake integer DEFAULT 4
) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    per_segment bigint := pgmq._number(partition_interval);
    kept interval;
    queue text;
BEGIN
    PERFORM pgmq.validate_queue_name(queue_name);
    IF premake < 1 THEN
        RAISE EXCEPTION 'premake must be at least 1, got %', premake;
    END IF;
    IF per_segment IS NULL THEN
        PERFORM partition_interval::interval;
    END IF;
    IF pgmq._number(retention_interval) IS NULL THEN
        kept := retention_interval::interval;
    END IF;
    IF pgmq._queue(queue_name) IS NOT NULL THEN
        PERFORM pgmq._make(queue_name, true, true);
        RETURN;
    END IF;
    queue := pgmq._make(queue_name, true, true);
    PERFORM mq.alter_queue(queue, segment_size => least(greatest(per_segment, 64), 100000000)::int,
                           ttl => kept, archive_retention => kept);
END
$$;

-- The archive is kept for so long, if that is a time; it needs no partitions.
CREATE FUNCTION pgmq.convert_archive_partitioned(
    table_name text, partition_interval text DEFAULT '10000',
    retention_interval text DEFAULT '100000', leading_partition integer DEFAULT 10
) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    queue text := pgmq._queue(table_name);
BEGIN
    IF queue IS NULL THEN
        RAISE NOTICE 'Table %s does not exists', pgmq.format_table_name(table_name, 'a');
    ELSIF pgmq._number(retention_interval) IS NULL THEN
        PERFORM mq.alter_queue(queue, archive_retention => retention_interval::interval);
    END IF;
END
$$;

CREATE FUNCTION pgmq.drop_queue(queue_name text) RETURNS boolean
    LANGUAGE plpgsql AS $$
DECLARE
    queue text := pgmq._queue(queue_name);
BEGIN
    IF queue IS NULL THEN
        RAISE NOTICE 'pgmq queue `%` does not exist', queue_name;
        RETURN false;
    END IF;
    RETURN mq.drop_queue(queue);
END
$$;

CREATE FUNCTION pgmq.drop_queue(queue_name text, partitioned boolean) RETURNS boolean
    LANGUAGE plpgsql AS $$
BEGIN
    RAISE WARNING 'drop_queue(queue_name, partitioned) is deprecated and will be removed in PGMQ v2.0. Use drop_queue(queue_name) instead';
    PERFORM pgmq.drop_queue(queue_name);
    RETURN true;
END
$$;

CREATE FUNCTION pgmq.detach_archive(queue_name text) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgmq.format_table_name(queue_name, 'a');
    RAISE WARNING 'detach_archive(queue_name) is deprecated and is a no-op. It will be removed in PGMQ v2.0. Archive tables are no longer member objects.';
END
$$;

CREATE FUNCTION pgmq.purge_queue(queue_name text) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'pgmq_purge_queue';

CREATE FUNCTION pgmq.list_queues() RETURNS SETOF pgmq.queue_record
    LANGUAGE sql STABLE
    AS $$ SELECT m.queue_name, m.is_partitioned, m.is_unlogged, m.created_at FROM pgmq.meta m $$;

-- Counted as it is called, like pgmq's. Cheaper figures are in mq.metrics.
CREATE FUNCTION pgmq.metrics(queue_name text) RETURNS pgmq.metrics_result
    LANGUAGE plpgsql AS $$
DECLARE
    found pgmq.metrics_result;
BEGIN
    EXECUTE format(
        'SELECT %L, count(*), extract(epoch FROM clock_timestamp() - max(q.enqueued_at))::int, '
        'extract(epoch FROM clock_timestamp() - min(q.enqueued_at))::int, '
        'coalesce(pgmq._last_id(%1$L), 0), now(), '
        'count(*) FILTER (WHERE q.vt <= clock_timestamp()), NULL::bigint FROM pgmq.%I q',
        queue_name, pgmq.format_table_name(queue_name, 'q'))
    INTO found;
    RETURN found;
END
$$;

CREATE FUNCTION pgmq.metrics_all() RETURNS SETOF pgmq.metrics_result
    LANGUAGE sql AS $$ SELECT m.* FROM pgmq.meta k, pgmq.metrics(k.queue_name) m $$;
