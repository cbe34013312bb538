-- Reading by groups: messages with the same header x-pgmq-group are handed out in order, and none while
-- an earlier one of the group is with somebody or waits.

CREATE FUNCTION pgmq.read_grouped(queue_name text, vt integer, qty integer)
    RETURNS SETOF pgmq.message_record
    LANGUAGE c COST 100 AS 'MODULE_PATHNAME', 'pgmq_read_grouped';
CREATE FUNCTION pgmq.read_grouped_rr(queue_name text, vt integer, qty integer)
    RETURNS SETOF pgmq.message_record
    LANGUAGE c COST 100 AS 'MODULE_PATHNAME', 'pgmq_read_grouped_rr';
CREATE FUNCTION pgmq.read_grouped_head(queue_name text, vt integer, qty integer)
    RETURNS SETOF pgmq.message_record
    LANGUAGE c COST 100 AS 'MODULE_PATHNAME', 'pgmq_read_grouped_head';

CREATE FUNCTION pgmq.read_grouped_with_poll(
    queue_name text, vt integer, qty integer, max_poll_seconds integer DEFAULT 5,
    poll_interval_ms integer DEFAULT 100
) RETURNS SETOF pgmq.message_record
    LANGUAGE c COST 100 AS 'MODULE_PATHNAME', 'pgmq_read_grouped_with_poll';
CREATE FUNCTION pgmq.read_grouped_rr_with_poll(
    queue_name text, vt integer, qty integer, max_poll_seconds integer DEFAULT 5,
    poll_interval_ms integer DEFAULT 100
) RETURNS SETOF pgmq.message_record
    LANGUAGE c COST 100 AS 'MODULE_PATHNAME', 'pgmq_read_grouped_rr_with_poll';
CREATE FUNCTION pgmq.read_grouped_head_with_poll(
    queue_name text, vt integer, qty integer, max_poll_seconds integer DEFAULT 5,
    poll_interval_ms integer DEFAULT 100
) RETURNS SETOF pgmq.message_record
    LANGUAGE c COST 100 AS 'MODULE_PATHNAME', 'pgmq_read_grouped_head_with_poll';

-- pgmq's grouped reads wanted an index; these do without.
CREATE FUNCTION pgmq.create_fifo_index(queue_name text) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    IF pgmq._queue(queue_name) IS NULL THEN
        RAISE EXCEPTION 'relation "pgmq.%" does not exist', pgmq.format_table_name(queue_name, 'q')
            USING ERRCODE = 'undefined_table';
    END IF;
END
$$;

CREATE FUNCTION pgmq.create_fifo_indexes_all() RETURNS void
    LANGUAGE plpgsql AS $$ BEGIN END $$;
