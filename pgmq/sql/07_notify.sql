-- Notifications on the channel pgmq.q_<queue>.INSERT. Where pg_broker's worker runs it sends them, soon
-- after the sender's commit, so that no sender waits for another.

CREATE FUNCTION pgmq.enable_notify_insert(queue_name text, throttle_interval_ms integer DEFAULT 250)
    RETURNS void
    LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    queue text := pgmq._queue(queue_name);
    was_off boolean;
BEGIN
    IF throttle_interval_ms < 0 THEN
        RAISE EXCEPTION 'throttle_interval_ms must be non-negative';
    END IF;
    IF queue IS NULL THEN
        RAISE EXCEPTION 'Queue "%" does not exist. Create it first using pgmq.create()', queue_name;
    END IF;
    SELECT NOT k.notify INTO was_off FROM mq.queues k WHERE k.queue = queue;
    IF was_off THEN
        PERFORM mq.alter_queue(queue, notify => true);
    END IF;
    INSERT INTO pgmq.notify_insert_throttle AS t (queue_name, throttle_interval_ms, sets_notify)
    VALUES (queue_name, throttle_interval_ms, was_off)
    ON CONFLICT ON CONSTRAINT notify_insert_throttle_queue_name_key DO UPDATE
        SET throttle_interval_ms = excluded.throttle_interval_ms,
            last_notified_at = to_timestamp(0),
            sets_notify = t.sets_notify;
END
$$;

CREATE FUNCTION pgmq.disable_notify_insert(queue_name text) RETURNS void
    LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    queue text := pgmq._queue(queue_name);
    off boolean;
BEGIN
    IF queue IS NULL THEN
        RAISE NOTICE 'relation "pgmq.%" does not exist, skipping',
            pgmq.format_table_name(queue_name, 'q');
        RETURN;
    END IF;
    DELETE FROM pgmq.notify_insert_throttle t WHERE t.queue_name = queue_name
        RETURNING t.sets_notify INTO off;
    IF off THEN
        PERFORM mq.alter_queue(queue, notify => false);
    END IF;
END
$$;

CREATE FUNCTION pgmq.update_notify_insert(queue_name text, throttle_interval_ms integer) RETURNS void
    LANGUAGE plpgsql AS $$
#variable_conflict use_variable
BEGIN
    IF throttle_interval_ms < 0 THEN
        RAISE EXCEPTION 'throttle_interval_ms must be non-negative, got: %', throttle_interval_ms;
    END IF;
    IF NOT EXISTS (SELECT FROM pgmq.meta m WHERE m.queue_name = queue_name) THEN
        RAISE EXCEPTION 'Queue "%" does not exist. Create the queue first using pgmq.create()',
            queue_name;
    END IF;
    UPDATE pgmq.notify_insert_throttle t
    SET throttle_interval_ms = throttle_interval_ms, last_notified_at = to_timestamp(0)
    WHERE t.queue_name = queue_name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Queue "%" does not have notify_insert enabled. Enable it first using pgmq.enable_notify_insert()',
            queue_name;
    END IF;
END
$$;

CREATE FUNCTION pgmq.list_notify_insert_throttles()
    RETURNS TABLE (queue_name text, throttle_interval_ms integer, last_notified_at timestamptz)
    LANGUAGE sql STABLE AS $$
    SELECT t.queue_name, t.throttle_interval_ms, t.last_notified_at
    FROM pgmq.notify_insert_throttle t ORDER BY t.queue_name
$$;

-- pg_broker has told listeners of its own channels of messages in these queues.
CREATE FUNCTION pgmq._queues_told(queues text[]) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    WITH told AS (
        UPDATE pgmq.notify_insert_throttle t SET last_notified_at = clock_timestamp()
        WHERE pgmq._queue(t.queue_name) = ANY (queues)
            AND (t.throttle_interval_ms = 0 OR clock_timestamp() - t.last_notified_at
                 >= t.throttle_interval_ms * interval '1 millisecond')
        RETURNING t.queue_name)
    SELECT pg_notify('pgmq.' || pgmq.format_table_name(told.queue_name, 'q') || '.INSERT', '')
    FROM told;
$$;
REVOKE ALL ON FUNCTION pgmq._queues_told FROM PUBLIC;
